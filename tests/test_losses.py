"""Losses: what they refuse and why, launches, what is kept, half precision, torch's choices at edges.

Values, gradients and second gradients over all arguments stand in the sample table (tests/samples/layers.py).
"""

import warnings

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import kernels
import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

RNG = np.random.default_rng(5)
SCORES, CLASSES = RNG.standard_normal((6, 4)), np.array([0, 3, 1, 2, 2, 0])


def scores(*shape, dtype=mg.float64):
    return mg.tensor(RNG.standard_normal(shape), dtype=dtype, requires_grad=True)


# --------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "name",
    """mse_loss l1_loss smooth_l1_loss huber_loss poisson_nll_loss binary_cross_entropy kl_div
    soft_margin_loss binary_cross_entropy_with_logits multilabel_soft_margin_loss
    hinge_embedding_loss""".split(),
)
def test_an_unknown_reduction_is_named_with_the_choices(name):
    x = mg.full((2, 2), 0.5)
    with pytest.raises(ValueError, match=f"{name}: reduction='avg'; use one of 'none', 'mean', 'sum'"):
        getattr(F, name)(x, x, reduction="avg")
    if name != "huber_loss":
        with pytest.raises(ValueError, match=f"{name}: size_average and reduce are not supported"):
            getattr(F, name)(x, x, size_average=True)


x23, t2 = mg.ones(2, 3), mg.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: F.cross_entropy(x23, t2, reduction="x"), ValueError, "cross_entropy: reduction='x'"),
        (lambda: F.cross_entropy(x23, t2, reduce=True), ValueError, "size_average and reduce"),
        (lambda: F.cross_entropy(x23, t2, label_smoothing=1.1), ValueError, r"it lies in \[0, 1\]"),
        (lambda: F.cross_entropy(x23, mg.tensor([0, 1, 2])), ValueError, r"input \[2, 3\], target \[3\]"),
        (
            lambda: F.cross_entropy(x23, mg.tensor([[0, 1]])),
            ValueError,
            r"target \[1, 2\]; they are \(N, C\)",
        ),
        (lambda: F.cross_entropy(mg.ones(2, 3, 4), t2), ValueError, r"\[2, 3, 4\], target \[2\]"),
        (lambda: F.cross_entropy(mg.tensor(1.0), t2), ValueError, r"input \[\]"),
        (
            lambda: F.cross_entropy(x23, mg.tensor([0.0, 1.0])),
            TypeError,
            r"target float32\[2\].*cast with .long",
        ),
        (
            lambda: F.cross_entropy(mg.ones(2, 3).long(), t2),
            TypeError,
            r"cross_entropy\(int64\[2, 3\].*S may be float",
        ),
        (lambda: F.cross_entropy(x23, [0, 1]), TypeError, "target is a list, no Tensor"),
        (
            lambda: F.cross_entropy(x23, t2, mg.ones(4)),
            ValueError,
            r"weight float32\[4\]; .*it is float32\[3\]",
        ),
        (lambda: F.cross_entropy(x23, t2, mg.ones(3).double()), ValueError, r"weight float64\[3\]"),
        (lambda: F.cross_entropy(x23, x23, mg.ones(4)), ValueError, r"weight float32\[4\]"),
        (
            lambda: F.nll_loss(x23, x23),
            TypeError,
            r"nll_loss: target float32\[2, 3\] .* it holds class numbers",
        ),
        (lambda: F.nll_loss(x23, mg.tensor([0])), ValueError, r"nll_loss: input \[2, 3\], target \[1\]"),
        (lambda: F.mse_loss(x23, [1]), TypeError, "mse_loss: target is a list, no Tensor"),
        (lambda: F.mse_loss(x23, x23, weight=mg.ones(3)), ValueError, r"weight \[3\] for losses \[2, 3\]"),
        (lambda: F.smooth_l1_loss(x23, x23, beta=-1.0), ValueError, "beta -1.0 is negative"),
        (lambda: F.huber_loss(x23, x23, delta=0.0), ValueError, "delta 0.0; it must be positive"),
        (lambda: F.binary_cross_entropy(x23, t2), ValueError, r"input \[2, 3\], target \[2\]"),
        (
            lambda: F.binary_cross_entropy(x23 * 2, x23),
            ValueError,
            r"probabilities from 2.0 to 2.0; they lie in",
        ),
        (lambda: F.binary_cross_entropy(x23 / 0, x23), ValueError, "probabilities from inf"),
        (
            lambda: F.binary_cross_entropy(x23, x23.double()),
            TypeError,
            "a float64 target for a float32 input",
        ),
        (
            lambda: F.binary_cross_entropy_with_logits(x23, t2),
            ValueError,
            r"target \[2\]; they have the same",
        ),
        (lambda: F.kl_div(x23, x23, reduction="x"), ValueError, "'sum', 'batchmean'"),
        (
            lambda: F.gaussian_nll_loss(x23, x23, mg.ones(3)),
            ValueError,
            r"var \[3\] does not fit .* \[2, 3\]",
        ),
        (lambda: F.gaussian_nll_loss(x23, x23, mg.ones(1, 1)), ValueError, r"var \[1, 1\] does not fit"),
        (lambda: F.gaussian_nll_loss(x23, x23, -x23), ValueError, "var has negative elements"),
        (lambda: F.gaussian_nll_loss(x23, x23, -1.0), ValueError, "var has negative elements"),
        (lambda: F.margin_ranking_loss(x23, x23, t2), ValueError, r"target \[2\]; they have the same number"),
        (
            lambda: F.cosine_embedding_loss(x23, x23, mg.ones(3)),
            ValueError,
            r"they are \(N, D\), \(N, D\), \(N\)",
        ),
        (lambda: F.triplet_margin_loss(x23, x23, x23, margin=0), ValueError, "margin 0; it must be positive"),
        (lambda: F.one_hot(x23), TypeError, "one_hot: classes are whole numbers, not float32"),
        (lambda: F.one_hot(t2, 0), ValueError, "num_classes=0; it must be positive"),
        (lambda: F.one_hot(mg.zeros(0).long()), ValueError, "give num_classes"),
        (lambda: F.one_hot(t2, 1), IndexError, r"one_hot: class 1 is not in \[0, 1\)"),
        (lambda: F.one_hot(-t2), IndexError, r"class -1 is not in \[0, 1\)"),
    ],
)
def test_what_does_not_fit_says_why(call, error, match):
    with pytest.raises(error, match=match):
        call()


