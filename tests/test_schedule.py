"""Schedules are pure functions of the step: the worked example, the ends, and what torch and optax give."""

import math
from itertools import pairwise

import pytest
from oracle import oracle

from minigrad.optim import schedule

PEAK, STEPS = 0.3, 100
EXACT = 1e-12


def equals(ours, theirs, steps=range(STEPS + 20)):
    """Whether two schedules agree at every step; asked out of order, as a resumed run asks."""
    found = {t: abs(ours(t) - float(theirs(t))) for t in reversed(steps)}
    worst = max(found, key=lambda t: found[t])
    assert found[worst] <= EXACT, f"step {worst}: {ours(worst)}, not {theirs(worst)}"


def of_torch(make, count=STEPS + 20, lr=PEAK):
    """The learning rates of a torch scheduler at each step, as a function of the step."""
    torch = oracle("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    scheduler, found = make(torch.optim.lr_scheduler, optimizer), []
    for _ in range(count):
        found.append(dict(optimizer.param_groups[0]))
        optimizer.step()
        scheduler.step()
    return lambda t: found[t]["lr"], lambda t: found[t]["momentum"]


@pytest.fixture
def optax():
    """optax, computing in float64."""
    with oracle("jax").enable_x64(True):
        yield oracle("optax")


# ----------------------------------------------------------------------------------------- the articles'


@pytest.mark.parametrize(("step", "lr"), [(1000, 2e-4), (5000, 1e-3), (50_000, 5.4129e-4), (100_000, 0.0)])
def test_the_worked_example_of_warm_up_and_cosine(step, lr):
    """100,000 steps, 5,000 of them warm-up, at most 1e-3."""
    assert schedule.warmup_cosine(1e-3, 5000, 100_000)(step) == pytest.approx(lr, abs=5e-9)


def test_the_second_articles_four_functions():
    def cosine_annealing(initial_lr, T_max, eta_min=0.0):
        return lambda t: eta_min + (initial_lr - eta_min) * (1 + math.cos(math.pi * t / T_max)) / 2

    def warmup(initial_lr, epochs, target):
        return lambda t: initial_lr + (target - initial_lr) * t / epochs if t < epochs else target

    equals(schedule.step(0.1, 10, 0.5), lambda t: 0.1 * 0.5 ** (t // 10))
    equals(schedule.exponential(0.1, 0.95), lambda t: 0.1 * 0.95**t)
    equals(schedule.cosine(0.1, 120, 0.001), cosine_annealing(0.1, 120, 0.001))
    equals(schedule.warmup_constant(0.1, 7, initial=0.01), warmup(0.01, 7, 0.1))


def test_step_is_a_tenth_every_thirty_epochs():
    at = schedule.step(0.1, 30)
    assert [at(t) for t in (0, 29, 30, 59, 60, 90)] == pytest.approx([0.1, 0.1, 1e-2, 1e-2, 1e-3, 1e-4])


def test_half_the_cosine_is_half_the_cosine():
    equals(schedule.half_cosine(0.2, 50), lambda t: schedule.cosine(0.2, 50)(t) / 2)


def test_rate_and_gamma_say_the_same():
    equals(schedule.exponential(0.1, rate=0.02), schedule.exponential(0.1, gamma=math.exp(-0.02)))
    equals(schedule.exponential(0.1, rate=0.02), lambda t: 0.1 * math.exp(-0.02 * t))


def test_the_sum_of_robbins_and_monros_steps_grows_and_that_of_their_squares_does_not():
    for c in (0.6, 1.0):
        at = schedule.robbins_monro(1.0, 1.0, c)
        sums, squares = [], []
        for k in range(4):
            span = range(10 ** (k + 1), 10 ** (k + 2))
            sums.append(sum(at(t) for t in span))
            squares.append(sum(at(t) ** 2 for t in span))
        assert all(later > 0.99 * earlier for earlier, later in pairwise(sums)), c
        assert all(later < 0.7 * earlier for earlier, later in pairwise(squares)), c
    with pytest.raises(ValueError, match="1/2 < c <= 1"):
        schedule.robbins_monro(1.0, c=0.5)
    with pytest.raises(ValueError, match=r"c is 1\.5"):
        schedule.robbins_monro(1.0, c=1.5)


# ------------------------------------------------------------------------------------------------- PyTorch's

TORCH = {
    "step": (lambda: schedule.step(PEAK, 7, 0.5), lambda S, o: S.StepLR(o, 7, 0.5)),
    "multi_step": (
        lambda: schedule.multi_step(PEAK, [30, 5, 5, 71], 0.3),
        lambda S, o: S.MultiStepLR(o, [5, 5, 30, 71], 0.3),
    ),
    "exponential": (lambda: schedule.exponential(PEAK, 0.95), lambda S, o: S.ExponentialLR(o, 0.95)),
    "linear": (lambda: schedule.linear(PEAK, 40, 0.03), lambda S, o: S.LinearLR(o, 1.0, 0.1, 40)),
    "polynomial": (
        lambda: schedule.polynomial(PEAK, 60, 2.5),
        lambda S, o: S.PolynomialLR(o, 60, 2.5),
    ),
    "warmup": (
        lambda: schedule.warmup_constant(PEAK, 9, initial=PEAK / 4),
        lambda S, o: S.LinearLR(o, 0.25, 1, 9),
    ),
    "warmup_linear": (
        lambda: schedule.warmup(PEAK, 9, schedule.linear(PEAK, 50, 0.03), initial=PEAK / 4),
        lambda S, o: S.SequentialLR(o, [S.LinearLR(o, 0.25, 1, 9), S.LinearLR(o, 1, 0.1, 50)], [9]),
    ),
    "join": (
        lambda: schedule.join(
            [schedule.step(PEAK, 3), schedule.exponential(PEAK, 0.9), schedule.constant(PEAK)], [10, 40]
        ),
        lambda S, o: S.SequentialLR(o, [S.StepLR(o, 3), S.ExponentialLR(o, 0.9), S.StepLR(o, 999)], [10, 40]),
    ),
    "warm_restarts": (
        lambda: schedule.warm_restarts(PEAK, 10, 2, 1e-3),
        lambda S, o: S.CosineAnnealingWarmRestarts(o, 10, 2, 1e-3),
    ),
    "warm_restarts, equal": (
        lambda: schedule.warm_restarts(PEAK, 13),
        lambda S, o: S.CosineAnnealingWarmRestarts(o, 13),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_a_schedule_is_pytorchs_at_every_step(name):
    ours, theirs = TORCH[name]
    equals(ours(), of_torch(theirs)[0])


def test_the_cosine_is_pytorchs_up_to_its_end_and_stays_there():
    theirs = of_torch(lambda S, o: S.CosineAnnealingLR(o, 50, 0.01), 120)[0]
    ours = schedule.cosine(PEAK, 50, 0.01)
    equals(ours, theirs, range(51))
    assert ours(99) == pytest.approx(0.01, abs=1e-15)
    climbed = (theirs(99) - 0.01) / (PEAK - 0.01)
    assert climbed == pytest.approx(0.9990, abs=2e-4)  # PyTorch's is nearly back at the start


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
@pytest.mark.parametrize(("up", "down"), [(7, None), (5, 12), (10, 3)])
def test_cycles_and_their_momentum_are_pytorchs(mode, up, down):
    lr, momentum = of_torch(
        lambda S, o: S.CyclicLR(
            o, 0.01, 0.2, up, down, mode, gamma=0.98, base_momentum=0.7, max_momentum=0.95
        )
    )
    equals(schedule.cyclical(0.01, 0.2, up, down, mode, 0.98), lr)
    equals(schedule.cyclical_momentum(0.7, 0.95, up, down, mode, 0.98), momentum)


def test_cosine_cycles_touch_the_triangles_at_ends_peaks_and_half_way():
    rounded, straight = schedule.cyclical(0.1, 0.5, 10, mode="cosine"), schedule.cyclical(0.1, 0.5, 10)
    for t in (0, 5, 10, 15, 20, 45):
        assert rounded(t) == pytest.approx(straight(t), abs=EXACT)
    assert rounded(2) < straight(2) and rounded(8) > straight(8)


@pytest.mark.parametrize("steps", [10, 100, 57])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
def test_one_cycle_and_its_momentum_are_pytorchs(steps, three_phase, anneal):
    lr, momentum = of_torch(
        lambda S, o: S.OneCycleLR(
            o, PEAK, steps, pct_start=0.4, anneal_strategy=anneal, three_phase=three_phase
        ),
        steps,
    )
    ours = schedule.one_cycle(PEAK, steps, 0.4, anneal, three_phase=three_phase)
    equals(ours, lr, range(steps))
    equals(
        schedule.one_cycle_momentum(steps, pct_start=0.4, anneal=anneal, three_phase=three_phase),
        momentum,
        range(steps),
    )
    assert ours(steps - 1) == ours(10 * steps) == PEAK / 25 / 1e4


def test_one_cycle_of_few_steps_leaves_out_what_has_no_room():
    for steps in (1, 2, 3, 4):
        for three_phase in (False, True):
            at = schedule.one_cycle(PEAK, steps, three_phase=three_phase)
            assert all(0 < at(t) <= PEAK for t in range(steps + 2))
            assert at(steps) == PEAK / 25 / 1e4
    assert schedule.one_cycle(PEAK, 10, pct_start=0.1)(0) == PEAK


# --------------------------------------------------------------------------------------------------- optax's


@pytest.mark.parametrize("floor", [0.0, 0.02])
def test_warm_up_and_cosine_are_optaxs(optax, floor):
    theirs = optax.warmup_cosine_decay_schedule(0.01, PEAK, 12, STEPS, floor)
    equals(schedule.warmup_cosine(PEAK, 12, STEPS, floor, initial=0.01), theirs)


def test_plain_decays_are_optaxs(optax):
    equals(schedule.constant(PEAK), optax.constant_schedule(PEAK))
    equals(schedule.cosine(PEAK, 50, 0.03), optax.cosine_decay_schedule(PEAK, 50, 0.1))
    equals(schedule.linear(PEAK, 50, 0.03), optax.linear_schedule(PEAK, 0.03, 50))
    equals(schedule.polynomial(PEAK, 50, 3, 0.03), optax.polynomial_schedule(PEAK, 0.03, 3, 50))
    equals(schedule.warmup_constant(PEAK, 20, initial=0.1), optax.warmup_constant_schedule(0.1, PEAK, 20))


@pytest.mark.parametrize("staircase", [False, True])
def test_exponential_decay_is_optaxs_also_as_a_staircase(optax, staircase):
    ours = schedule.exponential(PEAK, 0.5, every=7, staircase=staircase)
    equals(ours, optax.exponential_decay(PEAK, 7, 0.5, staircase=staircase))
    if staircase:
        equals(ours, schedule.step(PEAK, 7, 0.5))


def test_piecewise_constant_is_optaxs(optax):
    theirs = optax.piecewise_constant_schedule(PEAK, {20: 0.1, 60: 5.0})
    equals(schedule.piecewise([PEAK, PEAK * 0.1, PEAK * 0.5], [20, 60]), theirs)
    equals(
        schedule.multi_step(PEAK, [20, 60], 0.2), optax.piecewise_constant_schedule(PEAK, {20: 0.2, 60: 0.2})
    )


def test_warm_restarts_are_optaxs_with_warm_ups_and_without(optax):
    cycles = [
        dict(init_value=0.0, peak_value=PEAK, decay_steps=n, warmup_steps=4, end_value=0.01)
        for n in (20, 40, 80)
    ]
    ours = schedule.join([schedule.warmup_cosine(PEAK, 4, n, 0.01) for n in (20, 40, 80)], [20, 60])
    equals(ours, optax.sgdr_schedule(cycles))
    for cycle in cycles:
        cycle.update(warmup_steps=0, init_value=PEAK)
    # optax divides by the warm-up's length; without one its ramp is a constant that is never asked
    equals(schedule.warm_restarts(PEAK, 20, 2, 0.01), optax.sgdr_schedule(cycles))


@pytest.mark.parametrize("steps", [100, 57])
def test_one_cycle_is_optaxs_where_its_peak_is_placed_so(optax, steps):
    every = range(steps + 10)
    ours = schedule.one_cycle(PEAK, steps, placement="optax")
    equals(ours, optax.cosine_onecycle_schedule(steps, PEAK), every)
    linear = schedule.one_cycle(PEAK, steps, anneal="linear", three_phase=True, placement="optax")
    equals(linear, optax.linear_onecycle_schedule(steps, PEAK), every)


# ---------------------------------------------------------------------------------- where the sources differ


def test_the_peak_of_one_cycle_is_at_29_in_torch_and_at_30_in_optax(optax):
    torchs, optaxs = (schedule.one_cycle(1.0, 100, placement=p) for p in ("torch", "optax"))
    peaks = [max(range(100), key=at) for at in (torchs, optaxs)]
    assert peaks == [29, 30]
    theirs = optax.cosine_onecycle_schedule(100, 1.0)
    assert max(abs(torchs(t) - float(theirs(t))) for t in range(100)) > 2e-2


def test_nanogpts_warm_up_is_one_step_ahead():
    zero, one = (schedule.warmup_cosine(1.0, 10, 100, offset=offset) for offset in (0, 1))
    assert max(abs(zero(t) - one(t)) for t in range(100)) == pytest.approx(9.1e-2, abs=1e-4)

    def get_lr(it, learning_rate=6e-4, warmup_iters=20, lr_decay_iters=90, min_lr=6e-5):
        if it < warmup_iters:
            return learning_rate * (it + 1) / (warmup_iters + 1)
        if it > lr_decay_iters:
            return min_lr
        decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
        return min_lr + 0.5 * (1.0 + math.cos(math.pi * decay_ratio)) * (learning_rate - min_lr)

    equals(schedule.warmup_cosine(6e-4, 20, 90, 6e-5, offset=1), get_lr)


def test_noam_is_the_papers_formula():
    def paper(step_num, d_model=512, warmup_steps=40):
        return d_model**-0.5 * min(step_num**-0.5, step_num * warmup_steps**-1.5)

    equals(schedule.noam(512, 40), lambda t: paper(t + 1))
    at = schedule.inverse_sqrt(PEAK, 40)
    assert at(39) == pytest.approx(PEAK, abs=EXACT) and at(159) == pytest.approx(PEAK / 2, abs=EXACT)


# -------------------------------------------------------------------------------------------------- the ends


def test_the_ends_of_every_schedule():
    assert schedule.constant(0.1)(10**9) == 0.1
    cosine = schedule.cosine(0.1, 100, floor=0.01)
    assert cosine(0) == 0.1 and cosine(100) == pytest.approx(0.01) and cosine(250) == cosine(100)
    linear = schedule.linear(0.1, 100, floor=0.02)
    assert linear(0) == 0.1 and linear(50) == pytest.approx(0.06)
    assert linear(100) == linear(999) == 0.02
    polynomial = schedule.polynomial(0.1, 100, 2, 0.02)
    assert polynomial(0) == 0.1 and polynomial(100) == polynomial(101) == 0.02
    warm = schedule.warmup_linear(0.1, 10, 110)
    assert warm(0) == 0.0 and warm(5) == pytest.approx(0.05) and warm(10) == 0.1 and warm(110) == 0.0
    nanogpt = schedule.warmup(0.1, 10, schedule.constant(0.1), offset=1)
    assert nanogpt(0) == pytest.approx(0.1 / 11) and nanogpt(9) == pytest.approx(1 / 11)
    assert nanogpt(10) == 0.1
    assert schedule.inverse_time(6.0, 3.0)(0) == 2.0 and schedule.inverse_time(6.0, 3.0, 2)(3) == 6 / 36
    restarts = schedule.warm_restarts(0.1, 10, 2)
    assert [restarts(t) for t in (0, 10, 30, 70)] == [0.1] * 4
    assert max(restarts(t) for t in (9, 29, 69)) < 0.1 / 20
    lower = schedule.warm_restarts(0.1, 10, 2, floor=0.02, decay=0.5)
    assert [lower(t) for t in (0, 10, 30)] == pytest.approx([0.1, 0.06, 0.04])
    same = schedule.warm_restarts(0.1, 10, decay=0.5)
    assert [same(t) for t in (0, 10, 20)] == pytest.approx([0.1, 0.05, 0.025])
    assert schedule.at_least(schedule.step(0.1, 1), 0.005)(7) == 0.005


def test_a_run_without_warm_up_is_the_plain_schedule():
    plain, none = schedule.cosine(0.1, 50), schedule.warmup_cosine(0.1, 0, 50)
    assert [plain(t) for t in range(60)] == [none(t) for t in range(60)]


def test_a_step_may_be_a_fraction():
    for name in schedule.SCHEDULES:
        at = schedule.named(name, 0.1, 100, floor=1e-3)
        around = sorted((at(40.0), at(41.0)))
        assert at(40.0) == at(40)
        assert around[0] - EXACT <= at(40.5) <= around[1] + EXACT, name


def test_per_epoch_holds_still_for_an_epoch():
    at = schedule.per_epoch(schedule.exponential(0.1, 0.5), 10)
    assert [at(t) for t in (0, 9, 10, 19, 20)] == [0.1, 0.1, 0.05, 0.05, 0.025]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: schedule.cosine(0.1, 0), "cosine: steps is 0"),
        (lambda: schedule.linear(0.1, -1), "linear: steps is -1"),
        (lambda: schedule.polynomial(0.1, 10, -1), "power is -1"),
        (lambda: schedule.step(0.1, 0), "step: size is 0"),
        (lambda: schedule.exponential(0.1), "give one of them"),
        (lambda: schedule.exponential(0.1, 0.9, 0.1), "gamma is 0.9 and rate is 0.1"),
        (lambda: schedule.exponential(0.1, -0.9), "gamma is -0.9"),
        (lambda: schedule.inverse_time(0.1, 0), "inverse_time: b is 0"),
        (lambda: schedule.inverse_sqrt(0.1, 0), "warm is 0"),
        (lambda: schedule.noam(0), "noam: d_model is 0"),
        (lambda: schedule.piecewise([1.0], [3]), "1 values and 1 boundaries"),
        (lambda: schedule.piecewise([1.0, 2.0, 3.0], [3, 3]), r"boundaries are \[3, 3\]"),
        (lambda: schedule.join([schedule.constant(1.0)], [3]), "1 schedules and 1 boundaries"),
        (lambda: schedule.warmup(0.1, -1), "warmup: steps is -1"),
        (lambda: schedule.warmup_cosine(0.1, 10, 10), "warm-up of 10 steps in a run of 10"),
        (lambda: schedule.warmup_linear(0.1, -1, 10), "warm-up of -1"),
        (lambda: schedule.per_epoch(schedule.constant(1.0), 0), "steps_per_epoch is 0"),
        (lambda: schedule.cyclical(0.1, 1, 0), "cyclical: up is 0"),
        (lambda: schedule.cyclical(0.1, 1, 5, -1), "down is -1"),
        (
            lambda: schedule.cyclical_momentum(0.1, 1, 5, mode="sine"),
            "mode is 'sine'; it is one of triangular",
        ),
        (lambda: schedule.one_cycle(0.1, 0), "one_cycle: steps is 0"),
        (lambda: schedule.one_cycle(0.1, 9, pct_start=1.5), "pct_start is 1.5"),
        (lambda: schedule.one_cycle(0.1, 9, anneal="exp"), "anneal is 'exp'"),
        (lambda: schedule.one_cycle_momentum(9, placement="jax"), "placement is 'jax'"),
        (lambda: schedule.warm_restarts(0.1, 0), "period is 0"),
        (lambda: schedule.warm_restarts(0.1, 9, 0.5), "mult is 0.5"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
