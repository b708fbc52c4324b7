"""linear_cross_entropy: memory, what it keeps, its options, half precision, devices, and what it refuses.

Values, gradients and second gradients stand in the sample table (tests/samples/linear_classes.py).
"""

import tracemalloc

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F
from minigrad.taps import tapped

N, I, C = 300, 8, 500
OF_TWO = nn.LinearCrossEntropyOptions(batch_chunk_size=2)
WHOLE = nn.LinearCrossEntropyOptions(chunking_method=None)


def operands(n=N, i=I, c=C, dtype=mg.float32, device="cpu"):
    rng = np.random.default_rng(3)
    x, w, b = (mg.tensor(rng.standard_normal(s), dtype=dtype, device=device) for s in ((n, i), (c, i), (c,)))
    leaves = [t.requires_grad_() for t in (x, w, b)]
    return *leaves, mg.tensor(rng.integers(0, c, n), device=device)


def gradients(options=None, scale=1.0, leaves=None, **given):
    x, w, b, t = operands() if leaves is None else leaves
    loss = F.linear_cross_entropy(x, w, t, linear_bias=b, options=options, **given)
    (loss.sum() * scale).backward()
    return loss, [v.grad.numpy() for v in (x, w, b)]


# --------------------------------------------------------------------------------------------- memory


def most(options, reduction, keep=False):
    """The most that a call and its backward pass held, in matrices of all scores."""
    x, w, b, t = operands(4096, 16, 2048)
    gradients(options, leaves=(x, w, b, t), reduction=reduction)  # texts are compiled
    tracemalloc.start()
    try:
        gradients(options, leaves=(x, w, b, t), reduction=reduction)
        return tracemalloc.get_traced_memory()[1] / (4096 * 2048 * 4)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_scores_are_never_whole(reduction):
    assert most(None, reduction) < 0.2
    assert most(WHOLE, reduction) > 2  # scores and their gradient


def test_without_recording_no_gradient_is_made(monkeypatch):
    from minigrad.ops import linear_classes

    made = []
    monkeypatch.setattr(linear_classes.Chunks, "add_gradients", lambda *args: made.append(args))
    x, w, b, t = operands()
    with mg.no_grad():
        quiet = F.linear_cross_entropy(x, w, t, linear_bias=b)
    assert not made and not quiet.requires_grad
    assert F.linear_cross_entropy(x, w, t, linear_bias=b).item() == quiet.item() and made


@pytest.mark.parametrize("frozen", [0, 1, 2])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_what_is_frozen_gets_no_gradient_and_changes_no_other(reduction, frozen):
    whole = gradients(reduction=reduction)[1]
    leaves = operands()
    leaves[frozen].requires_grad_(False)
    F.linear_cross_entropy(
        leaves[0], leaves[1], leaves[3], linear_bias=leaves[2], reduction=reduction
    ).sum().backward()
    for k, leaf in enumerate(leaves[:3]):
        assert leaf.grad is None if k == frozen else np.array_equal(leaf.grad.numpy(), whole[k])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_backward_leaves_what_a_second_one_needs(reduction):
    x, w, b, t = operands()
    loss = F.linear_cross_entropy(x, w, t, linear_bias=b, reduction=reduction).sum()
    loss.backward(retain_graph=True)
    once = [v.grad.numpy().copy() for v in (x, w, b)]
    loss.backward()
    for v, first in zip((x, w, b), once, strict=True):
        np.testing.assert_array_equal(v.grad.numpy(), 2 * first)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_go_into_the_arena(reduction):
    expected = gradients(reduction=reduction)[1]
    x, w, b, t = operands()
    w, b = nn.Parameter(w.detach()), nn.Parameter(b.detach())
    optimizer = optim.SGD([w, b], lr=0.1)
    for _ in range(2):  # the second pass finds the first one's gradients there
        optimizer.zero_grad()
        F.linear_cross_entropy(x, w, t, linear_bias=b, reduction=reduction).sum().backward()
        for p, g in zip((w, b), expected[1:], strict=True):
            assert np.shares_memory(p.grad.array, p.slot.array)
            np.testing.assert_array_equal(p.grad.numpy(), g)


def test_a_tap_sees_the_layer():
    x, w, b, t = operands()
    with tapped() as taps:
        F.linear_cross_entropy(x, w, t, linear_bias=b)
    assert [tap.weight is w and tap.bias is b for tap in taps] == [True]


# --------------------------------------------------------------------------------------------- half precision


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [mg.float16, mg.bfloat16])
def test_half_precision_is_as_near_in_chunks_as_all_at_once(dtype, reduction):
    """Both against float64: the sum over chunks is made in float32."""
    leaves = [t.detach().to(mg.float64).requires_grad_() for t in operands(dtype=dtype)[:3]]
    exact = gradients(WHOLE, leaves=(*leaves, operands()[3]), reduction=reduction)[1]

    def error(options):
        found = gradients(options, leaves=operands(dtype=dtype), reduction=reduction)[1]
        return [np.abs(f.astype(np.float64) - e).max() for f, e in zip(found, exact, strict=True)]

    for ours, whole in zip(error(None), error(WHOLE), strict=True):
        assert ours <= 1.5 * whole + 1e-7


