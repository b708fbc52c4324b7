"""What a scheduler warns of, as PyTorch's do, and what it refuses."""

import types
import warnings

import pytest
from schedulers import advanced, optimizer, parameter
from test_lr_scheduler import ALL

from minigrad.optim import SGD, Adam
from minigrad.optim import lr_scheduler as ours
from minigrad.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

# -------------------------------------------------------------------------------------------- warnings


def recorded(call):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in found]


def test_a_step_before_the_optimizers_first_is_warned_of_once():
    scheduler = StepLR(optimizer(), 3)
    found = recorded(lambda: [scheduler.step() for _ in range(5)])
    assert len(found) == 1
    assert "`lr_scheduler.step()` before `optimizer.step()`" in found[0]
    assert "how-to-adjust-learning-rate" in found[0]


@pytest.mark.parametrize("name", ALL)
def test_the_right_order_is_not_warned_of(name):
    opt = optimizer()
    assert recorded(lambda: advanced(opt, ALL[name](ours, opt), 40)) == []


def test_a_step_put_on_the_optimizer_after_the_scheduler_is_warned_of():
    opt = optimizer()
    scheduler = StepLR(opt, 3)
    old = opt.step
    opt.step = types.MethodType(lambda self: old(), opt)
    found = recorded(lambda: advanced(opt, scheduler, 3))
    assert len(found) == 1 and "`optimizer.step()` has been overridden" in found[0]


def test_a_step_put_on_the_optimizer_before_is_seen():
    opt = optimizer()
    old = opt.step
    opt.step = lambda: old()
    scheduler = StepLR(opt, 3)
    assert recorded(lambda: advanced(opt, scheduler, 3)) == []


def test_a_step_that_a_subclass_wrote_is_seen():
    class Mine(SGD):
        def step(self, closure=None):
            return None

    opt = Mine([parameter()], lr=0.1)
    scheduler = StepLR(opt, 3)
    assert len(recorded(scheduler.step)) == 1
    scheduler = StepLR(opt, 3)
    opt.step()
    assert recorded(scheduler.step) == []


def test_an_epoch_given_to_step_and_get_lr_from_outside_are_warned_of():
    opt = optimizer()
    scheduler = StepLR(opt, 2)
    opt.step()
    assert recorded(lambda: scheduler.step(3)) == [ours.EPOCH_DEPRECATION_WARNING]
    assert "get_last_lr()" in recorded(scheduler.get_lr)[0]
    plateau = ReduceLROnPlateau(opt)
    assert recorded(lambda: plateau.step(1.0, 3)) == [ours.EPOCH_DEPRECATION_WARNING]


# --------------------------------------------------------------------------------------------- refused


