"""What a scheduler finds in an optimizer's groups and writes into them: alone, composed, through wrappers."""

import pytest
from schedulers import advanced, optimizer, parameter
from test_lr_scheduler import ALL

import minigrad as mg
from minigrad.optim import SGD
from minigrad.optim import lr_scheduler as ours
from minigrad.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)


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