def test_small_gradients_in_float16_live_by_the_scale_of_the_loss():
    """1/N of a mean times the probability of one class of many is nothing there; 4096 times it is not."""

    def error(scale):
        leaves = operands(1000, 4, 8000, mg.float16)
        leaves[1].array[...] *= np.float16(0.01)  # all classes are as likely
        exact = [t.detach().to(mg.float64).requires_grad_() for t in leaves[:3]]
        found = gradients(None, scale, leaves)[1][2].astype(np.float64)
        return np.abs(found / gradients(None, scale, (*exact, leaves[3]))[1][2] - 1)

    assert np.median(error(4096.0)) < 0.01 < 0.05 < np.median(error(1.0))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [mg.float16, mg.bfloat16])
def test_under_autocast_the_loss_is_float32_and_gradients_have_the_types_of_the_leaves(dtype, reduction):
    results = []
    for options in (None, WHOLE):
        leaves = operands()
        weight = mg.tensor(np.linspace(0.5, 2, C).astype("f4"))
        with mg.amp.autocast("cpu", dtype):
            loss, grads = gradients(options, 8.0, leaves, weight=weight, reduction=reduction)
        assert loss.dtype is mg.float32 and all(g.dtype == np.float32 for g in grads)
        results.append([loss.detach().numpy(), *grads])
    for chunked, whole in zip(*results, strict=True):
        np.testing.assert_allclose(chunked, whole, atol=2e-2 * np.abs(whole).max())


# --------------------------------------------------------------------------------------------- options


@pytest.mark.oracle
@pytest.mark.parametrize("method", ["aspect_ratio", "aspect_ratio:2", "aspect_ratio:7"])
@pytest.mark.parametrize("sizes", [(100, 8, 50), (4096, 768, 50257), (7, 3, 2), (1, 1, 1), (65, 64, 1000)])
def test_aspect_ratio_gives_the_rows_that_torch_takes(sizes, method):
    torch = oracle("torch")
    theirs = torch.nn.LinearCrossEntropyOptions(chunking_method=method)
    wanted = theirs._adjust(*sizes, torch.float32).batch_chunk_size
    assert nn.LinearCrossEntropyOptions(chunking_method=method).rows(*sizes) == wanted


def test_the_choice_of_rows():
    rows = nn.LinearCrossEntropyOptions().rows
    assert rows(4096, 768, 50257) == 768  # the scores of these are as large as the weight
    assert rows(1024, 128, 65) == 1024  # W3: fewer scores than inputs, all at once
    assert rows(1535, 768, 50257) == 1535  # less than half would be saved
    assert nn.LinearCrossEntropyOptions(batch_chunk_size=5).rows(100, 8, 50) == 5
    assert nn.LinearCrossEntropyOptions(batch_chunk_size=500).rows(100, 8, 50) == 100


@pytest.mark.parametrize("options", [OF_TWO, nn.LinearCrossEntropyOptions(acc_dtype=mg.float32), None])
def test_rows_change_nothing_beyond_rounding(options):
    loss, found = gradients(options)
    whole_loss, whole = gradients(WHOLE)
    assert loss.item() == pytest.approx(whole_loss.item(), rel=1e-6)
    for ours, theirs in zip(found, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())


# --------------------------------------------------------------------------------------------- module, device


