"""What the articles say of learning rates and schedules, measured: docs/articles.md tells it.

A textbook chapter (T), a guide to update rules (G), a tutorial (C), an encyclopedia's entry (E).
"""

import math
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F
from minigrad.optim import schedule
from minigrad.training import linear_scaling, sweep


class Classifier:
    """A run of a small classifier at some rate: the losses."""

    def __init__(self, rule, **options):
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((512, 10)).astype("float32")
        self.y = np.tanh(self.x @ rng.standard_normal((10, 4))).argmax(1)
        self.rule, self.options = rule, options

    def __call__(self, lr, steps=60):
        mg.manual_seed(0)
        model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
        optimizer, rng = self.rule(model.parameters(), lr=lr, **self.options), np.random.default_rng(1)
        losses = []
        for _ in range(steps):
            rows = rng.choice(512, 64, replace=False)
            loss = F.cross_entropy(model(mg.tensor(self.x[rows])), mg.tensor(self.y[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
        return losses


def test_sgds_learning_rate_is_the_higher_one():
    """(G) has it the other way round. On one problem: SGD's best rate is ten times Adam's, or more."""
    rates = [10.0**k for k in range(-5, 2)]
    sgd, adam = sweep(Classifier(optim.SGD), rates=rates), sweep(Classifier(optim.Adam), rates=rates)
    assert sgd.best >= 10 * adam.best and adam.best <= 0.1
    at = dict(zip(rates, sgd.scores))
    assert at[rates[1]] > 0.9 * sgd.losses[1][0]  # 1e-4, within the guide's range: hardly trains


def test_a_rate_is_not_kept_when_switching_optimizers():
    """(G)'s rule, 'keep the baseline learning rate the same': Adam at SGD's best rate loses to its own."""
    rates = [10.0**k for k in range(-4, 2)]
    sgd, adam = sweep(Classifier(optim.SGD), rates=rates), sweep(Classifier(optim.Adam), rates=rates)
    kept = dict(zip(rates, adam.scores))[sgd.best]
    assert not kept < 2 * min(s for s in adam.scores if s == s)


def test_a_warm_up_from_zero_wastes_its_first_step():
    """(T) ramps by t / W from t = 0: the first step moves nothing, though Adam's moments take it in."""
    rates = schedule.warmup_cosine(1e-3, 5000, 100_000)
    assert rates(0) == 0.0 and schedule.warmup_cosine(1e-3, 5000, 100_000, offset=1)(0) > 0
    p = mg.ones(3, requires_grad=True)
    optimizer = optim.AdamW([p], lr=rates(0))
    p.grad = mg.ones(3)
    optimizer.step()
    assert p.tolist() == [1.0, 1.0, 1.0] and optimizer.state_dict()["state"][0]["step"] == 1


def test_the_textbooks_worked_schedule():
    rates = schedule.warmup_cosine(1e-3, 5000, 100_000)
    assert rates(1000) == pytest.approx(2e-4) and rates(5000) == pytest.approx(1e-3)
    assert rates(50_000) == pytest.approx(5.4129e-4, abs=5e-9) and rates(100_000) == pytest.approx(
        0, abs=1e-12
    )


def test_exponential_decay_has_two_names_for_its_rate():
    """(C) gamma^t, (E) e^(-lambda t): the same for lambda = -ln gamma; 0.95 for both is not."""
    assert [0.95**t for t in range(20)] == pytest.approx([math.exp(math.log(0.95) * t) for t in range(20)])
    assert math.exp(-0.95 * 10) < 1e-4 < 0.95**10


def test_stepping_the_scheduler_first_skips_the_first_rate():
    """The articles step it after the epoch, which is right; before it, the first rate is never used."""

    def rates(first):
        p = mg.ones(1, requires_grad=True)
        optimizer = optim.SGD([p], lr=1.0)
        scheduler, used = optim.lr_scheduler.ExponentialLR(optimizer, 0.5), []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(3):
                if first:
                    scheduler.step()
                used.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                if not first:
                    scheduler.step()
        return used

    assert rates(False) == [1.0, 0.5, 0.25] and rates(True) == [0.5, 0.25, 0.125]


def test_linear_scaling_is_for_sgd():
    """(G) gives it for all. Where gradients are noise, what 2,048 examples do to a parameter is to be the
    same for batches of 1 and of 16: for SGD lr scales with the batch, for Adam with its root."""

    def wandered(rule, size, scaling):
        p = mg.zeros(500, dtype=mg.float64, requires_grad=True)
        lr = linear_scaling(1e-3, size, reference=1, rule=scaling)
        optimizer, rng = rule([p], lr=lr), np.random.default_rng(size)
        for _ in range(2048 // size):
            p.grad = mg.tensor(rng.standard_normal(500) / math.sqrt(size))
            optimizer.step()
        return float(p.detach().numpy().std())

    for rule, scaling, expected in (
        (optim.SGD, "linear", 1), (optim.SGD, "sqrt", 0.25),
        (optim.Adam, "sqrt", 1), (optim.Adam, "linear", 4),
    ):  # fmt: skip
        assert wandered(rule, 16, scaling) / wandered(rule, 1, scaling) == pytest.approx(expected, rel=0.2)
