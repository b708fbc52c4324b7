"""Curvature products against matrices: by minigrad's jacobian, by torch, by NumPy from the definition."""

import gc

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import nn
from minigrad.curvature import Fisher, GaussNewton, Hessian, Jacobian, loss_hessian_root, refuse, residual
from minigrad.derivatives import hessian, jacobian
from minigrad.labels import sample_labels, sample_values
from minigrad.nn import functional as F
from minigrad.taps import tapped

LOSSES = ("cross_entropy", "mse")


class Problem:
    """A small net 3-4-3 on 6 examples, in float64; `targets` for either loss."""

    def __init__(self, loss="cross_entropy"):
        mg.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to(mg.float64)
        self.params = list(self.net.parameters())
        self.x, self.name = mg.randn(6, 3, dtype=mg.float64), loss
        self.targets = mg.tensor([0, 1, 2, 2, 1, 0])
        if loss == "mse":
            self.targets = mg.randn(6, 3, dtype=mg.float64)

    def outputs(self):
        return self.net(self.x)

    def loss_of(self, z):
        return F.mse_loss(z, self.targets) if self.name == "mse" else F.cross_entropy(z, self.targets)

    def loss(self):
        return self.loss_of(self.outputs())

    def function(self, w1, b1, w2, b2):
        return F.linear(F.linear(self.x, w1, b1).tanh(), w2, b2)

    def jacobian(self):
        """(N, C, n), by a backward pass an element."""
        blocks = jacobian(self.function, tuple(p.detach() for p in self.params))
        return np.concatenate([b.array.reshape(6, 3, -1) for b in blocks], axis=2)

    def loss_hessian(self):
        """(N, C, C), of the mean loss by each row's outputs."""
        if self.name == "mse":
            return np.tile(np.eye(3) * 2 / 18, (6, 1, 1))
        p = F.softmax(self.outputs(), 1).detach().array
        return (np.eye(3) * p[:, None] - p[:, :, None] * p[:, None, :]) / 6

    def residual(self):
        if self.name == "mse":
            return 2 / 18 * (self.outputs().detach().array - self.targets.array)
        return (F.softmax(self.outputs(), 1).detach().array - np.eye(3)[self.targets.array]) / 6


def joined(blocks, values):
    """Blocks (*shape, *shape) as one matrix."""
    sizes = [v.numel() for v in values]
    rows = zip(blocks, sizes, strict=True)
    return np.block([[np.reshape(b, (n, m)) for b, m in zip(r, sizes, strict=True)] for r, n in rows])


def vector(params, seed=0):
    rng = np.random.default_rng(seed)
    return [mg.tensor(rng.normal(size=p.shape)) for p in params]


def flat(tensors):
    return np.concatenate([t.array.reshape(-1) for t in tensors])


