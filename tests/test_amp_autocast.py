"""Autocast: which function runs in which type, what it computes, and that nothing of it stays behind."""

import gc
import inspect
import threading

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import amp, linalg, nn
from minigrad.data import shakespeare
from minigrad.nn import functional as F
from minigrad.public import autocast as table
from models import GPT
from models.transformer import GPTConfig

torch = oracle("torch")
HALVES = [mg.float16, mg.bfloat16]


def half(x, dtype):
    """A float32 array rounded to a half type, as float32."""
    return x.astype(dtype.numpy).astype(np.float32)


def owners(name):
    """Every public function of this name."""
    found = [getattr(place, name, None) for place in (mg, mg.Tensor, F, linalg, nn.functional.recurrent)]
    return [f for f in found if callable(f)]


OTHER_NAMES = {"recurrent_layers": [nn.functional.recurrent.run], "linalg_cross": [linalg.cross]}


# ------------------------------------------------------------------------------------------------ the table


@pytest.mark.parametrize("name", table.POLICIES)
def test_every_name_of_the_table_is_a_public_function_that_casts(name):
    found = OTHER_NAMES.get(name) or owners(name)
    assert found and all(f.policy == table.POLICIES[name] for f in found)


def test_each_function_stands_in_one_list():
    names = f"{table.HALF} {table.FLOAT32} {table.WIDEST} {table.REFUSED}".split()
    assert len(set(names)) == len(names) == len(table.POLICIES)


def test_a_function_of_no_list_is_left_as_it_is_and_casting_ones_keep_their_signature():
    assert not hasattr(F.relu, "policy") and not hasattr(mg.add, "policy")
    assert list(inspect.signature(F.linear).parameters)[:3] == ["input", "weight", "bias"]
    assert list(inspect.signature(mg.softmax).parameters) == ["input", "dim", "dtype"]


