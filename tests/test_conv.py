"""Convolution: compiled it equals columns and a product, layers equal torch's, bad calls are explained.

Values and gradients of every option stand in tests/samples/conv.py.
"""

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import kernels
import minigrad as mg
from kernels import convolution
from minigrad import nn, optim
from minigrad.nn import functional as F
from minigrad.ops import conv as ops_conv

MACHINES = ("compiled", "numpy")


def whole(rng, *shape, dtype="float64"):
    """Small whole numbers: their sums are exact in any order."""
    return mg.tensor(rng.integers(-4, 5, shape).astype(dtype))


def results(rng, shape, weight, machine, activation=None, dtype="float32", **options):
    """Output and gradients of a convolution on one machine."""
    x, w = whole(rng, *shape, dtype=dtype), whole(rng, *weight, dtype=dtype)
    b = whole(rng, weight[0], dtype=dtype)
    for t in (x, w, b):
        t.requires_grad_()
    with kernels.use(machine):
        y = F.conv2d(x, w, b, activation=activation, **options)
        y.backward(whole(rng, *y.shape, dtype=dtype))
    return [t.numpy() for t in (y.detach(), x.grad, w.grad, b.grad)]


def some_calls(count):
    rng = np.random.default_rng(0)
    for k in range(count):
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        c, o, n = (
            int(rng.integers(1, 6)),
            int(rng.choice([1, 2, 3, 7, 8, 9, 17, 33])),
            int(rng.integers(1, 14)),
        )
        kernel, stride, dilation = rng.integers(1, 5, 2), rng.integers(1, 4, 2), rng.integers(1, 4, 2)
        padding = rng.integers(0, 4, 2)
        spans = (kernel - 1) * dilation + 1
        size = np.maximum(spans - 2 * padding, 1) + rng.integers(0, [9, 40])
        options = dict(stride=stride, padding=padding, dilation=dilation)
        options = {name: tuple(map(int, pair)) for name, pair in options.items()} | dict(groups=groups)
        shape, weight = (n, groups * c, *map(int, size)), (groups * o, c, *map(int, kernel))
        yield k, shape, weight, options


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_compiled_machine_equals_columns_and_a_product(activation, dtype):
    for seed, shape, weight, options in some_calls(60):
        found = [
            results(np.random.default_rng(seed), shape, weight, machine, activation, dtype, **options)
            for machine in MACHINES
        ]
        for a, b in zip(*found, strict=True):
            assert a.dtype == b.dtype == dtype
            np.testing.assert_array_equal(a, b, err_msg=f"{shape} {weight} {options}")


def test_every_gradient_alone_is_the_one_of_all_together():
    rng = np.random.default_rng(1)
    x, w, b = whole(rng, 3, 4, 9, 8), whole(rng, 6, 2, 3, 3), whole(rng, 6)
    for machine in MACHINES:
        found = []
        for wanted in ((1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)):
            leaves = [t.detach().requires_grad_(bool(k)) for t, k in zip((x, w, b), wanted, strict=True)]
            with kernels.use(machine):
                F.conv2d(*leaves, stride=2, padding=1, groups=2, activation="relu").square().sum().backward()
            found.append([leaf.grad for leaf in leaves])
        for k in range(3):
            grads = [grads[k].numpy() for grads in found if grads[k] is not None]
            assert len(grads) >= 2
            for g in grads[1:]:
                np.testing.assert_array_equal(g, grads[0])


def test_rounding_is_that_of_a_float32_product():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((4, 32, 14, 14)), rng.standard_normal((48, 32, 3, 3)) / 17
    exact = F.conv2d(mg.tensor(x), mg.tensor(w), padding=1).numpy()
    assert exact.dtype == np.float64
    for machine in MACHINES:
        with kernels.use(machine):
            y = F.conv2d(mg.tensor(x).float(), mg.tensor(w).float(), padding=1).numpy()
        assert np.abs(y - exact).max() < 5e-6


@pytest.mark.parametrize("shape", [(8, 16, 20, 20), (40, 16, 4, 4)])
def test_threads_change_the_gradient_of_the_weight_by_rounding_only(shape):
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal(shape).astype("f"), rng.standard_normal((16, 16, 3, 3)).astype("f")
    before, found = kernels.get_num_threads(), []
    try:
        for threads in (1, 2, 1, 2):
            kernels.set_num_threads(threads)
            tensors = [mg.tensor(a).requires_grad_() for a in (x, w)]
            y = F.conv2d(*tensors, padding=1)
            y.square().sum().backward()
            found.append([y.detach().numpy(), *(t.grad.numpy() for t in tensors)])
    finally:
        kernels.set_num_threads(before)
    one, two, one_again, two_again = found
    for k in range(3):
        np.testing.assert_array_equal(one[k], one_again[k])
        np.testing.assert_array_equal(two[k], two_again[k])
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    assert np.abs(one[2] - two[2]).max() < 1e-5 * np.abs(one[2]).max()


