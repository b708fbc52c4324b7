"""What breaks a capture on the fake CuPy, what a graph replays, and how the fake comes and goes."""

import subprocess
import sys
from pathlib import Path

import fake_cupy
import numpy as np
import pytest
from oracle import oracle


@pytest.fixture
def device():
    with fake_cupy.installed() as device:
        yield device


@pytest.fixture
def cp(device):
    import cupy

    return cupy


# streams and capture


class Recorded:
    """One captured step, as minigrad.graph does it: private pool, own stream, warm-up, capture."""

    def __init__(self, cp, step, warm_up=2):
        self.stream, self.pool = cp.cuda.Stream(non_blocking=True), cp.cuda.MemoryPool()
        with self.stream, cp.cuda.using_allocator(self.pool.malloc):
            for _ in range(warm_up):
                self.out = step()
            self.stream.begin_capture()
            try:
                self.out = step()
            finally:
                self.graph = self.stream.end_capture()


def test_a_replay_computes_again_into_the_same_memory(cp, device):
    x, total = cp.ones(4), cp.zeros(4)

    def step():
        nonlocal total
        total += x * x
        x[...] = x + 1
        return total.sum()

    graph = Recorded(cp, step)
    np.testing.assert_array_equal(x.get(), np.full(4, 3.0))  # two warm-up steps; the capture ran nothing
    assert np.isnan(graph.out.get())
    with device.counting() as c:
        graph.graph.launch()
        graph.graph.launch()
    assert (c.launches, c.allocations) == ({"graph": 1 + 1}, 0)
    np.testing.assert_array_equal(x.get(), np.full(4, 5.0))
    assert float(graph.out) == 4 * (1 + 4 + 9 + 16)
    assert fake_cupy.cuda.nodes(graph.graph) == {"multiply": 1, "add": 2, "copy": 1, "sum": 1}


def test_a_captured_call_is_not_run_but_later_calls_may_depend_on_its_result(cp):
    x, order = cp.asarray(np.array([3.0, 1.0, 2.0])), cp.zeros(3, "int64")

    def step():
        order[...] = cp.argsort(x)
        cp.exp(x, out=x)
        return x[order], x[cp.argsort(x)]

    graph = Recorded(cp, step)
    np.testing.assert_array_equal(x.get(), np.exp(np.exp([3.0, 1.0, 2.0])))
    assert np.isnan([y.get() for y in graph.out]).all()
    x.set(np.array([1.0, 3.0, 2.0]))
    graph.graph.launch()
    for y in graph.out:
        np.testing.assert_array_equal(y.get(), np.exp([1.0, 2.0, 3.0]))


class Scaling:
    """A kernel as the fake sees it: out = scalars[0] a."""

    name = "scaling"

    def __call__(self, a, out, *, scalars, flags):
        return np.multiply(a, scalars[0], out=out)


def test_a_captured_kernel_reads_its_scalars_at_replay(cp, device):
    x, y, hp = cp.ones(3), cp.zeros(3), cp.asarray(np.array([3.0]))
    graph = Recorded(cp, lambda: x.__minigrad_launch__(Scaling(), (x, y), hp, ()))
    hp.fill(5)
    graph.graph.launch()
    np.testing.assert_array_equal(y.get(), np.full(3, 5.0))


