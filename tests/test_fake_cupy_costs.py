"""What a call costs on the fake CuPy, in launches and memory; how kernels run on it."""

import copy
import pickle

import fake_cupy
import numpy as np
import pytest

from kernels.layers import BIAS_RELU
from kernels.rules import SGD


@pytest.fixture
def device():
    with fake_cupy.installed() as device:
        yield device


@pytest.fixture
def cp(device):
    import cupy

    return cupy


@pytest.fixture
def x(cp, device):
    x = cp.asarray(np.arange(24, dtype="float32").reshape(2, 3, 4))
    device.reset()
    return x


# launches


VIEWS = {
    "reshape": lambda cp, x: x.reshape(6, 4),
    "ravel": lambda cp, x: x.ravel(),
    "transpose": lambda cp, x: x.transpose(2, 0, 1),
    "T": lambda cp, x: x.T,
    "mT": lambda cp, x: x.mT,
    "slice": lambda cp, x: x[:, 1:, ::-1],
    "item": lambda cp, x: x[0, 0, 0],
    "None and Ellipsis": lambda cp, x: x[None, ..., 0],
    "broadcast_to": lambda cp, x: cp.broadcast_to(x, (5, 2, 3, 4)),
    "expand_dims": lambda cp, x: cp.expand_dims(x, (0, 2)),
    "squeeze": lambda cp, x: x[:1].squeeze(0),
    "swapaxes": lambda cp, x: x.swapaxes(0, 2),
    "moveaxis": lambda cp, x: cp.moveaxis(x, 0, -1),
    "split": lambda cp, x: cp.split(x, 2)[1],
    "flip": lambda cp, x: cp.flip(x, 1),
    "view": lambda cp, x: x.view("int32"),
    "as_strided": lambda cp, x: cp.lib.stride_tricks.as_strided(x, (2, 2), (4, 4)),
    "windows": lambda cp, x: cp.lib.stride_tricks.sliding_window_view(x, 2, axis=2),
    "contiguous": lambda cp, x: cp.ascontiguousarray(x),
    "asarray": lambda cp, x: cp.asarray(x),
    "astype": lambda cp, x: x.astype("float32", copy=False),
    "iteration": lambda cp, x: next(iter(x)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_costs_nothing_and_shares_its_memory(name, cp, device, x):
    view = VIEWS[name](cp, x)
    assert (device.launched, device.allocations, device.host_reads) == (0, 0, [])
    assert cp.shares_memory(view, x)
    assert view is x or (view.base is x and not view.flags.owndata)
    x.fill(7)
    assert (view.get() == np.float32(7).view(view.dtype)).all()


LAUNCHES = {
    "x + x": "add",
    "-x": "negative",
    "x < 2": "less",
    "x / np.float32(2)": "divide",
    "x.__iadd__(x)": "add",
    "cp.exp(x, out=x)": "exp",
    "x.sum(axis=0)": "sum",
    "cp.argmax(x, axis=1)": "argmax",
    "x.mean()": "mean",
    "cp.where(x > x, x, x)": "greater where",
    "x[cp.arange(2)]": "arange take",
    "cp.take_along_axis(x, cp.zeros((2, 3, 1), int), 2)": "zeros take_along_axis",
    "x.T.reshape(-1)": "copy",
    "x.T.ravel()": "copy",
    "x[..., 0].reshape(2, 3)": "",
    "cp.ascontiguousarray(x.T)": "copy",
    "x.copy()": "copy",
    "x.flatten()": "copy",
    "copy.deepcopy(x)": "copy",
    "x.astype('float16')": "astype",
    "cp.zeros(3)": "zeros",
    "cp.ones_like(x)": "ones_like",
    "cp.full(3, 2)": "full",
    "cp.empty((3, 3))": "",
    "cp.empty_like(x)": "",
    "cp.concatenate([x, x], axis=1)": "concatenate",
    "x.__setitem__(0, 1)": "fill",
    "x.__setitem__(0, x[1])": "copy",
    "x.__setitem__(0, x[0])": "",
    "x.__setitem__(cp.arange(2), x)": "arange scatter",
    "x[0] @ x[1].T": "matmul",
    "x @ x.mT": "matmul copy matmul",
    "x @ x[0].mT": "matmul copy matmul pointers matmul pointers matmul pointers matmul",
    "x.astype('float16') @ x.astype('float16').reshape(2, 4, 3)": (
        "astype astype matmul cast matmul cast matmul cast matmul"
    ),
    "cp.linalg.cholesky(cp.eye(2))": "eye cholesky",
}


@pytest.mark.parametrize("code", LAUNCHES)
def test_a_computation_is_launched_under_its_name(code, cp, device, x):
    eval(code, {"cp": cp, "x": x, "np": np, "copy": copy})
    assert " ".join(device.launch_log) == LAUNCHES[code]
    assert device.launches.total() == device.launched == len(device.launch_log)


def test_results_are_numpys(cp, x):
    h = x.get()
    np.testing.assert_array_equal(
        cp.asnumpy((x * x - 1).sum(axis=(0, 2), keepdims=True)), (h * h - 1).sum((0, 2), keepdims=True)
    )
    np.testing.assert_array_equal((x[0] @ x[1].T).get(), h[0] @ h[1].T)
    x[0, cp.asarray([2, 0])] = x[1, :2]
    h[0, [2, 0]] = h[1, :2]
    x[x > 20] -= 1
    h[h > 20] -= 1
    np.testing.assert_array_equal(x.get(), h)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(x)).get(), h)
    np.testing.assert_array_equal([a.get() for a in divmod(x, 5)], divmod(h, 5))