WRONG = [(d, w) for d in ("int64", "int32", "uint8") for w in (4, 200, -1, -7) if w > 0 or d != "uint8"]


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
@pytest.mark.parametrize(("dtype", "wrong"), WRONG)
def test_a_class_out_of_range_is_named(loss, dtype, wrong):
    t = mg.tensor(np.array([0, wrong, 1], dtype))
    with pytest.raises(IndexError, match=rf"class {wrong} is not in \[0, 4\), nor is it ignore_index=-100"):
        loss(scores(3, 4), t)
    loss(scores(3, 4), t, ignore_index=wrong)  # unless it is to be ignored


@pytest.mark.parametrize("dtype", [mg.int64, mg.int32, mg.uint8])
def test_classes_may_have_any_integer_type(dtype):
    x = mg.tensor(SCORES, requires_grad=True)
    (expected,) = mg.grad(F.cross_entropy(x, mg.tensor(CLASSES)), x)
    (found,) = mg.grad(F.cross_entropy(x, mg.tensor(CLASSES).to(dtype)), x)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_different_shapes_are_broadcast_with_a_warning():
    for loss in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss):
        with pytest.warns(UserWarning, match=r"input \[2, 3\] and target \[3\] differ and will be broadcast"):
            assert loss(mg.ones(2, 3), mg.ones(3), reduction="none").shape == (2, 3)


# ------------------------------------------------------------------------------- cross-entropy, the hot one


def gradients(create_graph, **options):
    x = mg.tensor(SCORES, requires_grad=True)
    y = F.cross_entropy(x, mg.tensor(CLASSES), **options)
    seed = mg.tensor(np.random.default_rng(2).standard_normal(y.shape))
    (gx,) = mg.grad(y, x, seed, create_graph=create_graph)
    return gx


