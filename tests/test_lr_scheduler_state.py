"""Schedulers resume where they were, from their own state and PyTorch's, and leave no cycles."""

import copy
import gc
import json
import pickle
import weakref

import pytest
from oracle import oracle
from schedulers import advanced, optimizer, parameter, seen
from test_lr_scheduler import ALL, CLOSED, EXACT, OPEN, Pair, quiet

import minigrad as mg
from minigrad.optim import SGD
from minigrad.optim import lr_scheduler as ours
from minigrad.optim.lr_scheduler import (
    CyclicLR,
    LambdaLR,
    MultiplicativeLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

STEPS = 45


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
