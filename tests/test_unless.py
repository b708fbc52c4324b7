"""A call with `unless`: where that number is not 0 nothing is written, on every machine, by any text."""

import fake_cupy
import numpy as np
import pytest

from kernels import Rows, machines, rules

SQUARED = Rows("test_unless_squared", "S x", "S y, row T total", body="y = T(x) * T(x); total = sum(T(x));")
LEFT_OUT = [(0.0, False), (-0.0, False), (1.0, True), (3.0, True), (np.inf, True), (np.nan, True)]


@pytest.fixture(params=machines.MACHINES)
def machine(request):
    with machines.use(request.param):
        yield request.param


def adam(n=3000):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(n).astype("f4") for _ in range(4)]
    arrays[3] **= 2
    scalars = dict.fromkeys(rules.ADAM.scalars, 0.5)
    return arrays, scalars


def flag(value):
    return np.array([value], "f4")


@pytest.mark.parametrize(("value", "left_out"), LEFT_OUT)
def test_a_rule_writes_all_or_nothing(machine, value, left_out):
    arrays, scalars = adam()
    before = [a.copy() for a in arrays]
    rules.ADAM(*arrays, scalars=scalars, unless=flag(value))
    if not left_out:
        rules.ADAM(*before, scalars=scalars)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before))
    assert left_out == np.array_equal(arrays[1], adam()[0][1])


@pytest.mark.parametrize(("value", "left_out"), LEFT_OUT)
def test_so_does_a_text_of_rows(machine, value, left_out):
    x = np.arange(12, dtype="f4").reshape(3, 4)
    y, total = np.full((3, 4), -1, "f4"), np.full(3, -1, "f4")
    found = SQUARED(x, y, total, unless=flag(value))
    assert found[0] is y and found[1] is total
    assert np.array_equal(y, np.full((3, 4), -1) if left_out else x * x)
    assert np.array_equal(total, np.full(3, -1) if left_out else x.sum(axis=1))


@pytest.mark.parametrize(("value", "left_out"), LEFT_OUT)
def test_on_a_device_nobody_reads_the_number(value, left_out):
    arrays, scalars = adam()
    before = [a.copy() for a in arrays]
    with fake_cupy.installed() as device:
        import cupy

        g, *state = (cupy.asarray(a) for a in arrays)
        guard = cupy.asarray(flag(value))
        x, y, total = cupy.asarray(arrays[0].reshape(3, -1)), cupy.empty((3, 1000), "f4"), cupy.zeros(3, "f4")
        with device.counting() as c:
            rules.ADAM(g, *state, scalars=scalars, unless=guard)
            SQUARED(x, y, total, unless=guard)
        assert c.host_reads == [] and c.launches == {"adam": 1, "test_unless_squared": 1}
        assert (total.get() == 0).all() == left_out
        found = [a.get() for a in state]
    if not left_out:
        rules.ADAM(*before, scalars=scalars)
    assert all(np.array_equal(a, b) for a, b in zip(found, before[1:]))


def test_what_would_be_written_must_be_there():
    x = np.ones((2, 3), "f4")
    with pytest.raises(TypeError, match=r"'test_unless_squared': with unless= .* pass all of its outputs"):
        SQUARED(x, unless=flag(0))
    with pytest.raises(TypeError, match=r"unless is float64 of shape \(1,\); it is one float32"):
        SQUARED(x, x.copy(), np.empty(2, "f4"), unless=np.zeros(1))
    with pytest.raises(TypeError, match=r"unless is float32 of shape \(2,\); it is one float32"):
        SQUARED(x, x.copy(), np.empty(2, "f4"), unless=np.zeros(2, "f4"))
    with fake_cupy.installed():
        import cupy

        with pytest.raises(TypeError, match="'x' is a NumPy array on the host and 'unless'"):
            SQUARED(x, x.copy(), np.empty(2, "f4"), unless=cupy.zeros(1, "f4"))
