"""nn.init: the distributions, by their moments and bounds; the fans and gains; the generator decides, not the
device."""

import math

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import nn
from minigrad.nn import init

N = 200  # a side of the tensors whose moments are taken: 40,000 numbers


def filled(fill, *shape, **kwargs):
    t = mg.empty(*(shape or (N, N)), dtype=mg.float64)
    assert fill(t, **kwargs) is t
    return t.numpy()


def assert_uniform(values, low, high):
    """Within the bounds, and the first two moments right to five standard errors."""
    n, width = values.size, high - low
    assert low <= values.min() and values.max() <= high
    assert values.min() < low + 1e-2 * width and values.max() > high - 1e-2 * width
    assert abs(values.mean() - (low + high) / 2) < 5 * width / math.sqrt(12 * n)
    assert abs(values.var() - width**2 / 12) < 5 * width**2 / math.sqrt(180 * n)


def assert_normal(values, mean, std):
    n, z = values.size, (values - mean) / std
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / n)  # no other shape of that variance


def test_uniform_and_normal():
    assert_uniform(filled(init.uniform_), 0, 1)
    assert_uniform(filled(init.uniform_, a=-3.0, b=2.0), -3, 2)
    assert_normal(filled(init.normal_), 0, 1)
    assert_normal(filled(init.normal_, mean=5.0, std=0.1), 5, 0.1)


def test_constants():
    assert (filled(init.constant_, val=1.5) == 1.5).all()
    assert (filled(init.ones_) == 1).all() and (filled(init.zeros_) == 0).all()
    np.testing.assert_array_equal(filled(init.eye_, 3, 5), np.eye(3, 5))


@pytest.mark.parametrize("shape", [(100, 400), (40, 25, 4, 4)])
def test_fans_and_gains_decide_the_spread(shape):
    fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
    xavier = math.sqrt(2 / (fan_in + fan_out))
    assert_normal(filled(init.xavier_normal_, *shape, gain=2.0), 0, 2 * xavier)
    assert_uniform(filled(init.xavier_uniform_, *shape), -math.sqrt(3) * xavier, math.sqrt(3) * xavier)
    assert_normal(filled(init.kaiming_normal_, *shape), 0, math.sqrt(2 / fan_in))
    assert_normal(
        filled(init.kaiming_normal_, *shape, mode="fan_out", nonlinearity="relu"), 0, math.sqrt(2 / fan_out)
    )
    bound = math.sqrt(3) * math.sqrt(2 / (1 + 0.5**2)) / math.sqrt(fan_in)
    assert_uniform(filled(init.kaiming_uniform_, *shape, a=0.5), -bound, bound)


@pytest.mark.oracle
@pytest.mark.parametrize("name", [*init._GAINS, "leaky_relu"])
def test_gains_are_torchs(name):
    torch = oracle("torch")
    assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)


@pytest.mark.oracle
def test_the_gain_of_a_slope_is_torchs():
    torch = oracle("torch")
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [
        (0.0, 1.0, -2.0, 2.0),
        (0.0, 0.02, -2.0, 2.0),  # bounds far out: an ordinary normal
        (1.0, 2.0, 0.5, 0.7),  # narrow
        (0.0, 1.0, 3.0, 5.0),  # a tail
        (0.0, 1.0, -9.0, -4.0),  # the other one
        (0.0, 1.0, 3.0, 3.1),  # a narrow piece of a tail
        (0.0, 1.0, 1.0, 1e9),
    ],
)
def test_truncated_normal_is_scipys(mean, std, a, b):
    stats = oracle("scipy.stats")
    values = filled(init.trunc_normal_, mean=mean, std=std, a=a, b=b).ravel()
    assert a <= values.min() and values.max() <= b
    expected = stats.truncnorm((a - mean) / std, (b - mean) / std, loc=mean, scale=std)
    assert stats.kstest(values, expected.cdf).pvalue > 1e-4


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (4, 2, 3)])
def test_orthogonal(shape):
    q = filled(init.orthogonal_, *shape, gain=3.0).reshape(shape[0], -1) / 3
    small = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-12)


def test_orthogonal_matrices_are_uniform():
    """The trace of a uniform one has mean 0 and variance 1; QR's own signs would give another."""
    traces = np.array([np.trace(filled(init.orthogonal_, 4, 4)) for _ in range(2000)])
    assert abs(traces.mean()) < 5 / math.sqrt(2000) and abs(traces.var() - 1) < 5 * math.sqrt(3 / 2000)