def calls():
    """name -> (call of (m, F, x, w), the type that it gives for half x and float32 w; None: autocast's)"""
    single = "float32"
    return {
        "linear": (lambda m, F, x, w: F.linear(x, w), None),
        "matmul": (lambda m, F, x, w: m.matmul(x, w), None),
        "@": (lambda m, F, x, w: x @ w, None),
        "mm": (lambda m, F, x, w: x.mm(w), None),
        "mv": (lambda m, F, x, w: m.mv(x, w[0]), None),
        "bmm": (lambda m, F, x, w: m.bmm(x[None], w[None]), None),
        "addmm": (lambda m, F, x, w: m.addmm(w, x, w), None),
        "baddbmm": (lambda m, F, x, w: m.baddbmm(w[None], x[None], w[None]), None),
        "einsum": (lambda m, F, x, w: m.einsum("ij,jk->ik", x, w), None),
        "chain_matmul": (lambda m, F, x, w: m.chain_matmul(x, w, w), None),
        "conv2d": (lambda m, F, x, w: F.conv2d(x[None, None], w[None, None]), None),
        "conv1d": (lambda m, F, x, w: F.conv1d(x[None], w[..., None]), None),
        "conv_transpose2d": (lambda m, F, x, w: F.conv_transpose2d(x[None, None], w[None, None]), None),
        "prelu": (lambda m, F, x, w: F.prelu(x, w[0, :1]), None),
        "attention": (lambda m, F, x, w: F.scaled_dot_product_attention(x[None], w[None], w[None]), None),
        "exp": (lambda m, F, x, w: x.exp(), single),
        "log": (lambda m, F, x, w: m.log(x.abs()), single),
        "**": (lambda m, F, x, w: x**2, single),
        "2 **": (lambda m, F, x, w: 2**x, single),
        "pow": (lambda m, F, x, w: m.pow(x, 3), single),
        "1 /": (lambda m, F, x, w: 1 / x, single),
        "rsqrt": (lambda m, F, x, w: x.abs().rsqrt(), single),
        "sum": (lambda m, F, x, w: x.sum(), single),
        "sum in another type": (lambda m, F, x, w: x.sum(dtype=m.float64), "float64"),
        "prod": (lambda m, F, x, w: x.prod(), single),
        "cumsum": (lambda m, F, x, w: x.cumsum(0), single),
        "norm": (lambda m, F, x, w: x.norm(), single),
        "linalg.norm": (lambda m, F, x, w: m.linalg.norm(x), single),
        "softmax": (lambda m, F, x, w: F.softmax(x, -1), single),
        "Tensor.softmax": (lambda m, F, x, w: x.softmax(-1), single),
        "log_softmax": (lambda m, F, x, w: m.log_softmax(x, -1), single),
        "softplus": (lambda m, F, x, w: F.softplus(x), single),
        "layer_norm": (lambda m, F, x, w: F.layer_norm(x, (4,), w[0], w[0]), single),
        "group_norm": (lambda m, F, x, w: F.group_norm(x, 2, w[0], w[0]), single),
        "batch_norm": (lambda m, F, x, w: F.batch_norm(x, None, None, w[0], w[0], True), None),
        "mse_loss": (lambda m, F, x, w: F.mse_loss(x, w), single),
        "l1_loss": (lambda m, F, x, w: F.l1_loss(x, w), single),
        "cross_entropy": (lambda m, F, x, w: F.cross_entropy(x, m.tensor([0, 1, 2, 3])), single),
        "nll_loss": (lambda m, F, x, w: F.nll_loss(x, m.tensor([0, 1, 2, 3])), single),
        "bce logits": (lambda m, F, x, w: F.binary_cross_entropy_with_logits(x, w.sigmoid()), single),
        "cosine": (lambda m, F, x, w: F.cosine_similarity(x, w), single),
        "cat": (lambda m, F, x, w: m.cat([x, w]), single),
        "stack": (lambda m, F, x, w: m.stack((x, w)), single),
        "addcmul": (lambda m, F, x, w: m.addcmul(x, x, w), single),
        "atan2": (lambda m, F, x, w: m.atan2(x, w), single),
        "dot": (lambda m, F, x, w: m.dot(x[0], w[0]), single),
        "tensordot": (lambda m, F, x, w: m.tensordot(x, w, 1), single),
        "add": (lambda m, F, x, w: x + w, single),
        "relu": (lambda m, F, x, w: F.relu(x), None),
        "mean": (lambda m, F, x, w: x.mean(), None),
        "+=": (lambda m, F, x, w: x.clone().add_(w), None),
    }


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
@pytest.mark.parametrize("name", calls())
def test_the_type_of_a_result_is_what_the_lists_say(name, dtype):
    call, expected = calls()[name]
    x, w = mg.randn(4, 4), mg.randn(4, 4)
    with mg.autocast("cpu", dtype=dtype):
        y = call(mg, F, x.to(dtype), w)
    assert y.dtype.name == (expected or dtype.name)
    plain = call(mg, F, x, w)
    assert np.allclose(y.float().numpy(), plain.float().numpy(), rtol=0.1, atol=0.1)


ON_THE_CPU_TOO = "linear matmul @ mm bmm addmm baddbmm einsum conv2d conv1d attention mse_loss relu add cat"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ON_THE_CPU_TOO.split())
def test_types_are_torchs_where_its_cpu_list_agrees_with_that_of_cuda(name, dtype):
    """Both from float32: torch's products take mixed types on the CPU under autocast alone."""
    call, _ = calls()[name]
    a, b = np.random.randn(4, 4).astype(np.float32), np.random.randn(4, 4).astype(np.float32)
    with mg.autocast("cpu", dtype=getattr(mg, dtype)):
        ours = call(mg, F, mg.tensor(a), mg.tensor(b))
    with torch.autocast("cpu", dtype=getattr(torch, dtype)):
        theirs = call(torch, torch.nn.functional, torch.tensor(a), torch.tensor(b))
    assert ours.dtype.name == str(theirs.dtype).removeprefix("torch.")
    eps = {"float16": 2**-10, "bfloat16": 2**-7}[dtype]
    assert np.allclose(ours.float().numpy(), theirs.float().numpy(), rtol=2 * eps, atol=4 * eps)


