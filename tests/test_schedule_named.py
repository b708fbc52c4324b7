"""Schedules by name: the same arguments for all, and a picture of each."""

import subprocess
import sys

import pytest
from test_layout import ROOT

import minigrad as mg
from minigrad import optim
from minigrad.optim import lr_scheduler, schedule
from minigrad.optim.schedule import SCHEDULES, named
from minigrad.optim.schedule.__main__ import main

MATPLOTLIB = "matplotlib"


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 7, 1000])
@pytest.mark.parametrize("share", [None, 0.0, 0.2])
def test_every_name_gives_a_schedule_between_0_and_lr(name, steps, share):
    at = named(name, 0.1, steps, None if share is None else share * steps)
    values = [at(t) for t in range(steps + 5)]
    assert all(0 <= lr <= 0.1 * (1 + 1e-12) for lr in values)
    assert any(lr > 0 for lr in values)


def test_every_name_has_a_sentence_for_the_help():
    assert all(shape.says and len(shape.says) < 70 for shape in SCHEDULES.values())


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_schedule_goes_below_a_floor_but_in_its_warm_up(name):
    at = named(name, 0.1, 1000, warm=100, floor=0.02)
    begin = 0 if name == "one_cycle" else 100
    low = 0.1 / 25 if name == "one_cycle" else 0.02
    assert min(at(t) for t in range(begin, 1100)) >= low - 1e-15
    if name == "one_cycle":
        assert at(999) == pytest.approx(0.02)


@pytest.mark.parametrize("name", [name for name, shape in SCHEDULES.items() if not shape.ramps])
def test_a_warm_up_leads_without_a_jump_to_where_the_shape_begins(name):
    at = named(name, 0.1, 1000, warm=100)
    assert at(0) == 0.0
    assert at(100 - 1e-9) == pytest.approx(at(100), abs=1e-10)
    assert named(name, 0.1, 1000, warm=100, offset=1)(0) == pytest.approx(at(100) / 101)
    assert named(name, 0.1, 1000, warm=100, initial=0.01)(0) == 0.01


def test_what_follows_a_warm_up_has_the_steps_that_are_left():
    at, cosine = named("cosine", 0.1, 1000, warm=200), schedule.cosine(0.1, 800)
    assert [at(t) for t in range(200, 1100)] == [cosine(t - 200) for t in range(200, 1100)]
    assert named("warmup_cosine", 1e-3, 100_000)(50_000) == pytest.approx(5.4129e-4, abs=5e-9)


@pytest.mark.parametrize(
    ("name", "options", "plain"),
    [
        ("constant", {}, schedule.constant(0.1)),
        ("step", dict(size=10, gamma=0.5), schedule.step(0.1, 10, 0.5)),
        ("multi_step", dict(milestones=[3, 9]), schedule.multi_step(0.1, [3, 9])),
        ("exponential", dict(rate=0.1), schedule.exponential(0.1, rate=0.1)),
        ("inverse_time", dict(b=4, c=2), schedule.inverse_time(1.6, 4, 2)),
        ("robbins_monro", dict(b=4), schedule.robbins_monro(0.4, 4)),
        ("polynomial", dict(power=3), schedule.polynomial(0.1, 60, 3)),
        ("half_cosine", {}, schedule.cosine(0.05, 60)),
        ("triangular2", dict(up=5, down=7), schedule.cyclical(0.025, 0.1, 5, 7, "triangular2")),
        ("exp_range", dict(up=5, gamma=0.9), schedule.cyclical(0.025, 0.1, 5, None, "exp_range", 0.9)),
        ("cosine_cycles", dict(up=5), schedule.cyclical(0.025, 0.1, 5, mode="cosine")),
        ("one_cycle", dict(anneal="linear"), schedule.one_cycle(0.1, 60, anneal="linear")),
        ("warm_restarts", dict(period=10, mult=1), schedule.warm_restarts(0.1, 10)),
    ],
)
def test_a_name_with_its_options_is_the_function(name, options, plain):
    at = named(name, 0.1, 60, **options)
    assert [at(t) for t in range(80)] == pytest.approx([plain(t) for t in range(80)], rel=1e-12, abs=1e-15)


def test_per_epoch_counts_epochs():
    at = schedule.per_epoch(named("step", 0.1, 90, size=30), 50)
    assert [at(t) for t in (0, 1499, 1500, 3000)] == pytest.approx([0.1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("cosines", 0.1, 10), "no schedule is called 'cosines'; there are constant, step"),
        (("cosine", 0.1, 0), "cosine: steps is 0"),
        (("cosine", 0.0, 10), "cosine: lr is 0.0"),
        (("cosine", 0.1, 10, 10), "warm-up of 10 steps in a run of 10"),
        (("one_cycle", 0.1, 10, 12), "one_cycle: a warm-up of 12"),
        (("inverse_time", 0.1, 10, 0, None, 0, 0), None),
    ],
)
def test_what_does_not_fit_is_refused_by_name(given, says):
    if says is None:
        with pytest.raises(ValueError, match="inverse_time: b is -1"):
            named(*given, b=-1)
    else:
        with pytest.raises(ValueError, match=says):
            named(*given)


def test_an_option_that_a_schedule_does_not_have_is_refused_with_those_it_has():
    with pytest.raises(ValueError, match="step: no option is called gama, power; it has size, gamma"):
        named("step", 0.1, 10, gama=0.5, power=2)
    with pytest.raises(ValueError, match="cosine: no option is called gamma; it has no options of its own"):
        named("cosine", 0.1, 10, gamma=0.5)


# ---------------------------------------------------------------------------------------- made of others


