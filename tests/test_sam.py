"""SAM: the gradient of the worst point nearby, from which everything comes back."""

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import kernels
import minigrad as mg
from minigrad import amp, nn, optim, statistics
from minigrad.nn import functional as F

SHAPES = ((4, 3), (), (5,), (0,))


def starting(seed=0, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=s)) for s in shapes]


def slopes(ps, t):
    """The gradient of sum of p^4 / 4 + sin(3 p + t) over all parameters, by hand."""
    return [p**3 + 3 * np.cos(3 * p + t) for p in ps]


def closure_of(ps, optimizer, t):
    def closure():
        optimizer.zero_grad()
        loss = sum((p**4 / 4 + (3 * p + float(t)).sin()).sum() for p in ps)
        loss.backward()
        return loss

    return closure


def norm(gs):
    return np.sqrt(sum((g**2).sum() for g in gs))


def sam(ps, steps, lr=0.05, momentum=0.0, rho=0.05, adaptive=False):
    """[Foret et al. 2021, Algorithm 1; Kwon et al. 2021, eq. 10] around SGD with momentum."""
    m = [0 * p for p in ps]
    for t in range(steps):
        g = slopes(ps, t)
        scaled = [np.abs(p) * x for p, x in zip(ps, g)] if adaptive else g
        e = [rho * (p**2 if adaptive else 1) * x / norm(scaled) for p, x in zip(ps, g)]
        worse = slopes([p + x for p, x in zip(ps, e)], t)
        m = [momentum * b + x for b, x in zip(m, worse)]
        ps = [p - lr * b for p, b in zip(ps, m)]
    return ps


def ours(steps, rho=0.05, adaptive=False, momentum=0.0, start=None, dtype="float64"):
    ps = [nn.Parameter(mg.tensor(v, dtype=dtype)) for v in (starting() if start is None else start)]
    optimizer = optim.SAM(optim.SGD(ps, lr=0.05, momentum=momentum), rho, adaptive)
    for t in range(steps):
        optimizer.step(closure_of(ps, optimizer, t))
    return [p.array for p in ps]


def close(xs, ys, tolerance=1e-12):
    for x, y in zip(xs, ys, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("machine", ["compiled", "numpy"])
@pytest.mark.parametrize(
    "options", [dict(), dict(rho=0.5, momentum=0.9), dict(adaptive=True, rho=0.7)], ids=str
)
def test_60_steps_are_the_papers(options, machine):
    with kernels.use(machine):
        close(ours(60, **options), sam(starting(), 60, **options))


@pytest.mark.oracle
def test_it_is_optaxs():
    jax, optax = oracle("jax"), oracle("optax")
    with jax.enable_x64(True):
        np_ = jax.numpy
        away = optax.chain(optax.contrib.normalize(), optax.sgd(0.2))
        rule = optax.contrib.sam(optax.sgd(0.05, 0.9), away, sync_period=2, opaque_mode=True)
        ps = [np_.asarray(p) for p in starting()]
        state = rule.init(ps)
        for t in range(60):

            def grad(ps, _=None, t=t):
                return [p**3 + 3 * np_.cos(3 * p + t) for p in ps]

            updates, state = rule.update(grad(ps), state, ps, grad_fn=grad)
            ps = optax.apply_updates(ps, updates)
        close(ours(60, rho=0.2, momentum=0.9), ps)


@pytest.mark.oracle
@pytest.mark.parametrize("adaptive", [False, True])
def test_it_is_pytorch_optimizers(adaptive, monkeypatch):
    """With its norm, which it rounds to float32 for any parameters, taken in float64."""
    torch, lib = oracle("torch"), oracle("pytorch_optimizer")

    def in_float64(groups, weight_adaptive):
        ps = [p for group in groups for p in group["params"]]
        ds = [p.grad * p.abs() if adaptive else p.grad for p in ps]
        return sum((d**2).sum() for d in ds).reshape(1)

    monkeypatch.setattr("pytorch_optimizer.optimizer.sam.get_global_gradient_norm", in_float64)
    ps = [torch.nn.Parameter(torch.tensor(v)) for v in starting()]
    other = lib.SAM(ps, torch.optim.SGD, rho=0.2, adaptive=adaptive, lr=0.05, momentum=0.9, perturb_eps=0.0)
    for t in range(60):

        def closure(t=t):
            other.zero_grad()
            loss = sum((p**4 / 4 + (3 * p + t).sin()).sum() for p in ps)
            loss.backward()
            return loss

        closure()
        other.step(closure)
    close(ours(60, rho=0.2, adaptive=adaptive, momentum=0.9), [p.detach().numpy() for p in ps])


def test_the_parameters_come_back_to_the_very_bits():
    """p + e - e would not; nor would -0.0. With lr 0 a step changes nothing, and shows where it was."""
    ps = [nn.Parameter(mg.tensor(v, dtype="float32")) for v in ([1e8, -0.0, 0.1], [[3e-5]])]
    optimizer = optim.SAM(optim.SGD(ps, lr=0.0), rho=0.3)
    start, seen = [p.array.tobytes() for p in ps], []

    def closure():
        seen.append([p.array.copy() for p in ps])
        optimizer.zero_grad()
        sum((p * mg.tensor(2.0)).sum() for p in ps).backward()

    optimizer.step(closure)
    assert [p.array.tobytes() for p in ps] == start
    first, second = (np.concatenate([a.ravel() for a in s]).astype("float64") for s in seen)
    np.testing.assert_allclose((second - first)[1:], 0.3 / 2, rtol=1e-6)  # four equal slopes


def test_an_error_in_the_second_pass_leaves_the_parameters_where_they_were():
    (p,) = [nn.Parameter(mg.ones(3))]
    optimizer, calls = optim.SAM(optim.SGD([p], lr=0.1)), []

    def closure():
        calls.append(None)
        if len(calls) == 2:
            raise KeyError("lost")
        (p**2).sum().backward()

    with pytest.raises(KeyError, match="lost"):
        optimizer.step(closure)
    assert p.tolist() == [1.0] * 3 and not statistics.held() and optimizer.steps[p] == 0


def test_the_loss_is_the_first_passs_and_gradients_do_not_add_up():
    """A closure that forgets zero_grad gets the gradient of the second pass all the same."""
    (p,) = [nn.Parameter(mg.tensor([2.0], dtype="float64"))]
    optimizer = optim.SAM(optim.SGD([p], lr=0.1), rho=0.5)

    def closure():
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    assert p.item() == pytest.approx(2 - 0.1 * 2 * 2.5, rel=1e-14)


# ---------------------------------------------------------------------------- batch norm, dropout, half types


def conv_net():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 8),
        nn.BatchNorm1d(8, momentum=None),
        nn.Dropout(0.5),
        nn.Linear(8, 3),
    )


