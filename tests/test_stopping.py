"""When a run ends: patience, the gradient's norm, both over a resume; the rate of a batch size."""

import json
from math import inf, nan

import pytest

import minigrad as mg
from minigrad.training import EarlyStopping, GradientNormStop, gradient_norm, linear_scaling


def stops(stop, scores):
    return [stop(score) for score in scores]


def test_patience_counts_scores_without_improvement():
    stop = EarlyStopping(patience=2)
    assert stops(stop, [3.0, 2.0, 2.5, 2.0]) == [False, False, False, True]
    assert (stop.best, stop.best_at, stop.bad) == (2.0, 1, 2)
    assert stops(EarlyStopping(1), [1.0, 1.0]) == [False, True]  # equal is no improvement


def test_an_improvement_starts_the_count_again():
    assert stops(EarlyStopping(2), [3.0, 4.0, 2.0, 4.0, 4.0]) == [False, False, False, False, True]


def test_max_looks_for_the_largest():
    for better in (max, "max"):
        assert stops(EarlyStopping(1, better), [0.5, 0.6, 0.6]) == [False, False, True]


def test_an_improvement_is_one_by_more_than_min_delta():
    stop = EarlyStopping(2, min, 0.5)
    assert stops(stop, [2.0, 1.75, 1.5]) == [False, False, True]
    stop = EarlyStopping(2, max, 0.5)
    assert stops(stop, [2.0, 2.25, 2.75]) == [False, False, False]
    assert stop.best == 2.75


@pytest.mark.parametrize("better", [min, max])
def test_nan_is_no_improvement_not_even_at_first(better):
    stop = EarlyStopping(2, better)
    assert stops(stop, [nan, nan]) == [False, True] and stop.best is None
    stop = EarlyStopping(2, better)
    assert stops(stop, [nan, 1.0, nan, nan]) == [False, False, False, True]
    assert stop.best == 1.0 and stop.best_at == 1


def test_any_finite_loss_improves_on_inf():
    stop = EarlyStopping(1)
    assert stops(stop, [inf, 5.0, inf]) == [False, False, True]


def test_improved_tells_when_to_save():
    stop, saved = EarlyStopping(3), []
    for score in (3.0, 2.0, 2.5, 1.0, nan):
        stop(score)
        saved += [score] * stop.improved
    assert saved == [3.0, 2.0, 1.0]


def test_a_score_may_be_a_tensor():
    stop = EarlyStopping(1)
    assert [stop(mg.tensor(1.0)), stop(mg.tensor([2.0]))] == [False, True]


@pytest.mark.parametrize("at", range(7))
def test_a_resumed_run_stops_where_the_whole_one_does(at):
    scores = [3.0, nan, 2.0, 2.5, 2.4, 2.0, 2.1]
    whole = EarlyStopping(4)
    expected = stops(whole, scores)
    first = EarlyStopping(4)
    answers = stops(first, scores[:at])
    second = EarlyStopping(4)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert answers + stops(second, scores[at:]) == expected and second.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(patience=0), "patience=0"),
        (dict(patience=2.5), "patience=2.5"),
        (dict(patience=True), "patience=True"),
        (dict(patience=1, better=sum), "better="),
        (dict(patience=1, better="least"), "better='least'"),
        (dict(patience=1, min_delta=-1.0), "min_delta=-1.0"),
        (dict(patience=1, min_delta=nan), "min_delta=nan"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**arguments)


def test_a_foreign_state_is_refused_and_changes_nothing():
    stop = EarlyStopping(1)
    stop(1.0)
    with pytest.raises(ValueError, match="'bad' is missing"):
        stop.load_state_dict(dict(best=0.0, best_at=0, seen=1))
    assert stop.best == 1.0


# ---- the gradient's norm


def test_gradient_descent_stops_when_the_gradient_has_gone():
    """L = theta^2 from 1 with lr 0.1: |g_t| = 2 0.8^t is below 1e-3 first at t = 35."""
    theta = mg.tensor(1.0, dtype=mg.float64, requires_grad=True)
    optimizer, stop, t = mg.optim.SGD([theta], lr=0.1), GradientNormStop(1e-3), 0
    while True:
        optimizer.zero_grad()
        (theta * theta).backward()
        if stop(gradient_norm([theta])):
            break
        optimizer.step()
        t += 1
    assert t == 35 and 2 * 0.8**35 < 1e-3 < 2 * 0.8**34
    assert stop.norm == pytest.approx(2 * 0.8**35)


def test_small_norms_are_counted_in_a_row():
    stop = GradientNormStop(1.0, in_a_row=2)
    assert stops(stop, [0.5, 2.0, 0.5, 0.5]) == [False, False, False, True]


def test_a_norm_that_is_not_finite_is_not_small():
    assert stops(GradientNormStop(1.0), [nan, inf, 1.0, 0.999]) == [False, False, False, True]


def test_the_count_is_saved():
    first, second = GradientNormStop(1.0, 3), GradientNormStop(1.0, 3)
    stops(first, [0.1, 0.1])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second(0.1) is True


@pytest.mark.parametrize("arguments", [(0.0,), (-1.0,), (nan,), (1.0, 0), (1.0, 1.5)])
def test_a_tolerance_is_positive(arguments):
    with pytest.raises(ValueError, match="GradientNormStop"):
        GradientNormStop(*arguments)


def test_the_norm_is_that_of_all_gradients():
    a, b, c = (mg.ones(2, requires_grad=True) for _ in range(3))
    (3 * a[0] + 4 * b[1]).backward()
    assert float(gradient_norm([a, b, c])) == pytest.approx(5.0)
    assert float(gradient_norm([c])) == 0.0


# ---- batch sizes


def test_linear_scaling_is_the_ratio_to_256():
    assert linear_scaling(0.1, 8192) == pytest.approx(3.2)  # Goyal et al. 2017
    assert linear_scaling(0.1, 64) == pytest.approx(0.025)
    assert linear_scaling(0.1, 256) == 0.1
    assert linear_scaling(0.3, 96, reference=32) == pytest.approx(0.9)


def test_the_square_root_rule_keeps_the_noise():
    assert linear_scaling(1e-3, 1024, rule="sqrt") == pytest.approx(2e-3)


def test_k_small_steps_are_one_big_step_to_first_order():
    """What the rule rests on: the difference falls with the square of the learning rate."""

    def difference(lr, k=4):
        theta = one = 1.0
        for _ in range(k):
            theta -= lr * theta  # L = theta^2 / 2
        one -= linear_scaling(lr, k * 32, reference=32) * one
        return abs(theta - one)

    assert difference(1e-3) < 1e-5 and difference(1e-2) / difference(1e-3) == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(lr=-1, batch_size=1), "lr=-1"),
        (dict(lr=nan, batch_size=1), "lr=nan"),
        (dict(lr=1, batch_size=0), "batch_size=0"),
        (dict(lr=1, batch_size=1, reference=-1), "reference=-1"),
        (dict(lr=1, batch_size=1, rule="cubic"), "'linear', 'sqrt'"),
    ],
)
def test_scaling_refuses_what_makes_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        linear_scaling(**arguments)
