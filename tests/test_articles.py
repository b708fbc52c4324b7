"""What four well-known articles say, run and measured: docs/articles.md tells it, each claim with its test
here.

A textbook chapter (T), a guide to update rules (G), a tutorial with code (C), an encyclopedia's entry (E).
Their code stands here in short form, as they print it.
"""

import math
import re
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import tutorial
from oracle import oracle

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F
from minigrad.optim import schedule
from minigrad.training import linear_scaling, sweep

ROOT = Path(__file__).resolve().parent.parent

# --------------------------------------------------------------------------------- the PyTorch snippets run

# (C) "Implementation in PyTorch"
MAKING = """
import torch
import torch.nn as nn
import torch.optim as optim

model = nn.Linear(10, 2)
optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
optimizer = optim.Adam(model.parameters(), lr=0.001, betas=(0.9, 0.999))
optimizer = optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.01)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
"""
LOOP = """
for epoch in range(100):
    for batch in dataloader:
        optimizer.zero_grad()
        loss = model(batch)
        loss.backward()
        optimizer.step()
    scheduler.step()
"""
CLIPPING = """
torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
torch.nn.utils.clip_grad_value_(model.parameters(), clip_value=1.0)
"""
ACCUMULATION = """
accumulation_steps = 4
optimizer.zero_grad()
for i, batch in enumerate(dataloader):
    loss = model(batch)
    (loss / accumulation_steps).backward()
    if (i + 1) % accumulation_steps == 0:
        optimizer.step()
        optimizer.zero_grad()
"""
MIXED = """
from torch.cuda.amp import autocast, GradScaler

scaler = GradScaler()
for batch in dataloader:
    with autocast():
        output = model(batch)
        loss = criterion(output, target)

    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""
# (G) "Learning-rate scheduling", its practical recipe
RECIPE = """
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=200, eta_min=1e-5)
for epoch in range(num_epochs):
    train(...)
    scheduler.step()