def test_batched_bfloat16_matmul_fails_as_in_cupy(cp, x):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    b = x.astype(bfloat16)
    assert (b[0] @ b[1].T).dtype == bfloat16 and (b + b).dtype == bfloat16
    assert np.isnan(cp.empty(3, bfloat16).astype("float32").get()).all()
    with pytest.raises(TypeError, match="'E'"):
        b @ b.mT


def test_uninitialised_memory_is_garbage(cp):
    assert np.isnan(cp.empty((2, 2)).get()).all()
    assert (cp.empty(3, "int64").get() > 1e18).all()
    assert np.isnan(cp.ndarray((2,), "float16").get()).all()
    assert np.isnan(cp.empty_like(cp.zeros((3, 2)).T).get()).all()


def test_allocations_are_counted_and_memory_returns_to_the_pool(cp, device):
    pool = cp.get_default_memory_pool()
    a = cp.zeros(1000, "float32")
    b = a[10:] + a[10:]
    assert (device.allocations, pool.used_bytes()) == (2, 2 * 4096)
    view = b[3:]
    del a, b
    assert (pool.used_bytes(), pool.total_bytes()) == (4096, 2 * 4096)  # the view keeps its memory alive
    del view
    assert pool.used_bytes() == 0
    cp.zeros(1000, "float32")
    assert pool.total_bytes() == 2 * 4096
    pool.free_all_blocks()
    assert pool.total_bytes() == 0


def test_a_part_of_a_run_can_be_counted_alone(cp, device, x):
    x + x
    with device.counting() as outer:
        x * x
        with device.counting() as inner:
            float(x.sum())
    assert outer.launches == {"multiply": 1, "sum": 1}
    assert (inner.launches, inner.host_reads, inner.allocations) == ({"sum": 1}, ["float"], 1)
    assert device.launches == {"add": 1, "multiply": 1, "sum": 1}
    device.reset()
    assert (device.launched, device.host_reads) == (0, [])


# kernels


class Doubling:
    """What the fake needs of a kernel: a name, and a call that runs on host arrays."""

    name = "doubling"

    def __call__(self, a, out=None, *, scalars=None, flags=()):
        assert type(a) is np.ndarray
        out = np.empty_like(a) if out is None else out
        np.multiply(a, 2 if scalars is None else scalars[0], out=out)
        return out


def test_a_kernel_runs_on_its_host_machine_as_one_launch_by_its_name(cp, device, x):
    launch = type(x).__minigrad_launch__
    y = launch(Doubling(), (x, None), None, ())
    assert launch(Doubling(), (x, y), cp.asarray(np.array([3], "float32")), ("flag",)) is y
    np.testing.assert_array_equal(y.get(), 3 * x.get())
    assert device.launches == {"doubling": 2}
    with pytest.raises(TypeError, match="doubling"):
        launch(Doubling(), (x, np.ones(3)), None, ())


@pytest.mark.parametrize("installed_cupy", [True, False])
def test_cupys_elementwise_kernel_runs_the_kernel_whose_text_it_holds(installed_cupy, cp, device):
    make = cp.ElementwiseKernel if installed_cupy else fake_cupy.ElementwiseKernel
    load = "const float g = _g; float p = _p, momentum_buffer = _momentum_buffer;\n#line 7\n"
    kernel = make(
        "float32 _g, raw float32 hp",
        "float32 _p, float32 _momentum_buffer",
        load + SGD.text(("momentum",)) + "\n_p = p; _momentum_buffer = momentum_buffer;",
        "mg_sgd_float32",
    )
    g, p, buffer = (cp.full(3, v, "float32") for v in (4, 1, 2))
    kernel(g, cp.asarray(np.array([0.5, 0.25, 1, 0], "float32")), p, buffer)
    np.testing.assert_array_equal(buffer.get(), np.full(3, 0.25 * 2 + 4))
    np.testing.assert_array_equal(p.get(), np.full(3, 1 - 0.5 * 4.5))
    assert device.launches["sgd"] == 1
    with pytest.raises(TypeError, match="mg_other"):
        make("T _x", "T _y", "_y = _x", "mg_other")(g, p)


def test_minigrads_kernels_run_on_device_arrays_and_upload_only_host_scalars(cp, device):
    hyper = dict(lr=0.5, momentum=0.25, one_minus_dampening=1.0, weight_decay=0.0)
    g, p, buffer = (cp.full(3, v, "float32") for v in (4, 1, 2))
    device.reset()
    SGD(g, p, buffer, scalars=hyper, flags=("momentum",))
    assert (device.launches, device.uploads, device.host_reads) == ({"sgd": 1}, ["asarray"], [])
    on_device = cp.asarray(np.array(list(hyper.values()), "float32"))
    device.reset()
    SGD(g, p, scalars=on_device, flags=("maximize",))
    assert (device.launches, device.uploads, device.allocations) == ({"sgd": 1}, [], 0)
    np.testing.assert_array_equal(p.get(), np.full(3, 1 - 0.5 * 4.5 + 0.5 * 4))
    y = BIAS_RELU(cp.full((2, 3), -1, "float32"), p)
    np.testing.assert_array_equal(y.get(), np.zeros((2, 3)))
    with pytest.raises(TypeError, match="host"):
        SGD(np.ones(3, "float32"), p, scalars=hyper)


def test_a_library_call_runs_as_a_host_function(cp, device, x):
    y = x.__minigrad_host__("gemm", np.matmul, x[0], x[1].T)
    out = cp.empty((3, 3), "float32")
    assert x.__minigrad_host__("gemm", lambda a, b, c: c.__setitem__(..., a @ b), x[0], x[1].T, out) is None
    np.testing.assert_array_equal(out.get(), y.get())
    assert device.launches == {"gemm": 2}