@pytest.mark.parametrize("machine", MACHINES)
def test_nan_and_infinity_stay_where_a_window_sees_them(machine):
    x = mg.zeros(1, 1, 6, 40)
    x.array[0, 0, 2, 3], x.array[0, 0, 4, 30] = np.nan, np.inf
    x.requires_grad_()
    w = mg.ones(3, 1, 3, 3, requires_grad=True)
    with kernels.use(machine):
        y = F.conv2d(x, w, mg.zeros(3), padding=1, activation="relu")
        y.backward(mg.zeros(1, 3, 6, 40))
    nans = np.zeros((6, 40), bool)
    nans[1:4, 2:5] = True
    for plane in y.detach().numpy()[0]:
        np.testing.assert_array_equal(np.isnan(plane), nans)
        assert np.isinf(plane[3:6, 29:32]).all() and np.isinf(plane).sum() == 9
    assert not x.grad.numpy().any()


def test_columns_stay_within_their_bound(monkeypatch):
    sizes = []

    def columns(x, win, order):
        made = original(x, win, order)
        sizes.append((made.nbytes, len(x)))
        return made

    original = ops_conv.columns
    monkeypatch.setattr(ops_conv, "columns", columns)
    assert ops_conv.COLUMNS == 2 << 20
    rng = np.random.default_rng(4)
    with kernels.use("numpy"):
        x, w = whole(rng, 40, 16, 24, 24, dtype="float32"), whole(rng, 8, 16, 3, 3, dtype="float32")
        x.requires_grad_(), w.requires_grad_()
        F.conv2d(x, w, padding=1).sum().backward()
        assert len(sizes) > 10 and all(nbytes <= ops_conv.COLUMNS for nbytes, _ in sizes)
        assert sum(images for _, images in sizes) == 2 * 40  # the batch forward, and once for the weight
        sizes.clear()
        F.conv2d(whole(rng, 2, 16, 100, 100, dtype="float32"), w.detach())
        assert [images for _, images in sizes] == [1, 1]  # one image is the least


def test_a_window_of_one_pixel_makes_no_columns(monkeypatch):
    monkeypatch.setattr(ops_conv, "columns", None)
    monkeypatch.setattr(ops_conv, "fold", None)
    rng = np.random.default_rng(5)
    with kernels.use("numpy"):
        x, w = whole(rng, 3, 4, 5, 6).requires_grad_(), whole(rng, 6, 2, 1, 1)
        y = F.conv2d(x, w, groups=2)
        y.sum().backward()
    first = np.einsum("nchw,oc->nohw", x.detach().numpy()[:, :2], w.numpy()[:3, :, 0, 0])
    second = np.einsum("nchw,oc->nohw", x.detach().numpy()[:, 2:], w.numpy()[3:, :, 0, 0])
    np.testing.assert_array_equal(y.detach().numpy(), np.concatenate([first, second], axis=1))