WEIGHT = mg.tensor([0.5, 2.0, 1.0, 3.0], dtype=mg.float64)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("ignore", [-100, 2])
def test_the_fused_gradient_is_the_formulas(reduction, smoothing, weight, ignore):
    options = dict(reduction=reduction, label_smoothing=smoothing, weight=weight, ignore_index=ignore)
    fused, formula = gradients(False, **options), gradients(True, **options)
    assert formula.requires_grad and not fused.requires_grad
    np.testing.assert_allclose(fused.numpy(), formula.detach().numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "options", [{}, dict(label_smoothing=0.1), dict(weight=WEIGHT), dict(ignore_index=2)]
)
def test_machines_agree(options):
    found = []
    for machine in ("compiled", "numpy"):
        with kernels.use(machine):
            x = mg.tensor(SCORES, requires_grad=True)
            loss = F.cross_entropy(x, mg.tensor(CLASSES), **options)
            found.append((loss.detach().numpy(), mg.grad(loss, x)[0].numpy()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"cross_entropy": 1, "total_loss": 1}),
        (dict(label_smoothing=0.1), {"cross_entropy": 1, "total_loss": 1}),
        (dict(reduction="sum"), {"cross_entropy": 1, "total_loss": 1}),
        (dict(reduction="none"), {"cross_entropy": 1}),
        (dict(weight="given"), {"cross_entropy": 1, "total_loss": 1}),
    ],
)
def test_two_launches_forward_one_backward_and_nothing_is_read(options, expected):
    with fake_cupy.installed() as device:
        x = mg.tensor(SCORES.astype("f4"), device="cuda", requires_grad=True)
        t = mg.tensor(CLASSES, device="cuda")
        options = options | ({"weight": WEIGHT.float().to("cuda")} if "weight" in options else {})
        F.cross_entropy(x, t, **options).sum().backward()  # what is uploaded once is there
        with device.counting() as forward:
            loss = F.cross_entropy(x, t, **options)
        assert forward.launches == expected
        seed = mg.ones(*loss.shape, device="cuda")
        with device.counting() as backward:
            mg.grad(loss, x, seed)
        assert backward.launches == {"cross_entropy_backward": 1}
        for step in (forward, backward):
            assert step.host_reads == [] and step.uploads == [] and step.python_scalars == []


def test_nothing_of_the_scores_size_is_kept_but_the_scores():
    x = mg.tensor(SCORES, requires_grad=True)
    node = F.cross_entropy(x, mg.tensor(CLASSES)).node
    kept = [a for s in node.saved for a in (s if isinstance(s, tuple) else (s,))]
    sizes = [a.array.size if isinstance(a, mg.Tensor) else a.size for a in kept if hasattr(a, "shape")]
    assert sorted(sizes) == [1, 6, 6, 24]  # the total, lse and the classes, the scores themselves


def test_all_ignored_is_nan_for_the_mean_and_zero_for_the_gradient_as_in_torch():
    x = mg.tensor(SCORES, requires_grad=True)
    t = mg.full((6,), -100, dtype=mg.int64)
    loss = F.cross_entropy(x, t)
    loss.backward()
    assert np.isnan(loss.item()) and not x.grad.numpy().any()
    assert F.cross_entropy(x, t, reduction="sum").item() == 0
    assert np.isnan(F.nll_loss(x, t).item())


def test_no_rows():
    x, t = mg.zeros(0, 4, requires_grad=True), mg.zeros(0, dtype=mg.int64)
    assert np.isnan(F.cross_entropy(x, t).item())
    assert F.cross_entropy(x, t, reduction="none").shape == (0,)
    F.cross_entropy(x, t, reduction="sum").backward()
    assert x.grad.shape == (0, 4)


