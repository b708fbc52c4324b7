"""Pools, padding and enlarging: layers equal torch's, ties and nans go where torch's do.

Values and gradients of every option stand in tests/samples/conv.py; that all machines give the same bits is
claimed in test_windows.py.
"""

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import kernels
import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

MACHINES = ("compiled", "numpy")

LAYERS = [
    ("MaxPool2d", (2,), dict(), (2, 3, 7, 6)),
    ("MaxPool2d", (3, 2, 1), dict(dilation=(1, 2), ceil_mode=True), (2, 3, 7, 6)),
    ("MaxPool2d", (2, None, 0, 1, True), dict(), (2, 3, 7, 6)),  # return_indices comes before ceil_mode
    ("MaxPool2d", (2, None, 0, 1, False, True), dict(), (3, 7, 5)),
    ("MaxPool1d", (3,), dict(stride=1), (2, 3, 9)),
    ("MaxPool1d", (2,), dict(return_indices=True), (3, 9)),
    ("AvgPool2d", (2,), dict(), (2, 3, 7, 6)),
    ("AvgPool2d", ((3, 2), 1, (1, 0), True, False, 4), dict(), (2, 3, 7, 6)),
    ("AdaptiveAvgPool1d", (3,), dict(), (2, 3, 8)),
    ("AdaptiveAvgPool2d", ((None, 2),), dict(), (2, 3, 7, 6)),
    ("AdaptiveMaxPool1d", (4,), dict(), (2, 3, 8)),
    ("AdaptiveMaxPool2d", ((2, 4),), dict(return_indices=True), (2, 3, 7, 6)),
    ("Unfold", ((2, 3),), dict(padding=1), (2, 3, 7, 6)),
    ("Fold", ((4, 5), 2), dict(stride=(2, 1)), (2, 12, 8)),
    ("Upsample", (), dict(scale_factor=2), (2, 3, 4, 5)),
    ("Upsample", (), dict(scale_factor=(2, 3.5)), (2, 3, 4, 5)),
    ("Upsample", ((7, 9), None, "nearest-exact"), dict(), (2, 3, 4, 5)),
    ("UpsamplingNearest2d", (), dict(scale_factor=3), (2, 3, 4, 5)),
    ("UpsamplingNearest2d", ((6, 4),), dict(), (2, 3, 4, 5)),
    ("ZeroPad2d", (1,), dict(), (2, 3, 4, 5)),
    ("ZeroPad2d", ((1, 2, -1, 3),), dict(), (3, 4, 5)),
    ("ZeroPad1d", ((1, 2),), dict(), (2, 3, 4)),
    ("ConstantPad2d", ((1, 2, 3, 0), 1.5), dict(), (2, 3, 4, 5)),
    ("ConstantPad1d", (2, -3.0), dict(), (2, 3, 4)),
    *[
        (f"{kind}Pad{dims}d", (padding,), dict(), (2, 3, 4, 5)[: 2 + dims])
        for kind in ("Reflection", "Replication", "Circular")
        for dims, padding in ((1, 2), (1, (1, 3)), (2, 2), (2, (1, 2, 3, 0)))
    ],
]


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), LAYERS, ids=str)
def test_layers_have_torchs_values_and_looks(name, args, kwargs, shape):
    torch = oracle("torch")
    ours, theirs = getattr(nn, name)(*args, **kwargs), getattr(torch.nn, name)(*args, **kwargs)
    assert repr(ours).replace("(2.0, 3.5)", "(2, 3.5)") == repr(theirs).replace("(2.0, 3.5)", "(2, 3.5)")
    x = np.random.default_rng(0).standard_normal(shape)
    y, z = ours(mg.tensor(x)), theirs(torch.tensor(x))
    pairs = zip(y, z, strict=True) if isinstance(y, tuple) else [(y, z)]
    for a, b in pairs:
        assert a.numpy().dtype == b.numpy().dtype
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.oracle
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["max_pool2d", "adaptive_max_pool2d"])
def test_the_gradient_of_equal_pixels_and_nans_goes_where_torchs_does(machine, name):
    torch = oracle("torch")
    rng = np.random.default_rng(1)
    x = rng.choice([0.0, 1.0, np.nan, -np.inf, np.inf], (20, 2, 6, 6), p=[0.4, 0.3, 0.1, 0.1, 0.1])
    for size in (2, 3, 4):  # 4 does not divide 6
        options = dict(stride=1) if name == "max_pool2d" else {}
        with kernels.use(machine):
            ours = mg.tensor(x, requires_grad=True)
            y, places = getattr(F, name)(ours, size, return_indices=True, **options)
            y.backward(mg.ones(*y.shape).double())
            plain = mg.tensor(x, requires_grad=True)
            getattr(F, name)(plain, size, **options).backward(mg.ones(*y.shape).double())
        theirs = torch.tensor(x, requires_grad=True)
        z, expected = getattr(torch.nn.functional, name)(theirs, size, return_indices=True, **options)
        z.backward(torch.ones_like(z))
        np.testing.assert_array_equal(y.detach().numpy(), z.detach().numpy())
        np.testing.assert_array_equal(places.numpy(), expected.numpy())
        np.testing.assert_array_equal(ours.grad.numpy(), theirs.grad.numpy())
        np.testing.assert_array_equal(plain.grad.numpy(), theirs.grad.numpy())