def test_recurrent_layers_run_in_half_precision():
    with mg.autocast("cpu", dtype=mg.bfloat16):
        y, (h, c) = nn.LSTM(3, 4)(mg.randn(5, 2, 3))
        z = nn.GRUCell(3, 4)(mg.randn(2, 3))
    assert {t.dtype for t in (y, h, c, z)} == {mg.bfloat16}


def test_float64_and_whole_numbers_are_left_alone():
    with mg.autocast("cpu"):
        assert (mg.randn(2, 2, dtype=mg.float64) @ mg.randn(2, 2, dtype=mg.float64)).dtype is mg.float64
        assert mg.randn(2, dtype=mg.float64).exp().dtype is mg.float64
        assert mg.arange(3).sum().dtype is mg.int64
        assert (mg.ones(2, 2, dtype=mg.int64) @ mg.ones(2, 2, dtype=mg.int64)).dtype is mg.int64


def test_in_place_operations_keep_their_type_and_precision():
    a, b = mg.randn(4, 4), mg.randn(4, 4)
    c = mg.zeros(4, 4)
    with mg.autocast("cpu"):
        c.addmm_(a, b)
    assert np.array_equal(c.numpy(), (a @ b).numpy())


def test_a_float32_residual_stays_float32():
    x, w, b, r = mg.randn(2, 4), mg.randn(4, 4), mg.randn(4), mg.randn(2, 4)
    with mg.autocast("cpu"):
        y = F.linear(x, w, b, residual=r)
        z = F.linear(x, w, b)
        added = F.dropout_add(z, r, 0.0)
    assert y.dtype is mg.float32 and np.array_equal(y.numpy(), (z + r).numpy())
    assert added.dtype is mg.float32 and np.array_equal(added.numpy(), y.numpy())


def test_products_accumulate_in_float32_and_round_once():
    a, b = np.random.randn(8, 300).astype(np.float32), np.random.randn(300, 8).astype(np.float32)
    for dtype in HALVES:
        with mg.autocast("cpu", dtype=dtype):
            y = mg.tensor(a) @ mg.tensor(b)
        assert np.array_equal(y.float().numpy(), half(half(a, dtype) @ half(b, dtype), dtype))


# ------------------------------------------------------------------------------------------------ the switch


def test_blocks_nest_and_are_left_by_exceptions():
    a = mg.randn(2, 2)
    seen = []
    with mg.autocast("cpu", dtype=mg.float16):
        with mg.autocast("cpu", enabled=False):
            seen.append((a @ a).dtype)
        with mg.autocast("cpu", dtype=mg.bfloat16):
            seen.append((a @ a).dtype)
        with pytest.raises(ZeroDivisionError), mg.autocast("cpu", dtype=mg.bfloat16):
            raise ZeroDivisionError
        seen.append((a @ a).dtype)
        assert mg.get_autocast_dtype("cpu") is mg.float16
    seen.append((a @ a).dtype)
    assert seen == [mg.float32, mg.bfloat16, mg.float16, mg.float32]


def test_an_error_inside_a_function_leaves_autocast_on():
    with mg.autocast("cpu"):
        with pytest.raises(ValueError, match="inner sizes"):
            mg.randn(2, 3) @ mg.randn(2, 3)
        assert mg.is_autocast_enabled("cpu") and (mg.randn(2, 2) @ mg.randn(2, 2)).dtype is mg.bfloat16


