"""Sophia: the rules against their papers, and that what they call the Hessian is the Hessian.

The rules ask for a loss, so the questions of test_rules.py are asked here with one: sum(c p + a p^2 / 2), c
from the random gradients. Its gradient is c + a p, its Hessian diag(a), and Hutchinson's estimate u (H u)
exact, whatever the signs u.
"""

import numpy as np
import pytest
from oracle import oracle
from test_rules import MACHINES, SHAPES, close, flat, gradients, placed, starting

import kernels
import minigrad as mg
from minigrad import nn, optim
from minigrad.derivatives import hessian, jacobian
from minigrad.nn import functional as F

STEPS = 60


def sophia_h(
    p, a, grads, lr=1e-4, betas=(0.96, 0.99), rho=0.01, eps=1e-12, weight_decay=0.2, update_interval=10,
    clip_threshold=1.0, bias_correction=False, hessian_after=False,
):  # fmt: skip
    """[Liu et al. 2023, Algorithm 3] on c p + a p^2 / 2; with the last two as optax.contrib.sophia."""
    (b1, b2), m, h, t = betas, 0, np.zeros_like(p), 0
    for step, c in enumerate(grads):
        if c is None:
            continue
        t += 1
        g = c + a * p
        m = b1 * m + (1 - b1) * g
        new = b2 * h + (1 - b2) * a if step % update_interval == 0 else h
        if not hessian_after:
            h = new
        m_hat = m / (1 - b1**t) if bias_correction else m
        p = p - lr * weight_decay * p
        u = np.clip(m_hat / np.maximum(rho * h, eps), -clip_threshold, clip_threshold)
        p, h = p - lr * u, new
    return p


def sophia_g(
    p, a, grads, sampled, lr=1e-4, betas=(0.965, 0.99), rho=0.04, weight_decay=0.1, bs=5120,
    update_interval=10, maximize=False,
):  # fmt: skip
    """The authors' program [github.com/Liuhong99/Sophia, sophia.py] on c p + a p^2 / 2; sampled: by step."""
    (b1, b2), m, h = betas, 0, np.zeros_like(p)
    for step, c in enumerate(grads):
        if c is not None:
            g = c + a * p
            g = -g if maximize else g
            p = p * (1 - lr * weight_decay)
            m = b1 * m + (1 - b1) * g
            ratio = np.minimum(np.abs(m) / (rho * bs * h + 1e-15), 1)
            p = p - lr * np.sign(m) * ratio
        if step % update_interval == update_interval - 1 and sampled[step] is not None:
            h = b2 * h + (1 - b2) * sampled[step] ** 2
    return p


def curvatures(rng, shapes=SHAPES):
    return [np.asarray(10 ** rng.uniform(-1, 3, s) * np.sign(rng.normal(size=s))) for s in shapes]


def loss_of(params, curvature, step, dtype):
    """sum(c p + a p^2 / 2) of the parameters that have a c."""
    total = None
    for p, a, c in zip(params, curvature, step, strict=True):
        if c is not None:
            part = (mg.tensor(c, dtype=dtype) * p + mg.tensor(a / 2, dtype=dtype) * p * p).sum()
            total = part if total is None else total + part
    return total


def drive(params, optimizer, curvature, grads, dtype="float64", sampled=None):
    for k, step in enumerate(grads):

        def closure(step=step):
            optimizer.zero_grad()
            loss = loss_of(params, curvature, step, dtype)
            loss.backward()
            return loss

        if sampled is not None:  # the linear loss whose gradients are these

            def linear(k=k):
                parts = [
                    (p * mg.tensor(s, dtype=dtype)).sum() for p, s in zip(params, sampled[k], strict=True)
                ]
                return sum(parts[1:], parts[0])

            optimizer.sampled_loss = linear
        optimizer.step(closure)


H_OPTIONS = [
    dict(lr=0.01),
    dict(
        lr=0.01, betas=(0.9, 0.8), rho=0.5, eps=1e-2, weight_decay=0.1, update_interval=3, clip_threshold=0.7
    ),
    optim.SophiaH.record.presets["optax"] | dict(lr=0.01, update_interval=4, rho=0.3),
]
G_OPTIONS = [
    dict(lr=0.01),
    dict(lr=0.01, betas=(0.9, 0.8), rho=0.5, weight_decay=0.3, bs=3.0, update_interval=3, maximize=True),
]
CASES = [
    pytest.param(rule, options, id=f"{rule.__name__}-{k}")
    for rule, many in ((optim.SophiaH, H_OPTIONS), (optim.SophiaG, G_OPTIONS))
    for k, options in enumerate(many)
]


