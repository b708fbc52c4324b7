"""cuBLAS by ctypes: every layout of operands and result in one launch, with the arguments cuBLAS documents.

The library is a fake (tests/fake_cupy/cublas.py): real C functions that multiply what lies at the addresses
they are given, so a wrong order, leading dimension, stride or transpose gives wrong numbers or a status.
"""

import itertools

import fake_cupy
import numpy as np
import pytest
from fake_cupy import cublas

import minigrad as mg
from kernels.cuda import blas

TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-2, "bfloat16": 1e-1}


@pytest.fixture
def device():
    cublas.refusals.clear()
    with fake_cupy.installed() as device:
        yield device


def kind(name):
    return mg.backend.as_dtype(name).numpy


def array(shape, layout, dtype="float32", seed=0):
    """(device array, its values): a matrix, or several, whose memory is laid out as said."""
    import cupy

    *lead, m, n = shape
    values = np.random.default_rng(seed + m + 7 * n).standard_normal(shape).astype(kind(dtype))
    if layout == "rows":
        made = cupy.asarray(values)
    elif layout == "columns":
        made = cupy.asarray(np.ascontiguousarray(np.swapaxes(values, -1, -2))).swapaxes(-1, -2)
    elif layout == "part of rows":  # a view with a larger leading dimension
        wide = np.full((*lead, m, n + 3), np.nan, kind(dtype))
        wide[..., 1 : n + 1] = values
        made = cupy.asarray(wide)[..., 1 : n + 1]
    elif layout == "part of columns":
        tall = np.full((*lead, n, m + 2), np.nan, kind(dtype))
        tall[..., 2:] = np.swapaxes(values, -1, -2)
        made = cupy.asarray(tall)[..., 2:].swapaxes(-1, -2)
    elif layout == "every second":  # cuBLAS cannot read it
        spread = np.full((*lead, m, 2 * n), np.nan, kind(dtype))
        spread[..., ::2] = values
        made = cupy.asarray(spread)[..., ::2]
    return made, values


LAYOUTS = ("rows", "columns", "part of rows", "part of columns")


