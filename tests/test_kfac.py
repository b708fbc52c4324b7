"""K-FAC: its factors are the paper's, and with one layer and one example its Fisher is the exact one.

The questions of test_rules.py are asked here with the models and sampled losses that K-FAC needs.
"""

import numpy as np
import pytest
from oracle import oracle

import kernels
import minigrad as mg
from minigrad import nn, optim
from minigrad.curvature import GaussNewton
from minigrad.nn import functional as F
from models import MLP, SmallCNN

NO_LABELS = dict(fisher="exact", momentum=0.0, kl_clip=None)


def batch(model, x, y, **options):
    """A K-FAC over a model, and the closure of one batch, with both functions that it may ask for."""
    options = dict(lr=0.1) | options
    optimizer = optim.KFAC(model.named_parameters(), **options)
    optimizer.outputs = lambda: model(x)
    optimizer.sampled_loss = lambda: F.cross_entropy(z := model(x), optim.sample_labels(z))

    def closure():
        optimizer.zero_grad()
        z = model(x)
        loss = F.mse_loss(z, y) if options.get("loss") == "mse" else F.cross_entropy(z, y)
        loss.backward()
        return loss

    return optimizer, closure


def data(n, *shape, classes=3, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return mg.tensor(rng.normal(size=(n, *shape)), dtype=dtype), mg.tensor(rng.integers(classes, size=n))


def factors(optimizer, weight):
    state = optimizer.state[weight]
    inner = "row" if "row_factor" in state else "input"
    names = (f"{inner}_factor", "output_factor", f"{inner}_inverse", "output_inverse")
    return [np.asarray(state[n].array) for n in names]


def kronecker(optimizer, layer):
    """A (x) B in the order [weight, bias] of the parameters."""
    a, b = factors(optimizer, layer.weight)[:2]
    n, m = len(a), len(b)
    whole = np.kron(b, a)
    order = [o * n + i for o in range(m) for i in range(layer.weight.shape[1])]
    order += [o * n + n - 1 for o in range(m)] if layer.bias is not None else []
    return whole[np.ix_(order, order)]


def inverse(m, damping):
    return np.linalg.inv(m + damping * np.eye(len(m)))


def direction(a, b, g, damping):
    """(B + sqrt(damping)/pi I)^-1 g (A + pi sqrt(damping) I)^-1    [Martens & Grosse 2015, section 6.3]"""
    pi = np.sqrt((np.trace(a) / len(a)) / (np.trace(b) / len(b)))
    return inverse(b, np.sqrt(damping) / pi) @ g @ inverse(a, pi * np.sqrt(damping))


# --------------------------------------------------------------------------------------- is it the Fisher?


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_one_linear_layer_and_one_example_are_the_gauss_newton_matrix_exactly(loss, bias):
    mg.manual_seed(0)
    layer, (x, y) = nn.Linear(4, 3, bias=bias).to(mg.float64), data(1, 4)
    y = mg.randn(1, 3, dtype=mg.float64) if loss == "mse" else y
    optimizer, closure = batch(layer, x, y, loss=loss, lr=0.0, **NO_LABELS)
    optimizer.step(closure)
    exact = GaussNewton(layer(x), list(layer.parameters()), loss).matrix()
    assert np.abs(exact).max() > 0.01
    np.testing.assert_allclose(kronecker(optimizer, layer), exact, rtol=0, atol=1e-15)


def test_with_eight_examples_a_gap_is_left_that_a_constant_hessian_of_the_loss_closes():
    gaps = {}
    for loss in ("cross_entropy", "mse"):
        mg.manual_seed(0)
        layer, (x, y) = nn.Linear(4, 3).to(mg.float64), data(8, 4)
        y = mg.randn(8, 3, dtype=mg.float64) if loss == "mse" else y
        optimizer, closure = batch(layer, x, y, loss=loss, lr=0.0, **NO_LABELS)
        optimizer.step(closure)
        exact = GaussNewton(layer(x), list(layer.parameters()), loss).matrix()
        gaps[loss] = np.linalg.norm(kronecker(optimizer, layer) - exact) / np.linalg.norm(exact)
    assert 0.05 < gaps["cross_entropy"] < 0.5  # an expectation of products is not a product of expectations
    assert gaps["mse"] < 1e-14


def test_the_factors_of_a_hidden_layer_are_the_definitions():
    mg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(mg.float64)
    x, y = data(6, 4)
    optimizer, closure = batch(model, x, y, lr=0.0, **NO_LABELS)
    optimizer.step(closure)
    w, v = model[0].weight.array, model[2].weight.array
    h = np.tanh(x.array @ w.T + model[0].bias.array)
    p = F.softmax(model(x), 1).detach().array
    inputs = np.hstack([x.array, np.ones((6, 1))])
    hidden = np.hstack([h, np.ones((6, 1))])
    scores = [(np.eye(3)[c] - p, p[:, c]) for c in range(3)]  # of label c, and its probability
    upper = sum((s * q[:, None]).T @ s for s, q in scores) / 6
    lower = 0
    for s, q in scores:
        g = (s @ v) * (1 - h**2)
        lower = lower + (g * q[:, None]).T @ g / 6
    for layer, a, b in ((model[0], inputs, lower), (model[2], hidden, upper)):
        found = factors(optimizer, layer.weight)
        np.testing.assert_allclose(found[0], a.T @ a / 6, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(found[1], b, rtol=1e-11, atol=1e-15)


def test_sampled_labels_give_the_exact_factor_on_average_and_true_labels_another():
    mg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(mg.float64)
    x, y = data(6, 4)

    def outer(**options):
        optimizer, closure = batch(model, x, y, lr=0.0, **options)
        optimizer.step(closure)
        return factors(optimizer, model[0].weight)[1]

    exact, empirical = outer(fisher="exact"), outer(fisher="empirical")
    drawn = np.array([outer() for _ in range(400)])
    error = drawn.std(0, ddof=1) / 20
    assert (np.abs(drawn.mean(0) - exact) <= 4.5 * error).all()
    assert (np.abs(empirical - exact) > 4.5 * error).mean() > 0.5
    p = F.softmax(model(x), 1).detach().array - np.eye(3)[y.array]
    h = np.tanh(x.array @ model[0].weight.array.T + model[0].bias.array)
    g = (p @ model[2].weight.array) * (1 - h**2)
    np.testing.assert_allclose(empirical, g.T @ g / 6, rtol=1e-12)


def test_the_bias_is_a_homogeneous_coordinate_of_the_inputs():
    mg.manual_seed(0)
    layer, (x, y) = nn.Linear(4, 3).to(mg.float64), data(6, 4)
    optimizer, closure = batch(layer, x, y, lr=0.0, **NO_LABELS)
    optimizer.step(closure)
    a = factors(optimizer, layer.weight)[0]
    assert a.shape == (5, 5) and a[-1, -1] == 1
    np.testing.assert_allclose(a[-1, :-1], x.array.mean(0), rtol=1e-13)
    assert "input_factor" not in optimizer.state[layer.bias] and "fisher" not in optimizer.state[layer.bias]
    bare = nn.Linear(4, 3, bias=False).to(mg.float64)
    optimizer, closure = batch(bare, x, y, lr=0.0, **NO_LABELS)
    optimizer.step(closure)
    assert factors(optimizer, bare.weight)[0].shape == (4, 4)


@pytest.mark.parametrize(
    "options", [dict(), dict(stride=2, padding=1), dict(dilation=2, padding=(1, 2)), dict(bias=False)]
)
@pytest.mark.oracle
def test_a_convolutions_inputs_are_what_its_windows_see(options):
    torch = oracle("torch")
    mg.manual_seed(0)
    conv = nn.Conv2d(2, 3, (3, 2), **options).to(mg.float64)
    model = (
        nn.Sequential(conv, nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)) if hasattr(nn, "LazyLinear") else None
    )
    x, y = data(4, 2, 7, 6)
    width = conv(x)[0].numel()
    model = nn.Sequential(conv, nn.Tanh(), nn.Flatten(), nn.Linear(width, 3).to(mg.float64))
    optimizer, closure = batch(model, x, y, lr=0.0, fisher="empirical", momentum=0.0, kl_clip=None)
    optimizer.step(closure)
    a, b = factors(optimizer, conv.weight)[:2]
    geometry = dict(stride=1, padding=0, dilation=1) | {k: v for k, v in options.items() if k != "bias"}
    columns = torch.nn.functional.unfold(torch.tensor(x.array), (3, 2), **geometry).numpy()  # (N, 12, L)
    rows = columns.transpose(0, 2, 1).reshape(-1, 12)
    rows = np.hstack([rows, np.ones((len(rows), 1))]) if conv.bias is not None else rows
    np.testing.assert_allclose(a, rows.T @ rows / len(rows), rtol=1e-12, atol=1e-15)
    s = conv(x).detach().requires_grad_()
    (g,) = mg.autograd.grad(F.cross_entropy(model[3](s.tanh().flatten(1)), y), [s])
    g = g.array.transpose(0, 2, 3, 1).reshape(-1, 3)  # (N L, out), of the mean loss
    np.testing.assert_allclose(b, 4 * g.T @ g, rtol=1e-11, atol=1e-16)
    gradient = conv.weight.grad.array.reshape(3, 12)  # and in this order the gradient is their product
    np.testing.assert_allclose((g.T @ rows)[:, :12], gradient, rtol=1e-11, atol=1e-15)


def test_a_convolution_whose_window_is_the_image_is_a_linear_layer():
    mg.manual_seed(0)
    conv = nn.Conv2d(2, 3, (4, 5)).to(mg.float64)
    linear = nn.Linear(40, 3).to(mg.float64)
    linear.load_state_dict({"weight": conv.weight.reshape(3, 40), "bias": conv.bias})
    x, y = data(6, 2, 4, 5)
    made = []
    for model, inputs in ((nn.Sequential(conv, nn.Flatten()), x), (linear, x.flatten(1))):
        optimizer, closure = batch(model, inputs, y, fisher="exact", damping=0.05)
        for _ in range(5):
            optimizer.step(closure)
        made.append(np.concatenate([p.array.reshape(-1) for p in model.parameters()]))
    np.testing.assert_allclose(made[0], made[1], rtol=1e-11, atol=1e-13)


def test_an_embeddings_factor_is_how_often_each_row_was_looked_up_and_it_is_a_linear_layer_of_unit_vectors():
    mg.manual_seed(0)
    table = nn.Embedding(7, 4).to(mg.float64)
    head = nn.Linear(4, 3).to(mg.float64)
    linear = nn.Linear(7, 4, bias=False).to(mg.float64)
    linear.load_state_dict({"weight": table.weight.mT})
    other = nn.Linear(4, 3).to(mg.float64)
    other.load_state_dict(head.state_dict())
    numbers, y = mg.tensor([1, 5, 1, 1, 6, 2]), data(6, 1)[1]
    hot = mg.tensor(np.eye(7)[numbers.array])
    one, first = batch(nn.Sequential(table, head), numbers, y, fisher="exact", damping=0.05)
    two, second = batch(nn.Sequential(linear, other), hot, y, fisher="exact", damping=0.05)
    for _ in range(5):
        one.step(first)
        two.step(second)
    a, b, *_ = factors(one, table.weight)
    assert a.shape == (7,) and b.shape == (4, 4)
    np.testing.assert_allclose(a, np.array([0, 3, 1, 0, 0, 1, 1]) / 6, rtol=1e-12)
    np.testing.assert_allclose(np.diag(a), factors(two, linear.weight)[0], rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(table.weight.array, linear.weight.array.T, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(head.weight.array, other.weight.array, rtol=1e-10, atol=1e-12)


def test_the_padding_row_of_an_embedding_is_nobodys():
    mg.manual_seed(0)
    table, head = nn.Embedding(5, 4, padding_idx=2).to(mg.float64), nn.Linear(4, 3).to(mg.float64)
    numbers, y = mg.tensor([2, 1, 2, 4]), data(4, 1)[1]
    optimizer, closure = batch(nn.Sequential(table, head), numbers, y, fisher="empirical", lr=0.0)
    optimizer.step(closure)
    a, b, *_ = factors(optimizer, table.weight)
    np.testing.assert_allclose(a, [0, 0.25, 0, 0, 0.25])
    z = table(numbers).detach().requires_grad_()
    (g,) = mg.autograd.grad(F.cross_entropy(head(z), y), [z])
    used = g.array[[1, 3]]
    np.testing.assert_allclose(b, 4 * used.T @ used, rtol=1e-11, atol=1e-16)
    assert not table.weight.array[2].any()


# ------------------------------------------------------------------------------------------------ the step


def reference(w, c, x, y, steps, lr, damping, momentum, weight_decay, kl_clip, every, refresh, decoupled):
    """K-FAC of one linear layer with the exact Fisher, in NumPy, from the paper."""
    whole = np.hstack([w, c[:, None]])
    rows = np.hstack([x, np.ones((len(x), 1))])
    m, a, b, k = np.zeros_like(whole), 0, 0, 0
    for t in range(steps):
        z = rows @ whole.T
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        g = (p - np.eye(3)[y]).T @ rows / len(x)
        if t < 3 or t % every == 0:
            k += 1
            e = min(1 - 1 / k, 0.95)
            a = e * a + (1 - e) * rows.T @ rows / len(x)
            b = e * b + (1 - e) * (np.diag(p.mean(0)) - p.T @ p / len(x))
        if t < 3 or t % refresh == 0:
            kept = a, b
        penalized = g if decoupled else g + weight_decay * whole
        d = direction(*kept, penalized, damping)
        nu = 1.0 if kl_clip is None else min(1.0, np.sqrt(kl_clip / abs(lr**2 * (d * g).sum())))
        m = momentum * m + nu * d
        whole = whole * (1 - lr * weight_decay * decoupled) - lr * m
    return whole


@pytest.mark.parametrize(
    "options",
    [
        dict(momentum=0.0, kl_clip=None),
        dict(),
        dict(kl_clip=1e-5),
        dict(weight_decay=0.1),
        dict(weight_decay=0.1, decoupled_weight_decay=True),
        dict(factor_interval=2, inverse_interval=5, damping=1e-4),
        dict(factor_interval=4, inverse_interval=1),
    ],
)
def test_12_steps_are_the_papers_on_both_machines(options):
    made = []
    for machine in ("compiled", "numpy"):
        with kernels.use(machine):
            mg.manual_seed(0)
            layer, (x, y) = nn.Linear(4, 3).to(mg.float64), data(8, 4)
            start = layer.weight.array.copy(), layer.bias.array.copy()
            optimizer, closure = batch(layer, x, y, fisher="exact", **options)
            for _ in range(12):
                optimizer.step(closure)
            made.append(np.hstack([layer.weight.array, layer.bias.array[:, None]]))
    group = optimizer.param_groups[0]
    names = ("lr", "damping", "momentum", "weight_decay", "kl_clip")
    expected = reference(
        *start, x.array, y.array, 12, *(group[n] for n in names), group["factor_interval"],
        group["inverse_interval"], group["decoupled_weight_decay"],
    )  # fmt: skip
    for found in made:
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def test_factors_and_inverses_are_renewed_at_their_steps_and_at_no_other():
    mg.manual_seed(0)
    layer, (x, y) = nn.Linear(4, 3).to(mg.float64), data(8, 4)
    optimizer, closure = batch(layer, x, y, factor_interval=3, inverse_interval=4)
    calls = []
    sampled = optimizer.sampled_loss
    optimizer.sampled_loss = lambda: calls.append(optimizer.taken()) or sampled()
    changed = {"output_factor": [], "output_inverse": []}
    before = {}
    for t in range(14):
        optimizer.step(closure)
        for name, steps in changed.items():
            now = optimizer.state[layer.weight][name].array.tobytes()
            steps += [t] if before.get(name) != now else []
            before[name] = now
    assert calls == changed["output_factor"] == [0, 1, 2, 3, 6, 9, 12]
    assert changed["output_inverse"] == [0, 1, 2, 4, 8, 12]


def test_damping_is_shared_by_pi():
    mg.manual_seed(0)
    layer, (x, y) = nn.Linear(4, 3).to(mg.float64), data(8, 4)
    optimizer, closure = batch(layer, x * 30, y, damping=0.2, fisher="exact")
    optimizer.step(closure)
    a, b, a_inverse, b_inverse = factors(optimizer, layer.weight)
    pi = np.sqrt(np.trace(a) / 5 / (np.trace(b) / 3))
    np.testing.assert_allclose(a_inverse, inverse(a, pi * np.sqrt(0.2)), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(b_inverse, inverse(b, np.sqrt(0.2) / pi), rtol=1e-10, atol=1e-14)
    assert pi > 30
    shares = pi * np.sqrt(0.2) / (np.trace(a) / 5), np.sqrt(0.2) / pi / (np.trace(b) / 3)
    np.testing.assert_allclose(*shares, rtol=1e-12)


def test_what_is_no_layer_has_the_diagonal_of_its_fisher():
    mg.manual_seed(0)
    norm, grouped = nn.LayerNorm(6).to(mg.float64), nn.Conv2d(2, 2, 3, groups=2).to(mg.float64)
    head = nn.Linear(6, 3).to(mg.float64)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.grouped, self.norm, self.head = grouped, norm, head

        def forward(self, x):
            return self.head(self.norm(self.grouped(x).flatten(1)))

    model = Model()
    x, y = data(5, 2, 3, 5)
    optimizer, closure = batch(model, x, y, lr=0.1, momentum=0.0, kl_clip=None, damping=0.01)
    labels = mg.tensor([0, 2, 1, 1, 0])
    optimizer.sampled_loss = lambda: F.cross_entropy(model(x), labels)
    params = list(model.parameters())
    start = [p.array.copy() for p in params]
    drawn = mg.autograd.grad(F.cross_entropy(model(x), labels), params)
    optimizer.step(closure)
    rest = {grouped.weight, grouped.bias, norm.weight, norm.bias}
    assert {p for p in params if "fisher" in optimizer.state[p]} == rest
    for p, g, old in zip(params, drawn, start, strict=True):
        if p in rest:
            fisher = 5 * g.array**2
            np.testing.assert_allclose(optimizer.state[p]["fisher"].array, fisher, rtol=1e-12)
            np.testing.assert_allclose(p.array, old - 0.1 * p.grad.array / (fisher + 0.01), rtol=1e-11)


def test_a_table_that_is_a_head_as_well_is_no_layer_and_large_factors_are_diagonals():
    mg.manual_seed(0)
    table, lower = nn.Embedding(5, 4), nn.Linear(4, 4)

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.lower = table, lower

        def forward(self, numbers):
            return F.linear(self.lower(self.table(numbers)).tanh(), self.table.weight)

    model, numbers, y = Tied(), mg.tensor([0, 3, 1]), mg.tensor([3, 1, 4])
    optimizer, closure = batch(model, numbers, y, max_size=4)
    for _ in range(3):
        optimizer.step(closure)
    assert "fisher" in optimizer.state[table.weight]
    assert [f.shape for f in factors(optimizer, lower.weight)] == [(5,), (4, 4), (5,), (4, 4)]
    assert all(np.isfinite(p.array).all() for p in model.parameters())


def test_a_weight_used_twice_has_the_rows_of_both_uses():
    mg.manual_seed(0)
    layer, (x, y) = nn.Linear(3, 3).to(mg.float64), data(4, 3)
    optimizer, closure = batch(nn.Sequential(layer, nn.Tanh(), layer), x, y, fisher="empirical", lr=0.0)
    optimizer.step(closure)
    h = np.tanh(x.array @ layer.weight.array.T + layer.bias.array)
    rows = np.hstack([np.vstack([x.array, h]), np.ones((8, 1))])
    np.testing.assert_allclose(factors(optimizer, layer.weight)[0], rows.T @ rows / 8, rtol=1e-12)
    assert optimizer.layers[layer.weight].bias is layer.bias


def test_models_that_fuse_their_activations_are_seen():
    mg.manual_seed(0)
    for model, shape in ((MLP([4, 5, 3]), (4,)), (SmallCNN(1, 8, 3, (2, 3)), (1, 8, 8))):
        x, y = data(6, *shape, dtype="float32")
        optimizer, closure = batch(model, x, y)
        first = float(optimizer.step(closure))
        for _ in range(30):
            loss = optimizer.step(closure)
        assert optimizer.rest == set() and float(loss) < first / 3


def test_one_step_without_damping_or_limits_solves_a_linear_regression():
    """With a constant Hessian of the loss K-FAC of one layer is Newton's method."""
    rng = np.random.default_rng(0)
    layer = nn.Linear(4, 3).to(mg.float64)
    x = mg.tensor(rng.normal(size=(20, 4)))
    y = mg.tensor(rng.normal(size=(20, 3)))
    optimizer, closure = batch(layer, x, y, loss="mse", lr=1.0, damping=1e-14, **NO_LABELS)
    optimizer.step(closure)
    rows = np.hstack([x.array, np.ones((20, 1))])
    best = np.linalg.lstsq(rows, y.array, rcond=None)[0].T
    found = np.hstack([layer.weight.array, layer.bias.array[:, None]])
    np.testing.assert_allclose(found, best, rtol=1e-5, atol=1e-6)