def test_chained_is_the_product_of_the_parts_factors_as_the_class_is():
    parts = ["exponential", {"name": "step", "size": 20, "gamma": 0.5, "lr": 0.5}]
    at = named("chained", 0.1, 60, parts=parts)
    one, two = schedule.exponential(1.0, 0.01 ** (1 / 60)), schedule.step(0.5, 20, 0.5)
    assert [at(t) for t in range(70)] == pytest.approx([0.1 * one(t) * two(t) for t in range(70)], rel=1e-12)

    optimizer = optim.SGD([mg.nn.Parameter(mg.ones(1))], 0.1)
    parts = [lr_scheduler.ExponentialLR(optimizer, 0.9), lr_scheduler.StepLR(optimizer, 20, 0.5)]
    scheduler = lr_scheduler.ChainedScheduler(parts, optimizer)
    at = named(
        "chained", 0.1, 60, parts=[dict(name="exponential", gamma=0.9), dict(name="step", size=20, gamma=0.5)]
    )
    for t in range(70):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(at(t), rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_sequential_joins_its_parts_at_shares_of_the_run_as_the_class_does():
    at = named("sequential", 0.1, 1000, parts=["warmup_constant", "cosine"], at=[0.1])
    first, then = named("warmup_constant", 0.1, 100), schedule.cosine(0.1, 900)
    expected = [first(t) if t < 100 else then(t - 100) for t in range(1001)]
    assert [at(t) for t in range(1001)] == pytest.approx(expected, rel=1e-12, abs=1e-15)

    optimizer = optim.SGD([mg.nn.Parameter(mg.ones(1))], 0.1)
    classes = [lr_scheduler.ConstantLR(optimizer, 0.5, 99), lr_scheduler.PolynomialLR(optimizer, 30, 2.0)]
    scheduler = lr_scheduler.SequentialLR(optimizer, classes, [30])
    parts = [dict(name="constant", lr=0.5), "polynomial"]
    at = named("sequential", 0.1, 60, parts=parts, at=[0.5])
    for t in range(70):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(at(t), rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_parts_begin_at_whole_steps_where_their_share_says_so():
    for percent in range(1, 100):
        at = named(
            "sequential", 1.0, 100, parts=["constant", {"name": "constant", "lr": 0.5}], at=[percent / 100]
        )
        assert (at(percent - 1), at(percent)) == (1.0, 0.5)


def test_parts_have_equal_shares_where_none_are_given_and_shares_of_their_own():
    half = {"name": "linear", "warm": 0.5, "floor": 0.2}
    at = named("sequential", 2.0, 90, parts=["constant", half, {"name": "chained", "parts": ["constant"]}])
    assert [at(t) for t in (29, 30, 45, 59.999999, 60)] == pytest.approx([2, 0, 2, 0.4, 2], abs=1e-6)
    warm = named("sequential", 2.0, 100, warm=10, floor=0.1, parts=["constant", "linear"])
    assert [warm(t) for t in (0, 5, 10, 54, 100)] == pytest.approx([0, 1, 2, 2, 0.1])


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("chained", dict(parts=[]), r"chained: parts is \[\]; it is a list"),
        ("chained", dict(parts="cosine"), "chained: parts is 'cosine'; it is a list"),
        ("chained", dict(parts=["sine"]), "no schedule is called 'sine'"),
        ("chained", dict(parts=[3]), "chained: 3 is no part"),
        ("chained", dict(parts=[{"size": 3}]), "is no part: a name, or a dictionary with a name"),
        ("chained", dict(parts=[{"name": "step", "gama": 3}]), "step: no option is called gama"),
        ("chained", dict(at=[0.5]), "chained: no option is called at; it has parts"),
        ("sequential", dict(at=0.5), "sequential: at is 0.5; it is a list"),
        ("sequential", dict(at=[0.5, 0.7]), "for 2 parts; .* 1, rising, between 0 and 1"),
        ("sequential", dict(at=[100]), "at is \\[100\\] for 2 parts"),
        ("sequential", dict(parts=["cosine", "step", "linear"], at=[0.7, 0.5]), "2, rising"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(name, options, says):
    with pytest.raises(ValueError, match=says):
        named(name, 0.1, 100, **options)


# ------------------------------------------------------------------------------------------ the picture


def test_the_command_draws_a_schedule(tmp_path):
    pytest.importorskip(MATPLOTLIB)
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "minigrad.optim.schedule",
            "--plot",
            "cosine",
            "--out",
            str(tmp_path / "a.png"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert run.stdout.strip() == str(tmp_path / "a.png")


def test_all_of_them_in_one_picture_and_options_for_one(tmp_path, monkeypatch, capsys):
    pytest.importorskip(MATPLOTLIB)
    monkeypatch.chdir(tmp_path)
    main(["--plot", "all", "--steps", "50", "--warmup", "5", "--log", "--floor", "1e-3"])
    main(["--plot", "step", "--lr", "1", "--option", "size=5", "gamma=0.5"])
    main(["--plot", "sequential", "--option", "parts=['warmup_constant','cosine']", "at=[0.1]"])
    assert capsys.readouterr().out.split() == ["all.png", "step.png", "sequential.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"all.png", "step.png", "sequential.png"}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--plot", "sine"], "no schedule is called 'sine'"),
        (["--plot", "cosine", "--steps", "0"], "steps is 0"),
        (["--plot", "cosine", "--option", "gamma=2"], "no option is called gamma"),
        (["--plot", "cosine", "--option", "gamma"], "is not NAME=VALUE"),
        (["--plot", "step", "--option", "gamma=x"], "an option of another type is needed"),
        ([], "--plot"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_code_2(argv, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_without_matplotlib_the_command_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit) as stopped:
        main(["--plot", "cosine"])
    assert stopped.value.code == 2
    assert "pip install matplotlib" in capsys.readouterr().err