def test_a_target_changed_before_the_backward_pass_is_noticed():
    x, t = mg.tensor(SCORES, requires_grad=True), mg.tensor(CLASSES)
    loss = F.cross_entropy(x, t)
    t[0] = 1
    with pytest.raises(RuntimeError, match="modified in place"):
        loss.backward()


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "options", [{}, dict(label_smoothing=0.1), dict(weight=True), dict(reduction="none")]
)
def test_half_precision_is_computed_in_single(dtype, options):
    """Scores of a thousand: e^x overflows in half precision, the sum of 3,000 losses too; rounded once at the
    end."""
    torch = oracle("torch")
    x = np.random.default_rng(3).standard_normal((3000, 10)) * 100
    t = np.random.default_rng(4).integers(0, 10, 3000)
    w = np.linspace(0.5, 2, 10)
    ours = mg.tensor(x, dtype=getattr(mg, dtype), requires_grad=True)
    wide = torch.tensor(ours.detach().float().numpy(), requires_grad=True)
    mine, his = dict(options), dict(options)
    if "weight" in options:
        mine["weight"] = mg.tensor(w, dtype=getattr(mg, dtype))
        his["weight"] = torch.tensor(mine["weight"].float().numpy())
    loss = F.cross_entropy(ours, mg.tensor(t), **mine)
    expected = torch.nn.functional.cross_entropy(wide, torch.tensor(t), **his)
    assert loss.dtype == getattr(mg, dtype)
    unit = 2.0**-10 if dtype == "float16" else 2.0**-7
    np.testing.assert_allclose(loss.detach().float().numpy(), expected.detach(), rtol=unit, atol=unit)
    loss.sum().backward()
    expected.sum().backward()
    scale = np.abs(wide.grad.numpy()).max()
    np.testing.assert_allclose(ours.grad.float().numpy(), wide.grad, rtol=unit, atol=unit * scale)


def test_the_mean_over_classes_in_three_dims_is_that_of_the_rows():
    x, t = scores(3, 4, 5), mg.tensor(RNG.integers(0, 4, (3, 5)))
    rows = x.permute(0, 2, 1).reshape(15, 4)
    assert F.cross_entropy(x, t).item() == F.cross_entropy(rows, t.reshape(15)).item()


# ----------------------------------------------------------------------------------- torch's choices at edges


def compare(torch, name, *arrays, rtol=1e-12, **options):
    """Values and first gradients of a function of nn.functional, with all floating inputs watched."""
    results = []
    for lib in (mg, torch):
        tensors = [lib.tensor(a) for a in arrays]
        for t in tensors:
            if t.dtype in (mg.float64, torch.float64):
                t.requires_grad_()
        y = getattr(lib.nn.functional, name)(*tensors, **options)
        y.sum().backward()
        results.append([y.detach().numpy(), *[t.grad.numpy() for t in tensors if t.grad is not None]])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol)


@pytest.mark.oracle
def test_certain_probabilities_have_torchs_finite_losses_and_gradients():
    p, t = np.array([0.0, 1.0, 0.0, 1.0, 1e-30]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    # torch's 1e-12 there is a float32
    compare(oracle("torch"), "binary_cross_entropy", p, t, reduction="none", rtol=1e-8)


@pytest.mark.oracle
def test_bounded_variances_and_short_vectors_have_torchs_gradients():
    """torch's clamps there are invisible to the gradient."""
    torch, rng = oracle("torch"), np.random.default_rng(1)
    x, t, v = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.uniform(0.1, 2, (3, 4))
    compare(torch, "gaussian_nll_loss", x, t, v, eps=1.2)
    compare(torch, "gaussian_nll_loss", x, t, np.zeros((3, 4)))
    compare(torch, "cosine_similarity", x, t, dim=-1, eps=2.0)
    compare(torch, "normalize", np.zeros((2, 3)))
    compare(torch, "pairwise_distance", x, x, eps=0.0)


@pytest.mark.oracle
def test_kinks_have_torchs_gradients():
    torch = oracle("torch")
    d, zero = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]), np.zeros(5)
    compare(torch, "l1_loss", d, zero, reduction="none")
    compare(torch, "smooth_l1_loss", d, zero, reduction="none", beta=0.5)
    compare(torch, "huber_loss", d, zero, reduction="none", delta=0.5)
    compare(torch, "hinge_embedding_loss", d, np.array([-1, -1, 1, -1, 1]), margin=0.5, reduction="none")
    compare(
        torch, "margin_ranking_loss", d, zero, np.array([1.0, -1, 1, -1, 1]), margin=0.5, reduction="none"
    )


