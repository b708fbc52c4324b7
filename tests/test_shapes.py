"""Shapes, beside the sample table: what is a view and what a copy, versions, sizes and layout, errors."""

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg

X = mg.arange(24).float().reshape(2, 3, 4)

VIEWS = {
    "reshape": lambda x: x.reshape(6, 4),
    "view": lambda x: x.view(-1),
    "view_as": lambda x: x.view_as(mg.zeros(4, 6)),
    "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(2, (2, 2)),
    "ravel": lambda x: x.ravel(),
    "permute": lambda x: x.permute(2, 0, 1),
    "transpose": lambda x: x.transpose(0, 2),
    "mT": lambda x: x.mT,
    "T": lambda x: x[0].T,
    "t": lambda x: x[0].t(),
    "movedim": lambda x: x.movedim(0, 2),
    "squeeze": lambda x: x[:1].squeeze(0),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "expand": lambda x: x.expand(5, 2, 3, 4),
    "broadcast_to": lambda x: mg.broadcast_to(x, (2, 2, 3, 4)),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "select": lambda x: x.select(1, 2),
    "select of a vector": lambda x: x[0, 0].select(0, 2),
    "unbind": lambda x: x.unbind(1)[2],
    "split": lambda x: x.split(2, 1)[1],
    "chunk": lambda x: x.chunk(2, 2)[0],
    "tensor_split": lambda x: x.tensor_split(3, 2)[1],
    "hsplit": lambda x: x.hsplit(3)[1],
    "diagonal": lambda x: x.diagonal(1, 1, 2),
    "unfold": lambda x: x.unfold(2, 2, 1),
    "atleast_3d": lambda x: mg.atleast_3d(x[0]),
    "contiguous": lambda x: x.contiguous(),
    "view of a view": lambda x: x.mT[0].unsqueeze(0).transpose(1, 2).squeeze(0),
    "detach": lambda x: x.detach(),
}
COPIES = {
    "reshape": lambda x: x.mT.reshape(2, 12),
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(1),
    "rot90": lambda x: x.rot90(0),
    "repeat": lambda x: x.repeat(1, 1, 1),
    "tile": lambda x: x.tile(1),
    "repeat_interleave": lambda x: x.repeat_interleave(1, 0),
    "tril": lambda x: x.tril(),
    "diag": lambda x: x[0].diag(),
    "cat": lambda x: mg.cat([x]),
    "stack": lambda x: mg.stack([x]),
    "contiguous": lambda x: x.mT.contiguous(),
    "clone": lambda x: x.clone(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory_and_versions(name):
    x = X.clone()
    y = VIEWS[name](x)
    assert np.shares_memory(x.array, y.array)
    if y is not x:
        assert y.is_view
    before = y._version
    with mg.no_grad():
        x += 1
    assert y._version == before + 1


@pytest.mark.parametrize("name", COPIES)
def test_copies_share_nothing(name):
    x = X.clone()
    y = COPIES[name](x)
    assert not np.shares_memory(x.array, y.array) and not y.is_view
    before = y._version
    x += 1
    assert y._version == before


@pytest.mark.parametrize("name", ["expand", "narrow", "diagonal", "split", "permute", "unfold"])
def test_a_view_changed_before_backward_is_noticed(name):
    x = X.clone()
    w = mg.ones(1, requires_grad=True)
    y = VIEWS[name](x) * w
    x += 1
    with pytest.raises(RuntimeError, match="modified in place"):
        y.sum().backward()


def test_a_reshape_that_had_to_copy_may_be_changed_in_a_graph():
    x = mg.ones(2, 3, requires_grad=True)
    y = (x * 2).mT.reshape(6)
    y += 1
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 3), 2))


def test_writing_into_a_diagonal_and_a_slice_writes_into_the_tensor():
    x = mg.zeros(3, 3)
    x.diagonal().add_(1)
    x.select(0, 2).mul_(5)
    x.narrow(1, 1, 1).add_(2)
    np.testing.assert_array_equal(x.numpy(), [[1, 2, 0], [0, 3, 0], [0, 2, 5]])


def test_sizes_strides_and_layout():
    x = mg.zeros(2, 3, 4).transpose(0, 1)
    assert x.size() == x.shape == (3, 2, 4) and x.size(-1) == 4 and x.size(0) == 3
    assert x.stride() == (4, 12, 1) and x.stride(1) == 12
    assert x.dim() == x.ndim == x.ndimension() == 3
    assert x.numel() == x.nelement() == mg.numel(x) == 24
    assert (
        x.itemsize == x.element_size() == 4
        and x.nbytes == 96
        and mg.zeros(1, dtype=mg.bfloat16).element_size() == 2
    )
    assert not x.is_contiguous() and x.contiguous().is_contiguous() and x.contiguous().stride() == (8, 4, 1)
    assert mg.broadcast_shapes((3, 1), (4,), 1) == (3, 4)