@pytest.mark.oracle
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("out", [(), (2, 3)])
def test_the_module_is_torchs(out, bias):
    torch = oracle("torch")
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((9, 4)), rng.integers(0, 5, (9, *out))
    made = []
    for m, options in ((mg, OF_TWO), (torch, None)):
        given = dict(out_features=out, bias=bias, dtype=m.float64, reduction="sum", ignore_index=2)
        weight = m.tensor([1.0, 2, 3, 4, 5], dtype=m.float64)
        loss = m.nn.LinearCrossEntropyLoss(4, 5, weight=weight, label_smoothing=0.1, options=options, **given)
        made.append(loss)
    ours, theirs = made
    state = {k: v.numpy() for k, v in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict({k: mg.tensor(v) for k, v in state.items()})
    a, b = ours(mg.tensor(x), mg.tensor(t)), theirs(torch.tensor(x), torch.tensor(t))
    a.backward()
    b.backward()
    assert a.item() == pytest.approx(b.item(), rel=1e-12)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-10, atol=1e-12)
    ours.options = None
    assert repr(ours).splitlines()[0] == repr(theirs).splitlines()[0]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_device_does_the_same_and_the_host_reads_nothing(reduction):
    loss, expected = gradients(reduction=reduction)
    with fake_cupy.installed() as device:
        x, w, b, t = operands(device="cuda")
        with device.counting() as c:
            found = F.linear_cross_entropy(x, w, t, linear_bias=b, reduction=reduction)
            found.sum().backward()
        assert c.host_reads == [] and c.synchronizations == [] and c.python_scalars == []
        assert c.launches["cross_entropy"] == -(-N // 64) == c.launches["cross_entropy_backward"]
        assert c.launches["matmul"] == (3 if reduction != "none" else 4) * -(-N // 64)
        np.testing.assert_allclose(found.detach().cpu().numpy(), loss.detach().numpy(), rtol=1e-5)
        for v, g in zip((x, w, b), expected, strict=True):
            np.testing.assert_allclose(v.grad.cpu().numpy(), g, atol=1e-5 * np.abs(g).max())


def test_a_step_with_it_is_captured():
    """Bias, class weights, ignored rows: the losses of captured steps are the eager ones to the bit."""
    curves = []
    with fake_cupy.installed():
        for capture in (False, True):
            x, w, b, t = operands(device="cuda")
            t.array[:100] = 7
            loss_of = nn.LinearCrossEntropyLoss(I, C, bias=True, ignore_index=7, weight=mg.ones(C) * 2).to(
                "cuda"
            )
            loss_of.linear.weight.data, loss_of.linear.bias.data = w, b
            optimizer = optim.AdamW(loss_of.parameters(), lr=0.1)

            def step(x, t, loss_of=loss_of, optimizer=optimizer):
                optimizer.zero_grad()
                loss = loss_of(x, t)
                loss.backward()
                optimizer.step()
                return loss

            run = mg.graph.capture(step) if capture else step
            curves.append([float(run(x.detach(), t)) for _ in range(6)])
        assert run.graphs == 1, run.why
    assert curves[0] == curves[1] and curves[0][-1] < curves[0][0]


# --------------------------------------------------------------------------------------------- refusals

X, W, T = mg.ones(4, 3), mg.ones(5, 3), mg.tensor([0, 1, 2, 4])
LCE = F.linear_cross_entropy
OPTIONS = nn.LinearCrossEntropyOptions


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: LCE(X, mg.ones(5, 2), T), ValueError, r"input \[4, 3\], linear_weight \[5, 2\]; they are"),
        (lambda: LCE(mg.ones(2, 4, 3), W, T), ValueError, r"input \[2, 4, 3\]"),
        (lambda: LCE(X, mg.ones(3), T), ValueError, r"linear_weight \[3\]"),
        (lambda: LCE(mg.ones(3), mg.ones(5, 2, 3), T), ValueError, r"the input is a batch"),
        (lambda: LCE(X, W, T, linear_bias=mg.ones(4)), ValueError, r"linear_bias \[4\]; it is \[5\]"),
        (lambda: LCE(X, W.double(), T), TypeError, "mixed dtypes float32, float64"),
        (lambda: LCE(X, W, mg.ones(4, 5), ignore_index=1), ValueError, "ignore_index=1 for probabilities"),
        (lambda: LCE(X, W, T, reduction="avg"), ValueError, "linear_cross_entropy: reduction='avg'"),
        (lambda: LCE(X, W, T, label_smoothing=2), ValueError, "label_smoothing=2"),
        (lambda: LCE(X, W, T, weight=mg.ones(4), options=OF_TWO), ValueError, r"weight float32\[4\]"),
        (
            lambda: LCE(X, W, T, weight=mg.ones(5).double(), options=OF_TWO),
            ValueError,
            r"weight float64\[5\]",
        ),
        (lambda: LCE(X, W, T + 1, options=OF_TWO), IndexError, "linear_cross_entropy: class 5"),
        (lambda: LCE(X, W, mg.tensor([0, 1])), ValueError, r"input \[4, 5\], target \[2\]"),
        (lambda: LCE(X, W, [0, 1, 2, 3]), TypeError, "target is a list, no Tensor"),
        (lambda: LCE(X.long(), W, T), TypeError, "int64 input; it takes floating"),
        (lambda: LCE(X, W, T, options=OPTIONS(acc_dtype=mg.float16)), TypeError, "acc_dtype=.*for float32"),
        (
            lambda: LCE(X, W, T, options=OPTIONS(batch_chunk_size=3, chunking_method="aspect_ratio")),
            ValueError,
            "batch_chunk_size=3, but chunking_method='aspect_ratio' gives 2 rows",
        ),
        (lambda: OPTIONS(batch_chunk_size=0), ValueError, "batch_chunk_size=0"),
        (lambda: OPTIONS(batch_chunk_size=2.0), ValueError, "batch_chunk_size=2.0"),
        (lambda: OPTIONS(chunking_method="aspect_ratio:0"), ValueError, "chunking_method='aspect_ratio:0'"),
        (lambda: OPTIONS(chunking_method="rows"), ValueError, "chunking_method='rows'; use 'auto'"),
        (lambda: OPTIONS(acc_policy="fast"), ValueError, "acc_policy='fast'; use one of auto, accurate"),
        (lambda: OPTIONS(acc_dtype=mg.int64), ValueError, "acc_dtype=.*floating"),
        (
            lambda: nn.LinearCrossEntropyLoss(3, 5, weight=mg.ones(4)),
            ValueError,
            r"weight \[4\]; it is \[5\]",
        ),
        (lambda: nn.LinearCrossEntropyLoss(3, 5, label_smoothing=-1), ValueError, "label_smoothing=-1"),
    ],
)
def test_refusals_say_what_is_wrong(call, error, match):
    with pytest.raises(error, match=match):
        call()