def test_running_statistics_change_once_a_step():
    """davda54/sam#17: every statistic is that of the first pass alone."""
    mg.manual_seed(0)
    model, x = conv_net(), mg.randn(6, 2, 6, 6)
    twin = conv_net()
    twin.load_state_dict(model.state_dict())
    optimizer = optim.SAM(optim.SGD(model.parameters(), lr=0.0), rho=0.5)
    y = mg.tensor([0, 1, 2, 0, 1, 2])

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for step in range(3):
        optimizer.step(closure)
        twin(x)
        for (name, a), (_, b) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
            assert a.array.tobytes() == b.array.tobytes(), name
        assert model[1].num_batches_tracked.item() == step + 1


def test_held_statistics_stay_and_the_batch_still_normalizes():
    x = mg.randn(8, 3)
    layer, free = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    before = [b.array.copy() for b in layer.buffers()]
    with statistics.hold():
        with statistics.hold():
            y = layer(x)
        assert statistics.held()
        F.batch_norm(x, layer.running_mean, layer.running_var, training=True)
        F.instance_norm(x[None], *[mg.zeros(8)] * 2)
    assert not statistics.held()
    assert all((a == b.array).all() for a, b in zip(before, layer.buffers(), strict=True))
    assert (y.array == free(x).array).all()
    assert any((a != b.array).any() for a, b in zip(before, free.buffers(), strict=True))


def test_both_passes_draw_the_same_dropout_masks_and_the_next_step_draws_others():
    p = nn.Parameter(mg.ones(1000))
    optimizer, masks = optim.SAM(optim.SGD([p], lr=0.01)), []

    def closure():
        optimizer.zero_grad()
        y = F.dropout(p, 0.5)
        masks.append(y.array != 0)
        (y**2).sum().backward()

    for _ in range(2):
        optimizer.step(closure)
    assert (masks[0] == masks[1]).all() and (masks[2] == masks[3]).all()
    assert (masks[0] != masks[2]).any()
    assert not (masks[1] == masks[2]).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_parameters_go_the_full_radius(dtype):
    """davda54/sam#7: the norm of 4,096 slopes of 1,000 overflows float16; here it is 64,000, and e is rho."""
    (p,) = [nn.Parameter(mg.zeros(4096, dtype=dtype))]
    optimizer, seen = optim.SAM(optim.SGD([p], lr=2.0**-13), rho=64.0), []

    def closure():
        seen.append(p.array.astype("float32"))
        optimizer.zero_grad()
        p.grad = mg.full((4096,), 1000.0, dtype=dtype)

    optimizer.step(closure)
    assert (seen[0] == 0).all() and (seen[1] == 1).all()
    expected = np.float32(-1000 * 2.0**-13).astype(p.array.dtype)
    assert (p.array == expected).all()


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_the_norm_neither_overflows_nor_underflows(scale):
    (p,) = [nn.Parameter(mg.zeros(16))]
    optimizer = optim.SAM(optim.SGD([p], lr=0.1), rho=0.4)
    p.grad = mg.full((16,), scale)
    optimizer.first_step()
    np.testing.assert_allclose(p.array, 0.1, rtol=1e-6)
    optimizer.go_back()
    assert not p.array.any()