class Task:
    """Start, curvature and linear terms; the first parameter has a gradient at every step."""

    def __init__(self, rule, seed, steps=STEPS, missing=True):
        rng = np.random.default_rng(seed)
        self.rule, self.start, self.curvature = rule, starting(rng), curvatures(rng)
        self.grads = gradients(rng, steps, missing)
        if missing:
            self.grads = [[s[0] if s[0] is not None else np.ones(SHAPES[0]), *s[1:]] for s in self.grads]
        self.sampled = gradients(rng, steps, missing=False) if rule is optim.SophiaG else None

    def paper(self, **options):
        found = []
        for k, (p, a) in enumerate(zip(self.start, self.curvature, strict=True)):
            cs = [step[k] for step in self.grads]
            more = () if self.sampled is None else ([s[k] for s in self.sampled],)
            found.append((sophia_h if self.sampled is None else sophia_g)(p.copy(), a, cs, *more, **options))
        return found

    def ours(self, dtype="float64", machine="compiled", **options):
        with kernels.use(machine):
            params = placed(self.start, dtype)
            optimizer = self.rule(params, **options)
            drive(params, optimizer, self.curvature, self.grads, dtype, self.sampled)
        return params, optimizer


@pytest.mark.parametrize(("rule", "options"), CASES)
def test_60_steps_are_the_papers_on_both_machines_bit_for_bit(rule, options):
    task = Task(rule, 1)
    (one, first), (other, second) = (task.ours(machine=m, **options) for m in MACHINES)
    close([p.array for p in one], task.paper(**options), 1e-12)
    for p, q in zip(one, other, strict=True):
        assert p.array.tobytes() == q.array.tobytes()
        for name in ("exp_avg", "hessian"):
            assert np.asarray(first.state[p][name]).tobytes() == np.asarray(second.state[q][name]).tobytes()


@pytest.mark.parametrize(("rule", "options"), CASES)
def test_float32_stays_within_2e_6_of_the_vector(rule, options):
    task = Task(rule, 3)
    for values in (task.start, task.curvature, *task.grads, *(task.sampled or ())):
        values[:] = [None if v is None else v.astype("float32").astype("float64") for v in values]
    exact, found = flat(task.paper(**options)), flat(p.array for p in task.ours("float32", **options)[0])
    assert np.linalg.norm(found - exact) <= 2e-6 * max(
        np.linalg.norm(exact), np.linalg.norm(flat(task.start))
    )


@pytest.mark.oracle
@pytest.mark.parametrize("options", [dict(), dict(rho=0.3, betas=(0.9, 0.8), eps=1e-2, clip_threshold=0.5)])
def test_sophia_h_is_optaxs_on_a_function_with_a_diagonal_hessian(options):
    optax, jax = oracle("optax"), oracle("jax")
    rng = np.random.default_rng(4)
    start, a = rng.normal(size=(2, 20))
    a = 3 * a
    given = (
        optim.SophiaH.record.presets["optax"] | dict(lr=0.02, update_interval=3, weight_decay=0.1) | options
    )
    p = nn.Parameter(mg.tensor(start))
    mine = optim.SophiaH([p], **given)
    with jax.enable_x64(True):

        def objective(x):
            return (a * x**2 / 2 + x**4 / 12).sum() + jax.numpy.sin(x).sum()

        (b1, b2), rho = given["betas"], given.get("rho", 0.01)
        names = dict(eps=given["eps"], weight_decay=given["weight_decay"], gamma=rho, update_interval=3)
        theirs = optax.contrib.sophia(0.02, b1, b2, **names, clip_threshold=given.get("clip_threshold", 1.0))
        x = jax.numpy.asarray(start)
        state = theirs.init(x)
        update = jax.jit(lambda g, s, x: theirs.update(g, s, x, obj_fn=objective))
        for _ in range(STEPS):

            def closure():
                mine.zero_grad()
                loss = (mg.tensor(a) * p**2 / 2 + p**4 / 12).sum() + p.sin().sum()
                loss.backward()
                return loss

            mine.step(closure)
            changes, state = update(jax.grad(objective)(x), state, x)
            x = optax.apply_updates(x, changes)
        np.testing.assert_allclose(p.array, np.asarray(x), rtol=1e-12, atol=1e-12)


def test_the_papers_form_and_optaxs_differ():
    task = Task(optim.SophiaH, 1)
    forms = [dict(), dict(bias_correction=True), dict(hessian_after=True)]
    found = [flat(p.array for p in task.ours(lr=0.01, rho=0.5, **form)[0]) for form in forms]
    for k in range(3):
        for j in range(k):
            assert np.abs(found[k] - found[j]).max() > 1e-3


# ------------------------------------------------------------------------------- it is the Hessian's diagonal