def test_one_object_is_entered_again_and_is_a_decorator():
    block = amp.autocast("cpu", dtype=mg.float16)

    @block
    def product(a, depth):
        return product(a, depth - 1) if depth else (a @ a).dtype

    assert product(mg.randn(2, 2), 3) is mg.float16
    assert product.__name__ == "product" and not mg.is_autocast_enabled()
    with pytest.raises(TypeError, match="requires a callable, but got int"):
        block(3)


def test_the_state_is_a_threads_own():
    found = []
    with mg.autocast("cpu"):
        thread = threading.Thread(target=lambda: found.append(mg.is_autocast_enabled("cpu")))
        thread.start()
        thread.join()
        assert mg.is_autocast_enabled("cpu")
    assert found == [False]


def test_questions_about_the_state():
    assert not mg.is_autocast_enabled() and mg.is_autocast_cache_enabled()
    assert (mg.get_autocast_dtype("cuda"), mg.get_autocast_dtype("cpu")) == (mg.float16, mg.bfloat16)
    with mg.autocast("cpu", dtype=mg.float16, cache_enabled=False):
        assert mg.is_autocast_enabled() and mg.is_autocast_enabled("cpu")
        assert not mg.is_autocast_enabled("cuda") and not mg.is_autocast_cache_enabled()
    assert amp.is_autocast_available("cuda") and not amp.is_autocast_available("mps")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_another_type_disables_autocast_with_torchs_warning(dtype):
    with pytest.warns(UserWarning, match="the target dtype is not supported. Disabling autocast") as ours:
        block = mg.autocast("cpu", dtype=getattr(mg, dtype))
    with pytest.warns(UserWarning) as theirs:
        torch.autocast("cpu", dtype=getattr(torch, dtype))
    first = [str(w[0].message).splitlines()[0] for w in (ours, theirs)]
    assert first[0] == first[1] and ours[0].filename == __file__
    with block:
        assert (mg.randn(2, 2) @ mg.randn(2, 2)).dtype is mg.float32


@pytest.mark.parametrize("given", [3, None, mg.device("cpu")])
def test_the_device_type_is_a_string(given):
    with pytest.raises(ValueError, match="Expected `device_type` of type `str`"):
        mg.autocast(given)


def test_a_device_that_is_not_known_is_named():
    with pytest.raises(RuntimeError, match="unsupported autocast device_type 'mps'"):
        mg.autocast("mps")


def test_cuda_without_a_gpu_warns_and_is_off(monkeypatch):
    monkeypatch.setattr("minigrad.amp.autocast_mode.cuda_is_available", lambda: False)
    for make in (lambda: mg.autocast("cuda"), lambda: mg.cuda.amp.autocast()):
        with pytest.warns(UserWarning, match="CUDA is not available. Disabling autocast") as seen:
            block = make()
        assert seen[0].filename == __file__
        with block:
            assert not mg.is_autocast_enabled()


def test_the_names_of_torch_cuda_amp():
    from minigrad.cuda.amp import GradScaler, autocast

    assert issubclass(autocast, amp.autocast) and issubclass(GradScaler, amp.GradScaler)
    assert mg.cuda.amp.autocast is autocast and not mg.cuda.amp.GradScaler(enabled=False).is_enabled()


# --------------------------------------------------------------------------------------- gradients and casts


