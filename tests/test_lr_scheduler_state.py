"""Schedulers resume where they were, warn as PyTorch's do, refuse what does not fit, and leave no cycles."""

import copy
import gc
import json
import pickle
import types
import warnings
import weakref

import pytest
from oracle import oracle
from test_lr_scheduler import ALL, CLOSED, EXACT, OPEN, Pair, quiet

import minigrad as mg
from minigrad.optim import SGD, Adam
from minigrad.optim import lr_scheduler as ours
from minigrad.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

STEPS = 45


def parameter():
    return mg.nn.Parameter(mg.zeros(2))


def optimizer(lr=0.05, **options):
    options = dict(momentum=0.5) | options
    return SGD([{"params": [parameter()]}, {"params": [parameter()], "lr": 10 * lr}], lr=lr, **options)


def seen(opt):
    return [(group["lr"], group["momentum"]) for group in opt.param_groups]


def advanced(opt, scheduler, steps):
    """What the groups hold from now on, and after each of so many steps."""
    found = [seen(opt)]
    for _ in range(steps):
        opt.step()
        scheduler.step()
        found.append(seen(opt))
    return found


# -------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("name", ALL)
def test_a_run_resumed_at_any_step_goes_on_as_if_it_had_not_stopped(name):
    make = ALL[name]
    straight = optimizer()
    whole = advanced(straight, make(ours, straight), STEPS)
    opt = optimizer()
    scheduler = make(ours, opt)
    for t in range(0, STEPS, 1 if name in CLOSED else 4):
        again = optimizer(lr=0.7)
        resumed = make(ours, again)  # made first, then loaded, as PyTorch asks for
        again.load_state_dict(opt.state_dict())
        resumed.load_state_dict(copy.deepcopy(scheduler.state_dict()))
        assert advanced(again, resumed, STEPS - t) == whole[t:], f"resumed at {t}"
        for _ in range(1 if name in CLOSED else 4):
            opt.step()
            scheduler.step()


@pytest.mark.parametrize("name", CLOSED | OPEN)
def test_a_run_resumed_by_last_epoch_goes_on_too(name):
    make = ALL[name]
    straight = optimizer()
    whole = advanced(straight, make(ours, straight), STEPS)
    opt = optimizer()
    scheduler = make(ours, opt)
    for t in range(STEPS):
        if t:
            again = optimizer()
            again.load_state_dict(opt.state_dict())
            kept = seen(again)
            resumed = make(Continuing(t - 1), again)
            assert seen(again) == [pytest.approx(each, abs=EXACT) for each in kept], f"moved at {t}"
            found = advanced(again, resumed, STEPS - t)
            assert found == [[pytest.approx(x, abs=EXACT) for x in row] for row in whole[t:]], f"from {t}"
        opt.step()
        scheduler.step()


class Continuing:
    """The module lr_scheduler, whose classes begin at a last_epoch."""

    def __init__(self, last_epoch):
        self.last_epoch = last_epoch

    def __getattr__(self, name):
        return lambda *args, **options: getattr(ours, name)(*args, last_epoch=self.last_epoch, **options)


def test_pytorchs_constructor_multiplies_a_milestone_twice_and_ours_does_not():
    torch = oracle("torch")
    found = []
    for lib in (mg, torch):
        group = {"params": [lib.nn.Parameter(lib.zeros(1))], "initial_lr": 0.1}
        opt = lib.optim.SGD([group], lr=0.01)  # what the groups hold at epoch 3
        lib.optim.lr_scheduler.StepLR(opt, 3, last_epoch=2)
        found.append(opt.param_groups[0]["lr"])
    assert found == pytest.approx([0.01, 0.001])


@pytest.mark.parametrize("name", [n for n in ALL if "lambda" not in n and "scale" not in n])
def test_the_state_of_pytorchs_loads_and_goes_on_as_it_does(name):
    pair = Pair(quiet(ALL[name]), momentum=0.5)
    (mine, scheduler), (theirs, reference) = pair.sides
    for _ in range(17):
        theirs.step()
        reference.step()
    state = reference.state_dict()
    scheduler.load_state_dict(state)
    for a, b in zip(mine.param_groups, theirs.param_groups):
        a.update({k: v for k, v in b.items() if k != "params"})
    pair.run(20)


@pytest.mark.parametrize("name", ALL)
def test_a_state_survives_pickle_and_json(name):
    opt = optimizer()
    scheduler = ALL[name](ours, opt)
    for _ in range(8):
        opt.step()
        scheduler.step()
    state = scheduler.state_dict()
    groups = copy.deepcopy([{k: v for k, v in g.items() if k != "params"} for g in opt.param_groups])
    whole = advanced(opt, scheduler, 20)
    for copied in (pickle.loads(pickle.dumps(state)), json.loads(json.dumps(state))):
        again = optimizer()
        resumed = ALL[name](ours, again)
        for group, saved in zip(again.param_groups, groups):
            group.update(saved)
        resumed.load_state_dict(copied)
        assert advanced(again, resumed, 20) == whole


