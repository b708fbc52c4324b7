"""Recurrent modules against torch: names, shapes, values, gradients; unbatched input, dropout, errors."""

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import kernels
import minigrad as mg
from minigrad import nn

rng = np.random.default_rng(4)

MODULES = [
    (name, options)
    for name in ("RNN", "LSTM", "GRU")
    for options in (
        {},
        dict(num_layers=2, bidirectional=True, batch_first=True),
        dict(bias=False, num_layers=2, dropout=0.0),
    )
] + [("RNN", dict(nonlinearity="relu"))]


def both(name, *args, **options):
    """The module and torch's, with the same parameters in float64."""
    torch = oracle("torch")
    ours, theirs = (getattr(m.nn, name)(*args, **options).double() for m in (mg, torch))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({k: mg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    return torch, ours, theirs


def flat(result):
    return [t for r in result for t in flat(r)] if isinstance(result, tuple) else [result]


def compare(torch, ours, theirs, *arrays):
    results = []
    for m, module in ((mg, ours), (torch, theirs)):
        leaves = [m.tensor(a).requires_grad_() for a in arrays]
        x, *states = leaves
        hx = tuple(states) if len(states) > 1 else states[0] if states else None
        outputs = flat(module(x, hx) if hx is not None else module(x))
        sum((y * y).sum() for y in outputs).backward()
        results.append([*outputs, *[t.grad for t in leaves], *[p.grad for p in module.parameters()]])
    for a, b in zip(*results, strict=True):
        assert tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=0, atol=1e-10)


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "options"), MODULES, ids=str)
@pytest.mark.parametrize("batch", [3, None], ids=["batch", "alone"])
@pytest.mark.parametrize("given", [False, True], ids=["from zero", "hx"])
def test_layers_equal_torch(name, options, batch, given):
    torch, ours, theirs = both(name, 4, 5, **options)
    shape = [6] if batch is None else [batch, 6] if options.get("batch_first") else [6, batch]
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    state = (count, 5) if batch is None else (count, batch, 5)
    states = [rng.standard_normal(state) for _ in range(given * (2 if name == "LSTM" else 1))]
    compare(torch, ours, theirs, rng.standard_normal((*shape, 4)), *states)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("lead", [(3,), ()], ids=["batch", "alone"])
@pytest.mark.parametrize("given", [False, True], ids=["from zero", "hx"])
def test_cells_equal_torch(name, lead, given):
    torch, ours, theirs = both(name, 4, 5, bias=not given)
    states = [rng.standard_normal((*lead, 5)) for _ in range(given * (2 if name == "LSTMCell" else 1))]
    compare(torch, ours, theirs, rng.standard_normal((*lead, 4)), *states)


def test_a_step_of_a_layer_is_a_step_of_its_cell():
    layer, cell = nn.LSTM(4, 5), nn.LSTMCell(4, 5)
    for p, q in zip(cell.parameters(), layer.parameters(), strict=True):
        p.data = q.data
    x = mg.randn(3, 2, 4)
    y, (h, c) = layer(x)
    state = None
    for step in x:
        state = cell(step, state)
    assert mg.allclose(state[0], y[-1], atol=1e-6) and mg.allclose(state[1], c[0], atol=1e-6)
    assert (h[0] == y[-1]).all()


def test_parameters_begin_uniform_in_one_over_the_root_of_hidden_size():
    mg.manual_seed(0)
    for p in nn.GRU(30, 64, num_layers=2).parameters():
        assert 0.95 / 8 < float(p.abs().max()) <= 1 / 8


def test_dropout_stands_between_layers_and_in_training_alone():
    mg.manual_seed(0)
    layer, x = nn.GRU(3, 4, num_layers=2, dropout=1.0), mg.randn(5, 2, 3)
    alone = nn.GRU(3, 4)
    for name, p in alone.named_parameters():
        p.data = getattr(layer, name).data
    trained, last = layer(x)
    assert mg.allclose(last[0], alone(x)[1][0])  # the first layer is whole
    assert not mg.allclose(layer.eval()(x)[0], trained)
    assert (nn.GRU(3, 4, dropout=1.0)(x)[0] != 0).all()