def test_a_mean_of_windows_is_untouched_by_nans_outside():
    x = mg.zeros(1, 1, 7, 7)
    x.array[0, 0, 0, 0] = np.nan
    for y in (F.avg_pool2d(x, 2), F.adaptive_avg_pool2d(x, 3), F.interpolate(x, scale_factor=2)):
        nans = np.isnan(y.numpy())
        assert nans[0, 0, 0, 0] and nans.sum() == (4 if y.shape[-1] == 14 else 1)


def test_indices_and_pooled_values_have_no_gradient_where_none_is_wanted():
    y, places = F.max_pool2d(mg.randn(1, 1, 4, 4, requires_grad=True), 2, return_indices=True)
    assert y.requires_grad and not places.requires_grad and places.dtype == mg.int64


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_sixteen_bit_types_pool_and_pad(machine, storage):
    dtype = getattr(mg, storage)
    x = mg.tensor(np.random.default_rng(2).integers(-8, 9, (2, 3, 8, 8)) / 8)
    calls = [
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.avg_pool2d(x, 2),
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: F.pad(x, (1, 2, 0, 3), mode="reflect"),
        lambda x: F.pad(x, (1, 2, 0, 3), value=2.0),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: F.fold(F.unfold(x, 2, stride=2), 8, 2, stride=2),
    ]
    for call in calls:
        found = []
        for kind in (dtype, mg.float64):
            with kernels.use(machine):
                leaf = x.to(kind).detach().requires_grad_()
                y = call(leaf)
                y.backward(mg.ones(*y.shape).to(kind))
            assert y.dtype == kind and leaf.grad.dtype == kind
            found.append([t.detach().to(mg.float64).numpy() for t in (y, leaf.grad)])
        for half, exact in zip(*found, strict=True):
            assert np.abs(half - exact).max() <= 2.0**-8 * np.abs(exact).max()


def test_padding_keeps_whole_numbers_and_shares_no_memory():
    x = mg.arange(3)
    assert F.pad(x, (1, 1), value=2.7).tolist() == [2, 0, 1, 2, 2]
    assert F.pad(mg.tensor([True]), (0, 1)).tolist() == [True, False]
    y = F.pad(x, (0, 0))
    y.array[0] = 9
    assert x.tolist() == [0, 1, 2]