def test_a_plateaus_state_is_all_of_it():
    opt = optimizer()
    first = ReduceLROnPlateau(opt, mode="min", factor=0.1, patience=2, cooldown=3)
    for metric in (1.0, 1.1, 1.2, 1.3, 1.4):
        first.step(metric)
    second = ReduceLROnPlateau(opt, mode="max", factor=0.5, patience=10)
    second.load_state_dict(first.state_dict())
    assert vars(first) == vars(second)
    assert first.in_cooldown and second.in_cooldown


class Scaled:
    def __init__(self, value):
        self.value = value

    def __call__(self, t):
        return self.value * t


@pytest.mark.parametrize("cls", [LambdaLR, MultiplicativeLR])
def test_a_callable_object_is_in_the_state_and_a_function_is_not(cls):
    opt = optimizer()
    state = cls(opt, [Scaled(10), lambda t: 2 * t]).state_dict()
    assert state["lr_lambdas"] == [{"value": 10}, None]
    other = cls(opt, [Scaled(-1), lambda t: t])
    other.load_state_dict(state)
    assert [f(1) for f in other.lr_lambdas] == [10, 1]
    assert state["lr_lambdas"] == [{"value": 10}, None]


def test_a_cycles_own_scale_is_in_the_state_if_it_is_an_object():
    opt = optimizer()
    scheduler = CyclicLR(opt, 0.1, 1.0, scale_fn=Scaled(0.5))
    assert scheduler.state_dict()["_scale_fn_custom"] == {"value": 0.5}
    restored = CyclicLR(opt, 0.1, 1.0, scale_fn=Scaled(0.0))
    restored.load_state_dict(pickle.loads(pickle.dumps(scheduler.state_dict())))
    assert isinstance(restored._scale_fn_custom, Scaled) and restored.scale_fn(4) == 2.0
    assert CyclicLR(opt, 0.1, 1.0, scale_fn=lambda x: x).state_dict()["_scale_fn_custom"] is None


def test_a_state_of_another_optimizer_is_refused_and_changes_nothing():
    opt = optimizer()
    scheduler = StepLR(opt, 3)
    alone = StepLR(SGD([parameter()], lr=0.1), 9)
    before = copy.deepcopy(scheduler.state_dict())
    with pytest.raises(ValueError, match="StepLR: the state has 1 learning rates, the optimizer 2 groups"):
        scheduler.load_state_dict(alone.state_dict())
    with pytest.raises(TypeError, match="the state is a list, not a dict"):
        scheduler.load_state_dict([])
    assert scheduler.state_dict() == before
    sequence = SequentialLR(opt, [StepLR(opt, 3), StepLR(opt, 3)], [4])
    with pytest.raises(ValueError, match="the state has 1 schedulers, not 2"):
        sequence.load_state_dict(SequentialLR(opt, [StepLR(opt, 3)], []).state_dict())
    before = copy.deepcopy(sequence.state_dict())
    with pytest.raises(ValueError, match="StepLR: the state has 1 learning rates"):
        sequence.load_state_dict(
            before | {"last_epoch": 7, "_schedulers": [StepLR(opt, 9).state_dict(), alone.state_dict()]}
        )
    with pytest.raises(ValueError, match="the state has 0 schedulers, not 2"):
        sequence.load_state_dict(StepLR(opt, 9).state_dict())
    assert sequence.state_dict() == before


# ---------------------------------------------------------------------------------------- construction


def test_construction_writes_initial_lr_once_and_later_schedulers_start_from_it():
    opt = optimizer()
    LinearLR(opt, 0.1)
    second = ExponentialLR(opt, 0.9)
    assert [g["initial_lr"] for g in opt.param_groups] == second.base_lrs == [0.05, 0.5]
    assert [g["lr"] for g in opt.param_groups] == pytest.approx([0.005, 0.05])


def test_it_goes_on_from_what_the_user_writes_into_a_group():
    opt = optimizer()
    scheduler = ExponentialLR(opt, 0.5)
    opt.param_groups[0]["lr"] = 8.0
    opt.step()
    scheduler.step()
    assert [g["lr"] for g in opt.param_groups] == [4.0, 0.25]


@pytest.mark.parametrize("name", [n for n in ALL if "scale" not in n])
def test_a_tensor_lr_stays_that_tensor(name):
    opt = optimizer(lr=0.05)
    plain = optimizer(lr=0.05)
    tensors = [mg.tensor(0.05), mg.tensor(0.5)]
    for group, lr in zip(opt.param_groups, tensors):
        group["lr"] = lr
    scheduler, reference = ALL[name](ours, opt), ALL[name](ours, plain)
    for _ in range(30):
        for group, lr, expected in zip(opt.param_groups, tensors, plain.param_groups):
            assert group["lr"] is lr
            assert float(lr) == pytest.approx(expected["lr"], rel=1e-4, abs=1e-8)
        last = scheduler.get_last_lr()
        assert all(isinstance(lr, mg.Tensor) and lr is not own for lr, own in zip(last, tensors))
        opt.step()
        plain.step()
        scheduler.step()
        reference.step()
    initial = [float(group["initial_lr"]) for group in opt.param_groups]
    assert initial == pytest.approx([group["initial_lr"] for group in plain.param_groups])
    assert all(group["initial_lr"] is not group["lr"] for group in opt.param_groups)