def test_sparse_columns():
    values = filled(init.sparse_, 10, 400, sparsity=0.25, std=2.0)
    assert ((values == 0).sum(axis=0) == 3).all()  # a quarter of ten, rounded up
    assert ((values == 0).mean(axis=1) > 0.2).all()  # not always the same rows
    assert_normal(values[values != 0], 0, 2)


def test_a_seed_or_a_generator_decides():
    def drawn(**kwargs):
        return filled(init.normal_, 3, 4, **kwargs)

    mg.manual_seed(7)
    first, second = drawn(), drawn()
    mg.manual_seed(7)
    np.testing.assert_array_equal(drawn(), first)
    np.testing.assert_array_equal(drawn(), second)
    own = mg.Generator().manual_seed(7)
    np.testing.assert_array_equal(drawn(generator=own), first)
    mg.manual_seed(7)
    drawn(generator=mg.Generator().manual_seed(9))
    np.testing.assert_array_equal(drawn(), first)  # another generator does not move the default one


def test_numbers_do_not_depend_on_the_dtype():
    mg.manual_seed(3)
    wide = filled(init.normal_, 5, 5)
    mg.manual_seed(3)
    narrow = init.normal_(mg.empty(5, 5)).numpy()
    np.testing.assert_array_equal(narrow, wide.astype(np.float32))


def test_a_fill_stays_out_of_graphs_and_is_noticed():
    w = nn.Parameter(mg.ones(2, 2))
    y = (w * w).sum()
    init.normal_(w)
    assert w.requires_grad and w.is_leaf
    with pytest.raises(RuntimeError, match="modified in place"):
        y.backward()


def test_empty_tensors_are_left():
    for fill in (init.kaiming_normal_, init.kaiming_uniform_, init.orthogonal_):
        assert filled(fill, 0, 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: init.xavier_normal_(mg.empty(3)), ValueError, r"two or more dims has fans.*\[3\]"),
        (lambda: init.kaiming_normal_(mg.empty(3, 3), mode="in"), ValueError, "use 'fan_in' or 'fan_out'"),
        (
            lambda: init.kaiming_normal_(mg.empty(3, 3), nonlinearity="x"),
            ValueError,
            "no gain is known for 'x'",
        ),
        (lambda: init.calculate_gain("leaky_relu", "x"), TypeError, "the negative slope 'x' is no number"),
        (lambda: init.eye_(mg.empty(3)), ValueError, r"two dims is needed.*\[3\]"),
        (lambda: init.orthogonal_(mg.empty(3)), ValueError, r"two or more dims is needed.*\[3\]"),
        (lambda: init.sparse_(mg.empty(3), 0.1), ValueError, r"two dims is needed.*\[3\]"),
        (lambda: init.trunc_normal_(mg.empty(3), a=1, b=1), ValueError, r"\[1, 1\] is empty"),
        (lambda: init.normal_(mg.empty(3), generator=3), TypeError, "int is no minigrad.Generator"),
    ],
)
def test_what_cannot_be_filled_says_why(call, error, match):
    with pytest.raises(error, match=match):
        call()


# ---------------------------------------------------------------------------- how layers begin, against torch


def test_linear_begins_as_torchs():
    """Both as U(-1/sqrt(in), 1/sqrt(in))."""
    layer = nn.Linear(400, 100, dtype=mg.float64)
    assert_uniform(layer.weight.detach().numpy(), -0.05, 0.05)
    bias = np.concatenate([nn.Linear(400, 100, dtype=mg.float64).bias.detach().numpy() for _ in range(20)])
    assert_uniform(bias, -0.05, 0.05)
    assert nn.Linear(3, 2, bias=False).bias is None
    assert nn.Linear(0, 2).bias.detach().numpy().tolist() == [0, 0]


def test_bilinear_and_prelu_begin_as_torchs():
    layer = nn.Bilinear(25, 40, 30, dtype=mg.float64)
    assert_uniform(layer.weight.detach().numpy(), -0.2, 0.2)
    assert nn.PReLU(3).weight.detach().numpy().tolist() == [0.25] * 3
    assert nn.PReLU(init=0.5, dtype=mg.float64).weight.detach().numpy().tolist() == [0.5]


def test_layers_take_device_and_dtype():
    for layer in (nn.Linear(2, 3, device="cpu", dtype=mg.float64), nn.Bilinear(2, 2, 3, dtype="float64")):
        assert {p.dtype for p in layer.parameters()} == {mg.float64}
    assert nn.Linear(2, 3).weight.dtype == mg.float32