@pytest.mark.oracle
def test_kl_div_means_over_elements_as_torch_still_does():
    torch = oracle("torch")
    x, t = RNG.standard_normal((3, 4)), RNG.uniform(0.1, 1, (3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: this is not the textbook's divergence
        compare(torch, "kl_div", x, t, reduction="mean")


# ---------------------------------------------------------------------------------------------------- modules


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("MSELoss", (), dict(reduction="sum")),
        ("L1Loss", (None, None, "sum"), {}),
        ("SmoothL1Loss", (), dict(beta=0.5)),
        ("HuberLoss", ("sum", 0.5), {}),
        ("PoissonNLLLoss", (False, True), {}),
        ("BCEWithLogitsLoss", (), dict(reduction="sum")),
        ("SoftMarginLoss", (), {}),
        ("MultiLabelSoftMarginLoss", (), {}),
        ("KLDivLoss", (), dict(reduction="batchmean", log_target=True)),
        ("HingeEmbeddingLoss", (0.7,), {}),
    ],
)
def test_loss_modules_take_torchs_arguments(name, args, options):
    torch = oracle("torch")
    x, t = RNG.uniform(0.1, 2, (3, 4)), RNG.uniform(0.1, 2, (3, 4))
    ours, theirs = getattr(nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    assert repr(ours) == repr(theirs)
    value = ours(mg.tensor(x), mg.tensor(t)).numpy()
    np.testing.assert_allclose(value, theirs(torch.tensor(x), torch.tensor(t)), rtol=1e-12)


@pytest.mark.oracle
def test_losses_of_three_tensors():
    torch = oracle("torch")
    a, b, c = (RNG.uniform(0.1, 2, (3, 4)) for _ in range(3))
    sign = np.array([1.0, -1.0, 1.0])
    for name, options, tensors in (
        ("GaussianNLLLoss", dict(full=True, eps=1e-3), (a, b, c)),
        ("TripletMarginLoss", dict(margin=0.5, swap=True), (a, b, c)),
        ("MarginRankingLoss", dict(margin=0.5), (a[:, 0], b[:, 0], sign)),
        ("CosineEmbeddingLoss", dict(margin=0.5), (a, b, sign)),
    ):
        ours = getattr(nn, name)(**options)(*map(mg.tensor, tensors)).numpy()
        theirs = getattr(torch.nn, name)(**options)(*map(torch.tensor, tensors))
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss"])
def test_class_weights_are_buffers(name):
    torch = oracle("torch")
    weight = np.array([0.5, 2.0, 1.0, 3.0])
    ours = getattr(nn, name)(mg.tensor(weight), ignore_index=2)
    theirs = getattr(torch.nn, name)(torch.tensor(weight), ignore_index=2)
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight"]
    assert list(getattr(nn, name)().state_dict()) == []
    value = ours(mg.tensor(SCORES), mg.tensor(CLASSES)).numpy()
    np.testing.assert_allclose(value, theirs(torch.tensor(SCORES), torch.tensor(CLASSES)), rtol=1e-12)
    assert ours.float().weight.dtype == mg.float32


def test_weights_of_binary_losses_are_buffers():
    loss = nn.BCEWithLogitsLoss(pos_weight=mg.ones(4), weight=mg.ones(4))
    assert list(loss.state_dict()) == ["weight", "pos_weight"]
    assert list(nn.BCELoss(mg.ones(4)).state_dict()) == ["weight"]


def test_wrong_arguments_of_a_module_are_named():
    with pytest.raises(TypeError, match=r"HuberLoss\(reduction.*got an unexpected keyword argument 'beta'"):
        nn.HuberLoss(beta=1)
    with pytest.raises(TypeError, match="too many positional arguments"):
        nn.MSELoss(None, None, "mean", 3)