def two(make):
    def made(opt):
        return make(opt, SGD([parameter()], lr=0.1))

    return made


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda o: StepLR(object(), 3), TypeError, "object is not an Optimizer"),
        (lambda o: LambdaLR(None, len), TypeError, "NoneType is not an Optimizer"),
        (lambda o: ReduceLROnPlateau(3), TypeError, "int is not an Optimizer"),
        (lambda o: OneCycleLR(3, 0.1, 10), TypeError, "int is not an Optimizer"),
        (lambda o: CyclicLR([], 0.1, 1), TypeError, "list is not an Optimizer"),
        (lambda o: StepLR(o, 3, last_epoch=1), KeyError, r"'initial_lr' is not specified in param_gr"),
        (lambda o: LambdaLR(o, [len]), ValueError, "Expected 2 lr_lambdas, but got 1"),
        (lambda o: MultiplicativeLR(o, [len] * 3), ValueError, "Expected 2 lr_lambdas, but got 3"),
        (lambda o: MultiplicativeLR(o, 0.9), TypeError, "lr_lambda should be a function, but got float"),
        (lambda o: LambdaLR(o, [len, 0.9]), TypeError, "lr_lambda should be a function, but got float"),
        (lambda o: StepLR(o, 0), ValueError, "step: size is 0"),
        (lambda o: ConstantLR(o, 1.1), ValueError, "expected to be between 0 and 1, not 1.1"),
        (lambda o: ConstantLR(o, -0.1), ValueError, "expected to be between 0 and 1, not -0.1"),
        (lambda o: LinearLR(o, 0), ValueError, "greater than 0 and less or equal to 1, not 0"),
        (lambda o: LinearLR(o, 1.1), ValueError, "greater than 0 and less or equal to 1, not 1.1"),
        (lambda o: LinearLR(o, end_factor=-0.1), ValueError, "Ending .* not -0.1"),
        (lambda o: LinearLR(o, end_factor=1.1), ValueError, "Ending .* not 1.1"),
        (lambda o: CosineAnnealingLR(o, 0), ValueError, "T_max is 0"),
        (lambda o: CosineAnnealingWarmRestarts(o, 0), ValueError, "positive integer T_0, but got 0"),
        (lambda o: CosineAnnealingWarmRestarts(o, 1.5), ValueError, "positive integer T_0, but got 1.5"),
        (lambda o: CosineAnnealingWarmRestarts(o, 2, 0), ValueError, "T_mult >= 1, but got 0"),
        (lambda o: CosineAnnealingWarmRestarts(o, 2, 1.5), ValueError, "T_mult >= 1, but got 1.5"),
        (lambda o: CosineAnnealingWarmRestarts(o, 2, 1, "0"), ValueError, "float or int eta_min"),
        (lambda o: CosineAnnealingWarmRestarts(o, 2).step(-1), ValueError, "non-negative epoch, but got -1"),
        (lambda o: CyclicLR(o, 0.1, 1, mode="sine"), ValueError, "mode 'sine' is invalid"),
        (lambda o: CyclicLR(o, [0.1], 1), ValueError, "base_lr has 1 values, but the optimizer 2"),
        (lambda o: CyclicLR(o, 0.1, [1, 2, 3]), ValueError, "max_lr has 3 values"),
        (lambda o: CyclicLR(o, 0.1, 1, base_momentum=[0.1]), ValueError, "base_momentum has 1 values"),
        (lambda o: OneCycleLR(o, 0.1), ValueError, "total_steps OR"),
        (lambda o: OneCycleLR(o, 0.1, epochs=3), ValueError, "total_steps OR"),
        (lambda o: OneCycleLR(o, 0.1, 0), ValueError, "positive integer total_steps, but got 0"),
        (lambda o: OneCycleLR(o, 0.1, 1.5), ValueError, "positive integer total_steps, but got 1.5"),
        (lambda o: OneCycleLR(o, 0.1, None, 0, 1), ValueError, "positive integer epochs, but got 0"),
        (lambda o: OneCycleLR(o, 0.1, None, 1, -1), ValueError, "integer steps_per_epoch, but got -1"),
        (lambda o: OneCycleLR(o, 0.1, 10, pct_start=1.1), ValueError, "pct_start, but got 1.1"),
        (lambda o: OneCycleLR(o, 0.1, 10, pct_start=1), ValueError, "Expected float .* pct_start, but got 1"),
        (lambda o: OneCycleLR(o, 0.1, 10, anneal_strategy="exp"), ValueError, "instead got exp"),
        (lambda o: OneCycleLR(o, [0.1], 10), ValueError, "max_lr has 1 values"),
        (lambda o: ReduceLROnPlateau(o, factor=1.0), ValueError, "Factor should be < 1.0"),
        (lambda o: ReduceLROnPlateau(o, min_lr=[0.1]), ValueError, "expected 2 min_lrs, got 1"),
        (lambda o: ReduceLROnPlateau(o, "mid"), ValueError, "mode mid is unknown"),
        (lambda o: ReduceLROnPlateau(o, threshold_mode="x"), ValueError, "threshold mode x is unknown"),
        (lambda o: ChainedScheduler([]), ValueError, "at least one scheduler"),
        (lambda o: SequentialLR(o, [], []), ValueError, "at least one scheduler"),
        (lambda o: SequentialLR(o, [StepLR(o, 1)], [1]), ValueError, "1 schedulers and 1 milestones"),
        (lambda o: SequentialLR(o, [3], []), TypeError, "at index 0 should have `optimizer`"),
        (lambda o: ChainedScheduler([StepLR(o, 1), 3]), TypeError, "at index 1 should have `optimizer`"),
        (lambda o: SequentialLR(o, [ReduceLROnPlateau(o)], []), ValueError, "does not support `ReduceLROnPl"),
        (lambda o: ChainedScheduler([ReduceLROnPlateau(o)]), ValueError, "does not support `ReduceLROnPl"),
        (two(lambda o, p: ChainedScheduler([StepLR(o, 1), StepLR(p, 1)])), ValueError, "the same optimizer"),
        (two(lambda o, p: SequentialLR(o, [StepLR(p, 1)], [])), ValueError, "the same optimizer"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make(optimizer())


def test_cycling_momentum_needs_an_optimizer_that_has_one():
    class Plain(SGD):
        def group(self, given):
            return {k: v for k, v in super().group(given).items() if k != "momentum"}

    for make in (lambda o: CyclicLR(o, 0.1, 1), lambda o: OneCycleLR(o, 0.1, 10)):
        with pytest.raises(ValueError, match="must support momentum or beta1"):
            make(Plain([parameter()], lr=0.1))
    CyclicLR(Plain([parameter()], lr=0.1), 0.1, 1, cycle_momentum=False)
    adam = Adam([parameter()], lr=0.1)
    OneCycleLR(adam, 0.1, 10)
    assert adam.param_groups[0]["betas"] == (0.95, 0.999)


def test_one_step_more_than_one_cycle_has_is_refused():
    opt = optimizer()
    scheduler = OneCycleLR(opt, 0.1, 5)
    advanced(opt, scheduler, 5)
    with pytest.raises(ValueError, match=r"Tried to step 6 times\. The specified number of total steps is 5"):
        scheduler.step()


def test_a_group_added_later_is_refused_or_gets_the_default_floor():
    opt = optimizer()
    stepped = LambdaLR(opt, float)
    listed = ReduceLROnPlateau(opt, min_lr=[0.1, 0.1], patience=0)
    plain = ReduceLROnPlateau(opt, min_lr=0.001, patience=0, factor=0.01)
    opt.step()
    opt.add_param_group({"params": [parameter()]})
    with pytest.raises(ValueError, match="LambdaLR: 2 learning rates for 3 parameter groups"):
        stepped.step()
    for _ in range(3):
        plain.step(1.0)
    assert plain.min_lrs == [0.001] * 3 and opt.param_groups[2]["lr"] == 0.001
    listed.step(1.0)
    with pytest.raises(RuntimeError, match=r"number of param groups in the `optimizer` \(3\)"):
        listed.step(1.0)
    listed.min_lrs = [0.0] * 3
    listed.step(1.0)