@pytest.mark.parametrize("bad", [0.0, float("inf"), float("nan")])
def test_a_gradient_of_zero_or_not_finite_goes_nowhere(bad):
    (p,) = [nn.Parameter(mg.ones(3))]
    optimizer = optim.SAM(optim.SGD([p], lr=0.1))
    p.grad = mg.tensor([0.0, bad, 0.0])
    optimizer.first_step()
    assert p.tolist() == [1.0] * 3
    optimizer.go_back()


def test_parameters_of_several_types_share_one_norm():
    ps = [nn.Parameter(mg.zeros(9, dtype=d)) for d in ("float32", "float64", "float16")]
    optimizer = optim.SAM(optim.SGD(ps, lr=0.1), rho=1.0)
    for p, slope in zip(ps, (1.0, 2.0, 2.0), strict=True):
        p.grad = mg.full((9,), slope, dtype=p.dtype)
    optimizer.first_step()  # the norm is sqrt(9 + 36 + 36) = 9
    for p, slope in zip(ps, (1.0, 2.0, 2.0), strict=True):
        np.testing.assert_allclose(p.array.astype("float64"), slope / 9, rtol=1e-3)
    optimizer.go_back()


def test_parameters_without_a_gradient_stay_and_do_not_count():
    ours_, idle = (nn.Parameter(mg.ones(3)) for _ in range(2))
    optimizer = optim.SAM(optim.SGD([ours_, idle], lr=0.1))

    def closure():
        optimizer.zero_grad()
        (ours_**2).sum().backward()

    optimizer.step(closure)
    assert idle.tolist() == [1.0] * 3 and optimizer.steps[idle] == 0 and optimizer.steps[ours_] == 1


def test_three_launches_besides_the_rules_and_no_host_read():
    with fake_cupy.installed() as device:
        ps = [nn.Parameter(mg.ones(s, device="cuda")) for s in ((4, 3), (), (2000,))]
        optimizer = optim.SAM(optim.AdamW(ps))
        grads = [mg.ones(p.shape, device="cuda") for p in ps]

        def closure():
            for p, g in zip(ps, grads, strict=True):
                p.grad = g

        optimizer.step(closure)
        with device.counting() as counts:
            optimizer.step(closure)
        made = {k: counts.launches.get(k) for k in ("sam_norms", "sam_norm", "sam", "adam")}
        assert made == dict(sam_norms=1, sam_norm=1, sam=1, adam=1)
        assert counts.host_reads == []


# --------------------------------------------------------------------------------------------- two half steps


def test_two_half_steps_are_a_step():
    ps = [nn.Parameter(mg.tensor(v)) for v in starting()]
    optimizer = optim.SAM(optim.SGD(ps, lr=0.05, momentum=0.9), rho=0.2)
    for t in range(10):
        closure = closure_of(ps, optimizer, t)
        closure()
        optimizer.first_step(zero_grad=True)
        closure()
        optimizer.step()
    expected = ours(10, rho=0.2, momentum=0.9)
    assert [p.array.tobytes() for p in ps] == [a.tobytes() for a in expected]


def test_a_grad_scaler_steps_it_and_a_skipped_step_is_undone():
    (p,) = [nn.Parameter(mg.ones(2))]
    optimizer = optim.SAM(optim.SGD([p], lr=0.5), rho=0.1)
    scaler = amp.GradScaler("cpu", init_scale=8.0)

    def two_passes(bad):
        optimizer.zero_grad()
        scaler.scale((p**2).sum()).backward()
        optimizer.first_step(zero_grad=True)
        scaler.scale((p**2).sum()).backward()
        if bad:
            p.grad[0] = float("inf")
        scaler.step(optimizer)
        scaler.update()

    two_passes(bad=True)
    assert scaler.get_scale() == 4.0 and optimizer.steps[p] == 0
    optimizer.go_back()
    assert p.tolist() == [1.0, 1.0]
    two_passes(bad=True)  # whose first_step() begins where the skipped one did
    two_passes(bad=False)
    e = 0.1 / np.sqrt(2)
    np.testing.assert_allclose(p.array, 1 - 0.5 * 2 * (1 + e), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_is_said():
    (p,) = [nn.Parameter(mg.ones(2))]
    with pytest.raises(RuntimeError, match=r"SAM: step\(\) takes a closure .* or call first_step\(\)"):
        optim.SAM(optim.SGD([p], lr=0.1)).step()
    with pytest.raises(ValueError, match="SAM calls the closure by itself"):
        optim.SAM(optim.SAM(optim.SGD([p], lr=0.1)))
    for rho in (-0.1, float("nan")):
        with pytest.raises(ValueError, match=f"SAM: Invalid rho value: {rho}"):
            optim.SAM(optim.SGD([p], lr=0.1), rho)
