"""--schedule plateau: the learning rate falls where the score on held-out data gets no better."""

import json
from itertools import pairwise

import fake_cupy
import numpy as np
import pytest
from test_train_resume import SHORT, Spoilt, check

import minigrad as mg
import train
from minigrad import training
from minigrad.optim import SGD
from minigrad.optim.lr_scheduler import ReduceLROnPlateau
from minigrad.tensor import Parameter
from minigrad.training import Plateau
from models.configuration import runs

SCORES = [3.0, 2.0, 2.5, 2.4, 2.3, 1.0, 1.1, 1.2, float("nan"), 1.3, 0.9, 1.0, 1.0, 1.0]
OPTIONS = dict(factor=0.5, patience=1, cooldown=1, min_lr=0.02)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(training, "draw", lambda path, title: "")


def lrs(folder):
    lines = (folder / "curve.jsonl").read_text().splitlines()
    return {row["step"]: row["lr"] for row in map(json.loads, lines) if "lr" in row}


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_level_is_that_of_the_scheduler_on_an_optimizer(mode):
    sign = 1.0 if mode == "min" else -1.0
    groups = [dict(params=[Parameter(mg.ones(1))], lr=lr) for lr in (0.1, 0.03)]
    optimizer, plateau = SGD(groups, 1.0), Plateau([0.1, 0.03], mode, **OPTIONS)
    scheduler = ReduceLROnPlateau(optimizer, mode, **OPTIONS)
    seen = []
    for t, score in enumerate(SCORES, 1):
        scheduler.step(sign * score)
        plateau.look(sign * score, t)
        seen.append([group["lr"] for group in optimizer.param_groups])
        assert [at(t) for at in plateau.schedules] == seen[-1]
    assert [0.1, 0.03] in seen and [0.05, 0.02] in seen and seen[-1] == [0.02, 0.02]


def test_a_warm_up_leads_to_the_level():
    plateau = Plateau([0.1], warm=10, patience=0)
    (at,) = plateau.schedules
    assert [at(t) for t in (0, 5, 10, 90)] == pytest.approx([0, 0.05, 0.1, 0.1])
    plateau.look(1.0, 4)
    plateau.look(1.0, 5)
    assert [at(t) for t in (5, 10, 90)] == pytest.approx([0.005, 0.01, 0.01])


def test_a_look_after_nothing_but_skipped_steps_does_not_count():
    plateau = Plateau([0.1], patience=1)
    for t in (0, 3, 3, 3, 3, 4, 4):
        plateau.look(1.0, t)
    assert plateau.schedules[0](5) == 0.1 and plateau.scheduler.num_bad_epochs == 1
    plateau.look(1.0, 5)
    assert plateau.schedules[0](5) == pytest.approx(0.01)


def test_a_state_through_json_goes_on_at_every_look():
    whole = Plateau([0.1, 0.2], **OPTIONS)
    for t, score in enumerate(SCORES, 1):
        resumed = Plateau([0.1, 0.2], **OPTIONS)
        resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
        whole.look(score, t)
        resumed.look(score, t)
        assert json.dumps(resumed.state_dict()) == json.dumps(whole.state_dict())
        assert [at(t) for at in resumed.schedules] == [at(t) for at in whole.schedules]


def test_a_state_of_other_groups_changes_nothing():
    plateau = Plateau([0.1])
    before = plateau.state_dict()
    with pytest.raises(ValueError, match="the state has 2 learning rates, not 1"):
        plateau.load_state_dict(Plateau([0.1, 0.2]).state_dict())
    assert plateau.state_dict() == before


def test_options_are_checked_by_name():
    with pytest.raises(ValueError, match="plateau: no option is called gamma; it has factor, patience"):
        Plateau([0.1], gamma=0.5)
    with pytest.raises(ValueError, match=r"Factor should be < 1\.0"):
        Plateau([0.1], factor=2.0)


# ------------------------------------------------------------------------------------------------- train.py

FALLS = [
    "--schedule",
    "plateau",
    "--schedule-options",
    "patience=0",
    "factor=0.5",
    "threshold=0.2",
    "min_lr=1e-4",
]


