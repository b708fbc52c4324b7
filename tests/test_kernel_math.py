"""exp, log, tanh and erf of float32 on the compiled machine: at most 2 ulp, and right at the edges."""

import math

import numpy as np
import pytest
from oracle import oracle

import kernels
from kernels import Elementwise

KERNELS = {
    name: Elementwise(name, "S x", "S y", f"y = {name}(T(x));") for name in ("exp", "log", "tanh", "erf")
}
MACHINES = ("compiled", "numpy")


def arguments():
    """Every 4099th float32, and dense grids where the functions bend or their formulas change."""
    bits = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    grids = [
        (-104, 89),
        (-1.5, 1.5),
        (-10, 10),
        (-0.01, 0.01),
        (0.5, 2.0),
        (0.99, 1.01),
        (3.9, 4.1),
        (0.59, 0.61),
    ]
    dense = [np.linspace(a, b, 200_001).astype(np.float32) for a, b in grids]
    return np.concatenate([bits[np.isfinite(bits)], *dense])


def exact(name, x):
    """The function in float64, of float32 arguments."""
    x = x.astype(np.float64)
    with np.errstate(all="ignore"):
        if name == "erf":
            return oracle("scipy.special").erf(x)
        return getattr(np, name)(x)


def ulps(y, true):
    """How far float32 results are from the true values, in units of the last place of the true value."""
    spacing = np.spacing(np.abs(true).astype(np.float32)).astype(np.float64)
    spacing = np.maximum(spacing, 2.0**-149)
    return np.abs(y.astype(np.float64) - true) / spacing


@pytest.mark.oracle
@pytest.mark.parametrize("name", KERNELS)
def test_the_error_is_at_most_2_ulp(name):
    x = arguments()
    if name == "log":
        x = x[x > 0]
    with kernels.use("compiled"):
        y = KERNELS[name](x)
    true = exact(name, x)
    with np.errstate(over="ignore"):
        inside = np.isfinite(true.astype(np.float32))
    error = ulps(y[inside], true[inside])
    worst = int(np.argmax(error))
    assert error[worst] <= 2, (x[inside][worst], error[worst])
    assert (y[~inside] == np.inf).all()


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_edges(machine, name):
    inf, nan = math.inf, math.nan
    x = np.array([0.0, -0.0, inf, -inf, nan, -1.0, 1e-40, 200.0, -200.0], name)
    expected = dict(
        exp=[1, 1, inf, 0, nan, math.exp(-1), 1, None, None],
        log=[-inf, -inf, inf, nan, nan, nan, None, math.log(200), nan],
        tanh=[0, -0.0, 1, -1, nan, math.tanh(-1), None, 1, -1],
        erf=[0, -0.0, 1, -1, nan, math.erf(-1), None, 1, -1],
    )
    with kernels.use(machine):
        for function, values in expected.items():
            y = KERNELS[function](x)
            for argument, got, want in zip(x, y, values, strict=True):
                if want is None:
                    continue
                np.testing.assert_allclose(got, want, rtol=3e-7, err_msg=f"{function}({argument})")
                assert math.isnan(want) or np.signbit(got) == np.signbit(np.float64(want))


def test_subnormal_results_and_arguments():
    with kernels.use("compiled"):
        tiny = np.array([-88, -95, -100, -103, -103.9, -104.5], np.float32)
        np.testing.assert_allclose(
            KERNELS["exp"](tiny), np.exp(tiny.astype(np.float64)), rtol=0, atol=2.0**-148
        )
        small = np.array([1e-45, 1e-40, 1.1754942e-38, 1.1754944e-38], np.float32)
        np.testing.assert_allclose(KERNELS["log"](small), np.log(small.astype(np.float64)), rtol=2e-7)
        for name in ("tanh", "erf"):
            factor = 1 if name == "tanh" else 2 / math.sqrt(math.pi)
            y = KERNELS[name](small)
            np.testing.assert_allclose(y, factor * small.astype(np.float64), rtol=2e-7, atol=2.0**-149)


@pytest.mark.oracle
@pytest.mark.parametrize("name", KERNELS)
def test_float64_is_the_c_librarys(name):
    x = np.linspace(-30, 30, 10_001)
    x = x[x > 0] if name == "log" else x
    for machine in MACHINES:
        with kernels.use(machine):
            np.testing.assert_allclose(KERNELS[name](x), exact(name, x), rtol=4e-16, atol=0)


@pytest.mark.oracle
def test_erf_is_the_same_polynomial_on_both_machines():
    x = arguments()
    with kernels.use("numpy"):
        y = KERNELS["erf"](x)
    assert ulps(y, exact("erf", x)).max() <= 3  # around NumPy's own exp