FORBIDDEN = {
    "a host read": lambda cp, x: float(x.sum()),
    "an upload": lambda cp, x: cp.asarray(np.ones(3)),
    "a list index": lambda cp, x: x[[0, 1]],
    "set": lambda cp, x: x.set(np.ones(4)),
    "a wait": lambda cp, x: cp.cuda.get_current_stream().synchronize(),
    "a device wait": lambda cp, x: cp.cuda.Device().synchronize(),
    "an event wait": lambda cp, x: cp.cuda.Event().synchronize(),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_capture_is_broken_by(name, cp):
    x = cp.ones(4)
    with pytest.raises(RuntimeError, match="StreamCaptureInvalidated"):
        Recorded(cp, lambda: FORBIDDEN[name](cp, x))
    assert float(x.sum()) == 4  # no capture goes on


def test_a_capture_is_broken_by_the_first_use_of_a_kernel_and_by_growth_of_the_pool(cp):
    x = cp.ones(4)
    with pytest.raises(RuntimeError, match="first use of kernel 'exp'"):
        Recorded(cp, lambda: cp.exp(x), warm_up=0)
    sizes = iter([100, 100, 1000])
    with pytest.raises(RuntimeError, match="pool must grow"):
        Recorded(cp, lambda: cp.zeros(next(sizes)))
    stream = cp.cuda.Stream(non_blocking=True)
    x + x
    with stream, pytest.raises(RuntimeError, match="default pool"):
        stream.begin_capture()
        x + x
    with pytest.raises(RuntimeError, match="Invalidated"):
        stream.end_capture()


def test_cublas_refuses_a_capture_without_breaking_it(cp):
    x = cp.ones((2, 2))

    def step():
        for product in (lambda: x @ x, lambda: cp.einsum("ij,jk->ik", x, x), lambda: cp.linalg.inv(x + x)):
            if cp.cuda.get_current_stream().is_capturing():
                with pytest.raises(NotImplementedError, match="capture"):
                    product()
        x[...] = x + x

    Recorded(cp, step).graph.launch()
    assert float(x[0, 0]) == 8


def test_only_a_non_blocking_stream_captures_and_only_its_own_work(cp, device):
    for stream in (cp.cuda.Stream.null, cp.cuda.Stream()):
        with pytest.raises(RuntimeError, match="non_blocking"):
            stream.begin_capture()
    x, side = cp.ones(4), cp.cuda.Stream(non_blocking=True)

    def step(forked):
        event = cp.cuda.get_current_stream().record()
        if forked:
            side.wait_event(event)
        with side:
            x.fill(3)
        cp.cuda.get_current_stream().wait_event(side.record())

    Recorded(cp, lambda: step(True))
    with pytest.raises(RuntimeError, match="another stream"):
        Recorded(cp, lambda: step(False))
    assert cp.cuda.get_current_stream() is cp.cuda.Stream.null


def test_waiting_for_the_device_is_on_record_and_is_no_read(cp, device):
    cp.cuda.Stream.null.synchronize()
    with cp.cuda.Device(0) as gpu:
        gpu.synchronize()
    start, end = cp.cuda.Event(), cp.cuda.Event()
    start.record(), end.record()
    assert cp.cuda.get_elapsed_time(start, end) >= 0
    assert device.synchronizations == ["Stream.synchronize", "Device.synchronize"]
    assert device.host_reads == []
    assert cp.cuda.runtime.getDeviceCount() == 1
    with pytest.raises(RuntimeError, match="number 0"):
        cp.cuda.Device(1).use()


# installing


def test_everything_is_restored_also_after_an_error():
    before = {k: m for k, m in sys.modules.items() if k.split(".")[0] in ("cupy", "cupyx")}
    with pytest.raises(KeyError), fake_cupy.installed():
        import cupy

        x = cupy.ones(2)
        assert cupy.ndarray is fake_cupy.ndarray
        raise KeyError
    after = {k: m for k, m in sys.modules.items() if k.split(".")[0] in ("cupy", "cupyx")}
    assert {k: after.get(k) for k in before} == before and not any(m is cupy for m in after.values())
    with pytest.raises(RuntimeError, match="no fake CuPy is installed"):
        x + x


def test_it_works_without_cupy():
    code = """if True:
        import sys; sys.modules["cupy"] = None
        import fake_cupy, numpy as np
        with fake_cupy.installed() as device:
            import cupy
            class Hooked(cupy.ndarray):
                def __cupy_override_elementwise_kernel__(self, kernel, *args):
                    return kernel.name, len(args)
            kernel = cupy.ElementwiseKernel("T x", "T y", "y = x", "mg_copy")
            total = cupy.asarray(np.ones(3)).sum()
            print(kernel(Hooked((2,)), Hooked((2,))), float(total), device.launches["sum"])
        assert sys.modules["cupy"] is None
    """
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here, check=False)
    assert done.stdout == "('mg_copy', 2) 3.0 1\n", done.stderr


def test_cupys_own_elementwise_kernels_come_to_the_fake():
    cupy = oracle("cupy")
    with fake_cupy.installed():
        import cupy as fake

        assert fake.ElementwiseKernel is cupy.ElementwiseKernel and fake is not cupy
