"""The range test and the sweep: they find the right rate, and leave no trace."""

import sys
from math import inf, isnan, nan

import fake_cupy
import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minigrad.training import Snapshot, lr_find, sweep


class Run:
    """A small classifier with batch norm, dropout and momentum: everything that a snapshot has to keep."""

    def __init__(self, optimizer=mg.optim.SGD, **options):
        mg.manual_seed(1)
        self.model = nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3)
        )
        options = options or dict(lr=0.1, momentum=0.9)
        self.optimizer = optimizer(self.model.parameters(), **options)
        self.generator = mg.Generator(5)
        w = np.random.default_rng(0).standard_normal((6, 3))
        self.x = np.random.default_rng(1).standard_normal((256, 6)).astype("float32")
        self.y = (self.x @ w).argmax(1)

    def step(self, lr):
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        rows = mg.random.host(self.generator).choice(256, 32, replace=False)
        loss = F.cross_entropy(self.model(mg.tensor(self.x[rows])), mg.tensor(self.y[rows]))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def keep(self):
        return Snapshot(self.model, self.optimizer, self.generator)

    def state(self):
        """All of it, as bytes and numbers."""
        tensors = {name: t.array.tobytes() for name, t in self.model.state_dict().items()}
        slots = {
            (k, name): v.array.tobytes() if isinstance(v, mg.Tensor) else v
            for k, state in self.optimizer.state_dict()["state"].items()
            for name, v in state.items()
        }
        grads = [None if p.grad is None else p.grad.array.tobytes() for p in self.model.parameters()]
        modes = [m.training for m in self.model.modules()]
        groups = self.optimizer.state_dict()["param_groups"]
        generators = [bytes(g.get_state().array) for g in (self.generator, mg.random.default_generator)]
        return tensors, slots, grads, modes, groups, generators


# ---- the range test on a loss that is known


def valley(lr):
    """Flat until 1e-4, falls to 1e-2, blows up after 1: steepest at 1e-3."""
    x = np.log10(lr)
    return 2.0 - 1.0 / (1 + np.exp(-4 * (x + 3))) + max(0.0, x) ** 2 * 50


def test_the_range_is_exponential_and_the_suggestions_are_where_the_curve_says():
    asked = []

    def step(lr):
        asked.append(lr)
        return valley(lr)

    found = lr_find(step, 1e-6, 10, 71, smoothing=0.0)
    assert asked[:71:10] == pytest.approx([10.0**k for k in range(-6, 2)][: len(asked[:71:10])])
    assert found.steepest == pytest.approx(1e-3) and found.suggestion == found.steepest
    assert found.tenth == pytest.approx(found.rates[int(np.argmin(found.losses))] / 10)
    assert found.diverged and len(found.rates) < 71


def test_smoothing_is_a_mean_whose_bias_is_corrected():
    losses = iter([4.0, 2.0, 3.0])
    found = lr_find(lambda lr: next(losses), 1, 2, 3, smoothing=0.5)
    assert found.smooth == pytest.approx([4.0, (0.5 * 2 + 0.25 * 4) / 0.75, (1.5 + 0.5 + 0.5) / 0.875])


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_a_loss_that_is_not_finite_ends_it_and_does_not_count(bad):
    losses = iter([3.0, 2.0, 1.0, bad])
    found = lr_find(lambda lr: next(losses), 1e-3, 1, 10, smoothing=0.0)
    assert found.diverged and found.losses == [3.0, 2.0, 1.0] and found.steepest == found.rates[1]


def test_a_negative_loss_does_not_diverge_by_being_negative():
    found = lr_find(lambda lr: -1 - lr, 0.1, 1.0, 10, smoothing=0.0)
    assert not found.diverged and len(found.rates) == 10 and "never blew up" in str(found)


def test_where_the_loss_never_fell_nothing_is_suggested():
    found = lr_find(lambda lr: 1 + lr, 1e-3, 1, 10, smoothing=0.0)
    assert found.steepest is None and found.tenth is None and "never fell" in str(found)


# ---- on a model


def test_the_suggested_rate_trains_and_ten_times_the_divergence_does_not():
    run = Run(lr=0.1, momentum=0.0)
    keep = run.keep()
    found = lr_find(run.step, 1e-5, 100, 80, keep=keep)
    assert 1e-2 < found.steepest < 10

    def trained(lr):
        keep.restore()
        return np.mean([float(run.step(lr)) for _ in range(60)][-10:])

    assert trained(found.steepest) < 0.5 * found.losses[0] < trained(1e-4)


@pytest.mark.parametrize("optimizer", [mg.optim.SGD, mg.optim.AdamW])
@pytest.mark.parametrize("begun", [False, True])
def test_it_leaves_everything_as_it_was_to_the_bit(optimizer, begun):
    run = Run(optimizer, lr=0.01)
    if begun:
        for _ in range(3):
            run.step(0.01)
    before = run.state()
    lr_find(run.step, 1e-5, 1.0, 20, keep=run.keep())
    assert run.state() == before
    sweep(lambda lr: [run.step(lr) for _ in range(5)], keep=run.keep())
    assert run.state() == before
    a = [float(run.step(0.02)) for _ in range(3)]
    other = Run(optimizer, lr=0.01)
    if begun:
        for _ in range(3):
            other.step(0.01)
    assert a == [float(other.step(0.02)) for _ in range(3)]


