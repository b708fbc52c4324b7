"""Layers and nn.functional beyond the sample table: launches and memory of affine maps, activations at their
edges and in place, arguments and prints of modules, and the same on a device."""

import fake_cupy
import numpy as np
import pytest
from oracle import oracle
from samples import layers

import kernels
import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minigrad.nn import utils
from minigrad.ops.constants import held

# ----------------------------------------------------------------------------------------------- affine maps


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("shape", [(5, 4), (4,), (2, 3, 4)])
def test_gradients_of_a_linear_layer_are_written_into_their_slots(activation, shape):
    layer = nn.Linear(4, 3).double()
    x = mg.randn(*shape, dtype=mg.float64)
    loss = F.linear(x, layer.weight, layer.bias, activation=activation).sum()
    loss.backward()
    expected = [p.grad.numpy().copy() for p in layer.parameters()]
    layer.zero_grad()
    mg.optim.SGD(layer.parameters(), lr=0.1)  # now they live in an arena
    F.linear(x, layer.weight, layer.bias, activation=activation).sum().backward()
    for p, g in zip(layer.parameters(), expected, strict=True):
        assert p.grad is p.slot and np.shares_memory(p.grad.numpy(), p.arena.gradient)
        np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-12)
    F.linear(x, layer.weight, layer.bias, activation=activation).sum().backward()
    for p, g in zip(layer.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), 2 * g, rtol=1e-12)  # the second is added


@pytest.mark.parametrize(
    ("activation", "forward", "backward"),
    [
        (None, {"matmul": 1, "add": 1}, {"matmul": 2, "bias_grad": 1}),
        ("relu", {"matmul": 1, "bias_relu": 1}, {"matmul": 2, "bias_relu_backward": 1}),
        ("gelu", {"matmul": 1, "bias_gelu": 1}, {"matmul": 2, "bias_gelu_backward": 1}),
        ("silu", {"matmul": 1, "add": 1, "silu": 1}, {"matmul": 2, "bias_grad": 1, "silu": 1}),
    ],
)
def test_launches_of_a_linear_layer(activation, forward, backward):
    with fake_cupy.installed() as device:
        x = mg.randn(5, 4, requires_grad=True).to("cuda").detach().requires_grad_()
        layer = nn.Linear(4, 3).to("cuda")
        with device.counting() as there:
            y = F.linear(x, layer.weight, layer.bias, activation=activation)
        seed = mg.ones(5, 3, device="cuda")
        with device.counting() as back:
            mg.grad(y, [x, layer.weight, layer.bias], seed)
        assert there.launches == forward and back.launches == backward
        for step in (there, back):
            assert step.host_reads == [] and step.uploads == [] and step.python_scalars == []


def test_only_the_gradients_that_are_asked_for_are_computed():
    with fake_cupy.installed() as device:
        x, layer = mg.randn(5, 4).to("cuda"), nn.Linear(4, 3).to("cuda")
        for wanted, launches in (
            (layer.weight, {"relu_backward": 1, "matmul": 1}),
            (layer.bias, {"bias_relu_backward": 1}),
        ):
            y, seed = F.linear(x, layer.weight, layer.bias, activation="relu"), mg.ones(5, 3, device="cuda")
            with device.counting() as back:
                mg.grad(y, wanted, seed)
            assert back.launches == launches