@pytest.mark.oracle
def test_what_can_be_viewed_is_what_torch_can_view():
    torch = oracle("torch")
    layouts = [
        lambda x: x,
        lambda x: x.transpose(1, 2),
        lambda x: x.transpose(0, 1),
        lambda x: x[:, 1:],
        lambda x: x[:, :, ::2],
        lambda x: x[:1],
        lambda x: x.expand(2, 3, 4),
        lambda x: x[:, :1].expand(2, 3, 4),
        lambda x: x.permute(2, 0, 1),
    ]
    shapes = [(-1,), (6, -1), (2, -1), (-1, 2), (2, 2, -1), (3, -1), (1, -1), (2, 3, 2, -1)]
    for make in layouts:
        for shape in shapes:
            x, t = make(X), make(torch.zeros(2, 3, 4))
            if x.numel() % abs(np.prod(shape)):
                continue
            try:
                t.view(shape)
            except RuntimeError:
                with pytest.raises(ValueError, match="use reshape"):
                    x.view(shape)
            else:
                assert np.shares_memory(x.view(shape).array, x.array)


@pytest.mark.oracle
def test_types_of_joined_tensors_are_those_of_torch():
    torch = oracle("torch")
    types = "bool uint8 int8 int32 int64 float16 bfloat16 float32 float64".split()
    for a in types:
        for b in types:
            ours, theirs = [
                m.cat([m.zeros(2, dtype=getattr(m, a)), m.zeros(1, dtype=getattr(m, b))]).dtype
                for m in (mg, torch)
            ]
            assert str(ours).split(".")[1] == str(theirs).split(".")[1], (a, b)


def test_gradients_of_joined_tensors_have_their_own_types():
    a, b = mg.ones(2, dtype=mg.float64, requires_grad=True), mg.ones(3, requires_grad=True)
    i = mg.ones(2, dtype=mg.int64)
    y = mg.cat([a, i, b])
    y.backward(mg.arange(7, dtype=mg.float64))
    assert a.grad.dtype is mg.float64 and a.grad.tolist() == [0, 1]
    assert b.grad.dtype is mg.float32 and b.grad.tolist() == [4, 5, 6]


def test_cat_computes_no_gradient_that_nobody_wants():
    a, b = mg.ones(2, requires_grad=True), mg.ones(2)
    mg.cat([b, a, b, a]).backward(mg.arange(8).float())
    assert a.grad.tolist() == [2 + 6, 3 + 7] and b.grad is None


def wrong(kind, pattern, call):
    return pytest.param(kind, pattern, call, id=pattern[:40])