"""


def run(snippet, lib, scope):
    """A snippet as it stands, but for the name after `import`."""
    text = textwrap.dedent(snippet)
    if lib is mg:
        text = re.sub(r"import torch$", "import minigrad as torch", text, flags=re.M)
        text = re.sub(r"(import|from) torch\.", r"\1 minigrad.", text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two schedulers, deprecated names, no GPU: both libraries may tell
        exec(text, scope)
    return scope


class Scalar:
    """What the snippets take for a model: a module whose output is the loss."""

    def __new__(cls, lib):
        class Net(lib.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = lib.nn.Linear(10, 2)

            def forward(self, x):
                return (self.inner(x) ** 2).mean()

        net = Net()
        rng = np.random.default_rng(0)
        with lib.no_grad():
            for p in net.parameters():
                p.copy_(lib.tensor(rng.standard_normal(tuple(p.shape)).astype("float32")))
        return net


def batches(lib, n=10, size=8):
    rng = np.random.default_rng(1)
    return [lib.tensor(rng.standard_normal((size, 10)).astype("float32")) for _ in range(n)]


def both(function):
    """function(lib) in both libraries gives the same arrays."""
    torch = oracle("torch")
    theirs, ours = ([np.asarray(a.detach().numpy()) for a in function(lib)] for lib in (torch, mg))
    assert all(np.allclose(a, b, rtol=2e-4, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_the_tutorials_optimizers_and_schedulers_are_made():
    scope = run(MAKING, mg, {})
    assert type(scope["optimizer"]) is optim.AdamW and scope["torch"] is mg
    assert type(scope["scheduler"]) is optim.lr_scheduler.CosineAnnealingLR


def test_the_tutorials_loop_trains_as_in_pytorch():
    def trained(lib):
        scope = run(MAKING, lib, {})
        scope["model"] = Scalar(lib)
        scope["optimizer"] = lib.optim.AdamW(scope["model"].parameters(), lr=0.01)
        scope["scheduler"] = lib.optim.lr_scheduler.CosineAnnealingLR(scope["optimizer"], T_max=100)
        scope["dataloader"] = batches(lib, 2)
        run(LOOP, lib, scope)
        assert scope["optimizer"].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)
        return list(scope["model"].parameters())

    both(trained)


def test_the_tutorials_loop_as_printed_has_no_loss():
    """nn.Linear(10, 2) gives two numbers an example: backward() refuses, in both libraries."""
    for lib in (oracle("torch"), mg):
        scope = run(MAKING, lib, {})
        scope["dataloader"] = batches(lib)
        with pytest.raises(RuntimeError, match="scalar"):
            run(LOOP, lib, scope)


def test_the_tutorials_clipping_is_pytorchs():
    def clipped(lib):
        model = Scalar(lib)
        (100 * model(batches(lib)[0])).backward()
        run(CLIPPING, lib, {"torch": lib, "model": model})
        return [p.grad for p in model.parameters()]

    both(clipped)


def test_the_tutorials_accumulation_is_pytorchs():
    def trained(lib):
        model = Scalar(lib)
        optimizer = lib.optim.SGD(model.parameters(), lr=0.01)
        run(ACCUMULATION, lib, {"model": model, "optimizer": optimizer, "dataloader": batches(lib)})
        return list(model.parameters())

    both(trained)


def test_the_tutorials_accumulation_loses_the_last_partial_window():
    """Ten batches in fours: two steps, and the gradients of the last two batches are left lying about."""
    model = Scalar(mg)
    optimizer, steps = optim.SGD(model.parameters(), lr=0.01), []
    optimizer.register_step_post_hook(lambda *args: steps.append(1))
    run(ACCUMULATION, mg, {"model": model, "optimizer": optimizer, "dataloader": batches(mg)})
    assert len(steps) == 2 and all(float(p.grad.abs().sum()) > 0 for p in model.parameters())


def test_the_tutorials_mixed_precision_runs():
    def trained(lib):
        model = Scalar(lib)
        optimizer = lib.optim.SGD(model.parameters(), lr=0.01)
        scope = {"model": model, "optimizer": optimizer, "dataloader": batches(lib), "target": None}
        run(MIXED, lib, scope | {"criterion": lambda output, target: output})
        return list(model.parameters())

    both(trained)


def test_the_tutorials_mixed_precision_never_zeroes_the_gradients():
    """So every batch's gradient is added to those of all batches before it."""
    model = Scalar(mg)
    optimizer, norms = optim.SGD(model.parameters(), lr=0.0), []
    optimizer.register_step_post_hook(lambda *args: norms.append(float(model.inner.weight.grad.norm())))
    same = [batches(mg)[0]] * 3
    run(MIXED, mg, dict(model=model, optimizer=optimizer, dataloader=same, target=None,
                        criterion=lambda output, target: output))  # fmt: skip
    assert norms == pytest.approx([norms[0], 2 * norms[0], 3 * norms[0]], rel=1e-3)


def test_the_guides_recipe_runs_once_its_names_are_there():
    p = mg.ones(2, requires_grad=True)
    optimiser, rates = optim.SGD([p], lr=0.1), []

    def train(_):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()

    with pytest.raises(NameError, match="optimiser"):
        run(RECIPE, mg, {"torch": mg})
    run(RECIPE, mg, dict(torch=mg, optimiser=optimiser, num_epochs=300, train=train))
    expected = schedule.cosine(0.1, 200, 1e-5)
    assert rates[:201] == pytest.approx([expected(t) for t in range(201)], abs=1e-12)


def test_the_guides_cosine_climbs_again_after_t_max():
    """Its formula, and PyTorch's class, are periodic: at epoch 400 lr is what it was at first."""
    p = mg.ones(2, requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=200, eta_min=1e-5)
    rates = [0.1]
    for _ in range(400):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[200] == pytest.approx(1e-5) and rates[400] == pytest.approx(0.1)
    assert schedule.cosine(0.1, 200, 1e-5)(400) == 1e-5  # the pure function stays at the floor


# -------------------------------------------------------------------------------- the tutorial's NumPy code


def data(m=200, n=3, seed=0):
    """X (m, n), y = X theta exactly, theta = 3, -2, 1, ..."""
    rng = np.random.default_rng(seed)
    X, theta = rng.standard_normal((m, n)), np.array([3.0, -2.0, 1.0, 0.5][:n])
    return X, X @ theta, theta


