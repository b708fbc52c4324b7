"""Adam and its kin: what they owe to each other, to the articles, and what does not go together."""

import numpy as np
import pytest
from test_rules import feed, flat, material, placed, run
from transcriptions import adam as papers
from transcriptions.libraries import optax, torch

import minigrad as mg
from minigrad import nn, optim

# -------------------------------------------------------------------------------------- forms known to differ


@pytest.mark.oracle
def test_nadam_of_optax_is_another_rule_than_torchs():
    start, grads = material(5)
    mine = run("NAdam", dict(lr=0.01), start, grads)
    assert np.abs(mine - flat(optax(lambda o: o.nadam(0.01)).run(start, grads))).max() > 1e-2


@pytest.mark.oracle
def test_nadam_of_torch_rounds_its_product_to_float32_and_ours_does_not():
    start, grads = material(6)
    mine = run("NAdam", {}, start, grads)
    rounded = flat(torch("NAdam").run(start, grads))
    exact = flat(torch("NAdam", wide=True).run(start, grads))
    np.testing.assert_allclose(mine, exact, rtol=1e-12, atol=1e-12)
    assert 1e-11 < np.abs(mine - rounded).max() < 2e-10


@pytest.mark.oracle
def test_radam_of_optax_puts_eps_elsewhere_than_torch():
    start, grads = material(7, 1e-2)
    mine = run("RAdam", dict(lr=0.01, eps=1e-2), start, grads)
    assert np.abs(mine - flat(optax(lambda o: o.radam(0.01, eps=1e-2)).run(start, grads))).max() > 1e-3


def test_adamax_of_the_paper_is_nan_where_the_first_gradient_is_zero_and_ours_waits():
    with np.errstate(invalid="ignore"):
        assert np.isnan(papers.adamax(np.ones(1), [np.zeros(1)], eps=0.0)).all()
    p = nn.Parameter(mg.ones(1))
    optimizer = optim.Adamax([p])
    p.grad = mg.zeros(1)
    optimizer.step()
    assert p.item() == 1.0


# ---------------------------------------------------------------------------------------- what the forms mean


def test_decay_that_lr_does_not_scale_leaves_4e_5_of_the_weights_after_1000_steps():
    p, q = (nn.Parameter(mg.ones(3, dtype=mg.float64)) for _ in range(2))
    fixed, scaled = optim.AdamW.preset("S3", [p]), optim.AdamW([q], lr=3e-4)
    for _ in range(1000):
        for x, optimizer in ((p, fixed), (q, scaled)):
            x.grad = mg.zeros(3, dtype=mg.float64)
            optimizer.step()
    np.testing.assert_allclose(p.array, 0.99**1000, rtol=1e-9)
    np.testing.assert_allclose(q.array, (1 - 3e-6) ** 1000, rtol=1e-9)


@pytest.mark.parametrize(("threshold", "plain"), [(5.0, 5), (4.0, 4)])
def test_radam_takes_plain_steps_until_its_window_is_long_enough(threshold, plain):
    """A constant gradient: a plain step is lr g, a rectified one lr r."""
    p = nn.Parameter(mg.zeros(1, dtype=mg.float64))
    optimizer = optim.RAdam([p], lr=0.5, threshold=threshold)
    steps = []
    for _ in range(8):
        before = p.item()
        p.grad = mg.tensor([100.0], dtype=mg.float64)
        optimizer.step()
        steps.append(before - p.item())
    np.testing.assert_allclose(steps[:plain], 50.0, rtol=1e-12)
    assert all(0 < step < 0.5 for step in steps[plain:])
    assert steps[plain:] == sorted(steps[plain:])


def test_amsgrad_remembers_a_large_gradient_that_adam_forgets():
    """One gradient of 100, then small ones: Adam's steps grow back, AMSGrad's do not."""
    steps = {}
    for rule in (optim.Adam, optim.AMSGrad):
        p = nn.Parameter(mg.zeros(1, dtype=mg.float64))
        optimizer = rule([p], lr=0.1, betas=(0.0, 0.9))
        for t in range(100):
            before = p.item()
            p.grad = mg.tensor([100.0 if t == 0 else 1.0], dtype=mg.float64)
            optimizer.step()
        steps[rule] = before - p.item()
    assert steps[optim.Adam] > 0.09 and steps[optim.AMSGrad] < 0.004


def test_amsgrad_is_adam_with_amsgrad_and_takes_its_state():
    start, grads = material(8)
    given = dict(lr=0.01, weight_decay=0.1)
    assert (
        run("AMSGrad", given, start, grads) == run("Adam", given | dict(amsgrad=True), start, grads)
    ).all()
    params = placed(start, "float64")
    source = optim.Adam(params, amsgrad=True)
    feed(params, source, grads[:5], "float64")
    twins = placed([p.array for p in params], "float64")
    target = optim.AMSGrad(twins)
    target.load_state_dict(source.state_dict())
    for ps, o in ((params, source), (twins, target)):
        feed(ps, o, grads[5:10], "float64")
    assert (flat([p.array for p in params]) == flat([p.array for p in twins])).all()


