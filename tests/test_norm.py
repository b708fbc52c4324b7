"""Normalization modules against torch: state, running statistics, evaluation, printing, half types."""

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

rng = np.random.default_rng(3)

MODULES = [
    ("BatchNorm1d", (4,), {}, (5, 4)),
    ("BatchNorm1d", (4,), dict(momentum=None), (5, 4, 3)),
    ("BatchNorm1d", (4,), dict(track_running_stats=False), (5, 4)),
    ("BatchNorm2d", (3,), dict(momentum=0.3, eps=0.1), (2, 3, 4, 5)),
    ("BatchNorm2d", (3,), dict(affine=False), (2, 3, 4, 5)),
    ("BatchNorm2d", (3,), dict(bias=False), (2, 3, 4, 5)),
    ("BatchNorm3d", (3,), {}, (2, 3, 2, 2, 2)),
    ("InstanceNorm1d", (3,), {}, (2, 3, 5)),
    ("InstanceNorm1d", (3,), {}, (3, 5)),
    ("InstanceNorm2d", (3,), dict(affine=True, track_running_stats=True), (2, 3, 4, 5)),
    ("InstanceNorm3d", (3,), dict(affine=True), (2, 3, 2, 2, 2)),
    ("LayerNorm", (6,), {}, (4, 6)),
    ("LayerNorm", ((2, 3),), dict(bias=False, eps=0.1), (4, 2, 3)),
    ("LayerNorm", (6,), dict(elementwise_affine=False), (4, 6)),
    ("RMSNorm", (6,), {}, (4, 6)),
    ("RMSNorm", ([2, 3],), dict(eps=0.1, elementwise_affine=False), (4, 2, 3)),
    ("GroupNorm", (2, 6), {}, (3, 6, 4)),
    ("GroupNorm", (2, 6), dict(bias=False), (3, 6, 4)),
    ("GroupNorm", (3, 6), dict(affine=False, eps=0.1), (3, 6, 2, 2)),
]


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "args", "options", "shape"), MODULES, ids=str)
def test_modules_equal_torch_in_training_and_evaluation(name, args, options, shape):
    torch = oracle("torch")
    ours, theirs = (getattr(m.nn, name)(*args, **options) for m in (mg, torch))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours, theirs = ours.double(), theirs.double()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
        p.data = mg.tensor(values := rng.standard_normal(tuple(p.shape)))
        q.data = torch.tensor(values)
    for training in (True, True, False, True):
        ours.train(training)
        theirs.train(training)
        values = rng.standard_normal(shape) * 2 + 1
        x, y = mg.tensor(values).requires_grad_(), torch.tensor(values).requires_grad_()
        a, b = ours(x), theirs(y)
        (a * a * a).sum().backward()
        (b * b * b).sum().backward()
        found = [a, x.grad, *[p.grad for p in ours.parameters()], *ours.buffers()]
        expected = [b, y.grad, *[p.grad for p in theirs.parameters()], *theirs.buffers()]
        for u, v in zip(found, expected, strict=True):
            v = v.detach().numpy()
            np.testing.assert_allclose(u.detach().numpy(), v, rtol=0, atol=1e-10 * (1 + np.abs(v).max()))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_types_are_computed_in_float32(name):
    kind, precision = getattr(mg, name), dict(float16=1e-3, bfloat16=8e-3)[name]
    x = (mg.randn(4, 6, 5) * 30 + 200).to(kind)  # sums and squares that float16 cannot hold
    w, b = mg.randn(6).to(kind), mg.randn(6).to(kind)
    for f in (
        lambda x, w, b: F.layer_norm(x.transpose(1, 2), (6,), w, b),
        lambda x, w, b: F.rms_norm(x.transpose(1, 2), (6,), w),
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        lambda x, w, b: F.batch_norm(x, b, w.abs(), w, b),
        lambda x, w, b: F.group_norm(x, 3, None, None),
        lambda x, w, b: F.instance_norm(x, None, None, w, b),
    ):
        y, exact = f(x, w, b), f(x.double(), w.double(), b.double())
        assert y.dtype is kind
        assert float((y.double() - exact).abs().max()) < 4 * precision * float(exact.abs().max())


def test_a_half_input_may_meet_a_float32_layer():
    layer, x = nn.BatchNorm1d(3), mg.randn(8, 3)
    y = layer(x.half())
    assert y.dtype is mg.float16 and layer.running_mean.dtype is mg.float32
    assert mg.allclose(y.float(), F.batch_norm(x, None, None, training=True), atol=5e-3)


def test_reset_running_stats_starts_anew():
    layer = nn.BatchNorm1d(3)
    layer(mg.randn(8, 3))
    assert int(layer.num_batches_tracked) == 1 and layer.running_mean.any()
    layer.reset_running_stats()
    assert int(layer.num_batches_tracked) == 0 and not layer.running_mean.any()
    assert layer.running_var.tolist() == [1, 1, 1]


