"""Line searches: they keep their conditions, never end worse than their best, and always end."""

import math

import numpy as np
import pytest
from oracle import oracle

from minigrad.optim.line_search import Point, backtracking, strong_wolfe

C1, C2 = 1e-4, 0.9


class Line:
    """A function of t with its slope, which notes what it was asked."""

    def __init__(self, f, slope):
        self.f, self.slope, self.seen = f, slope, []

    def __call__(self, t):
        p = Point(t, float(self.f(t)), float(self.slope(t)))
        self.seen.append(p)
        return p

    @property
    def start(self):
        return Point(0.0, float(self.f(0.0)), float(self.slope(0.0)))


def barrier(t):
    return -math.log(1 - t) - 3 * t if t < 1 else math.nan


# More and Thuente's functions 1 to 3 and simple ones; a polynomial too hard for one cubic; a wall
LINES = {
    "parabola": (lambda t: (t - 3) ** 2, lambda t: 2 * (t - 3)),
    "more 1": (lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2),
    "more 2": (
        lambda t: (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4,
        lambda t: 5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3,
    ),
    "quartic": (lambda t: (t - 1) ** 4 + 0.1 * t, lambda t: 4 * (t - 1) ** 3 + 0.1),
    "waves": (lambda t: math.sin(5 * t) + 0.3 * (t - 4) ** 2 - 3 * t, None),
    "wall": (barrier, lambda t: 1 / (1 - t) - 3 if t < 1 else math.nan),
}
LINES["waves"] = (LINES["waves"][0], lambda t: 5 * math.cos(5 * t) + 0.6 * (t - 4) - 3)


def made(name):
    line = Line(*LINES[name])
    return line, line.start


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("name", LINES)
def test_strong_wolfe_finds_a_place_with_both_conditions(name, first):
    line, start = made(name)
    found = strong_wolfe(line, start, first, C1, C2)
    p = found.point
    assert found.why == "wolfe" and found.moved
    assert p.f <= start.f + C1 * p.t * start.slope
    assert abs(p.slope) <= C2 * abs(start.slope)
    assert found.evaluations == len(line.seen) <= 25
    assert p.f == min(q.f for q in line.seen if math.isfinite(q.f))


@pytest.mark.parametrize("name", LINES)
def test_a_tight_search_is_nearly_exact(name):
    line, start = made(name)
    found = strong_wolfe(line, start, 0.1, C1, 1e-3, 60)
    assert found.why == "wolfe"
    assert abs(found.point.slope) <= 1e-3 * abs(start.slope)


def test_a_cubic_is_searched_exactly_in_one_interpolation():
    # t^3 - 3 t^2 - t + 1 has its minimum at 1 + sqrt(4/3): seen at 0 and 5, the cubic through both is itself
    line = Line(lambda t: t**3 - 3 * t**2 - t + 1, lambda t: 3 * t**2 - 6 * t - 1)
    found = strong_wolfe(line, line.start, 5.0, C1, C2)
    assert found.evaluations == 2
    assert abs(found.point.t - (1 + math.sqrt(4 / 3))) < 1e-12


@pytest.mark.oracle
@pytest.mark.parametrize("name", [n for n in LINES if n != "wall"])  # scipy does not get over it
def test_scipys_search_needs_as_many_evaluations(name):
    line, start = made(name)
    ours = strong_wolfe(line, start, 1.0, C1, C2)
    theirs = oracle("scipy.optimize").line_search(
        lambda x: LINES[name][0](x[0]),
        lambda x: np.array([LINES[name][1](x[0])]),
        np.zeros(1),
        np.ones(1),
        c1=C1,
        c2=C2,
    )
    assert ours.evaluations <= max(theirs[1], 4) + 1


@pytest.mark.parametrize("first", [1e-3, 1.0, 1000.0])
@pytest.mark.parametrize("name", LINES)
def test_backtracking_takes_the_first_half_with_enough_descent(name, first):
    line, start = made(name)
    found = backtracking(line, start, first)
    assert found.why == "armijo"
    tried = [first * 0.5**k for k in range(found.evaluations)]
    assert [p.t for p in line.seen] == tried
    enough = [LINES[name][0](t) <= start.f + C1 * t * start.slope for t in tried]
    assert enough == [False] * (len(tried) - 1) + [True]


@pytest.mark.parametrize("search", [strong_wolfe, backtracking])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_counts_as_infinity(search, bad):
    line = Line(lambda t: (t - 0.01) ** 2 if t < 0.02 else bad, lambda t: 2 * (t - 0.01))
    found = search(line, line.start, 1.0)
    assert found.moved and found.point.f < line.start.f and math.isfinite(found.point.f)
    beyond = Line(lambda t: -t if t < 0.02 else -5, lambda t: -1 if t < 0.02 else bad)  # or the slope alone
    found = search(beyond, beyond.start, 1.0)
    assert 0 < found.point.t < 0.02 and found.evaluations <= 25


@pytest.mark.parametrize("search", [strong_wolfe, backtracking])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_but_nan_stays_at_the_start(search, bad):
    line = Line(lambda t: 1.0 if t == 0 else bad, lambda t: -1.0)
    found = search(line, line.start, 1.0)
    assert not found.moved and found.point.f == 1.0 and found.evaluations <= 25


@pytest.mark.parametrize("search", [strong_wolfe, backtracking])
def test_a_slope_that_lies_ends_at_the_best_place(search):
    rising = Line(lambda t: t, lambda t: -1.0)  # says down, goes up
    found = search(rising, rising.start, 1.0)
    assert not found.moved and found.evaluations <= 25
    rng = np.random.default_rng(0)
    for _ in range(200):  # noise: neither the value nor the slope means anything
        noisy = Line(lambda t: rng.normal(), lambda t: rng.normal())
        start = Point(0.0, 0.5, -1.0)
        found = search(noisy, start, 1.0)
        assert found.point.f <= start.f and found.evaluations == len(noisy.seen) <= 25
        assert found.point.f == min([p.f for p in noisy.seen] + [0.5]) or search is backtracking


@pytest.mark.parametrize("search", [strong_wolfe, backtracking])
@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_it_never_asks_more_often_than_it_may(search, most):
    endless = Line(lambda t: -t, lambda t: -1.0)  # falls for ever: no place has a flatter slope
    found = search(endless, endless.start, 1.0, max_evals=most)
    assert found.evaluations == len(endless.seen) <= most
    assert found.point.f == min(p.f for p in endless.seen)


def test_a_float32_staircase_ends_at_its_foot():
    # near its minimum a float32 loss knows no difference; slopes still do
    def f(t):
        return float(np.float32(1.0) + np.float32((t - 1) ** 2 * 1e-9))

    line = Line(f, lambda t: 2e-9 * (t - 1))
    found = strong_wolfe(line, line.start, 0.25, C1, 0.1, eps=1.2e-7)
    assert found.why == "wolfe" and abs(found.point.t - 1) <= 0.1
    found = strong_wolfe(line, line.start, 3.0, C1, 0.1, eps=1.2e-7)
    assert found.point.f <= 1 and found.evaluations <= 25 and abs(found.point.t - 1) <= 0.1
    assert backtracking(line, line.start, 1.5, eps=1.2e-7).evaluations <= 2


def test_an_interval_too_narrow_to_matter_is_a_stall():
    step = Line(lambda t: -t if t < 0.3 else 1.0, lambda t: -1.0)
    found = strong_wolfe(step, step.start, 1.0, max_evals=200, resolution=1e-3)
    assert found.why == "stall" and found.evaluations < 30 and 0.29 < found.point.t < 0.3
    found = strong_wolfe(step, step.start, 1.0, max_evals=1000)  # down to the last bit of t
    assert found.why == "stall" and found.evaluations < 200


def test_what_cannot_be_searched_is_refused():
    line, start = made("parabola")
    with pytest.raises(ValueError, match="the slope at the start is 1; the direction must go down"):
        strong_wolfe(line, Point(0.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="slope at the start is nan"):
        backtracking(line, Point(0.0, 1.0, math.nan))
    with pytest.raises(ValueError, match="starts at loss inf"):
        backtracking(line, Point(0.0, math.inf, -1.0))
    with pytest.raises(ValueError, match="t = 0"):
        strong_wolfe(line, start, 0.0)
    with pytest.raises(ValueError, match=r"c1 = 0\.5, c2 = 0\.4"):
        strong_wolfe(line, start, 1.0, 0.5, 0.4)
    with pytest.raises(ValueError, match="shrink = 1"):
        backtracking(line, start, shrink=1)
    assert line.seen == []