def close(got, wanted, dtype="float32"):
    tolerance = TOLERANCE[dtype] * max(1, np.abs(wanted).max(initial=0))
    np.testing.assert_allclose(got.get().astype("f8"), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("out_layout", [None, *LAYOUTS])
@pytest.mark.parametrize(("left", "right"), list(itertools.product(LAYOUTS, LAYOUTS)))
def test_every_layout_of_two_matrices_is_one_launch_without_copies(device, left, right, out_layout):
    for m, k, n in ((5, 7, 3), (1, 4, 6), (6, 4, 1), (2, 1, 3), (1, 1, 1)):
        (a, x), (b, y) = array((m, k), left), array((k, n), right, seed=1)
        out = None if out_layout is None else array((m, n), out_layout)[0]
        with device.counting() as c:
            got = blas.matmul(a, b, out)
        assert (c.launches, c.host_reads, c.uploads) == ({"matmul": 1}, [], [])
        assert device.cublas.calls[-1][0] == "cublasGemmEx" and cublas.refusals == []
        assert out is None or got is out
        close(got, x.astype("f8") @ y)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_lies_beside_an_output_that_is_a_part_stays(device, layout):
    import cupy

    whole = cupy.full((6, 7), 5.0, np.float32)
    out = whole[1:4, 2:6] if layout.endswith("rows") else whole[1:5, 2:5].T
    (a, x), (b, y) = array((3, 2), "rows"), array((2, 4), "columns")
    blas.matmul(a, b, out)
    close(out, x.astype("f8") @ y)
    assert (whole.get() == 5).sum() == 42 - 12


def test_beta_adds_to_what_is_there(device):
    for layout in LAYOUTS:
        (a, x), (b, y), (c, z) = (
            array((4, 3), "rows"),
            array((3, 5), "columns"),
            array((4, 5), layout, seed=3),
        )
        assert blas.matmul(a, b, c, beta=1) is c
        close(c, z + x.astype("f8") @ y)
    (a, x), (b, y), (c, z) = (
        array(s, "rows", seed=k) for k, s in enumerate(((2, 4, 3), (2, 3, 5), (2, 4, 5)))
    )
    blas.matmul(a, b, c, beta=1)
    close(c, z + np.matmul(x, y, dtype="f8"))


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_half_types_are_added_up_in_float32_and_doubles_in_double(device, dtype):
    (a, x), (b, y) = array((9, 300), "rows", dtype), array((300, 4), "columns", dtype)
    close(blas.matmul(a, b), x.astype("f8") @ y.astype("f8"), dtype)
    *_, compute, algorithm = device.cublas.calls[-1][1]
    assert (compute, algorithm) == (70 if dtype == "float64" else 68, -1)
    (a, x), (b, y) = array((2, 3, 8), "rows", dtype), array((2, 8, 4), "rows", dtype)
    close(blas.matmul(a, b), np.matmul(x.astype("f8"), y.astype("f8")), dtype)  # batches of bfloat16 too
    assert device.cublas.calls[-1][0] == "cublasGemmStridedBatchedEx"


def test_precision_is_full_unless_asked_for_less(device):
    (a, x), (b, y) = array((4, 3), "rows"), array((3, 5), "rows")
    found = {}
    assert mg.get_float32_matmul_precision() == "highest"
    try:
        for name in ("highest", "high", "medium"):
            mg.set_float32_matmul_precision(name)
            close(blas.matmul(a, b), x.astype("f8") @ y)
            found[name] = device.cublas.calls[-1][1][-2]
    finally:
        mg.set_float32_matmul_precision("highest")
    assert found == {"highest": 68, "high": 77, "medium": 75}  # float32, TF32, bfloat16
    with pytest.raises(ValueError, match="'higher'; it is one of 'highest', 'high', 'medium'"):
        mg.set_float32_matmul_precision("higher")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 4, 5), (3, 5, 2)), ((3, 4, 5), (5, 2)), ((2, 3, 4, 5), (5, 2)), ((4, 5), (3, 5, 2)),
        ((2, 3, 4, 5), (2, 3, 5, 2)), ((2, 1, 4, 5), (1, 3, 5, 2)), ((2, 3, 4, 5), (3, 5, 2)),
        ((1, 4, 5), (1, 5, 2)), ((2, 1, 4, 5), (2, 1, 5, 2)), ((3, 1, 5), (3, 5, 1)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layouts", [("rows", "rows"), ("columns", "rows"), ("rows", "part of columns")])
def test_batches_broadcast_in_one_launch(device, left, right, layouts):
    (a, x), (b, y) = array(left, layouts[0]), array(right, layouts[1], seed=5)
    for _ in range(2):  # pointers are uploaded for the first
        with device.counting() as c:
            got = blas.matmul(a, b)
    assert c.launches == {"matmul": 1} and cublas.refusals == []
    close(got, np.matmul(x, y, dtype="f8"))


def test_heads_of_a_projection_are_read_and_written_where_they_lie(device):
    """q, k, v (B, H, T, E) are views of (B, T, 3, H, E): two strides, so cuBLAS is given pointers."""
    import cupy

    b, t, h, e = 3, 5, 2, 4
    host = np.random.default_rng(0).standard_normal((b, t, 3, h, e)).astype("f4")
    packed = cupy.asarray(host)
    (q, k, v), (x, y, z) = (a.transpose(2, 0, 3, 1, 4) for a in (packed, host))
    scores = blas.matmul(q, k.mT)
    close(scores, np.matmul(x, y.swapaxes(-1, -2), dtype="f8"))
    out = cupy.empty((b, t, h, e), np.float32)
    with device.counting() as c:
        blas.matmul(scores, v, out.transpose(0, 2, 1, 3))
    assert c.launches == {"matmul": 1} and device.cublas.calls[-1][0] == "cublasGemmBatchedEx"
    close(out.transpose(0, 2, 1, 3), np.matmul(np.matmul(x, y.swapaxes(-1, -2)), z))
    with device.counting() as c:  # the same addresses again: the pointers are there
        blas.matmul(scores, v, out.transpose(0, 2, 1, 3))
    assert c.uploads == []


def test_what_cublas_cannot_read_is_copied_first_and_written_back(device):
    (a, x), (b, y) = array((4, 3), "every second"), array((3, 5), "every second")
    out, _ = array((4, 5), "every second")
    with device.counting() as c:
        blas.matmul(a, b, out)
    assert c.launches == {"copy": 4, "matmul": 1}
    close(out, x.astype("f8") @ y)
    import cupy

    row = cupy.broadcast_to(cupy.asarray(np.arange(3, dtype="f4")), (4, 3))
    close(blas.matmul(row, b), np.broadcast_to(np.arange(3.0), (4, 3)) @ y)


@pytest.mark.parametrize(("m", "k", "n"), [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0)])
def test_empty_products(device, m, k, n):
    import cupy

    out = cupy.full((m, n), 7.0, np.float32)
    a, b = cupy.zeros((m, k), np.float32), cupy.zeros((k, n), np.float32)
    assert (blas.matmul(a, b, out).get() == 0).all()
    out.fill(7)
    assert (blas.matmul(a, b, out, beta=1).get() == 7).all()