def model():
    mg.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 3))


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
@pytest.mark.parametrize("housed", [False, True])
def test_gradients_of_float32_parameters_are_float32_and_torchs(dtype, housed):
    ours = model()
    theirs = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3)
    )
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        q.data = torch.tensor(p.numpy(force=True).copy())
    if housed:
        mg.optim.SGD(ours.parameters(), lr=0.1)
    x, y = np.random.randn(5, 6).astype(np.float32), np.random.randint(0, 3, 5)
    with mg.autocast("cpu", dtype=dtype):
        F.cross_entropy(ours(mg.tensor(x)), mg.tensor(y)).backward()  # in the block: it does not cast
    with torch.autocast("cpu", dtype=getattr(torch, dtype.name)):
        loss = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)).float(), torch.tensor(y))
    loss.backward()
    eps = 2**-9 if dtype is mg.float16 else 2**-6
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert p.grad.dtype is mg.float32
        assert np.abs(p.grad.numpy() - q.grad.numpy()).max() <= 4 * eps * np.abs(q.grad.numpy()).max()


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_the_shadow_gives_the_bits_of_casting_each_parameter_alone(dtype):
    x, y = mg.randn(5, 6), mg.randint(0, 3, (5,))
    found = []
    for housed in (False, True):
        net = model()
        with mg.no_grad():
            net[0].weight[0, 0] = 1e6  # infinity in float16
            net[0].weight[1, 1] = 1e-9
        optimizer = mg.optim.SGD(net.parameters(), lr=0.01) if housed else None
        curve = []
        for _ in range(4):
            with mg.autocast("cpu", dtype=dtype, cache_enabled=False):
                logits = net(x)
                loss = F.cross_entropy(logits, y)
            for p in net.parameters():
                p.grad = None
            loss.backward()
            curve.append(
                [logits.float().numpy(force=True), *[p.grad.numpy().copy() for p in net.parameters()]]
            )
            if optimizer is not None:
                optimizer.step()
            else:
                with mg.no_grad():
                    for p in net.parameters():
                        p.sub_(p.grad * 0.01)
        found.append(curve)
    for apart, shadowed in zip(*found, strict=True):
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(apart, shadowed, strict=True))


def test_the_shadow_follows_every_way_of_changing_a_parameter():
    net = model()
    optimizer = mg.optim.SGD(net.parameters(), lr=0.1)
    x = mg.randn(2, 6)
    saved = net.state_dict()
    changes = [
        lambda: net.load_state_dict({k: v * 2 for k, v in saved.items()}),
        lambda: setattr(net[0].weight, "data", mg.ones(8, 6)),
        lambda: nn.init.normal_(net[3].weight),
        lambda: net[0].bias.detach().fill_(3.0),
        lambda: optimizer.step(),
        lambda: net.to(mg.float64).to(mg.float32),
    ]
    net(x).sum().backward()
    for change in changes:
        change()
        with mg.no_grad(), mg.autocast("cpu", dtype=mg.float16):
            y = net(x)
            expected = x
            for layer in net:
                copied = [mg.tensor(p.numpy(force=True).copy()) for p in layer.parameters()]
                expected = {
                    nn.Linear: lambda z, c: F.linear(z, *c),
                    nn.ReLU: lambda z, c: F.relu(z),
                    nn.LayerNorm: lambda z, c: F.layer_norm(z, (8,), *c),
                }[type(layer)](expected, copied)
        assert np.array_equal(y.numpy(), expected.numpy())


def test_a_graph_that_needs_older_values_of_the_shadow_raises():
    net = model()
    optimizer = mg.optim.SGD(net.parameters(), lr=0.1)
    x = mg.randn(2, 6)
    with mg.autocast("cpu"):
        first = net(x).sum()
        net(x).sum().backward()
        optimizer.step()
        net(x)  # renews the shadow
        with pytest.raises(RuntimeError, match="modified in place"):
            first.backward()


def test_parameters_that_no_arena_holds_are_cast_once_a_block(monkeypatch):
    w = nn.Parameter(mg.randn(4, 4))
    x = mg.randn(2, 4)
    casts = []
    original = mg.ops.cast
    monkeypatch.setattr(mg.ops, "cast", lambda t, d: casts.append(t.shape) or original(t, d))
    for cached, expected in ((True, 1), (False, 3)):
        casts.clear()
        with mg.autocast("cpu", cache_enabled=cached):
            total = sum(F.linear(x, w).sum() for _ in range(2))
            with mg.autocast("cpu", dtype=mg.bfloat16):
                total = total + F.linear(x, w).sum()
        assert casts.count((4, 4)) == expected
        total.backward()
    with mg.autocast("cpu"):  # a change in the block is seen, unlike in PyTorch
        before = F.linear(x, w)
        with mg.no_grad():
            w.add_(1.0)
        assert not np.array_equal(before.float().numpy(force=True), F.linear(x, w).float().numpy(force=True))