@pytest.mark.parametrize("dtype", [mg.float16, mg.bfloat16])
def test_half_precision_adds_up_in_single(dtype):
    """2,000 products of 1 in a row, 3,000 gradients of 1 in a column: half precision would stop short."""
    x, w = mg.ones(3000, 2000, dtype=dtype), mg.ones(1, 2000, dtype=dtype, requires_grad=True)
    b = mg.zeros(1, dtype=dtype, requires_grad=True)
    for activation in (None, "relu"):
        y = F.linear(x, w, b, activation=activation)
        gw, gb = mg.grad(y.sum(), [w, b])
        assert y.dtype == gw.dtype == gb.dtype == dtype
        assert (y.detach().float().numpy() == mg.tensor(2000.0, dtype=dtype).float().item()).all()
        assert gb.float().item() == mg.tensor(3000.0, dtype=dtype).float().item()
        assert (gw.float().numpy() == gb.float().item()).all()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: F.linear(mg.ones(2, 3), mg.ones(4, 5)),
            ValueError,
            r"input \[2, 3\], weight \[4, 5\], bias None",
        ),
        (
            lambda: F.linear(mg.ones(2, 5), mg.ones(4, 5), mg.ones(5)),
            ValueError,
            r"bias \[5\]; they are \(..., in\)",
        ),
        (lambda: F.linear(mg.tensor(1.0), mg.ones(1, 1)), ValueError, r"input \[\]"),
        (
            lambda: F.linear(mg.ones(2, 5), mg.ones(4, 5).double()),
            TypeError,
            "mixed dtypes float32, float64; cast",
        ),
        (
            lambda: F.linear(mg.ones(1, 1), mg.ones(1, 1), activation="x"),
            ValueError,
            "use None or one of 'relu'",
        ),
        (lambda: F.bilinear(mg.ones(2, 3), mg.ones(2, 3), mg.ones(1, 2, 3)), ValueError, r"input1 \[2, 3\]"),
        (lambda: nn.Bilinear(0, 2, 3), ValueError, "in1_features=0; it must be positive"),
    ],
)
def test_affine_maps_say_what_does_not_fit(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_identity_flatten_and_unflatten():
    x = mg.randn(2, 3, 4, 5)
    assert nn.Identity(7, anything=True)(x) is x
    assert nn.Flatten()(x).shape == (2, 60) and nn.Flatten(0, 1)(x).shape == (6, 4, 5)
    assert nn.Unflatten(1, (3, -1))(nn.Flatten()(x)).shape == (2, 3, 20)
    with pytest.raises(TypeError, match="dims have numbers here, not names"):
        nn.Unflatten("c", ((("a", 1),)))
    y = mg.randn(2, 3)
    np.testing.assert_array_equal(
        nn.CosineSimilarity()(y, y + 1).numpy(), F.cosine_similarity(y, y + 1).numpy()
    )
    np.testing.assert_array_equal(
        nn.PairwiseDistance(1.0)(y, y).numpy(), F.pairwise_distance(y, y, 1.0).numpy()
    )


# ----------------------------------------------------------------------------------------------- activations

EDGES = np.array([-np.inf, -1e30, -3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0, 6.0, 1e30, np.inf, np.nan])
TABLE = [
    ("relu", ()), ("relu6", ()), ("leaky_relu", (0.2,)), ("elu", (1.0,)), ("selu", ()), ("celu", (2.0,)),
    ("softplus", ()), ("logsigmoid", ()), ("hardtanh", ()), ("hardsigmoid", ()), ("hardswish", ()),
    ("threshold", (0.5, 7.0)), ("hardshrink", ()), ("softshrink", ()), ("softsign", ()), ("sigmoid", ()),
    ("tanh", ()), ("silu", ()), ("mish", ()), ("gelu", ()),
]  # fmt: skip
# left out: -inf where f is inf * 0, and the gradient at nan that torch makes 0 or 1
LEFT_OUT = {
    "silu": [0],
    "mish": [0],
    "gelu": [0],
    "softsign": [0, 12],
    "hardswish": [0, 13],
    "hardsigmoid": [13],
}


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "args"), TABLE)
def test_kinks_infinities_and_nans_are_torchs(name, args):
    torch = oracle("torch")
    keep = np.delete(np.arange(len(EDGES)), LEFT_OUT.get(name, []))
    results = []
    for lib in (mg, torch):
        x = lib.tensor(EDGES[keep], requires_grad=True)
        y = getattr(lib.nn.functional, name)(x, *args)
        y.backward(lib.ones(len(keep), dtype=lib.float64))
        results.append((y.detach().numpy(), x.grad.numpy()))
    for what, ours, theirs in zip(("value", "gradient"), *results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-50, err_msg=what)