def test_a_run_lowers_its_learning_rate_and_keeps_to_min_lr(tmp_path):
    train.main([*SHORT, *FALLS, "--warmup", "0.2", "--log-every", "1", "--out", str(tmp_path)])
    found = list(lrs(tmp_path / "mlp-digits-adam-0").values())
    peak = max(found)
    assert found[0] == 0.0 and found[1] < peak  # the ramp
    levels = sorted({round(lr / peak, 9) for lr in found[10:]}, reverse=True)
    assert len(levels) >= 3 and all(low == pytest.approx(high / 2) for high, low in pairwise(levels[:-1]))
    assert min(found[10:]) >= 1e-4


def test_it_goes_on_to_the_same_bits(tmp_path):
    check(tmp_path, *FALLS, "--warmup", "0.2")


def test_steps_that_are_skipped_are_not_counted(tmp_path, monkeypatch):
    """All steps between two looks are skipped: the look adds nothing, and the warm-up has not advanced."""
    monkeypatch.setattr(train, "Classification", type("S", (Spoilt,), dict(bad=frozenset(range(6, 12)))))
    options = ["--schedule", "plateau", "--schedule-options", "patience=99", "--warmup", "0.2"]
    train.main([*SHORT, *options, "--log-every", "1", "--out", str(tmp_path)])
    state = training.Checkpoints(tmp_path / "mlp-digits-adam-0").latest().state
    looks = state["plateau"]["scheduler"]["last_epoch"]
    assert state["progress"]["skipped"] == 6
    assert state["plateau"]["seen"] == 31
    assert looks == 13 - 2  # every third step of 37 and the last; those after steps 9 and 12 saw nothing new
    rates = lrs(tmp_path / "mlp-digits-adam-0")
    assert rates[13] == pytest.approx(rates[6] / 5 * 6)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--model", "mlp", "--schedule", "plateau"], "--schedule plateau needs held-out data to look at"),
        ([*SHORT, *FALLS, "--schedule-per", "epoch"], "plateau changes at looks at held-out data"),
        ([*SHORT, "--schedule", "plateau", "--schedule-options", "gamma=2"], "no option is called gamma"),
        ([*SHORT, "--schedule", "plateau", "--schedule-options", "factor=2"], "Factor should be < 1.0"),
        (
            [*SHORT, "--schedule", "plateau", "--schedule-options", "min_lr=[0,0,0]"],
            "expected 2 min_lrs, got 3",
        ),
        ([*SHORT, "--schedule", "sequential", "--schedule-options", "at=[2]"], "sequential: at is [2]"),
    ],
)
def test_what_does_not_go_together_is_one_line_and_exit_code_2(args, says, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        train.main([*args, "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_parts_come_from_the_command_line_in_both_forms():
    parts = '{"parts": ["warmup_constant", {"name": "cosine", "floor": 0.1}], "at": [0.1]}'
    words = ['parts=["warmup_constant",{"name":"cosine","floor":0.1}]', "at=[0.1]"]
    rates = []
    for given in ([parts], words):
        ((c, _),) = runs([*SHORT, "--schedule", "sequential", "--schedule-options", *given])
        rates.append([at(t) for _, at in train.Run(c).rates[:1] for t in range(38)])
    assert rates[0] == rates[1] and rates[0][37] == pytest.approx(0.1 * max(rates[0]))


def test_steps_captured_on_a_gpu_see_the_falls(tmp_path):
    """A graph's table of rates is filled ahead of time; a fall in between has it filled again."""
    found = []
    with fake_cupy.installed():
        for graph in ("--graph", "--no-graph"):
            out = tmp_path / graph
            train.main([*SHORT[:-1], "cuda", *FALLS, "--warmup", "0.2", graph, "--out", str(out)])
            found.append(training.weights(out / "mlp-digits-adam-0" / "best.safetensors")[0])
            assert len(set(lrs(out / "mlp-digits-adam-0").values())) > 1
    assert all(np.array_equal(found[0][name].numpy(), t.numpy()) for name, t in found[1].items())