def ours(rule, X, y, epochs=100, **options):
    """The same regression with an optimizer of ours."""
    theta = mg.zeros(X.shape[1], dtype=mg.float64, requires_grad=True)
    optimizer, x, t = rule([theta], **options), mg.tensor(X), mg.tensor(y)
    for _ in range(epochs):
        optimizer.zero_grad()
        (((x @ theta - t) ** 2).sum() / (2 * len(X))).backward()
        optimizer.step()
    return theta.detach().numpy()


def test_the_tutorials_adam_crashes():
    """`m` is the number of examples and then the first moment: 1 / m divides by a vector of zeros."""
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="broadcast"):
        tutorial.adam(*data(200, 3)[:2])


@pytest.mark.parametrize(("m", "n"), [(3, 3), (200, 1)])
def test_the_tutorials_adam_gives_nan_where_shapes_let_it_run(m, n):
    """As many examples as features, or one feature: the shapes fit, and 0 inf is nan."""
    with np.errstate(all="ignore"):
        assert np.isnan(tutorial.adam(*data(m, n)[:2])).all()


def test_the_tutorials_adam_mended_is_ours():
    X, y, _ = data()
    assert np.allclose(tutorial.mended()(X, y), ours(optim.Adam, X, y), rtol=0, atol=1e-12)
    found = ours(optim.AdamW, X, y, weight_decay=0.01)
    assert np.allclose(tutorial.mended(decay=0.01)(X, y), found, rtol=0, atol=1e-12)


def test_the_tutorials_formula_and_code_place_eps_differently():
    """sqrt(v + eps) in its text, sqrt(v) + eps in its code: for gradients of 1e-5 the steps are 1 to 0.1."""
    X, y, _ = data()
    X, y = X * 1e-3, y * 1e-2
    code, text = tutorial.mended()(X, y, epochs=1), tutorial.mended(eps_in_sqrt=True)(X, y, epochs=1)
    assert np.abs(code).min() > 0.99e-3 and np.abs(text).max() < 0.5e-3
    assert np.allclose(ours(optim.Adam, X, y, epochs=1), code, rtol=1e-9)


def test_the_tutorials_adam_defaults_do_not_reach_the_solution():
    """100 epochs of lr 0.001 move a parameter by 0.1 at most: the solution is at 3."""
    X, y, theta = data()
    found = tutorial.mended()(X, y)
    assert np.abs(found).max() < 0.1 + 1e-9 < np.abs(theta).min()
    assert np.allclose(ours(optim.SGD, X, y, lr=0.1, momentum=0.9), theta, atol=0.05)


def test_the_tutorials_sgd_sweeps_in_order():
    """Without shuffling the last examples win: on labels that are sorted it ends at the end."""

    def swept(y, order, lr=0.1):
        theta = 0.0
        for _ in range(20):
            for i in order():
                theta -= lr * (theta - y[i])
        return theta

    y, rng = np.linspace(0, 1, 100), np.random.default_rng(0)
    assert swept(y, lambda: range(100)) > 0.89 and swept(y, lambda: reversed(range(100))) < 0.11
    ends = [swept(y, lambda: rng.permutation(100)) for _ in range(50)]
    assert np.mean(ends) == pytest.approx(y.mean(), abs=0.06)


def test_the_tutorials_last_batch_weighs_its_examples_more():
    """33 examples in batches of 32: the one that is left over counts as much as the 32 together."""
    rows = np.arange(33)
    weight = np.zeros(33)
    for i in range(0, 33, 32):
        batch = rows[i : i + 32]
        weight[batch] += 1 / len(batch)
    assert weight[-1] == 32 * weight[0]
    loader = mg.data.DataLoader(mg.data.TensorDataset(mg.arange(33)), 32, drop_last=True)
    assert sum(len(batch[0]) for batch in loader) == 32  # drop_last is the other convention


# ----------------------------------------------------------------------------- momentum, in its three forms


def momentum(form, rates, beta=0.9, curvature=1.0, start=1.0):
    """theta_t of a momentum method on L = curvature theta^2 / 2, with a learning rate for each step."""
    theta, v, found = start, 0.0, []
    for lr in rates:
        g = curvature * theta
        if form == "a":  # (T) m = beta m + g, theta - lr m
            v = beta * v + g
            theta -= lr * v
        elif form == "b":  # (G) v = beta v + (1 - beta) g, theta - lr v
            v = beta * v + (1 - beta) * g
            theta -= lr * v
        else:  # (C, E) v = gamma v + lr g, theta - v
            v = beta * v + lr * g
            theta -= v
        found.append(theta)
    return np.array(found)


