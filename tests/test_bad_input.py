"""Bad input and empty batches, asked of every layer and loss: what torch takes without examples gives as much
here, what is wrong says so with the layer's or the function's name."""

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg

RNG = np.random.default_rng(0)


def f(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def p(*shape):
    return RNG.uniform(0.1, 0.9, shape).astype(np.float32)


def i(high, *shape):
    return RNG.integers(0, high, shape)


POINTWISE = """ReLU ReLU6 LeakyReLU ELU SELU CELU GELU SiLU Mish Sigmoid LogSigmoid Tanh Tanhshrink Softplus
Softsign Softshrink Hardshrink Hardtanh Hardsigmoid Hardswish PReLU""".split()
image = f(2, 3, 8, 8)

# the layer as text, run on both sides; its inputs
CALLS = [
    *[(f"nn.{name}()", f(2, 3)) for name in POINTWISE],
    ("nn.Threshold(0.1, 20.0)", f(2, 3)),
    ("nn.GLU()", f(2, 4)),
    *[(f"nn.{name}(1)", f(2, 3)) for name in ("Softmax", "Softmin", "LogSoftmax")],
    ("nn.Softmax2d()", image),
    ("nn.MultiheadAttention(4, 2, batch_first=True)", f(2, 5, 4), f(2, 3, 4), f(2, 3, 4)),
    ("nn.functional.scaled_dot_product_attention", f(2, 2, 5, 4), f(2, 2, 3, 4), f(2, 2, 3, 4)),
    ("nn.Linear(3, 4)", f(2, 3)),
    ("nn.Bilinear(3, 2, 4)", f(2, 3), f(2, 2)),
    ("nn.Embedding(5, 3)", i(5, 2, 4)),
    ("nn.Conv1d(3, 4, 3)", f(2, 3, 8)),
    ("nn.Conv2d(3, 4, 3)", image),
    ("nn.Conv2d(3, 4, 1)", image),
    ("nn.Conv2d(3, 3, 3, padding=1, groups=3)", image),
    ("nn.Conv2d(3, 4, 3, padding=1, padding_mode='reflect')", image),
    ("nn.ConvTranspose1d(3, 4, 3)", f(2, 3, 8)),
    ("nn.ConvTranspose2d(3, 4, 3)", image),
    *[(f"nn.Dropout{d}({0.5})", image) for d in ("", "2d")],
    ("nn.BatchNorm1d(3)", f(4, 3)),
    ("nn.BatchNorm1d(3)", f(4, 3, 5)),
    ("nn.BatchNorm2d(3)", image),
    ("nn.BatchNorm2d(3).eval()", image),
    ("nn.GroupNorm(1, 3)", f(2, 3, 5)),
    ("nn.InstanceNorm1d(3)", f(2, 3, 5)),
    ("nn.InstanceNorm2d(3)", image),
    ("nn.LayerNorm(3)", f(2, 3)),
    ("nn.RMSNorm(3)", f(2, 3)),
    *[(f"nn.{name}Pad1d(1)", f(2, 3, 4)) for name in ("Circular", "Reflection", "Replication", "Zero")],
    *[(f"nn.{name}Pad2d(1)", image) for name in ("Circular", "Reflection", "Replication", "Zero")],
    *[(f"nn.Adaptive{kind}Pool2d({n})", image) for kind in ("Avg", "Max") for n in (1, 2, 3)],
    *[(f"nn.{kind}Pool1d(2)", f(2, 3, 4)) for kind in ("Avg", "Max", "AdaptiveAvg", "AdaptiveMax")],
    *[(f"nn.{kind}Pool2d(2)", image) for kind in ("Avg", "Max")],
    ("nn.Unfold(2)", image),
    ("nn.Fold((4, 4), 2)", f(2, 12, 9)),
    ("nn.Upsample(scale_factor=2)", image),
    *[(f"nn.{name}(3, 4, batch_first=True)", f(2, 5, 3)) for name in ("RNN", "LSTM", "GRU")],
    *[(f"nn.{name}Cell(3, 4)", f(2, 3)) for name in ("RNN", "LSTM", "GRU")],
    ("nn.Flatten()", f(2, 3, 4)),
    ("nn.Unflatten(1, (3, 2))", f(2, 6)),
    ("nn.CosineSimilarity()", f(2, 3), f(2, 3)),
    ("nn.PairwiseDistance()", f(2, 3), f(2, 3)),
    ("nn.BCELoss()", p(2, 3), p(2, 3)),
    ("nn.BCEWithLogitsLoss()", f(2, 3), p(2, 3)),
    ("nn.CosineEmbeddingLoss()", f(2, 3), f(2, 3), np.ones(2, np.float32)),
    ("nn.CrossEntropyLoss()", f(2, 3), i(3, 2)),
    ("nn.CrossEntropyLoss(reduction='none')", f(2, 3, 4), i(3, 2, 4)),
    ("nn.CrossEntropyLoss(reduction='sum')", f(2, 3), p(2, 3)),
    ("nn.NLLLoss()", f(2, 3), i(3, 2)),
    ("nn.GaussianNLLLoss()", f(2, 3), f(2, 3), p(2, 3)),
    *[(f"nn.{name}()", f(2, 3), p(2, 3)) for name in "L1Loss MSELoss SmoothL1Loss HuberLoss".split()],
    ("nn.KLDivLoss(reduction='sum')", f(2, 3), p(2, 3)),
    ("nn.PoissonNLLLoss()", f(2, 3), p(2, 3)),
    *[(f"nn.{name}()", f(2, 3), np.ones((2, 3), np.float32)) for name in
      ("HingeEmbeddingLoss", "SoftMarginLoss", "MultiLabelSoftMarginLoss")],
    ("nn.MarginRankingLoss()", f(2), f(2), np.ones(2, np.float32)),
    ("nn.TripletMarginLoss()", f(2, 3), f(2, 3), f(2, 3)),
    ("nn.functional.one_hot", i(3, 2, 4)),
    ("nn.functional.normalize", f(2, 3)),
    ("nn.functional.linear", f(2, 3), f(4, 3), f(4)),
    ("nn.functional.conv2d", f(2, 3, 5, 5), f(4, 3, 2, 2), f(4)),
    ("nn.functional.batch_norm", f(4, 3), f(3), p(3)),
]  # fmt: skip
IDS = [f"{k} {call[0]}" for k, call in enumerate(CALLS)]
WHOLE = [k for k, call in enumerate(CALLS) if call[0] not in ("nn.functional.linear", "nn.functional.conv2d",
         "nn.functional.batch_norm", "nn.functional.one_hot")]  # fmt: skip


def layer_of(m, text):
    m.manual_seed(0)
    layer = eval(f"m.{text}", {"m": m})
    return layer.eval() if "Dropout" in text else layer


def first(result):
    while isinstance(result, tuple):
        result = result[0]
    return result


# -------------------------------------------------------------------------------------------- empty batches


@pytest.mark.oracle
@pytest.mark.parametrize("k", WHOLE, ids=[IDS[k] for k in WHOLE])
def test_an_empty_batch_is_torchs(k):
    """The same shape, the same nan of a mean over nothing, gradients of the same shapes, of parameters 0."""
    torch = oracle("torch")
    text, *inputs = CALLS[k]
    found = []
    for m in (mg, torch):
        layer = layer_of(m, text)
        tensors = [m.tensor(a[:0]) for a in inputs]
        if tensors[0].dtype == m.float32:
            tensors[0].requires_grad_()
        y = first(layer(*tensors))
        said = [tuple(y.shape), bool((y != y).any())]
        if y.requires_grad:
            y.sum().backward()
            said.append([None if t.grad is None else tuple(t.grad.shape) for t in tensors])
            parameters = dict(layer.named_parameters()) if hasattr(layer, "parameters") else {}
            said.append(
                {n: None if q.grad is None else bool((q.grad == 0).all()) for n, q in parameters.items()}
            )
        found.append(said)
        if "Norm" in text and hasattr(layer, "running_mean") and layer.running_mean is not None:
            assert (layer.running_mean == 0).all() and (layer.running_var == 1).all()
    assert found[0] == found[1]


# ------------------------------------------------------------------------------------------------ bad input


def changes(inputs):
    """(which, what, the inputs with one of them wrong)"""
    for k, a in enumerate(inputs):
        others = {"0-d": a.reshape(-1)[:1].reshape(()), "a dim more": a[None], "a dim less": a[0]}
        for axis in range(a.ndim):
            others[f"axis {axis} longer"] = np.concatenate([a, a.take([0], axis)], axis)
        if a.dtype.kind == "f":
            others |= {"float64": a.astype(np.float64), "int64": a.astype(np.int64), "bool": a > 0}
        else:
            others |= {
                "float32": a.astype(np.float32),
                "too large": a + 100,
                "negative": a - 3,
                "bool": a > 0,
            }
        for what, b in others.items():
            yield f"input {k}, {what}", [mg.tensor(b if j == k else c) for j, c in enumerate(inputs)]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of losses that broadcast
@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_what_is_refused_is_named(call):
    """An error of the three kinds, that begins with the name of a function or a layer, not of an inside."""
    text, *inputs = call
    layer = layer_of(mg, text)
    refused = 0
    for what, tensors in changes(inputs):
        try:
            layer(*tensors)
        except (ValueError, TypeError, IndexError) as error:
            refused += 1
            name, _, cure = str(error).partition(":")
            assert name.replace(".", "").replace("_", "").isalnum() or "(" in name, (what, error)
            assert len(cure) > 12, (what, error)
    loose = (*POINTWISE, "Flatten", "Circular", "Zero", "Pairwise", "MSE", "L1", "Dropout()")
    assert refused or any(word in text for word in loose), "nothing was refused"


@pytest.mark.parametrize(
    "wrong", [np.ones((2, 3), np.float32), [1.0, 2.0], None, 3.0], ids=["array", "list", "None", "number"]
)
@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_what_is_no_tensor_is_named(call, wrong):
    text, *inputs = call
    layer = layer_of(mg, text)
    for k in range(len(inputs)):
        if k == 2 and (wrong is None or "Gaussian" in text):
            continue  # a bias may be None, a variance a number
        given = [wrong if j == k else mg.tensor(a) for j, a in enumerate(inputs)]
        if wrong is None and "batch_norm" in text and k:
            given[1:] = [None, mg.ones(3)]
        with pytest.raises((TypeError, ValueError), match=r"^\w+: .*(Tensor|tensor|numbers|both)"):
            layer(*given)


def test_mixed_dtypes_name_both():
    x, w = mg.ones(2, 3), mg.ones(4, 3).double()
    for call in (
        lambda: mg.nn.functional.linear(x, w),
        lambda: mg.nn.functional.prelu(x, mg.ones(3).double()),
        lambda: mg.nn.functional.bilinear(x, mg.ones(2, 3).double(), mg.ones(4, 3, 3)),
        lambda: mg.nn.functional.conv1d(x[None], mg.ones(4, 2, 1).double()),
        lambda: mg.nn.functional.layer_norm(x, (3,), mg.ones(3).double()),
        lambda: mg.nn.functional.scaled_dot_product_attention(x, x, x.double()),
        lambda: mg.nn.functional.binary_cross_entropy(x, x.double()),
        lambda: mg.nn.LSTM(3, 4)(mg.ones(5, 2, 3).double()),
    ):
        with pytest.raises((TypeError, ValueError), match=r"float32.*float64|float64.*float32"):
            call()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("Linear(-1, 3)", "in_features=-1; it must not be negative"),
        ("Linear(3.5, 2)", "in_features=3.5; it is a whole number"),
        ("Embedding(3, -1)", "embedding_dim=-1"),
        ("Conv2d(-3, 4, 3)", "in_channels=-3"),
        ("Conv2d(3, 4, 0)", "kernel_size=0; it must be at least 1"),
        ("Conv2d(3, 4, 3, groups=2)", "groups=2 must be positive and divide in_channels=3"),
        ("BatchNorm1d(-1)", "num_features=-1"),
        ("BatchNorm1d(3, eps=-1)", "eps=-1; it must not be negative"),
        ("BatchNorm2d(3, eps=float('nan'))", "eps=nan; it must not be negative"),
        ("LayerNorm(3, eps=-1e-5)", "eps=-1e-05"),
        ("LayerNorm(-3)", "normalized_shape=-3; sizes are whole numbers"),
        ("RMSNorm(3, eps=-1)", "eps=-1"),
        ("GroupNorm(2, 4, eps=-1)", "eps=-1"),
        ("GroupNorm(0, 4)", "num_groups=0"),
        ("InstanceNorm1d(3, eps=-1)", "eps=-1"),
        ("PReLU(-1)", "num_parameters=-1"),
        ("Dropout('a')", "p is a str; it is a number"),
        ("GRU(3, 4.5)", "hidden_size=4.5; it is a whole number"),
        ("MultiheadAttention(5, 2)", "embed_dim=5, num_heads=2"),
    ],
)
def test_sizes_that_are_none_are_refused_with_their_names(text, match):
    name = text.partition("(")[0]
    with pytest.raises((ValueError, TypeError), match=f"^{name}: .*{match}"):
        eval(f"mg.nn.{text}")
    if "eps" in text and "nan" not in text and name not in ("GroupNorm", "InstanceNorm1d"):
        function = {"BatchNorm1d": "batch_norm", "LayerNorm": "layer_norm", "RMSNorm": "rms_norm"}[name]
        given = [None, None, None, None, True] if function == "batch_norm" else [(3,)]
        with pytest.raises(ValueError, match=f"^{function}: eps=-1"):
            getattr(mg.nn.functional, function)(mg.ones(2, 3), *given, eps=-1)


def test_pools_and_borders_need_channels():
    """Only the batch may be empty: as torch has it."""
    x = mg.ones(2, 0, 4, 4)
    F = mg.nn.functional
    for call in (
        lambda: F.max_pool2d(x, 2),
        lambda: F.avg_pool2d(x, 2),
        lambda: F.adaptive_max_pool2d(x, 2),
        lambda: F.unfold(x, 2),
        lambda: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        lambda: F.interpolate(x, scale_factor=2),
    ):
        with pytest.raises(ValueError, match=r"^\w+: .*\[2, 0, 4, 4\].*only the batch may be empty"):
            call()