def test_without_memory_for_an_image_the_error_says_so(monkeypatch):
    monkeypatch.setattr(convolution, "_library", lambda *arrays: type("", (), dict(forward=lambda *args: 1)))
    with pytest.raises(MemoryError, match="planes of an image"):
        F.conv2d(mg.zeros(1, 1, 3, 3), mg.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_sixteen_bit_types_are_computed_in_float32(machine, storage):
    rng = np.random.default_rng(6)
    arrays = [rng.uniform(0.5, 1, s) for s in ((2, 64, 9, 9), (3, 64, 3, 3), (3,))]
    half, single = [], []
    with kernels.use(machine):
        for kind, found in ((storage, half), ("float32", single)):
            tensors = [mg.tensor(a).to(getattr(mg, storage)).to(getattr(mg, kind)) for a in arrays]
            for t in tensors:
                t.requires_grad_()
            y = F.conv2d(*tensors, padding=1, activation="relu")
            y.backward(mg.ones(*y.shape).to(y.dtype))
            assert y.dtype == getattr(mg, kind) and all(t.grad.dtype == y.dtype for t in tensors)
            found += [t.detach().float().numpy() for t in (y, *(t.grad for t in tensors))]
            z = F.conv_transpose2d(y.detach(), tensors[1].detach(), stride=2)
            found.append(z.float().numpy())
    for a, b in zip(half, single, strict=True):
        assert np.abs(a - b).max() <= (2**-10 if storage == "float16" else 2**-7) * np.abs(b).max()


def test_the_gradient_of_the_weight_is_written_into_the_arena():
    mg.manual_seed(0)
    layer = nn.Conv2d(3, 5, 3, padding=1)
    x = mg.randn(2, 3, 8, 8)
    F.conv2d(x, layer.weight, layer.bias, padding=1, activation="relu").sum().backward()
    alone = [p.grad.numpy().copy() for p in layer.parameters()]
    layer.zero_grad()
    optim.SGD(layer.parameters(), lr=0.1)
    F.conv2d(x, layer.weight, layer.bias, padding=1, activation="relu").sum().backward()
    for p, wanted in zip(layer.parameters(), alone, strict=True):
        assert p.grad.array is p.slot.array
        np.testing.assert_array_equal(p.grad.numpy(), wanted)


def test_the_third_gradient_equals_torch():
    torch = oracle("torch")
    rng = np.random.default_rng(7)
    arrays = [rng.standard_normal(s) for s in ((2, 3, 6, 5), (4, 3, 3, 2), (4,))]
    found = []
    for m, grad in ((mg, mg.grad), (torch, torch.autograd.grad)):
        x, w, b = [m.tensor(a, requires_grad=True) for a in arrays]
        y = m.nn.functional.conv2d(x, w, b, stride=2, padding=1, dilation=(1, 2)).tanh().sum()
        for _ in range(2):
            parts = grad(y, [x, w, b], create_graph=True)
            y = sum([(g * g).sum() for g in parts])
        found.append([g.detach().numpy() for g in grad(y, [x, w, b])])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * np.abs(theirs).max())


# -- layers ---------------------------------------------------------------------------

LAYERS = [
    ("Conv2d", (3, 4, 3), dict(), (2, 3, 7, 6)),
    ("Conv2d", (4, 6, (2, 3)), dict(stride=(2, 1), padding=(1, 0), groups=2, bias=False), (2, 4, 7, 6)),
    ("Conv2d", (3, 4, 3), dict(padding="same", dilation=2), (2, 3, 7, 6)),
    ("Conv2d", (3, 4, 2), dict(padding="valid"), (3, 7, 6)),
    *[
        ("Conv2d", (3, 4, 3), dict(padding=padding, padding_mode=mode), (2, 3, 7, 6))
        for mode in ("reflect", "replicate", "circular")
        for padding in (1, (2, 1), "same", "valid")
    ],
    ("Conv1d", (3, 4, 3), dict(stride=2, padding=1), (2, 3, 9)),
    ("Conv1d", (3, 4, 3), dict(padding=2, padding_mode="circular", dilation=2), (2, 3, 9)),
    ("ConvTranspose2d", (3, 4, 3), dict(), (2, 3, 5, 4)),
    ("ConvTranspose2d", (4, 6, 3), dict(stride=2, padding=1, output_padding=1, groups=2), (2, 4, 5, 4)),
    ("ConvTranspose2d", (3, 4, (2, 3)), dict(dilation=(2, 1), bias=False), (3, 5, 4)),
    ("ConvTranspose1d", (3, 4, 3), dict(stride=3, output_padding=2), (2, 3, 5)),
]


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), LAYERS, ids=str)
def test_layers_have_torchs_parameters_values_and_looks(name, args, kwargs, shape):
    torch = oracle("torch")
    ours, theirs = getattr(nn, name)(*args, **kwargs), getattr(torch.nn, name)(*args, **kwargs)
    assert repr(ours) == repr(theirs)
    state = ours.state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in state.items()})
    x = np.random.default_rng(8).standard_normal(shape).astype(np.float32)
    y, z = ours(mg.tensor(x)), theirs(torch.tensor(x))
    assert tuple(y.shape) == tuple(z.shape)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "bound"),
    [
        (lambda: nn.Conv2d(64, 100, 3), 1 / np.sqrt(64 * 9)),
        (lambda: nn.Conv2d(64, 96, 3, groups=8), 1 / np.sqrt(8 * 9)),
        (lambda: nn.Conv1d(64, 300, 5), 1 / np.sqrt(64 * 5)),
        (lambda: nn.ConvTranspose2d(64, 100, 3), 1 / np.sqrt(100 * 9)),
    ],
)
def test_parameters_begin_uniform_in_the_bound_of_their_fan(layer, bound):
    mg.manual_seed(0)
    made = layer()
    for p in (made.weight, made.bias):
        values = p.detach().numpy()
        assert np.abs(values).max() < bound
        assert abs(values.mean()) < 5 * bound / np.sqrt(3 * values.size)
        assert abs(values.std() - bound / np.sqrt(3)) < 0.2 * bound


