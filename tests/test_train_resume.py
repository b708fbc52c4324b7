"""A run that was stopped and resumed is the run that was not: every rule, every schedule, every option."""

import json
import signal

import numpy as np
import pytest

import minigrad as mg
import train
from minigrad import nn, optim, training
from minigrad.optim.schedule import SCHEDULES
from models.configuration import runs

SHORT = "--model mlp --epochs 1 --validation 0.1 --log-every 7 --device cpu".split()  # 37 steps


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They take most of the time of such short runs."""
    monkeypatch.setattr(training, "draw", lambda path, title: "")


class At(training.Interrupt):
    """A signal that comes after so many looks of the loop."""

    def __init__(self, looks):
        self.looks = looks

    @property
    def signal(self):
        self.looks -= 1
        return signal.SIGTERM if self.looks < 0 else None


def result(out):
    """(state without the configuration, curve, weights) that a run leaves."""
    (run,) = out.iterdir()
    state = training.Checkpoints(run).latest().state
    state.pop("about")
    tensors, nest = training.packed(state)
    arrays = {name: np.asarray(getattr(a, "array", a)).tobytes() for name, a in tensors.items()}
    best = {name: t.numpy().tobytes() for name, t in training.weights(run / "best.safetensors")[0].items()}
    return dict(state=arrays, rest=json.dumps(nest), curve=(run / "curve.jsonl").read_text(), best=best)


def whole(out, *args):
    train.main([*SHORT, *args, "--out", str(out)])
    return result(out)


def pieces(out, *args, after=(11, 12)):
    """The same in pieces, each ended by a signal, with other random numbers drawn in between."""
    resumed = []
    for looks in after:
        ((c, found),) = runs([*SHORT, *args, *resumed, "--out", str(out)])
        with pytest.raises(SystemExit) as stop:
            train.train(c, found, At(looks))
        assert stop.value.code == 143
        mg.rand(3)
        resumed = ["--resume"]
    train.main(["--resume", str(next(out.iterdir())), "--device", "cpu"])
    return result(out)


def check(tmp_path, *args):
    after = (3, 4) if "--accumulate" in args else (11, 12)
    expected, found = whole(tmp_path / "whole", *args), pieces(tmp_path / "pieces", *args, after=after)
    for what in expected:
        assert found[what] == expected[what], what


POSITIVE = {"ExponentiatedGradient"}  # takes weights that are shares, not those of a network


FEW = {name for name, record in optim.zoo.items() if "few parameters" in record.needs}  # not a network's
WHOLE = {"Newton", "LBFGS", "NonlinearCG", "NewtonCG"}  # a step or two on all data: tests/test_train_whole.py


@pytest.mark.parametrize("rule", sorted(set(optim.zoo) - POSITIVE - FEW - WHOLE))
def test_every_rule_goes_on_to_the_same_bits(tmp_path, rule):
    check(tmp_path, "--optimizer", rule)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_every_schedule_goes_on_to_the_same_bits(tmp_path, schedule):
    check(tmp_path, "--schedule", schedule)


@pytest.mark.parametrize(
    "args",
    [
        ["--ema", "0.9"],
        ["--swa", "0.2"],
        ["--early-stop", "2"],
        ["--amp", "bfloat16"],
        ["--amp", "float16", "--clip", "0.5"],
        ["--amp", "float16", "--clip-adaptive", "0.1"],
        ["--accumulate", "3"],
        ["--schedule", "step", "--schedule-per", "epoch", "--epochs", "1.4"],
        ["--optimizer", "sgd", "--lr", "0.1", "--momentum", "0.9", "--lr-of", "layers.1=0.01"],
        ["--optimizer", "adam", "--optimizer-options", "betas=[0.8,0.95]", "amsgrad=true"],
        ["--augment"],
        ["--optimizer", "lookahead+sam+adamw", "--lr", "0.002", "--optimizer-options", "rho=0.1", "k=3"],
        ["--freeze", "layers.0"],
    ],
    ids=" ".join,
)
def test_every_option_goes_on_to_the_same_bits(tmp_path, args):
    check(tmp_path, *args)


@pytest.mark.parametrize("model", ["cnn", "transformer"])
def test_the_other_models_go_on_in_the_middle_of_an_epoch(tmp_path, model, short_validation):
    size = ["--epochs", "0.5"] if model == "cnn" else ["--epochs", "0.014", "--batch-size", "4"]
    args = ["--model", model, *size, "--validation", "0.5" if model == "cnn" else "0"]
    expected = whole(tmp_path / "whole", *args)
    found = pieces(tmp_path / "pieces", *args, after=(3, 2))
    for what in expected:
        assert found[what] == expected[what], what


def test_resume_auto_begins_where_there_is_nothing_yet_and_a_finished_run_gives_its_score(tmp_path):
    out = ["--out", str(tmp_path)]
    first = train.main([*SHORT, *out, "--resume"])
    assert train.main([*SHORT, *out, "--resume", "auto"]) == first
    assert train.main(["--resume", str(tmp_path / "mlp-digits-adam-0"), "--device", "cpu"]) == first


def test_a_fine_tuned_run_goes_on_without_the_weights_that_it_began_with(tmp_path):
    train.main([*SHORT, "--out", str(tmp_path / "a")])
    first = tmp_path / "first.safetensors"
    (tmp_path / "a" / "mlp-digits-adam-0" / "best.safetensors").rename(first)
    args = [*SHORT, "--init", str(first), "--freeze", "layers.0", "--out", str(tmp_path / "b")]
    ((c, _),) = runs(args)
    with pytest.raises(SystemExit):
        train.train(c, None, At(5))
    first.unlink()
    train.main(["--resume", str(tmp_path / "b" / "mlp-digits-adam-0"), "--device", "cpu"])
    assert training.read(tmp_path / "b" / "mlp-digits-adam-0").step == 37


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path):
    train.main([*SHORT, "--out", str(tmp_path / "a")])
    train.main([*SHORT, "--out", str(tmp_path / "a"), "--resume", "--epochs", "2"])
    expected = whole(tmp_path / "b", "--epochs", "2")
    found = result(tmp_path / "a")
    last = [name for name in found["state"] if name.startswith(("model", "optimizer"))]
    assert last and all(found["state"][name] == expected["state"][name] for name in last)  # lr is constant


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--model", "cnn"], "--model cnn contradicts"),
        (["--data", "mnist"], "--data mnist contradicts"),
        (["--optimizer", "SGD"], "--optimizer sgd contradicts"),
        (["--batch-size", "33"], "--batch-size 33 contradicts"),
        (["--seed", "1"], "--seed 1 contradicts"),
        (["--lr", "0.5"], "--lr 0.5 contradicts"),
        (["--schedule", "cosine"], "--schedule cosine contradicts"),
        (["--accumulate", "2"], "--accumulate 2 contradicts"),
        (["--clip", "1"], "--clip 1.0 contradicts"),
        (["--ema", "0.5"], "--ema 0.5 contradicts"),
        (["--optimizer-options", "eps=1"], "--optimizer-options {'eps': 1} contradicts"),
        (["--epochs", "0.1"], "--epochs 0.1 ends at step 4"),
    ],
)
def test_what_contradicts_the_checkpoint_is_refused_by_name(tmp_path_factory, args, says, capsys):
    folder = tmp_path_factory.getbasetemp() / "refused"
    if not folder.exists():
        train.main([*SHORT, "--out", str(folder)])
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    with pytest.raises(SystemExit) as stop:
        train.main(["--resume", str(folder / "mlp-digits-adam-0"), "--device", "cpu", *args])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert before == {path: path.read_bytes() for path in folder.rglob("*.*")}


def test_weights_alone_are_no_checkpoint_and_damage_is_passed_over_by_name(tmp_path, capsys):
    train.main([*SHORT, "--out", str(tmp_path), "--save-every", "10"])
    run = tmp_path / "mlp-digits-adam-0"
    with pytest.raises(SystemExit):
        train.main(["--resume", str(run / "best.safetensors")])
    assert "weights only" in capsys.readouterr().err
    expected = result(tmp_path)
    newest = run / "step-00000037.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    train.main([*SHORT, "--out", str(tmp_path), "--resume"])
    out = capsys.readouterr().out
    assert "passed over: " in out and "step-00000037.safetensors: truncated" in out
    assert "going on after step 30 of 37" in out
    assert result(tmp_path) == expected
    for path in run.glob("step-*"):
        path.write_bytes(b"x")
    with pytest.raises(SystemExit) as stop:
        train.main([*SHORT, "--out", str(tmp_path), "--resume"])
    assert stop.value.code == 2 and "no sound checkpoint" in capsys.readouterr().err


# ------------------------------------------------------------------------------------- steps that are skipped


class Spoilt(train.Classification):
    """Some batches, by the order in which they come, have a gradient with nan."""

    bad: frozenset = frozenset()

    def __init__(self, c):
        super().__init__(c)
        self.x = {}

    def loss(self, model, batch, reduction="mean"):
        loss = super().loss(model, batch, reduction)
        key = float(batch[0].sum()) + float(batch[1].sum())
        place = self.x.setdefault(key, len(self.x))  # the same batch has the same place when it comes again
        return loss * (float("nan") if place in self.bad else 1.0)


@pytest.mark.parametrize("every", ["1", "7", "20"])
def test_a_step_with_a_bad_gradient_is_left_out_however_often_the_loop_looks(
    tmp_path, monkeypatch, every, capsys
):
    monkeypatch.setattr(train, "Classification", type("S", (Spoilt,), dict(bad=frozenset({3, 15, 16}))))
    args = [*SHORT, "--log-every", every, "--schedule", "cosine", "--save-every", "9"]
    train.main([*args, "--out", str(tmp_path / "a")])
    assert "3 steps were skipped" in capsys.readouterr().out
    found = training.Checkpoints(tmp_path / "a" / "mlp-digits-adam-0").latest().state

    # by hand: the same batches without the bad ones
    ((c, _),) = runs([*args, "--out", str(tmp_path / "b")])
    run = train.Run(c)
    stream, taken = training.endless(run.task.train, 1), 0
    for place in range(37):
        run.window = next(stream)
        if place in (3, 15, 16):
            continue
        for group, at in run.rates:
            group["lr"] = at(taken)
        run.task.bad = frozenset()
        run.step()
        taken += 1
    for name, p in run.model.state_dict().items():
        assert np.array_equal(p.numpy(), found["model"][name].numpy()), name
    assert found["progress"]["skipped"] == 3 and found["optimizer"]["state"][0]["step"] == 34


def test_batch_norms_statistics_do_not_see_a_step_that_was_skipped():
    mg.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    guard = training.Guard(dict(model=model, optimizer=optimizer), dict(model.named_buffers()))
    before = training.packed(training.state_of(guard.parts))[0]
    before = {name: t.numpy().copy() for name, t in before.items()}

    def closure():
        optimizer.zero_grad()
        loss = model(mg.randn(8, 3) * float("inf")).sum()
        loss.backward()
        guard.note(nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        return loss

    with np.errstate(all="ignore"), guard.step(careful=True):
        optimizer.step(closure)
    after = training.packed(training.state_of(guard.parts))[0]
    assert guard.skipped and before.keys() == after.keys()
    assert all(np.array_equal(before[name], t.numpy()) for name, t in after.items())


def test_a_run_whose_loss_is_nan_stops_with_a_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "Classification", type("S", (Spoilt,), dict(bad=frozenset(range(12, 99)))))
    with pytest.raises(SystemExit) as stop:
        train.main([*SHORT, "--save-every", "5", "--out", str(tmp_path)])
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "the loss is nan at step 35" in line and "23 steps were skipped" in line and "step-00000030" in line
    )
    state = training.Checkpoints(tmp_path / "mlp-digits-adam-0").latest().state
    assert all(np.isfinite(t.numpy()).all() for t in state["model"].values())