def ours_with_momentum(rates, start=1.0, rule=optim.SGD, **options):
    theta = mg.tensor(start, dtype=mg.float64, requires_grad=True)
    optimizer, found = rule([theta], lr=1.0, **{"momentum": 0.9, **options}), []
    for lr in rates:
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        (theta * theta / 2).backward()
        optimizer.step()
        found.append(float(theta))
    return np.array(found)


def test_momentums_three_forms_agree_only_while_the_rate_is_constant():
    constant, falling = [0.05] * 40, [0.05] * 20 + [0.005] * 20
    assert np.allclose(momentum("a", constant), momentum("c", constant), atol=1e-15)
    assert np.abs(momentum("a", falling) - momentum("c", falling)).max() > 0.01
    assert np.allclose(momentum("b", falling), momentum("a", np.multiply(0.1, falling)), atol=1e-15)
    assert np.allclose(ours_with_momentum(falling), momentum("a", falling), atol=1e-12)  # PyTorch's


def test_the_guides_momentum_is_not_pytorchs_dampening():
    """PyTorch's first step is not dampened; the guide's is."""
    rates = [0.5] * 30
    assert np.abs(ours_with_momentum(rates, dampening=0.9) - momentum("b", rates)).max() > 0.03
    assert np.allclose(ours_with_momentum(np.multiply(0.1, rates)), momentum("b", rates), atol=1e-12)


def test_the_textbooks_moving_average_is_a_sum():
    """m = beta m + g of a constant gradient 1 tends to 10: ten gradients' worth, no average of them."""
    m = 0.0
    for _ in range(500):
        m = 0.9 * m + 1.0
    assert m == pytest.approx(10.0)
    theta = mg.tensor(0.0, dtype=mg.float64, requires_grad=True)
    optimizer, before = optim.SGD([theta], lr=1.0, momentum=0.9), 0.0
    for _ in range(500):
        before = float(theta)
        optimizer.zero_grad()
        theta.backward()
        optimizer.step()
    assert before - float(theta) == pytest.approx(10.0)


def test_the_guides_momentum_and_its_nesterov_differ_by_ten_in_the_rate():
    """v = beta v + (1 - beta) g in one paragraph, v = beta v - alpha g in the next: steps of 1 and of 10."""
    v = w = 0.0
    for _ in range(500):
        v, w = 0.9 * v + 0.1 * 1.0, 0.9 * w - 1.0
    assert abs(w / v) == pytest.approx(10.0)


# -------------------------------------------------------------------------------------- rates on quadratics