def test_without_weight_decay_adamw_and_adam_are_one():
    start, grads = material(9)
    given = dict(lr=0.01, weight_decay=0.0)
    assert (run("AdamW", given, start, grads) == run("Adam", given, start, grads)).all()


@pytest.mark.parametrize("rule", ["Adam", "AdamW", "AMSGrad", "Adamax", "NAdam", "RAdam"], ids=lambda r: r)
def test_maximize_goes_as_far_up_the_negated_gradient(rule):
    start, grads = material(10, steps=10)
    negated = [[-g for g in step] for step in grads]
    assert (
        run(rule, dict(weight_decay=0.1), start, grads)
        == run(rule, dict(weight_decay=0.1, maximize=True), start, negated)
    ).all()


# ----------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("rule", "given", "message"),
    [
        ("Adam", dict(eps_in_sqrt=True, eps_hat=True), "Adam: eps_in_sqrt=True and eps_hat=True put eps"),
        ("AdamW", dict(eps_in_sqrt=True, eps_hat=True), "AdamW: eps_in_sqrt=True and eps_hat=True"),
        ("Adam", dict(fixed_decay=True), "Adam: fixed_decay=True needs decoupled_weight_decay=True"),
        (
            "AMSGrad",
            dict(bias_correction="no"),
            "AMSGrad: Invalid bias_correction: 'no'; .* 'none', 'raw', 'hat'",
        ),
        ("AMSGrad", dict(betas=(0.9, 1.0)), "AMSGrad: Invalid beta parameter at index 1: 1.0"),
        (
            "NAdam",
            dict(form="dozat"),
            "NAdam: Invalid form: 'dozat'; .* 'schedule', 'simple', 'anticipation'",
        ),
        ("NAdam", dict(momentum_decay=float("nan")), "NAdam: Invalid momentum_decay value: nan"),
        (
            "RAdam",
            dict(threshold=3.9),
            "RAdam: Invalid threshold value: 3.9; it must be a number of at least 4",
        ),
        ("RAdam", dict(threshold=float("nan")), "RAdam: Invalid threshold value: nan"),
        ("Adamax", dict(eps=0), "Adamax: Invalid epsilon value: 0; it must be a number greater than 0"),
    ],
)
def test_options_that_do_not_go_raise_in_the_constructor_and_in_a_group(rule, given, message):
    with pytest.raises(ValueError, match=message):
        getattr(optim, rule)([mg.zeros(1)], **given)
    optimizer = getattr(optim, rule)([mg.zeros(1)])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": mg.zeros(1)} | given)
    assert len(optimizer.param_groups) == 1


def test_amsgrad_stays_amsgrad():
    with pytest.raises(ValueError, match=r"optim\.Adam"):
        optim.AMSGrad([{"params": [mg.zeros(1)], "amsgrad": False}])


# -------------------------------------------------------------------------------- the article's functions, S2


def regression():
    rng = np.random.default_rng(11)
    x = rng.normal(size=(50, 4))
    return x, x @ np.array([1.0, -2.0, 3.0, 0.5]) + 0.1 * rng.normal(size=50)


def article(x, y, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, epochs=100):
    """S2's adam, and with weight_decay its adamw: full batches, m/(1 - beta1^t) by the plain formulas.

    Its bug: the prose has sqrt(v^ + eps), the code sqrt(v^) + eps.
    """
    theta, m, v = np.zeros(x.shape[1]), 0.0, 0.0
    for t in range(1, epochs + 1):
        gradient = x.T @ (x @ theta - y) / len(y)
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        theta = theta - lr * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * theta)
    return theta


@pytest.mark.parametrize(("rule", "decay"), [("Adam", 0.0), ("AdamW", 0.01)])
def test_the_preset_s2_is_the_articles_function(rule, decay):
    x, y = regression()
    theta = nn.Parameter(mg.zeros(4, dtype=mg.float64))
    optimizer = getattr(optim, rule).preset("S2", [theta])
    for _ in range(100):
        optimizer.zero_grad()
        (((mg.tensor(x) @ theta - mg.tensor(y)) ** 2).sum() / (2 * len(y))).backward()
        optimizer.step()
    np.testing.assert_allclose(theta.array, article(x, y, weight_decay=decay), rtol=1e-12, atol=1e-12)


def test_the_articles_code_is_not_its_prose():
    start, grads = material(12, 1e-3)
    code, prose = (
        papers.adam(start[0], [g[0] for g in grads], eps=1e-4, where=w) for w in ("outside", "inside")
    )
    assert np.abs(code - prose).max() > 1e-3