def test_it_leaves_everything_as_it_was_after_an_error_too():
    run = Run()
    run.model[3].eval()
    before = run.state()

    def step(lr):
        run.model.train()
        run.step(lr)
        if lr > 1e-3:
            raise KeyError("a bad batch")
        return 1.0

    with pytest.raises(KeyError):
        lr_find(step, keep=run.keep())
    assert run.state() == before
    with pytest.raises(KeyError), run.keep():
        step(1)
    assert run.state() == before


POSITIVE = ("ExponentiatedGradient",)  # its weights are positive


@pytest.mark.parametrize("name", [name for name in mg.optim.zoo if name not in POSITIVE])
def test_every_optimizer_comes_back(name):
    """Three steps after a restore are the three steps before it, to the bit."""
    model, record = nn.Linear(4, 3), mg.optim.zoo[name]
    params = mg.optim.Muon.split(model) if name == "Muon" else model.parameters()  # it takes no vectors
    optimizer, x = record.make(params), mg.randn(8, 4)
    optimizer.outputs = lambda: model(x)  # for rules that ask the model for its Fisher matrix
    optimizer.sampled_loss = lambda: nn.functional.cross_entropy(model(x), mg.optim.sample_labels(model(x)))

    def closure():
        loss = (model(x) ** 2).sum()
        if "own backward" not in record.needs:
            optimizer.zero_grad()
            loss.backward()
        return loss

    def steps():
        for _ in range(3):
            optimizer.step(closure)
        return np.concatenate([p.array.ravel() for p in model.parameters()])

    steps()
    keep = Snapshot(model, optimizer)
    first = steps()
    for _ in range(2):
        keep.restore()
        assert np.array_equal(steps(), first)


def test_on_a_device_everything_comes_back_too():
    with fake_cupy.installed():
        model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)).to("cuda")
        optimizer = mg.optim.Adam(model.parameters(), lr=0.01)
        x = mg.ones(3, 6, device="cuda") * mg.tensor([[1.0], [2.0], [4.0]], device="cuda")

        def step(lr):
            optimizer.zero_grad()
            loss = (model(x) ** 3).sum()
            loss.backward()
            optimizer.step()
            return loss

        step(0)
        before = [t.cpu().array.copy() for t in (*model.parameters(), *model.buffers())]
        lr_find(step, steps=5, keep=Snapshot(model, optimizer))
        after = [t.cpu().array for t in (*model.parameters(), *model.buffers())]
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_graphs_of_before_refuse_to_go_on_after_a_restore():
    run = Run()
    keep = run.keep()
    loss = run.model(mg.tensor(run.x)).sum()
    keep.restore()
    with pytest.raises(RuntimeError, match="modified in place"):
        loss.backward()


def test_what_cannot_be_kept_is_refused():
    with pytest.raises(TypeError, match="list has neither"):
        Snapshot(nn.Linear(2, 2), None, [1])


# ---- the sweep


def test_six_decades_by_default_a_decade_apart():
    swept = sweep(lambda lr: lr)
    assert swept.rates == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_all_runs_start_alike_and_the_best_rate_is_found():
    run, firsts = Run(lr=0.1, momentum=0.0), []

    def short(lr):
        losses = [float(run.step(lr)) for _ in range(40)]
        firsts.append(losses[0])
        return losses

    swept = sweep(short, 1e-4, 1e2, 7, keep=run.keep())
    assert len(set(firsts)) == 1
    assert swept.best in (pytest.approx(0.1), pytest.approx(1.0))
    assert f"best lr = {swept.best:.2e}" in str(swept)


def test_a_run_that_diverged_is_never_the_best():
    swept = sweep(lambda lr: [3.0, 1.0 / lr if lr < 1 else nan], 1e-2, 100, 5)
    assert swept.best == pytest.approx(0.1) and [isnan(s) for s in swept.scores] == [False] * 2 + [True] * 3
    assert str(swept).count("diverged") == 3
    swept = sweep(lambda lr: inf)
    assert swept.best is None and "Every rate diverged" in str(swept)


def test_the_score_is_the_mean_of_the_last_fifth_or_the_number_itself():
    assert sweep(lambda lr: list(range(10)), rates=[1.0]).scores == [8.5]
    assert sweep(lambda lr: mg.tensor(3.0), rates=[1.0]).scores == [3.0]
    assert sweep(lambda lr: lr, better=max).best == 1.0


def test_a_best_rate_at_the_end_of_the_range_is_told():
    assert "look beyond" in str(sweep(lambda lr: -lr))


# ---- refusals and pictures


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lr_find(valley, 1, 1), "from 1 to 1"),
        (lambda: lr_find(valley, 0, 1), "from 0 to 1"),
        (lambda: lr_find(valley, steps=1), "steps=1"),
        (lambda: lr_find(valley, smoothing=1.0), "smoothing=1.0"),
        (lambda: lr_find(valley, divergence=1.0), "divergence=1.0"),
        (lambda: sweep(valley, points=1), "1 rates"),
        (lambda: sweep(valley, rates=[0.0]), r"rates \[0.0\]"),
        (lambda: sweep(lambda lr: []), "no loss"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_both_draw_a_png(tmp_path):
    pytest.importorskip("matplotlib")
    lr_find(valley).plot(tmp_path / "a.png")
    sweep(lambda lr: nan if lr > 0.5 else lr).plot(tmp_path / "b.png")
    for name in "ab":
        assert (tmp_path / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_without_matplotlib_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"minigrad\[plots\]"):
        lr_find(valley).plot(tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
