"""Schedules are pure functions of the step: the worked example, the ends, and what PyTorch gives."""

import pytest
from oracle import oracle

from minigrad.optim import schedule


@pytest.mark.parametrize(("step", "lr"), [(1000, 2e-4), (5000, 1e-3), (50_000, 5.4129e-4), (100_000, 0.0)])
def test_the_worked_example_of_warm_up_and_cosine(step, lr):
    """100,000 steps, 5,000 of them warm-up, at most 1e-3."""
    assert schedule.warmup_cosine(1e-3, 5000, 100_000)(step) == pytest.approx(lr, abs=5e-9)


def test_the_ends_of_every_schedule():
    assert schedule.constant(0.1)(10**9) == 0.1
    cosine = schedule.cosine(0.1, 100, floor=0.01)
    assert cosine(0) == 0.1 and cosine(100) == pytest.approx(0.01) and cosine(250) == cosine(100)
    linear = schedule.linear(0.1, 100, floor=0.02)
    assert (
        linear(0) == 0.1
        and linear(50) == pytest.approx(0.06)
        and linear(100) == linear(999) == pytest.approx(0.02)
    )
    warm = schedule.warmup_linear(0.1, 10, 110)
    assert warm(0) == 0.0 and warm(5) == pytest.approx(0.05) and warm(10) == 0.1 and warm(110) == 0.0
    nanogpt = schedule.warmup(0.1, 10, schedule.constant(0.1), offset=1)
    assert (
        nanogpt(0) == pytest.approx(0.1 / 11) and nanogpt(9) == pytest.approx(1 / 11) and nanogpt(10) == 0.1
    )


def test_a_run_without_warm_up_is_the_plain_schedule():
    plain, none = schedule.cosine(0.1, 50), schedule.warmup_cosine(0.1, 0, 50)
    assert [plain(t) for t in range(60)] == [none(t) for t in range(60)]


def test_cosine_and_linear_equal_pytorchs_up_to_their_end():
    torch = oracle("torch")
    for ours, theirs in (
        (schedule.cosine(0.3, 40, 0.1), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40, 0.1)),
        (schedule.linear(0.3, 40, 0.03), lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.1, 40)),
    ):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
        scheduler = theirs(optimizer)
        for t in range(41):
            assert optimizer.param_groups[0]["lr"] == pytest.approx(ours(t), abs=1e-12)
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: schedule.cosine(0.1, 0), "cosine: steps is 0"),
        (lambda: schedule.linear(0.1, -1), "linear: steps is -1"),
        (lambda: schedule.warmup_cosine(0.1, 10, 10), "warm-up of 10 steps in a run of 10"),
        (lambda: schedule.warmup_linear(0.1, -1, 10), "warm-up of -1"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