@pytest.mark.parametrize(
    "kind, pattern, call",
    [
        wrong(ValueError, r"reshape: 24 elements do not fit into shape \(5, -1\)", lambda: X.reshape(5, -1)),
        wrong(ValueError, r"reshape: 24 elements do not fit into shape \(2, 3\)", lambda: X.reshape(2, 3)),
        wrong(ValueError, r"reshape: \(-1, -1\) is no shape", lambda: X.reshape(-1, -1)),
        wrong(ValueError, r"reshape: \(-2, 3\) is no shape", lambda: X.reshape(-2, 3)),
        wrong(
            ValueError, r"reshape: 0 elements do not fit into shape \(0, -1\)", lambda: X[:0].reshape(0, -1)
        ),
        wrong(TypeError, r"reshape: sizes must be ints, not \(2.0, 12\)", lambda: X.reshape(2.0, 12)),
        wrong(
            ValueError,
            r"view: shape \(24,\) does not fit the layout of this tensor \(shape .*, strides \(12, 1, 4\)\)",
            lambda: X.mT.view(24),
        ),
        wrong(
            ValueError,
            r"unflatten: 4 elements do not fit into shape \(3, -1\)",
            lambda: X.unflatten(2, (3, -1)),
        ),
        wrong(ValueError, r"flatten: start_dim 2 comes after end_dim 0", lambda: X.flatten(2, 0)),
        wrong(IndexError, r"flatten: dim 3 is out of range", lambda: X.flatten(3)),
        wrong(
            ValueError, r"permute: dims \(0, 1, 1\) must name each of the 3 dims", lambda: X.permute(0, 1, 1)
        ),
        wrong(ValueError, r"permute: dims \(0, 1\) must name each of the 3 dims", lambda: X.permute(0, 1)),
        wrong(IndexError, r"transpose: dim 3 is out of range", lambda: X.transpose(0, 3)),
        wrong(ValueError, r"t: at most 2 dims, this tensor has shape \(2, 3, 4\)", lambda: X.t()),
        wrong(ValueError, r"mT: at least 2 dims, this tensor has shape \(4,\)", lambda: X[0, 0].mT),
        wrong(ValueError, r"movedim: 1 dims to 2 positions", lambda: X.movedim(0, (1, 2))),
        wrong(ValueError, r"movedim: a dim appears more than once", lambda: X.movedim((0, 0), (1, 2))),
        wrong(IndexError, r"unsqueeze: dim 4 is out of range", lambda: X.unsqueeze(4)),
        wrong(IndexError, r"squeeze: dim 3 is out of range", lambda: X.squeeze(3)),
        wrong(
            ValueError,
            r"expand: shape \(2, 3, 4\) does not expand to \(2, 6, 4\); only dims of size 1",
            lambda: X.expand(2, 6, 4),
        ),
        wrong(ValueError, r"expand: sizes \(3, 4\) for a tensor of shape", lambda: X.expand(3, 4)),
        wrong(
            ValueError, r"expand: shape .* does not expand to \(-1, 2, 3, 4\)", lambda: X.expand(-1, 2, 3, 4)
        ),
        wrong(
            ValueError,
            r"broadcast_shapes: \(3,\), \(4,\) do not fit together",
            lambda: mg.broadcast_shapes((3,), (4,)),
        ),
        wrong(TypeError, r"cat: a list or tuple of tensors is needed, not Tensor", lambda: mg.cat(X)),
        wrong(TypeError, r"cat: float is no Tensor", lambda: mg.cat([X, 1.0])),
        wrong(ValueError, r"cat: the list of tensors is empty", lambda: mg.cat([])),
        wrong(ValueError, r"cat: 0-d tensors cannot be joined; use stack", lambda: mg.cat([X.sum()])),
        wrong(
            ValueError,
            r"cat\(0, float32\[2, 3, 4\], float32\[2, 4, 3\]\): .*must match exactly",
            lambda: mg.cat([X, X.mT]),
        ),
        wrong(
            ValueError,
            r"stack: tensor 1 has shape \(2, 4, 3\), the first \(2, 3, 4\)",
            lambda: mg.stack([X, X.mT]),
        ),
        wrong(
            ValueError,
            r"split: sizes \[1, 1\] must add up to 3, the size of dim 1",
            lambda: X.split([1, 1], 1),
        ),
        wrong(ValueError, r"split: a part of size 0", lambda: X.split(0)),
        wrong(ValueError, r"split: a 0-d tensor has no dim", lambda: X.sum().split(1)),
        wrong(ValueError, r"chunk: 0 chunks", lambda: X.chunk(0)),
        wrong(ValueError, r"tensor_split: -1 parts", lambda: X.tensor_split(-1)),
        wrong(ValueError, r"hsplit: dim 1 of size 3 cannot be split into 2 equal parts", lambda: X.hsplit(2)),
        wrong(ValueError, r"vsplit: at least 2 dims", lambda: X[0, 0].vsplit(2)),
        wrong(ValueError, r"dsplit: at least 3 dims", lambda: X[0].dsplit(2)),
        wrong(IndexError, r"select: index 3 is out of range for dim 1 of size 3", lambda: X.select(1, 3)),
        wrong(IndexError, r"narrow: start 4 is out of range for dim 1 of size 3", lambda: X.narrow(1, 4, 0)),
        wrong(ValueError, r"narrow: elements 1 to 4 of dim 1, which has size 3", lambda: X.narrow(1, 1, 3)),
        wrong(ValueError, r"flip: a dim appears more than once in \(0, 0\)", lambda: X.flip(0, 0)),
        wrong(ValueError, r"roll: 2 shifts for 1 dims", lambda: X.roll((1, 2), 0)),
        wrong(ValueError, r"roll: shifts \(1, 2\) need as many dims", lambda: X.roll((1, 2))),
        wrong(ValueError, r"rot90: a dim appears more than once", lambda: X.rot90(1, (1, 1))),
        wrong(ValueError, r"tril: at least 2 dims", lambda: X[0, 0].tril()),
        wrong(ValueError, r"diag: 1 or 2 dims are needed", lambda: X.diag()),
        wrong(ValueError, r"diagonal: a dim appears more than once", lambda: X.diagonal(0, 1, -2)),
        wrong(ValueError, r"repeat: times \(2,\) for a tensor of shape \(2, 3, 4\)", lambda: X.repeat(2)),
        wrong(ValueError, r"repeat_interleave: -1 repeats", lambda: X.repeat_interleave(-1)),
        wrong(
            ValueError,
            r"repeat_interleave: \(2,\) repeats for 3 elements",
            lambda: X.repeat_interleave(mg.tensor([1, 2]), 1),
        ),
        wrong(
            ValueError, r"unfold: windows of size 5, step 1 over dim 2 of size 4", lambda: X.unfold(2, 5, 1)
        ),
        wrong(ValueError, r"unfold: .*the step be positive|unfold: windows", lambda: X.unfold(2, 2, 0)),
    ],
)
def test_errors_name_the_function_the_values_and_the_cure(kind, pattern, call):
    with pytest.raises(kind, match=pattern):
        call()