def test_a_plateau_fills_a_tensor_lr():
    opt = SGD([parameter()], lr=mg.tensor(0.5))
    lr = opt.param_groups[0]["lr"]
    scheduler = ReduceLROnPlateau(opt, patience=0, factor=0.5)
    for _ in range(3):
        scheduler.step(mg.tensor(1.0))
    assert opt.param_groups[0]["lr"] is lr and float(lr) == 0.125


class Wrapper:
    """An optimizer around another, as SAM or Lookahead: it hands on the groups and steps itself."""

    def __init__(self, inner):
        self.inner = inner

    @property
    def param_groups(self):
        return self.inner.param_groups

    def step(self):
        self.inner.step()


class Forwarding:
    """A wrapper that hands on all it does not know."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


@pytest.mark.parametrize("wrapper", [Wrapper, Forwarding])
def test_through_a_wrapper_the_inner_step_takes_the_scheduled_lr_also_after_a_load(wrapper):
    p = mg.nn.Parameter(mg.zeros(1))
    inner = SGD([p], lr=1.0)
    outer = wrapper(inner)
    scheduler = StepLR(outer, 1, 0.5)
    inner.load_state_dict(inner.state_dict())
    moved = []
    for _ in range(3):
        before = float(p)
        p.grad = mg.ones(1)
        outer.step()
        scheduler.step()
        moved.append(before - float(p))
    assert moved == [1.0, 0.5, 0.25]


def test_a_user_written_scheduler_says_only_get_lr():
    class Ends(LRScheduler):
        def get_lr(self):
            return [base / (1 + self.last_epoch) for base in self.base_lrs]

    opt = optimizer()
    assert advanced(opt, Ends(opt), 3)[3] == [(0.05 / 4, 0.5), (0.5 / 4, 0.5)]
    with pytest.raises(NotImplementedError, match="LRScheduler defines no get_lr"):
        LRScheduler(opt)
    assert issubclass(ours._LRScheduler, LRScheduler)


# -------------------------------------------------------------------------------------------- composed


def test_a_sequence_within_a_sequence_is_the_sequence_without():
    def flat(o):
        return SequentialLR(
            o, [LinearLR(o, 0.1, 1, 5), StepLR(o, 3), ExponentialLR(o, 0.9), StepLR(o, 2)], [5, 12, 20]
        )

    def nested(o):
        first = SequentialLR(o, [LinearLR(o, 0.1, 1, 5), StepLR(o, 3)], [5])
        return SequentialLR(o, [first, SequentialLR(o, [ExponentialLR(o, 0.9), StepLR(o, 2)], [8])], [12])

    one, two = optimizer(), optimizer()
    assert advanced(one, flat(one), 40) == advanced(two, nested(two), 40)


def test_a_product_within_a_sequence_begins_at_its_own_start_wherever_it_stands():
    def product(o):
        return ChainedScheduler([LinearLR(o, 0.5, 1, 4), ExponentialLR(o, 0.9), PolynomialLR(o, 30, 2)])

    alone, first, second = optimizer(), optimizer(), optimizer()
    expected = advanced(alone, product(alone), 30)
    assert advanced(first, SequentialLR(first, [product(first), StepLR(first, 1)], [31]), 30) == expected
    later = advanced(second, SequentialLR(second, [StepLR(second, 1), product(second)], [7]), 37)
    assert later[7:] == expected


def test_composed_schedulers_do_not_alias_the_initial_lr():
    opt = SGD([parameter()], lr=mg.tensor(0.5))
    SequentialLR(opt, [ConstantLR(opt), StepLR(opt, 1)], [2])
    opt.param_groups[0]["lr"].fill_(7.0)
    assert float(opt.param_groups[0]["initial_lr"]) == 0.5


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


# ---------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("name", ALL)
def test_a_scheduler_goes_when_its_name_goes(name):
    def run():
        opt = optimizer()
        scheduler = ALL[name](ours, opt)
        opt.step()
        scheduler.step()
        return weakref.ref(scheduler), weakref.ref(opt)

    gc.collect()
    gc.disable()
    try:
        assert [each() for each in run()] == [None, None]
    finally:
        gc.enable()


def test_an_optimizer_with_a_scheduler_can_be_pickled_and_copied():
    opt = optimizer()
    scheduler = StepLR(opt, 3)
    opt.step()
    scheduler.step()
    again = pickle.loads(pickle.dumps(opt))
    assert [g["initial_lr"] for g in again.param_groups] == [0.05, 0.5]
    twin = copy.deepcopy(scheduler)
    assert twin.optimizer is not opt and twin.state_dict() == scheduler.state_dict()


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