def rate(step, curvatures, steps=2000):
    """Asymptotic factor by which the error of a linear method shrinks: its largest eigenvalue, measured."""
    errors = np.ones(len(curvatures))
    state = (errors, errors.copy())
    norms = []
    for _ in range(steps):
        state = step(state, curvatures)
        norms.append(np.abs(state[0]).max())
    return (norms[-1] / norms[steps // 2]) ** (1 / (steps - 1 - steps // 2))


CURVATURES = np.geomspace(0.01, 1.0, 30)  # condition number 100


def heavy_ball(lr, beta):
    return lambda s, h: (s[0] - lr * h * s[0] + beta * (s[0] - s[1]), s[0])


def nesterov(lr, beta):
    def step(s, h):
        ahead = s[0] + beta * (s[0] - s[1])
        return ahead - lr * h * ahead, s[0]

    return step


def test_nesterovs_rate_on_quadratics_is_not_heavy_balls():
    """kappa = 100: gradient descent 0.980, heavy ball 0.82, Nesterov's 0.90 with 1/L, 0.885 at its best."""
    root = math.sqrt(100)
    lr, beta = 4 / (1 + math.sqrt(0.01)) ** 2, ((root - 1) / (root + 1)) ** 2
    ball = rate(heavy_ball(lr, beta), CURVATURES)
    plain = rate(heavy_ball(2 / 1.01, 0.0), CURVATURES)
    nag = rate(nesterov(1.0, (root - 1) / (root + 1)), CURVATURES)
    third = math.sqrt(3 * 100 + 1)
    best = rate(nesterov(4 / (3 + 0.01), (third - 2) / (third + 2)), CURVATURES)
    assert plain == pytest.approx(99 / 101, abs=1e-3)
    assert ball == pytest.approx((root - 1) / (root + 1), abs=3e-3)
    assert nag == pytest.approx(1 - 1 / root, abs=3e-3)
    assert best == pytest.approx(1 - 2 / third, abs=3e-3)
    assert best > ball + 0.05


def test_our_nesterov_has_nesterovs_rate():
    theta = mg.ones(30, dtype=mg.float64, requires_grad=True)
    optimizer, h, norms = (
        optim.SGD([theta], lr=1.0, momentum=9 / 11, nesterov=True),
        mg.tensor(CURVATURES),
        [],
    )
    for _ in range(300):
        optimizer.zero_grad()
        (h * theta * theta / 2).sum().backward()
        optimizer.step()
        norms.append(float(theta.abs().max()))
    assert (norms[-1] / norms[149]) ** (1 / 150) == pytest.approx(0.902, abs=3e-3)


def test_momentums_square_root_needs_a_tuned_beta():
    """With the typical 0.9 the rate is sqrt(0.9) = 0.949 for kappa = 100, not 0.818."""
    measured = rate(heavy_ball(1.0, 0.9), CURVATURES)
    assert measured == pytest.approx(math.sqrt(0.9), abs=5e-3)


@pytest.mark.parametrize(
    ("lr", "expected"), [(0.5, [0, 0, 0]), (0.1, [0.8, 0.64, 0.512]), (1.5, [-2, 4, -8])]
)
def test_the_textbooks_parabola(lr, expected):
    """And so batch gradient descent is not 'guaranteed to converge' on a convex function: lr < 2 / L is."""
    theta = mg.tensor(1.0, dtype=mg.float64, requires_grad=True)
    optimizer, found = optim.SGD([theta], lr=lr), []
    for _ in range(3):
        optimizer.zero_grad()
        (theta * theta).backward()
        optimizer.step()
        found.append(float(theta))
    assert found == pytest.approx(expected)


def test_convex_does_not_mean_one_minimum():
    """(x + y - 1)^2 has a line of them: where descent ends depends on where it began; e^-x has none."""

    def descended(start):
        p = mg.tensor(start, dtype=mg.float64, requires_grad=True)
        optimizer = optim.SGD([p], lr=0.1)
        for _ in range(200):
            optimizer.zero_grad()
            ((p.sum() - 1) ** 2).backward()
            optimizer.step()
        return p.detach().numpy()

    a, b = descended([0.0, 0.0]), descended([2.0, 0.0])
    assert a.sum() == pytest.approx(1) and b.sum() == pytest.approx(1) and np.abs(a - b).max() > 0.9


def test_newtons_method_goes_to_saddles():
    """x^2 - y^2: one Newton step lands on the saddle, gradient descent leaves it."""
    p = mg.tensor([0.3, 0.4], dtype=mg.float64, requires_grad=True)

    def saddle(p):
        return p[0] ** 2 - p[1] ** 2

    (g,) = mg.grad(saddle(p), p)
    newton = p.detach().numpy() - np.linalg.solve(mg.hessian(saddle, p.detach()).numpy(), g.numpy())
    assert np.allclose(newton, 0)
    assert abs(float((p - 0.1 * g)[1])) > 0.4


# ---------------------------------------------------------------------------------- batches and their noise


def test_the_variance_of_a_batch_without_replacement_is_less_than_sigma_over_b():
    """Shuffled once an epoch, a batch has Sigma / B (N - B) / (N - 1): none at all for B = N."""
    from itertools import combinations

    g = np.random.default_rng(0).standard_normal(8)
    for size in (1, 2, 4, 8):
        means = [np.mean(c) for c in combinations(g, size)]
        assert np.mean(means) == pytest.approx(g.mean())
        assert np.var(means) == pytest.approx(g.var() / size * (8 - size) / 7, abs=1e-15)


def test_full_batch_gradients_need_no_full_batch_in_memory():
    """The mean of the parts' gradients, weighted by their lengths, is the gradient of the whole."""
    X, y, _ = data(100, 3)
    w = mg.zeros(3, dtype=mg.float64, requires_grad=True)
    for rows in np.split(np.arange(100), [30, 60, 99]):
        (((mg.tensor(X[rows]) @ w - mg.tensor(y[rows])) ** 2).sum() / 100).backward()
    (whole,) = mg.grad(((mg.tensor(X) @ w - mg.tensor(y)) ** 2).mean(), w)
    assert np.allclose(w.grad.array, whole.array, atol=1e-14)


# ------------------------------------------------------------------------------------------- adaptive rules


def test_adamws_decay_is_scaled_by_the_learning_rate():
    """(E) prints (1 - lambda) theta: with its own lambda 0.01, 1,000 steps leave 4e-5 of a weight."""
    theta = mg.ones(1, dtype=mg.float64, requires_grad=True)
    optimizer = optim.AdamW([theta], lr=1e-3, weight_decay=0.01)
    for _ in range(1000):
        theta.grad = mg.zeros(1, dtype=mg.float64)
        optimizer.step()
    assert float(theta) == pytest.approx((1 - 1e-5) ** 1000) and float(theta) > 0.99
    printed = (1 - 0.01) ** 1000
    assert printed == pytest.approx(4.3e-5, rel=0.01)


def test_weight_decay_is_l2_only_without_adaptive_steps():
    """For plain SGD both are the same numbers; in Adam a penalty is divided by the gradient's size."""

    def trained(rule, **options):
        p = mg.tensor([1.0, 1.0], dtype=mg.float64, requires_grad=True)
        optimizer, scale = rule([p], **options), mg.tensor([1e-3, 1e3])
        for _ in range(50):
            p.grad = (scale * 0.1).to(mg.float64)
            optimizer.step()
        return 1.0 - p.detach().numpy()

    assert np.allclose(
        trained(optim.SGD, lr=1e-4, weight_decay=0.5),
        trained(optim.SGDW, lr=1e-4, weight_decay=0.5),
        atol=1e-12,
    )
    without = trained(optim.Adam, lr=1e-3)
    l2, decoupled = (trained(r, lr=1e-3, weight_decay=0.5) - without for r in (optim.Adam, optim.AdamW))
    assert l2[0] == pytest.approx(0, abs=1e-3) and l2[1] == pytest.approx(
        0, abs=1e-3
    )  # it makes no difference
    assert decoupled == pytest.approx([0.024, 0.024], abs=1e-3)  # 50 lr lambda


def test_adam_can_go_to_the_worst_point_and_amsgrad_does_not():
    """The convex problem of [Reddi et al. 2018, theorem 1], x in [-1, 1]: gradient 3 every third time, else
    -1. The best x is -1; Adam goes to 1."""

    def online(rule, steps=3000, **options):
        x = mg.tensor(0.0, dtype=mg.float64, requires_grad=True)
        optimizer = rule([x], lr=0.5, betas=(0.0, 0.1), **options)
        for t in range(1, steps + 1):
            optimizer.param_groups[0]["lr"] = 0.5 / math.sqrt(t)
            x.grad = mg.tensor(3.0 if t % 3 == 1 else -1.0, dtype=mg.float64)
            optimizer.step()
            x.data = x.data.clamp(-1, 1)
        return float(x)

    assert online(optim.Adam) > 0.9 and online(optim.Adam, amsgrad=True) < -0.9


def printed_adadelta(g_of, updated, steps=200, rho=0.9, eps=1e-6):
    theta, square, delta = 1.0, 0.0, 0.0
    for _ in range(steps):
        g = g_of(theta)
        square = rho * square + (1 - rho) * g * g
        step = -math.sqrt(delta + eps) / math.sqrt(square + eps) * g
        if updated:
            delta = rho * delta + (1 - rho) * step * step
        theta += step
    return theta


def test_adadelta_as_printed_lacks_half_of_its_state():
    """(E) never says how E[Delta^2] changes. It does, after the step; left at zero the steps stay at 1e-3."""
    whole, printed = (printed_adadelta(lambda t: t, updated) for updated in (True, False))
    p = mg.tensor(1.0, dtype=mg.float64, requires_grad=True)
    optimizer = optim.Adadelta([p], lr=1.0, rho=0.9, eps=1e-6)
    for _ in range(200):
        optimizer.zero_grad()
        (p * p / 2).backward()
        optimizer.step()
    assert float(p) == pytest.approx(whole, abs=1e-9) and abs(whole - printed) > 0.1


def test_eps_inside_or_outside_the_root_are_two_rules():
    """AdaGrad and RMSprop: (G, C) inside, (E) outside for AdaGrad, PyTorch outside."""
    for rule, options in ((optim.Adagrad, {}), (optim.RMSprop, dict(alpha=0.9))):
        p = mg.zeros(1, dtype=mg.float64, requires_grad=True)
        optimizer = rule([p], lr=1.0, eps=1e-2, **options)
        p.grad = mg.full((1,), 0.1, dtype=mg.float64)
        optimizer.step()
        square = 0.01 * (0.1 if rule is optim.RMSprop else 1.0)
        outside, inside = (-0.1 / (math.sqrt(square) + 1e-2), -0.1 / math.sqrt(square + 1e-2))
        assert float(p) == pytest.approx(outside, rel=1e-9) and abs(outside - inside) > 0.1


def test_rmsprop_divides_by_a_root():
    """Not 'by an average of squared gradients' (E): its step does not depend on the gradient's scale."""

    def step(scale):
        p = mg.zeros(1, dtype=mg.float64, requires_grad=True)
        p.grad = mg.full((1,), scale, dtype=mg.float64)
        optim.RMSprop([p], lr=1e-3, eps=1e-12).step()
        return float(p)

    assert step(1e-3) == pytest.approx(step(1e3), rel=1e-6)


def test_lars_is_not_adam_by_layers():
    """LARS has no second moment: its first step is along the gradient. LAMB's is along Adam's, the signs."""

    def direction(rule, **options):
        w = mg.ones(2, 2, dtype=mg.float64, requires_grad=True)
        before, g = w.detach().numpy().copy(), np.array([[1.0, 2.0], [3.0, 40.0]])
        w.grad = mg.tensor(g)
        rule([w], lr=0.1, weight_decay=0.0, **options).step()
        step = before - w.detach().numpy()
        return step / np.linalg.norm(step), g / np.linalg.norm(g)

    step, along = direction(optim.LARS)
    assert np.allclose(step, along, atol=1e-9)
    step, along = direction(optim.LAMB)
    assert np.allclose(step, 0.5, atol=1e-3) and np.abs(step - along).max() > 0.4


def test_kronecker_factors_are_not_linear_in_the_weights():
    """A layer of o x i weights keeps o^2 + i^2 numbers and takes roots of o^3 + i^3 operations, not o i."""

    def factors(inputs, outputs):
        layer = nn.Linear(inputs, outputs, bias=False)
        x = mg.randn(1, inputs)
        y = layer(x)
        (g,) = mg.grad((y**2).sum(), y, retain_graph=True)
        (y**2).sum().backward()
        return (g.mT @ g).numpy(), (x.mT @ x).numpy(), layer.weight.grad.numpy()

    B, A, gradient = factors(3, 2)
    assert np.allclose(np.kron(B, A), np.outer(gradient, gradient), rtol=1e-4, atol=1e-5)  # the Fisher, N = 1
    B, A, gradient = factors(2048, 16)
    assert (A.size + B.size) / gradient.size > 100
    assert (len(A) ** 3 + len(B) ** 3) / gradient.size > 1e5


# ------------------------------------------------------------------------------------------- learning rates


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


# ------------------------------------------------------------------------------------------------- the page


def page():
    return (ROOT / "docs" / "articles.md").read_text()


def defined():
    found = set()
    for path in (ROOT / "tests").glob("test_*.py"):
        found |= set(re.findall(r"^def (test_\w+)", path.read_text(), flags=re.M))
    return found


def test_every_test_that_the_page_names_exists():
    named = set(re.findall(r"\btest_\w+\b(?!\.py)", page())) - {"test_articles"}
    assert len(named) > 40 and named <= defined(), named - defined()


def test_the_page_tells_every_finding_and_every_finding_has_its_test():
    here = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), flags=re.M))
    about_the_page = {name for name in here if "_the_page_" in name}
    assert here - about_the_page <= set(re.findall(r"\btest_\w+", page()))
    findings = page().split("## Matters of record")[0].split("\n- ")[1:]
    assert findings and all(re.search(r"`test_\w+`", finding) for finding in findings)
