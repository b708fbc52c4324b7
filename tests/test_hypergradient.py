"""Hypergradient descent: the learning rate goes down the slope of the loss after the step."""

import numpy as np
import pytest
from test_rules import close, feed, gradients, placed, starting

import minigrad as mg
from minigrad import nn, optim


def parameter(values, dtype="float64"):
    return nn.Parameter(mg.tensor(values, dtype=dtype))


# --------------------------------------------------------------------------------------------- hypergradients


def valley(params):
    a, b = params
    return ((a - 1) ** 2).sum() + (b**4).sum() / 4 + (a.sum() * b.sum()) / 5


@pytest.mark.parametrize("rule", ["SGDHD", "nesterov", "AdamHD"])
def test_the_learning_rate_moves_against_the_slope_of_the_loss_after_the_step(rule):
    """lr changes by -hypergrad_lr dL(theta_t)/dlr, the derivative taken by finite differences of two runs."""
    options = dict(nesterov=dict(momentum=0.9, nesterov=True), SGDHD={}, AdamHD={})[rule]
    make = getattr(optim, "SGDHD" if rule == "nesterov" else rule)

    def after(lr, hyper, steps):
        """The loss after that many steps, of which only the last was taken with lr, and the optimizer."""
        params = [parameter([0.3, -0.4, 2.0]), parameter([[0.5], [1.5]])]
        optimizer = make(params, lr=0.01, hypergrad_lr=0.0, **options)
        for k in range(steps):
            optimizer.zero_grad()
            valley(params).backward()
            if k == steps - 1:
                optimizer.param_groups[0].update(lr=lr, hypergrad_lr=0.0)
            optimizer.step()
        optimizer.zero_grad()
        loss = valley(params)
        loss.backward()
        optimizer.param_groups[0]["hypergrad_lr"] = hyper
        optimizer.step()
        return loss.item(), float(optimizer.param_groups[0]["lr"])

    for steps in (1, 4):
        h, kappa = 1e-6, 1e-3
        slope = (after(0.01 + h, 0, steps)[0] - after(0.01 - h, 0, steps)[0]) / (2 * h)
        change = after(0.01, kappa, steps)[1] - 0.01
        assert abs(slope) > 1e-3
        assert change == pytest.approx(-kappa * slope, rel=1e-6)


@pytest.mark.parametrize(
    ("learning", "plain"),
    [
        (lambda p: optim.SGDHD(p, 0.01, 0.0, 0.9, 0.1), lambda p: optim.SGD(p, 0.01, 0.9, 0, 0.1)),
        (
            lambda p: optim.SGDHD(p, 0.01, 0.0, 0.9, nesterov=True),
            lambda p: optim.SGD(p, 0.01, 0.9, nesterov=True),
        ),
        (lambda p: optim.AdamHD(p, 0.01, 0.0), lambda p: optim.Adam(p, 0.01)),
    ],
)
def test_without_learning_they_are_the_rules_they_come_from(learning, plain):
    rng = np.random.default_rng(10)
    start, grads = starting(rng), gradients(rng, 60)
    p, q = placed(start, "float64"), placed(start, "float64")
    feed(p, learning(p), grads, "float64")
    feed(q, plain(q), grads, "float64")
    close([x.array for x in p], [x.array for x in q], 1e-13)


def test_a_learning_rate_too_small_grows_and_the_loss_falls_faster():
    losses = {}
    for name, make in (
        ("learned", lambda p: optim.SGDHD(p, lr=1e-3, hypergrad_lr=1e-4)),
        ("fixed", lambda p: optim.SGD(p, lr=1e-3)),
    ):
        p = parameter([5.0, -3.0])
        optimizer = make([p])
        for _ in range(200):
            optimizer.zero_grad()
            loss = (p * p).sum()
            loss.backward()
            optimizer.step()
        losses[name] = loss.item()
    assert losses["learned"] < 1e-3 * losses["fixed"]


def test_each_group_learns_its_own_lr_which_may_be_set_and_is_saved():
    a, b = parameter(np.ones(3)), parameter(np.ones(2))
    rate = mg.tensor(0.5)
    optimizer = optim.SGDHD(
        [{"params": [a], "hypergrad_lr": 0.1}, {"params": [b], "lr": 1.0}], lr=rate, hypergrad_lr=0
    )
    feed([a, b], optimizer, [[np.ones(3), np.ones(2)]] * 2, "float64")
    lrs = [g["lr"] for g in optimizer.param_groups]
    assert [lr.item() for lr in lrs] == [0.5 + 0.1 * 3, 1.0] and all(lr.dtype is mg.float64 for lr in lrs)
    assert rate.item() == 0.5  # the user's own is not written to
    optimizer.param_groups[0]["lr"] = 0.25
    feed([a, b], optimizer, [[-np.ones(3), None]], "float64")
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx(
        0.25 - 0.3
    )  # below zero, as the paper has it
    again = [parameter(p.array) for p in (a, b)]
    other = optim.SGDHD([{"params": [again[0]]}, {"params": [again[1]]}])
    other.load_state_dict(optimizer.state_dict())
    assert [float(g["lr"]) for g in other.param_groups] == [float(g["lr"]) for g in optimizer.param_groups]


def test_one_lr_for_parameters_of_two_types_raises():
    with pytest.raises(ValueError, match="share device and type: float32 on cpu and float64 on cpu"):
        optim.SGDHD([parameter([1.0]), parameter([1.0], "float32")])
    optim.SGDHD([parameter([1.0], "float16"), parameter([1.0], "float32")])  # both compute in float32