def small_model(seed=0):
    mg.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    model.to(mg.float64)
    x, y = mg.randn(6, 3, dtype=mg.float64), mg.tensor([0, 1, 2, 2, 1, 0])
    return model, x, y


def function_of(model, x):
    """The logits as a function of the parameters."""

    def logits(w1, b1, w2, b2):
        return F.linear(F.linear(x, w1, b1).tanh(), w2, b2)

    return logits, tuple(p.detach() for p in model.parameters())


def test_the_mean_of_hutchinsons_estimate_is_the_exact_diagonal():
    model, x, y = small_model()
    logits, values = function_of(model, x)
    blocks = hessian(lambda *w: F.cross_entropy(logits(*w), y), values)
    exact = flat([np.diag(blocks[k][k].array.reshape(v.numel(), -1)) for k, v in enumerate(values)])
    optimizer = optim.SophiaH(model.parameters(), betas=(0.0, 0.0), update_interval=1, lr=0.0)
    draws = []
    for _ in range(800):

        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
        draws.append(flat(np.asarray(optimizer.state[p]["hessian"]) for p in model.parameters()))
    draws = np.array(draws)
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    assert np.abs(exact).max() > 0.01 and error.max() < np.abs(exact).max() / 5
    assert (np.abs(draws.mean(0) - exact) <= 4.5 * error + 1e-12).all()
    g = flat(p.grad.array for p in model.parameters())
    assert (np.abs(g**2 - exact) > 4.5 * error + 1e-12).mean() > 0.5  # the square of the gradient is not it


def gauss_newton_diagonal(model, x):
    """diag of the mean over examples of J^T (diag(q) - q q^T) J, q the softmax."""
    logits, values = function_of(model, x)
    q = F.softmax(model(x), 1).detach().array
    found = []
    for j in jacobian(logits, values):
        j = j.array.reshape(*q.shape, -1)  # (B, C, parameters)
        mean = np.einsum("bc,bcp->bp", q, j)
        found.append((np.einsum("bc,bcp->bp", q, j**2) - mean**2).mean(0))
    return np.concatenate(found)


def test_the_mean_of_the_gauss_newton_bartlett_estimate_is_the_exact_diagonal_and_true_labels_are_not():
    model, x, y = small_model()
    exact = gauss_newton_diagonal(model, x)
    batch = len(x)
    optimizer = optim.SophiaG(
        model.parameters(), betas=(0.0, 0.0), lr=0.0, bs=batch, update_interval=1,
        sampled_loss=lambda: F.cross_entropy(logits := model(x), optim.sample_labels(logits)),
    )  # fmt: skip
    draws = []
    for _ in range(1500):

        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
        draws.append(batch * flat(np.asarray(optimizer.state[p]["hessian"]) for p in model.parameters()))
    draws = np.array(draws)
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - exact) <= 4.5 * error + 1e-12).all()
    true = batch * flat(p.grad.array for p in model.parameters()) ** 2
    assert (np.abs(true - exact) > 4.5 * error).mean() > 0.5


def test_signs_are_fair_independent_and_follow_the_seed():
    p = nn.Parameter(mg.zeros(40000))
    optimizer = optim.SophiaH([p])
    mg.manual_seed(3)
    one, two = optimizer.directions(p.arena), optimizer.directions(p.arena)
    assert set(np.unique(one)) == {-1, 1}
    n = one.size
    assert abs(one.mean()) < 4.5 / n**0.5 and abs((one * two).mean()) < 4.5 / n**0.5
    assert abs((one[1:] * one[:-1]).mean()) < 4.5 / n**0.5
    mg.manual_seed(3)
    with kernels.use("numpy"):
        assert (optimizer.directions(p.arena) == one).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sampled_labels_have_the_probabilities_of_the_softmax(dtype):
    mg.manual_seed(0)
    logits = mg.tensor([2.0, -1.0, 0.0, 0.5, -30.0], dtype=dtype)
    labels = optim.sample_labels(logits.expand(3, 7001, 5))
    assert labels.shape == (3, 7001) and labels.dtype == mg.int64
    n, q = labels.numel(), F.softmax(logits.to(mg.float64), 0).numpy()
    counts = np.bincount(labels.numpy().ravel(), minlength=5)
    assert (np.abs(counts - n * q) <= 4.5 * np.sqrt(n * q * (1 - q)) + 1e-3).all()
    assert not (labels[0] == labels[1]).all()


def test_sampled_labels_need_floating_logits():
    with pytest.raises(TypeError, match=r"sample_labels: logits are int64\[3\]; they are a floating Tensor"):
        optim.sample_labels(mg.tensor([1, 2, 3]))