def test_half_types_go_through():
    layer, x = nn.LSTM(4, 5), mg.randn(6, 3, 4)
    exact = layer(x)[0]
    assert mg.allclose(layer.half()(x.half())[0].float(), exact, atol=5e-3)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda x: nn.LSTM(4, 5, proj_size=2), ValueError, "proj_size=2 is not supported"),
        (lambda x: nn.RNN(4, 5, nonlinearity="sin"), ValueError, "use 'tanh' or 'relu'"),
        (lambda x: nn.GRU(4, 0), ValueError, "hidden_size=0"),
        (lambda x: nn.GRU(4, 5, dropout=2), ValueError, "dropout=2"),
        (lambda x: nn.GRU(4, 5)((x, x)), TypeError, "PackedSequence is not supported"),
        (lambda x: nn.GRU(3, 5)(x), ValueError, r"\(T, B, 3\)"),
        (lambda x: nn.GRU(3, 5, batch_first=True)(x), ValueError, r"\(B, T, 3\)"),
        (lambda x: nn.GRU(4, 5)(x[0, 0]), ValueError, "2 dims"),
        (lambda x: nn.GRU(4, 5)(x[:0]), ValueError, "no steps"),
        (lambda x: nn.GRU(4, 5)(x, mg.ones(1, 2, 5)), ValueError, r"hx \[1, 2, 5\].*\[1, 3, 5\]"),
        (lambda x: nn.LSTM(4, 5)(x, mg.ones(1, 3, 5)), ValueError, r"a pair \(h, c\)"),
        (lambda x: nn.GRU(4, 5)(x.double()), TypeError, "mixed dtypes float32, float64"),
        (lambda x: nn.LSTMCell(4, 5)(x), ValueError, r"\(B, 4\)"),
        (lambda x: nn.GRUCell(4, 5)(x[0], mg.ones(2, 5)), ValueError, r"hx \[1, 2, 5\]"),
    ],
)
def test_errors_name_the_shapes_and_the_cure(call, error, says):
    with pytest.raises(error, match=says):
        call(mg.randn(6, 3, 4))


def test_a_step_on_the_device_is_one_product_and_one_launch():
    with fake_cupy.installed() as device:
        mg.manual_seed(0)
        layer, x = nn.LSTM(4, 5).to("cuda"), mg.randn(6, 3, 4)
        y, _ = layer.cpu()(x)
        layer.to("cuda")
        x = x.to("cuda")
        layer(x)
        with device.counting() as short:
            layer(x[:3])
        with device.counting() as long:
            z, _ = layer(x)
        z.sum().backward()
        assert long.launched - short.launched == 2 * 3, long.launches
        assert long.host_reads == long.uploads == long.python_scalars == []
        assert mg.allclose(y, z.cpu(), atol=1e-6)


@pytest.mark.parametrize("machine", ["compiled", "numpy"])
def test_gates_may_be_columns_of_one_matrix_with_none_in_common(machine):
    halves = kernels.Elementwise("halves", "S x", "S y, S z", "y = T(x) + T(1); z = T(x) * T(2);")
    x = rng.standard_normal((4, 3))
    try:
        with kernels.use(machine):
            for _ in range(2):  # the second call goes the short way
                a = np.zeros((4, 6))
                halves(x, a[:, :3], a[:, 3:])
                assert (a == np.hstack([x + 1, x * 2])).all()
                a[:, 3:] = x
                halves(a[:, 3:], a[:, :3], a[:, 3:])
                assert (a == np.hstack([x + 1, x * 2])).all()
                with pytest.raises(ValueError, match="overlap"):
                    halves(x, a[:, :3], a[:, 2:5])
                with pytest.raises(ValueError, match="overlap"):
                    halves(x, a[:, :3], a[:, 1:4])
    except RuntimeError as error:  # no compiler
        pytest.skip(str(error))