def test_a_mean_far_from_zero_costs_no_precision():
    x = mg.randn(64, 2, 50)
    for f in (
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda x: F.layer_norm(x, (50,)),
        lambda x: F.group_norm(x, 2),
    ):
        near, far = f(x), f(x + 1000)
        assert float((near - far).abs().max()) < 1e-3  # x + 1000 itself is rounded to 6e-5


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda x: F.layer_norm(x, (5,)), ValueError, r"normalized_shape=\[5\]"),
        (lambda x: F.layer_norm(x, ()), ValueError, "normalized_shape is empty"),
        (lambda x: F.layer_norm(x, (3,), mg.ones(2)), ValueError, r"weight \[2\]"),
        (lambda x: F.layer_norm(x, (3,), mg.ones(3).double()), TypeError, "weight is float64"),
        (lambda x: F.rms_norm(x.long(), (3,)), TypeError, "floating"),
        (lambda x: F.batch_norm(x[0, 0], None, None, training=True), ValueError, r"\(N, C\)"),
        (lambda x: F.batch_norm(x, None, None), ValueError, "running_mean and running_var"),
        (lambda x: F.batch_norm(x, mg.ones(2), None, training=True), ValueError, "give both"),
        (lambda x: F.batch_norm(x[:1, :, 0], None, None, training=True), ValueError, "1 value a channel"),
        (lambda x: F.instance_norm(x[:, :, :1]), ValueError, "1 value a channel"),
        (lambda x: F.instance_norm(x[0]), ValueError, r"\(N, C, L"),
        (lambda x: F.group_norm(x, 3), ValueError, "num_groups=3"),
        (lambda x: nn.GroupNorm(3, 4), ValueError, "num_channels=4"),
        (lambda x: nn.BatchNorm2d(2)(x), ValueError, "4 dims"),
        (lambda x: nn.BatchNorm1d(5)(x), ValueError, r"running_mean \[5\]"),
        (lambda x: nn.InstanceNorm1d(5)(x), ValueError, "num_features=5"),
    ],
)
def test_errors_name_the_shapes_and_the_cure(call, error, says):
    with pytest.raises(error, match=says):
        call(mg.randn(4, 2, 3))


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5)])
def test_batch_norm_on_the_device_reads_nothing_back(shape):
    """One launch each way for a matrix, three for channels with a window, and one that counts the batch."""
    with fake_cupy.installed() as device:
        mg.manual_seed(0)
        values, results = mg.randn(*shape), []
        for where in ("cpu", "cuda"):
            layer = nn.BatchNorm1d(3, momentum=None).to(where)
            for _ in range(2):
                x = values.clone().to(where).requires_grad_()
                with device.counting() as forward:
                    y = layer(x)
                (y * y * y).sum().backward()
            results.append([y, x.grad, *layer.buffers(), *[p.grad for p in layer.parameters()]])
        assert forward.launched == (2 if len(shape) == 2 else 4), forward.launches
        assert forward.host_reads == forward.uploads == forward.python_scalars == []
        for a, b in zip(*results, strict=True):
            assert mg.allclose(a.double(), b.cpu().double(), atol=1e-5)


STREAMS = {
    "layer_norm": lambda z: z + F.layer_norm(z, (5,)),
    "rms_norm": lambda z: F.rms_norm(z, (5,)) + z,
    "residual_layer_norm": lambda z: sum(F.residual_layer_norm(z, z * 2, (5,))),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_the_gradient_of_a_residual_stream_is_added_in_the_norms_launch(stream):
    values, results = np.random.default_rng(0).standard_normal((7, 5)), []
    with fake_cupy.installed() as device:
        for where in ("cpu", "cuda"):
            x = mg.tensor(values, device=where, requires_grad=True)
            y = (STREAMS[stream](x * 1.5) ** 3).sum()
            with device.counting() as c:
                y.backward()
            results.append(x.grad.cpu().numpy())
    name = stream.removeprefix("residual_") + "_backward"
    assert c.launches[name] == 1 and c.launches["add"] == (stream == "residual_layer_norm"), c.launches
    np.testing.assert_allclose(*results, rtol=1e-12)


def composed(z, w, b):
    d = z - z.mean(-1, keepdim=True)
    return d / ((d * d).mean(-1, keepdim=True) + 1e-5).sqrt() * w + b


@pytest.mark.parametrize("shape", [(5,), (4, 5)])
@pytest.mark.parametrize("order", ["before", "after"])
def test_every_way_into_a_norm_counts_once(shape, order):
    """Weight and bias come from the node that the input comes from, or share their gradient with it."""
    values = np.random.default_rng(1).standard_normal(shape)

    def gradient(norm, retain):
        x = mg.tensor(values, requires_grad=True)
        z = x * 1.5
        row = z if z.ndim == 1 else z[0]
        early = (z * z).sum() if order == "before" else 0  # older or younger than the norm
        y = norm(z, row + z.sum(), row)
        late = (z + row).sum() if order == "after" else 0
        loss = (y**3).sum() + early + late
        for _ in range(1 + retain):
            loss.backward(retain_graph=retain)
        return x.grad.numpy()

    for retain in (False, True):
        ours = gradient(lambda z, w, b: F.layer_norm(z, (5,), w, b), retain)
        np.testing.assert_allclose(ours, gradient(composed, retain), rtol=1e-10)


def test_hooks_and_retained_gradients_of_a_stream_see_the_whole_gradient():
    x = mg.tensor(np.random.default_rng(2).standard_normal((4, 5)), requires_grad=True)
    seen, kept = [], []
    for norm in (lambda z: F.layer_norm(z, (5,)), lambda z: composed(z, 1, 0)):
        z = x * 2
        z.retain_grad()
        z.register_hook(lambda g: seen.append(g.numpy().copy()))
        ((norm(z) ** 3).sum() + (z * z).sum()).backward()
        kept.append(z.grad.numpy())
    np.testing.assert_allclose(*seen, rtol=1e-10)
    np.testing.assert_allclose(*kept, rtol=1e-10)
    np.testing.assert_allclose(seen[0], kept[0])