@pytest.mark.parametrize(("name", "args"), TABLE)
def test_machines_agree_on_activations(name, args):
    found = []
    for machine in ("compiled", "numpy"):
        with kernels.use(machine):
            x = mg.linspace(-8, 8, 101, requires_grad=True)
            y = getattr(F, name)(x, *args)
            found.append((y.detach().numpy(), mg.grad(y.sum(), x)[0].numpy()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["gelu", "silu", "softplus", "leaky_relu", "elu", "hardswish"])
def test_an_activation_is_one_launch_each_way(name):
    with fake_cupy.installed() as device:
        x = mg.ones(4, 3, device="cuda", requires_grad=True)
        getattr(F, name)(x).sum().backward()  # its constants are uploaded once
        with device.counting() as forward:
            y = getattr(F, name)(x)
        seed = mg.ones(4, 3, device="cuda")
        with device.counting() as backward:
            mg.grad(y, x, seed)
        assert forward.launched == backward.launched == 1
        assert forward.host_reads == backward.host_reads == forward.uploads == backward.uploads == []


@pytest.mark.parametrize(
    "name", "relu relu6 leaky_relu elu selu celu silu mish hardtanh hardsigmoid hardswish".split()
)
def test_in_place_activations_change_the_tensor_and_keep_its_graph(name):
    leaf = mg.tensor([[-2.0, 0.3], [1.5, -0.1]], dtype=mg.float64, requires_grad=True)
    expected = getattr(F, name)(leaf * 2)
    (gradient,) = mg.grad(expected.sum(), leaf)
    x = leaf * 2
    assert getattr(F, name)(x, inplace=True) is x
    np.testing.assert_array_equal(x.detach().numpy(), expected.detach().numpy())
    np.testing.assert_array_equal(mg.grad(x.sum(), leaf)[0].numpy(), gradient.numpy())
    with pytest.raises(RuntimeError, match=rf"{name}\(inplace=True\): a leaf that requires gradients"):
        getattr(F, name)(leaf, inplace=True)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: F.gelu(mg.arange(3)),
            TypeError,
            "gelu: int64 input; it takes floating tensors, cast with .float",
        ),
        (lambda: F.silu([1.0]), TypeError, "silu: list is no Tensor"),
        (lambda: F.gelu(mg.ones(1), approximate="x"), ValueError, "use 'none' or 'tanh'"),
        (lambda: F.celu(mg.ones(1), alpha=0), ValueError, "alpha is 0"),
        (lambda: F.hardtanh(mg.ones(1), 2, 1), ValueError, "min_val 2 is above max_val 1"),
        (lambda: F.softshrink(mg.ones(1), -1), ValueError, "lambd -1 is negative"),
        (
            lambda: F.glu(mg.ones(2, 3)),
            ValueError,
            r"glu: dim -1 of an input \[2, 3\] has 3 elements, not an even",
        ),
        (lambda: F.glu(mg.tensor(1.0)), ValueError, "not an even number"),
        (
            lambda: F.prelu(mg.ones(2, 3), mg.ones(4)),
            ValueError,
            r"prelu: weight \[4\] for an input \[2, 3\]",
        ),
        (lambda: F.softmax(mg.ones(2)), TypeError, "softmax: say along which dim"),
        (lambda: F.softmax(mg.ones(2), 1), IndexError, "softmax: dim 1 is out of range"),
        (lambda: F.log_softmax(mg.arange(2), 0), TypeError, "log_softmax: int64 input"),
        (lambda: F.normalize(mg.ones(2, 2), out=mg.ones(2, 2)), ValueError, "out= is not supported"),
        (lambda: nn.Softmax2d()(mg.ones(2, 2)), ValueError, r"Softmax2d: input \[2, 2\]"),
        (
            lambda: nn.LeakyReLU(slope=1),
            TypeError,
            r"LeakyReLU\(negative_slope.*unexpected keyword argument 'slope'",
        ),
        (lambda: nn.Threshold(1.0), TypeError, "Threshold.*missing a required argument: 'value'"),
    ],
)
def test_activations_say_what_does_not_fit(call, error, match):
    with pytest.raises(error, match=match):
        call()


MODULES = [
    ("ReLU", ()), ("ReLU", (True,)), ("ReLU6", ()), ("LeakyReLU", (0.2,)), ("ELU", (0.5,)), ("SELU", ()),
    ("CELU", (2.0,)), ("GELU", ()), ("GELU", ("tanh",)), ("SiLU", ()), ("Mish", ()), ("Sigmoid", ()),
    ("LogSigmoid", ()), ("Tanh", ()), ("Tanhshrink", ()), ("Softplus", (2.0, 5.0)), ("Softsign", ()),
    ("Softshrink", (0.3,)), ("Hardshrink", (0.3,)), ("Hardtanh", (-2.0, 0.5)), ("Hardsigmoid", ()),
    ("Hardswish", ()), ("Threshold", (0.1, 20.0)), ("GLU", (0,)), ("Softmax", (1,)), ("Softmin", (0,)),
    ("LogSoftmax", (-1,)), ("PReLU", (4, 0.3)),
]  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "args"), MODULES)
def test_activation_modules_are_torchs(name, args):
    torch = oracle("torch")
    ours, theirs = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
    assert repr(ours) == repr(theirs)
    x = np.random.default_rng(0).standard_normal((6, 4)) * 3
    value = ours.double()(mg.tensor(x)).detach().numpy()
    np.testing.assert_allclose(value, theirs.double()(torch.tensor(x)).detach(), rtol=1e-10)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Linear", (3, 4)), ("Linear", (3, 4, False)), ("Bilinear", (2, 3, 4)), ("Identity", ()),
        ("Flatten", ()), ("Flatten", (0, -2)), ("Unflatten", (1, (2, 3))), ("Dropout", (0.2,)),
        ("Dropout1d", ()), ("Dropout2d", (0.1,)), ("Dropout3d", ()), ("CosineSimilarity", ()),
        ("PairwiseDistance", ()), ("Softmax2d", ()), ("CrossEntropyLoss", ()), ("MSELoss", ()),
    ],
)  # fmt: skip
def test_layers_print_as_torchs(name, args):
    assert repr(getattr(nn, name)(*args)) == repr(getattr(oracle("torch").nn, name)(*args))