X = mg.zeros(2, 3, 6, 6)
BAD = [
    (lambda: F.max_pool2d(mg.zeros(6, 6), 2), ValueError, r"max_pool2d: input \[6, 6\].*\(N, C, H, W\)"),
    (lambda: F.max_pool2d(X, 3, padding=2), ValueError, "padding=2 for kernel_size=3; it may be half"),
    (
        lambda: F.max_pool2d(X, 7),
        ValueError,
        r"kernel_size=7.*\[6, 6\].*\[0, 0\].*larger than the padded input",
    ),
    (lambda: F.max_pool2d(X, 0), ValueError, "kernel_size=0; it must be at least 1"),
    (lambda: F.max_pool2d(X, 2, stride=0), ValueError, "stride=0"),
    (
        lambda: F.max_pool2d(X, (2, 2, 2)),
        TypeError,
        "kernel_size=.2, 2, 2.; it is a whole number, or a tuple of 2",
    ),
    (lambda: F.max_pool2d(X, 2.5), TypeError, "kernel_size=2.5"),
    (lambda: F.max_pool2d(X, True), TypeError, "kernel_size=True"),
    (lambda: F.max_pool2d(X.long(), 2), TypeError, "int64 input; it takes floating tensors"),
    (lambda: F.max_pool2d(X[..., :2, :2], 2, padding=1, dilation=3), ValueError, "nothing but padding"),
    (lambda: F.max_pool1d(X, 2), ValueError, r"max_pool1d: input \[2, 3, 6, 6\].*\(N, C, L\)"),
    (lambda: F.avg_pool2d(X, 2, divisor_override=0), ValueError, "divisor_override is 0"),
    (lambda: F.avg_pool2d(X, 3, padding=2), ValueError, "padding=2"),
    (lambda: F.adaptive_avg_pool2d(X, 0), ValueError, "output_size=.*at least 1"),
    (lambda: F.adaptive_avg_pool2d(X, (1, 2, 3)), TypeError, "output_size=.*tuple of 2"),
    (lambda: F.adaptive_max_pool2d(mg.zeros(2, 3, 0, 4), 2), ValueError, "has no pixels"),
    (lambda: F.pad(X, (1,)), ValueError, r"pad=\(1,\) for an input \[2, 3, 6, 6\]"),
    (lambda: F.pad(X, 1), ValueError, "pad=1 for an input"),
    (lambda: F.pad(X, (1,) * 10), ValueError, "of the last dim, then of the one before"),
    (lambda: F.pad(X, (0.5, 1)), TypeError, "widths are whole numbers"),
    (lambda: F.pad(X, (-4, -3)), ValueError, r"cuts more off an input \[2, 3, 6, 6\] than there is"),
    (lambda: F.pad(X, (1, 1), mode="mirror"), ValueError, "mode='mirror'; use one of 'constant', 'reflect'"),
    (lambda: F.pad(X, (1, 1), mode="reflect"), ValueError, "last 1, 2 or 3 dims"),
    (
        lambda: F.pad(X[0], (6, 0), mode="reflect"),
        ValueError,
        r"\(6, 0\) in dim 2 of an input.*has 5 elements",
    ),
    (lambda: F.pad(X[0], (7, 0), mode="circular"), ValueError, "has 6 elements to copy; pad less"),
    (lambda: F.pad(mg.zeros(2, 0), (1, 0), mode="replicate"), ValueError, "has 0 elements"),
    (lambda: F.pad(X[0], (1, 1), mode="reflect", value=3.0), ValueError, "only 'constant' has a value"),
    (lambda: F.interpolate(X, 3, scale_factor=2), ValueError, "either size or scale_factor"),
    (lambda: F.interpolate(X), ValueError, "either size or scale_factor"),
    (lambda: F.interpolate(X, scale_factor=0.1), ValueError, r"output of size \[0, 0\]"),
    (lambda: F.interpolate(X, (3, 3, 3)), ValueError, r"one for each of \[6, 6\]"),
    (lambda: F.interpolate(X, 3, mode="bicubic"), ValueError, "mode='bicubic'; use 'nearest'"),
    (lambda: F.interpolate(X, 3, align_corners=True), ValueError, "neither align_corners nor antialias"),
    (lambda: F.interpolate(X[0, 0], 3), ValueError, r"\(N, C, L\) or \(N, C, H, W\)"),
    (lambda: nn.MaxPool2d(7)(X), ValueError, "kernel_size=7"),
    (lambda: nn.ReflectionPad2d((1, 2, 3)), TypeError, "tuple of 4"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD, ids=[words for _, _, words in BAD])
def test_a_bad_call_names_what_is_wrong(call, error, words):
    with pytest.raises(error, match=words):
        call()


# -- the device ---------------------------------------------------------------------------------------------

ON_DEVICE = {
    "max_pool2d": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "max_pool2d with indices": lambda x: sum(F.max_pool2d(x, 2, return_indices=True)),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
    "adaptive_avg_pool2d to one": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, (4, 3)),
    "unfold": lambda x: F.unfold(x, 3, 2, 1, 2),
    "fold": lambda x: F.fold(F.unfold(x, 2), (7, 6), 2),
    "pad": lambda x: F.pad(x, (1, -2, 3, 0), value=1.5),
    **{mode: lambda x, m=mode: F.pad(x, (1, 2, -1, 3), m) for mode in ("reflect", "replicate", "circular")},
    "interpolate": lambda x: F.interpolate(x, scale_factor=(2, 3)),
    "interpolate to a size": lambda x: F.interpolate(x, (5, 11)),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, x[:, :, :3, :2].reshape(3, 2, 3, 2), stride=2),
}


@pytest.mark.parametrize("name", ON_DEVICE)
def test_the_device_gives_the_cpus_values_and_gradients_and_is_not_read(name):
    array = np.random.default_rng(3).standard_normal((2, 3, 7, 6))
    found = []

    def run(where):
        x = mg.tensor(array, device=where, requires_grad=True)
        y = ON_DEVICE[name](x)
        (g,) = mg.grad((y * y).sum(), x, create_graph=True)
        (second,) = mg.grad((g * g).sum(), x)
        return y, g, second

    with kernels.use("numpy"):
        found.append([t.detach().numpy() for t in run("cpu")])
    with fake_cupy.installed() as device:
        run("cuda")  # what is uploaded once
        with device.counting() as step:
            results = run("cuda")
        assert step.host_reads == [] and step.python_scalars == []
        assert len(step.uploads) == 1  # the image
        found.append([t.detach().cpu().numpy() for t in results])
    for here, there in zip(*found, strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-12, atol=1e-12)