def test_two_backward_passes_in_one_block_share_a_cast():
    w = nn.Parameter(mg.randn(4, 4))
    x = mg.randn(2, 4)
    with mg.autocast("cpu"):
        for _ in range(2):
            F.linear(x, w).sum().backward()
    once = nn.Parameter(w.detach().clone())
    with mg.autocast("cpu"):
        F.linear(x, once).sum().backward()
    assert np.array_equal(w.grad.numpy(), 2 * once.grad.numpy())


def test_gradients_of_gradients_under_autocast():
    w = nn.Parameter(mg.randn(4, 4))
    x = mg.randn(2, 4)
    with mg.autocast("cpu", dtype=mg.float16):
        loss = (F.linear(x, w) ** 2).sum()
    (g,) = mg.grad(loss, w, create_graph=True)
    (gg,) = mg.grad((g * g).sum(), w)
    exact = (mg.tensor(x.numpy()) @ w.T).detach()
    (plain,) = mg.grad((F.linear(x, w) ** 2).sum(), w, create_graph=True)
    (expected,) = mg.grad((plain * plain).sum(), w)
    assert exact.shape == (2, 4) and g.dtype is mg.float32
    assert np.allclose(gg.numpy(), expected.numpy(), rtol=2e-2, atol=2e-2 * np.abs(expected.numpy()).max())


def test_nothing_is_kept_after_a_block():
    gc.collect()
    gc.disable()
    try:
        w = nn.Parameter(mg.randn(4, 4))
        counts = []
        for _ in range(4):
            with mg.autocast("cpu"):
                F.linear(mg.randn(2, 4), w).sum().backward()
            counts.append(sum(issubclass(type(o), mg.Tensor) for o in gc.get_objects()))
        assert counts[1] == counts[2] == counts[3]
    finally:
        gc.enable()


def test_binary_cross_entropy_is_refused_on_cuda_alone():
    p, t = mg.rand(4), mg.ones(4)
    with mg.autocast("cpu"):
        assert F.binary_cross_entropy(p.to(mg.bfloat16), t).dtype is mg.float32


# --------------------------------------------------------------------------------------------- a whole model


def curve(dtype, steps, scaled):
    """Losses of a small GPT on Shakespeare; with a scaler and the clipping of its step()."""
    text = np.frombuffer(shakespeare().encode("latin-1"), np.uint8)
    letters, data = np.unique(text, return_inverse=True)
    mg.manual_seed(0)
    rng = np.random.default_rng(0)
    net = GPT(GPTConfig(vocab=len(letters), context=32, layers=2, heads=2, width=32))
    optimizer = mg.optim.AdamW(net.parameters(), lr=3e-3)
    scaler = amp.GradScaler("cpu", enabled=scaled)
    losses = []
    for _ in range(steps):
        at = rng.integers(0, len(data) - 33, 16)[:, None] + np.arange(33)
        batch = data[at].astype(np.int64)
        with mg.autocast("cpu", dtype=dtype or mg.bfloat16, enabled=dtype is not None):
            logits = net(mg.tensor(batch[:, :-1]))
            loss = F.cross_entropy(logits.reshape(-1, len(letters)), mg.tensor(batch[:, 1:].reshape(-1)))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer, clip=1.0)
        scaler.update()
        losses.append(float(loss))
    return np.array(losses)


def test_the_transformers_loss_curve_stays_within_1_percent_of_float32_over_200_steps():
    plain = curve(None, 200, scaled=False)
    for dtype, scaled in ((mg.float16, True), (mg.bfloat16, False)):
        assert np.abs(curve(dtype, 200, scaled) / plain - 1).max() < 0.01
    assert plain[-1] < 0.65 * plain[0]