@pytest.mark.oracle
@pytest.mark.parametrize("size", [[9, 8], [10, 7], [2, 4, 9, 7]])
def test_output_size_chooses_the_output_padding(size):
    torch = oracle("torch")
    ours, theirs = [m.nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1) for m in (mg, torch)]
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    x = np.random.default_rng(9).standard_normal((2, 3, 5, 4)).astype(np.float32)
    y, z = ours(mg.tensor(x), output_size=size), theirs(torch.tensor(x), output_size=size)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), atol=1e-5)


def test_output_size_out_of_reach_names_what_is_in_reach():
    layer = nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1)
    with pytest.raises(ValueError, match=r"ConvTranspose2d: output_size=\[11, 8\].*\[9, 7\] and \[10, 8\]"):
        layer(mg.zeros(2, 3, 5, 4), output_size=[11, 8])
    with pytest.raises(ValueError, match="2 or 4 entries"):
        layer(mg.zeros(2, 3, 5, 4), output_size=[9, 8, 7])


# -- bad calls ---------------------------------------------------------------------------

X, W = mg.zeros(2, 3, 6, 6), mg.zeros(4, 3, 3, 3)
BAD = [
    (lambda: F.conv2d(mg.zeros(6, 6), W), ValueError, r"conv2d: input \[6, 6\].*\(N, C, H, W\)"),
    (lambda: F.conv1d(X, W), ValueError, r"conv1d: input \[2, 3, 6, 6\].*\(N, C, L\)"),
    (lambda: F.conv2d(X, mg.zeros(4, 3, 3)), ValueError, r"weight \[4, 3, 3\]; it has 4 dims"),
    (lambda: F.conv2d(X, mg.zeros(4, 2, 3, 3)), ValueError, r"channels 3, weight \[4, 2, 3, 3\].*takes 2"),
    (lambda: F.conv2d(X, W, groups=3), ValueError, "groups must be positive and divide 4"),
    (lambda: F.conv2d(X, mg.zeros(6, 3, 3, 3), groups=3), ValueError, "takes 9 input channels"),
    (lambda: F.conv2d(X, W, groups=0), ValueError, "groups=0"),
    (lambda: F.conv2d(X, W, mg.zeros(3)), ValueError, r"bias \[3\] for 4 output channels"),
    (
        lambda: F.conv2d(X, mg.zeros(4, 3, 7, 3)),
        ValueError,
        r"size \[7, 3\].*larger than the padded image; pad",
    ),
    (lambda: F.conv2d(X, W, dilation=3), ValueError, r"dilation=\(3, 3\).*pad more"),
    (lambda: F.conv2d(X, W, stride=0), ValueError, "stride=0; it must be at least 1"),
    (lambda: F.conv2d(X, W, padding=-1), ValueError, "padding=-1; it must be at least 0"),
    (lambda: F.conv2d(X, W, stride=(1, 2, 3)), TypeError, "whole number, or a tuple of 2"),
    (lambda: F.conv2d(X, W, stride=1.5), TypeError, "stride=1.5"),
    (lambda: F.conv2d(X, W, stride=np.ones(2)), TypeError, r"stride='array\(\[1., 1."),
    (lambda: F.conv2d(X, W, stride=True), TypeError, "stride=True"),
    (lambda: F.conv2d(X, W, padding="same", stride=2), ValueError, "padding='same' with stride"),
    (lambda: F.conv2d(X, W, padding="full"), ValueError, "'same' or 'valid'"),
    (lambda: F.conv2d(X, W, activation="swish"), ValueError, "activation='swish'; use None or one of 'relu'"),
    (lambda: F.conv2d(X, W.double()), TypeError, "mixed dtypes float32, float64; cast with"),
    (lambda: F.conv2d(X.long(), W.long()), TypeError, "int64 input; it takes floating tensors"),
    (lambda: F.conv2d(X.array, W), TypeError, "ndarray is no Tensor"),
    (lambda: F.conv2d(X, W.array), TypeError, "weight is a ndarray, no Tensor"),
    (lambda: F.conv_transpose2d(X, W), ValueError, "takes 4 input channels"),
    (lambda: F.conv_transpose2d(X, mg.zeros(3, 2, 3, 3), output_padding=1), ValueError, "less than stride"),
    (lambda: F.conv_transpose2d(X, mg.zeros(3, 2, 1, 1), padding=3), ValueError, r"size \[0, 0\]; pad less"),
    (lambda: F.conv_transpose2d(X, mg.zeros(3, 2, 3, 3), mg.zeros(3)), ValueError, r"bias \[3\] for 2"),
    (lambda: F.unfold(X, 9), ValueError, r"unfold: kernel_size=9.*\[6, 6\].*pad more"),
    (lambda: F.fold(mg.zeros(2, 12, 24), 6, 2), ValueError, r"fold: input \[2, 12, 24\].*\(N, C \* 4, 25\)"),
    (lambda: F.fold(mg.zeros(2, 13, 25), 6, 2), ValueError, r"C \* 4"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "Conv2d: groups=2 .* in_channels=3"),
    (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), ValueError, "use 'zeros', 'reflect'"),
    (lambda: nn.Conv2d(3, 4, 3, padding="full"), ValueError, "'same' or 'valid'"),
    (lambda: nn.Conv2d(3, 4, 3, padding="same", stride=2), ValueError, "stride 1 only"),
    (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="circular"), ValueError, "use 'zeros'"),
    (lambda: nn.ConvTranspose2d(3, 4, 3, padding="same"), TypeError, "padding='same'"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD, ids=[words for _, _, words in BAD])