def test_softmax2d_is_over_the_channels():
    x = mg.randn(2, 3, 4, 5)
    np.testing.assert_allclose(nn.Softmax2d()(x).sum(1).numpy(), np.ones((2, 4, 5)), rtol=1e-6)


# ------------------------------------------------------------------------------------ the samples on a device


@pytest.mark.parametrize("sample", layers.SAMPLES, ids=lambda s: s.name)
def test_a_device_computes_the_same_and_is_not_read(sample):
    def run(where):
        mg.manual_seed(3)
        tensors = [mg.tensor(a, device=where) for a in sample.arrays()]
        leaves = [
            t.requires_grad_()
            for k, (t, a) in enumerate(zip(tensors, sample.arrays(), strict=True))
            if sample.differentiable(k, a)
        ]
        y = sample.fn(mg, *tensors)
        return y, mg.grad((y * y).sum(), leaves, allow_unused=True) if leaves else ()

    with fake_cupy.installed() as device:
        with device.counting() as counted:
            y, gradients = run("cuda")
        if sample.name != "one_hot":  # looks for the largest class
            assert counted.host_reads == []
        assert counted.python_scalars == []
        expected, expected_gradients = run("cpu")
        for ours, theirs in zip((y, *gradients), (expected, *expected_gradients), strict=True):
            if theirs is None:
                assert ours is None
                continue
            ours, theirs = ours.detach().cpu().numpy(), theirs.detach().numpy()
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13)


def test_constants_of_a_text_are_uploaded_once_and_do_not_pile_up():
    with fake_cupy.installed() as device:
        x = mg.ones(3, device="cuda")
        F.leaky_relu(x, 0.125)
        with device.counting() as again:
            F.leaky_relu(x, 0.125)
        assert again.uploads == []
        for k in range(2500):
            F.leaky_relu(x, k / 7)
        assert len(held) <= 1001


# ----------------------------------------------------------------------------------- parameters as one vector


def test_parameters_to_a_vector_and_back():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    before = list(net.parameters())
    v = utils.parameters_to_vector(net.parameters())
    assert v.shape == (11,)
    np.testing.assert_array_equal(v[6:8].detach().numpy(), net[0].bias.detach().numpy())
    (v * v).sum().backward()
    np.testing.assert_allclose(net[0].weight.grad.numpy(), 2 * net[0].weight.detach().numpy())
    utils.vector_to_parameters(mg.arange(11).float(), net.parameters())
    assert all(p is q for p, q in zip(net.parameters(), before, strict=True))
    assert net[0].weight.detach().numpy().tolist() == [[0, 1, 2], [3, 4, 5]] and net[1].bias.item() == 10
    with pytest.raises(ValueError, match=r"a vector \[10\] for 11 elements"):
        utils.vector_to_parameters(mg.zeros(10), net.parameters())
    with pytest.raises(TypeError, match="list is no Tensor"):
        utils.vector_to_parameters([1.0], net.parameters())


def test_the_fused_relu_lets_the_gradient_through_at_nan_as_relu_does():
    x = mg.tensor([[np.nan, 1.0]], requires_grad=True)
    w, b = mg.eye(2), mg.zeros(2, requires_grad=True)
    for create_graph in (False, True):
        y = F.linear(x, w, b, activation="relu").sum()
        (gb,) = mg.grad(y, b, create_graph=create_graph)
        assert gb.tolist() == [1.0, 1.0]