@pytest.mark.parametrize("loss", LOSSES)
def test_j_v_and_j_transposed_u_are_those_of_the_matrix(loss):
    problem = Problem(loss)
    j = Jacobian(problem.outputs(), problem.params)
    v, u = vector(problem.params), mg.randn(6, 3, dtype=mg.float64)
    whole = problem.jacobian()
    np.testing.assert_allclose(j.push(v).array, whole @ flat(v), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        flat(j.pull(u)), np.einsum("ncp,nc->p", whole, u.array), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_gauss_newton_is_j_transposed_h_j(loss):
    problem = Problem(loss)
    j = problem.jacobian()
    exact = np.einsum("ncp,ncd,ndq->pq", j, problem.loss_hessian(), j)
    product = GaussNewton(problem.outputs(), problem.params, loss)
    np.testing.assert_allclose(product.matrix(), exact, rtol=1e-11, atol=1e-15)
    v = vector(problem.params)
    np.testing.assert_allclose(flat(product(v)), exact @ flat(v), rtol=1e-11, atol=1e-14)
    product.damping = 0.3
    np.testing.assert_allclose(flat(product(v)), exact @ flat(v) + 0.3 * flat(v), rtol=1e-11)
    assert product.products == len(exact) + 2


@pytest.mark.parametrize("loss", LOSSES)
def test_the_hessian_is_that_of_derivatives_and_symmetric(loss):
    problem = Problem(loss)
    values = tuple(p.detach() for p in problem.params)
    blocks = hessian(lambda *w: problem.loss_of(problem.function(*w)), values)
    whole = joined([[b.array for b in row] for row in blocks], values)
    found = Hessian(problem.loss(), problem.params).matrix()
    np.testing.assert_allclose(found, whole, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found, found.T, rtol=1e-10, atol=1e-14)


@pytest.mark.oracle
@pytest.mark.parametrize("loss", LOSSES)
def test_hessian_and_gauss_newton_are_torchs(loss):
    torch, functional = oracle("torch"), oracle("torch.nn.functional")
    derivatives = oracle("torch.autograd.functional")
    problem = Problem(loss)
    weights = tuple(torch.tensor(p.array) for p in problem.params)
    x, y = torch.tensor(problem.x.array), torch.tensor(problem.targets.array)
    theirs = functional.mse_loss if loss == "mse" else functional.cross_entropy

    def net(w1, b1, w2, b2):
        return functional.linear(functional.linear(x, w1, b1).tanh(), w2, b2)

    blocks = derivatives.hessian(lambda *w: theirs(net(*w), y), weights)
    exact = joined([[b.numpy() for b in row] for row in blocks], weights)
    found = Hessian(problem.loss(), problem.params).matrix()
    np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-13)
    j = np.concatenate([b.reshape(18, -1).numpy() for b in derivatives.jacobian(net, weights)], axis=1)
    h = derivatives.hessian(lambda z: theirs(z, y), net(*weights)).reshape(18, 18).numpy()
    found = GaussNewton(problem.outputs(), problem.params, loss).matrix()
    np.testing.assert_allclose(found, j.T @ h @ j, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_exact_fisher_is_gauss_newton_and_the_mean_of_sampled_ones(loss):
    problem = Problem(loss)
    outputs = problem.outputs()
    exact = Fisher(outputs, problem.params, loss).matrix()
    assert (exact == GaussNewton(outputs, problem.params, loss).matrix()).all()
    drawn = np.array([Fisher(outputs, problem.params, loss, kind="sampled").matrix() for _ in range(400)])
    error = drawn.std(0, ddof=1) / 20
    assert np.linalg.norm(error) < 0.15 * np.linalg.norm(exact)
    assert (np.abs(drawn.mean(0) - exact) <= 4.5 * error + 1e-12).mean() > 0.999


def test_the_expectation_over_all_labels_is_the_exact_fisher():
    problem = Problem()
    outputs = problem.outputs()
    q = F.softmax(outputs, 1).detach().array
    total = 0
    for c in range(3):  # rows do not mix, so each row's label can be taken by itself
        j = problem.jacobian()
        r = (q - np.eye(3)[[c] * 6]) / 6
        scores = np.einsum("ncp,nc->np", j, r) * 6
        total = total + np.einsum("n,np,nq->pq", q[:, c], scores, scores) / 6
    found = Fisher(outputs, problem.params).matrix()
    np.testing.assert_allclose(found, total, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_empirical_fisher_is_the_mean_of_outer_products_of_gradients_and_not_the_fisher(loss):
    problem = Problem(loss)
    scores = 6 * np.einsum("ncp,nc->np", problem.jacobian(), problem.residual())
    product = Fisher(problem.outputs(), problem.params, loss, kind="empirical", targets=problem.targets)
    found = product.matrix()
    np.testing.assert_allclose(found, scores.T @ scores / 6, rtol=1e-11, atol=1e-15)
    exact = Fisher(problem.outputs(), problem.params, loss).matrix()
    assert np.linalg.norm(found - exact) > 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_roots_of_the_losss_hessian_and_its_gradient(loss):
    problem = Problem(loss)
    z = problem.outputs().detach()
    s = np.stack([loss_hessian_root(z, k, loss).array for k in range(3)], axis=2)  # (N, C, k)
    np.testing.assert_allclose(s @ s.transpose(0, 2, 1), problem.loss_hessian(), rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(
        residual(z, problem.targets, loss).array, problem.residual(), rtol=1e-12, atol=1e-16
    )


def test_tokens_are_rows_too():
    mg.manual_seed(0)
    net, x = nn.Linear(4, 3).to(mg.float64), mg.randn(2, 5, 4, dtype=mg.float64)
    params = list(net.parameters())
    one = GaussNewton(net(x), params).matrix()
    two = GaussNewton(net(x.reshape(10, 4)), params).matrix()
    np.testing.assert_allclose(one, two, rtol=1e-13, atol=1e-17)


def test_convolutions_and_parameters_without_influence():
    mg.manual_seed(0)
    conv, head = nn.Conv2d(1, 2, 3).to(mg.float64), nn.Linear(18, 3).to(mg.float64)
    idle = nn.Parameter(mg.ones(2, dtype=mg.float64))
    x = mg.randn(4, 1, 5, 5, dtype=mg.float64)
    params = [*conv.parameters(), *head.parameters(), idle]

    def function(w, b, v, c):
        return F.linear(F.conv2d(x, w, b).relu().flatten(1), v, c)

    z = head(conv(x).relu().flatten(1))
    found = GaussNewton(z, params, damping=0.5).matrix()
    blocks = jacobian(function, tuple(p.detach() for p in params[:-1]))
    j = np.concatenate([b.array.reshape(4, 3, -1) for b in blocks], axis=2)
    p = F.softmax(z, 1).detach().array
    h = (np.eye(3) * p[:, None] - p[:, :, None] * p[:, None, :]) / 4
    exact = np.einsum("ncp,ncd,ndq->pq", j, h, j)
    np.testing.assert_allclose(found[:-2, :-2], exact + 0.5 * np.eye(len(exact)), rtol=1e-10, atol=1e-14)
    assert (found[-2:] == np.eye(len(found))[-2:] * 0.5).all()


def test_sampled_values_are_normal_about_the_outputs():
    z = mg.tensor([[1.0, -2.0]], dtype=mg.float64).expand(20000, 2)
    drawn = sample_values(z).array
    assert np.abs(drawn.mean(0) - [1, -2]).max() < 4.5 / np.sqrt(20000)
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(2), atol=0.05)  # C / 2 = 1
    assert sample_labels(z).dtype == mg.int64


def test_what_cannot_be_is_refused_by_name():
    problem = Problem()
    z, params = problem.outputs(), problem.params
    with pytest.raises(ValueError, match="loss='hinge'; it is one of 'cross_entropy', 'mse'"):
        GaussNewton(z, params, "hinge")
    with pytest.raises(ValueError, match="kind='true'; it is one of 'exact', 'sampled', 'empirical'"):
        Fisher(z, params, kind="true")
    with pytest.raises(ValueError, match="kind='empirical' is of the true labels; give targets="):
        Fisher(z, params, kind="empirical")
    with pytest.raises(ValueError, match="the outputs have no graph"):
        GaussNewton(z.detach(), params)
    with pytest.raises(ValueError, match="a loss of shape \\[6, 3\\]"):
        Hessian(z, params)
    with pytest.raises(ValueError, match="an empty list of parameters"):
        Hessian(problem.loss(), [])
    with pytest.raises(ValueError, match="damping=-1; it must be at least 0"):
        GaussNewton(z, params, damping=-1)
    with pytest.raises(ValueError, match="v has shapes"):
        GaussNewton(z, params)(vector(params)[:2])
    with pytest.raises(
        ValueError, match="matrix of 100,000 parameters would take 80,000,000,000 bytes, more"
    ):
        refuse("GaussNewton", 100_000, 8)


def test_products_leave_no_gradients_and_no_cycles():
    problem = Problem()
    gc.collect()
    gc.disable()
    try:
        product = GaussNewton(problem.outputs(), problem.params)
        product(vector(problem.params))
        counts = []
        for _ in range(4):
            product = GaussNewton(problem.outputs(), problem.params)
            product(vector(problem.params))
            counts.append(sum(type(o).__name__ == "Node" for o in gc.get_objects()))
    finally:
        gc.enable()
    assert len(set(counts)) == 1
    assert all(p.grad is None for p in problem.params)


# ---------------------------------------------------------------------------------------------------- taps


def test_layers_leave_taps_only_where_somebody_asks_and_only_for_parameters():
    mg.manual_seed(0)
    linear, conv, table = nn.Linear(4, 3), nn.Conv2d(2, 3, 3, padding=1, stride=2), nn.Embedding(7, 4)
    frozen = nn.Linear(4, 3).requires_grad_(False)
    x, images, numbers = mg.randn(2, 5, 4), mg.randn(2, 2, 6, 6), mg.tensor([[1, 2], [2, 6]])

    def forward():
        return [linear(x), conv(images), table(numbers), frozen(x), F.conv2d(images, conv.weight, None)]

    plain = forward()
    with tapped() as found:
        seen = forward()
        with mg.no_grad():
            forward()
    forward()
    assert [tap.weight for tap in found] == [linear.weight, conv.weight, table.weight, conv.weight]
    assert [tap.bias for tap in found] == [linear.bias, conv.bias, None, None]
    assert [tap.inputs().shape for tap in found] == [(10, 4), (18, 18), (4,), (32, 18)]
    for a, b in zip(plain, seen, strict=True):
        assert a.array.tobytes() == b.array.tobytes()
    for tap in found[:2]:
        weight = tap.weight.array.reshape(3, -1)
        expected = tap.inputs() @ weight.T + tap.bias.array
        np.testing.assert_allclose(tap.rows(tap.output.array), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid"])
def test_a_fused_activation_stands_behind_the_tap(activation):
    mg.manual_seed(0)
    w, b = nn.Parameter(mg.randn(3, 4)), nn.Parameter(mg.randn(3))
    x, r = mg.randn(5, 4), mg.randn(5, 3)
    fused = F.linear(x, w, b, activation=activation, residual=r)
    with tapped() as found:
        steps = F.linear(x, w, b, activation=activation, residual=r)
    np.testing.assert_allclose(steps.array, fused.array, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[0].output.array, F.linear(x, w, b).array)
    with tapped(), pytest.raises(ValueError, match="activation='selu'"):
        F.linear(x, w, b, activation="selu")