def test_a_bad_call_names_what_is_wrong(call, error, words):
    with pytest.raises(error, match=words):
        call()


# -- the device ---------------------------------------------------------------------------


class Net(nn.Module):
    """Two convolutions, one of them strided, and a pool."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2)
        self.last = nn.Linear(6 * 5 * 5, 3)

    def forward(self, x):
        x = F.max_pool2d(F.conv2d(x, self.first.weight, self.first.bias, padding=1, activation="relu"), 2, 1)
        x = F.conv2d(x, self.second.weight, self.second.bias, stride=2, activation="relu")
        return self.last(x.flatten(1))


def losses(where, steps=4):
    mg.manual_seed(0)
    model = Net().to(where)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rng = np.random.default_rng(10)
    x = mg.tensor(rng.standard_normal((8, 1, 13, 13)).astype(np.float32), device=where)
    y = mg.tensor(rng.integers(0, 3, 8), device=where)
    for _ in range(steps):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.detach()


def test_a_network_trains_on_the_device_as_on_the_cpu_without_reading_it():
    here = [float(loss) for loss in losses("cpu")]
    with fake_cupy.installed() as device:
        run = losses("cuda")
        first = [next(run), next(run)]
        with device.counting() as step:
            there = [*first, next(run)]
        names = ("columns", "fold", "largest", "put")
        assert {name: step.launches[name] for name in names} == dict(columns=4, fold=1, largest=1, put=1)
        assert step.host_reads == [] and step.python_scalars == []
        np.testing.assert_allclose([float(loss) for loss in there], here[:3], rtol=1e-5)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("size", [1, 3])
def test_a_nan_passes_the_fused_relu_as_it_passes_relu(machine, size):
    """Its value, and the gradient behind it."""
    image = np.ones((1, 2, 5, 5), np.float32)
    image[0, 0, 2, 2] = np.nan
    found = []
    with kernels.use(machine):
        for fused in (False, True):
            x = mg.tensor(image, requires_grad=True)
            w, b = mg.ones(3, 2, size, size, requires_grad=True), mg.zeros(3, requires_grad=True)
            if fused:
                y = F.conv2d(x, w, b, padding=size // 2, activation="relu")
            else:
                y = F.relu(F.conv2d(x, w, b, padding=size // 2))
            y.sum().backward()
            found.append([t.detach().numpy() for t in (y, x.grad, w.grad, b.grad)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isnan(found[1][0]).any() and (found[1][3] == 25).all()


@pytest.mark.gpu
def test_a_network_trains_on_a_gpu_as_on_the_cpu():
    here, there = ([float(loss) for loss in losses(where, 20)] for where in ("cpu", "cuda"))
    np.testing.assert_allclose(there, here, rtol=1e-3)