def test_errors_name_shapes(device):
    import cupy

    a = cupy.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"\[2, 3\] @ \[2, 3\]; the inner sizes 3 and 2"):
        blas.matmul(a, a)
    with pytest.raises(ValueError, match=r"out is float32\[2, 2\], the product float32\[2, 4\]"):
        blas.matmul(a, cupy.zeros((3, 4), np.float32), cupy.zeros((2, 2), np.float32))


def test_a_status_becomes_an_error_with_its_name(device, monkeypatch):
    import cupy

    its = blas.handle()
    monkeypatch.setattr(its.lib, "cublasGemmEx", lambda *args: 13)
    with pytest.raises(RuntimeError, match=r"cublasGemmEx: cuBLAS status 13, execution failed .*\[2, 2\]"):
        blas.matmul(cupy.ones((2, 2), np.float32), cupy.ones((2, 2), np.float32))


def test_the_workspace_is_set_after_every_change_of_stream(device):
    import cupy

    a = cupy.ones((2, 2), np.float32)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        blas.matmul(a, a)
        names = [name for name, _ in device.cublas.calls]
        assert names[-3:] == ["cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasGemmEx"]
        assert device.cublas.calls[-3][1][1] == stream.ptr
        blas.matmul(a, a)
    assert [name for name, _ in device.cublas.calls].count("cublasSetStream_v2") == 1
    blas.matmul(a, a)  # back on the default stream
    assert device.cublas.workspace_of == 0 and device.cublas.workspace == 32 << 20


def test_a_product_is_captured_and_replayed(device):
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)
    (a, x), (b, y) = array((3, 4), "rows"), array((4, 2), "columns")
    out = cupy.zeros((3, 2), np.float32)
    with stream:
        blas.matmul(a, b, out)
        out.fill(0)
        stream.begin_capture()
        blas.matmul(a, b, out)
        graph = stream.end_capture()
        assert (out.get() == 0).all()
        graph.launch(stream)
    close(out, x.astype("f8") @ y)


def test_without_the_library_cupy_multiplies_and_why_says_so():
    with fake_cupy.installed(cublas=False) as device:
        a = mg.ones(2, 3, device="cuda")
        assert (a @ a.mT).tolist() == [[3, 3], [3, 3]]
        assert device.launches["matmul"] == 1 and "cupy.matmul serves" in blas.why()
    with fake_cupy.installed() as device:
        a = mg.ones(2, 3, device="cuda")
        with blas.without("a test"):
            a @ a.mT
            assert blas.why() == "cupy.matmul serves: a test"
        a @ a.mT
        assert "cuBLAS serves" in blas.why() and len(device.cublas.calls) > 1


def test_it_is_looked_for_where_nvidias_wheels_and_systems_have_it(monkeypatch):
    """Every place that was tried stands in the reason."""
    import sys
    import types

    with fake_cupy.installed():
        import cupy

        monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
        assert list(blas._candidates(cupy)) == ["libcublas.so.13", "cublas64_13.dll", "libcublas.so"]
        finder = types.ModuleType("cuda.pathfinder")
        finder.load_nvidia_dynamic_lib = lambda name: types.SimpleNamespace(abs_path=f"/wheel/{name}.so")
        monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
        monkeypatch.setitem(sys.modules, "cuda.pathfinder", finder)
        assert next(blas._candidates(cupy)) == "/wheel/cublas.so"
        monkeypatch.delattr(cupy.ndarray, "__minigrad_cublas__")
        monkeypatch.setattr(blas.ctypes, "CDLL", refuse)
        found, said = blas._open(cupy)
        assert found is None and "/wheel/cublas.so: not here" in said and "libcublas.so.13" in said


def refuse(name):
    raise OSError(f"{name}: not here")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_the_real_library_agrees_with_numpy(dtype):
    for left, right in itertools.product(LAYOUTS, LAYOUTS):
        for a_shape, b_shape in (((64, 48), (48, 80)), ((3, 5, 8), (3, 8, 4)), ((2, 3, 4, 8), (8, 2))):
            (a, x), (b, y) = array(a_shape, left, dtype), array(b_shape, right, dtype, seed=1)
            close(blas.matmul(a, b), np.matmul(x.astype("f8"), y.astype("f8")), dtype)
    assert "cuBLAS serves" in blas.why()
