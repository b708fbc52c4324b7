"""The fake CuPy keeps its promises: it has CuPy's names, refuses what CuPy refuses, and hides no host read.

Every other test that runs on it stands on these. Names and signatures are compared with the installed CuPy,
which needs no GPU for that.
"""

import inspect
import pickle

import fake_cupy
import numpy as np
import pytest
from fake_cupy import names
from oracle import oracle


@pytest.fixture
def device():
    with fake_cupy.installed() as device:
        yield device


@pytest.fixture
def cp(device):
    import cupy

    return cupy


def on_device(cp, shape=(2, 3), dtype="float32"):
    return cp.asarray((np.arange(np.prod(shape)) + 1).reshape(shape).astype(dtype))


# the same names and signatures as CuPy


def parameters(signature):
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


TABLES = [
    names.VIEWS,
    names.COMPUTE,
    names.READS,
    names.BLAS,
    names.CREATION,
    names.HOST,
    names.SPECIAL,
]


def test_every_function_of_the_fake_has_the_signature_of_the_installed_cupy():
    cupy = oracle("cupy")
    recorded = {n: (cupy, s) for table in TABLES for n, s in names.signatures(table).items()}
    recorded |= {n: (cupy.linalg, s) for n, s in names.signatures(names.LINALG).items()}
    recorded |= {n: (cupy.lib.stride_tricks, s) for n, s in names.signatures(names.STRIDE_TRICKS).items()}
    compiled = {"size"}  # without a signature that Python can read
    wrong = {
        n: str(inspect.signature(getattr(module, n)))
        for n, (module, s) in recorded.items()
        if n not in compiled and parameters(inspect.signature(getattr(module, n))) != parameters(s)
    }
    assert wrong == {}
    assert len(recorded) > 100


def test_every_ufunc_and_shared_object_of_the_fake_is_cupys():
    cupy = oracle("cupy")
    assert [n for n in names.UFUNCS if not isinstance(getattr(cupy, n, None), cupy.ufunc)] == []
    assert [n for n in names.SHARED if getattr(cupy, n, None) is not getattr(np, n)] == []


def test_everything_the_fake_module_offers_exists_in_cupy():
    cupy = oracle("cupy")
    entries = fake_cupy.modules()
    for name in ("cupy", "cupy.cuda", "cupy.cuda.runtime", "cupy.linalg", "cupy.lib.stride_tricks"):
        real = eval(name, {"cupy": cupy})
        offered = [n for n in vars(entries[name]) if not n.startswith("__")]
        assert [n for n in offered if not hasattr(real, n)] == [], name
    for kind in ("Device", "Stream", "Event", "Graph", "MemoryPool"):
        fake, real = getattr(entries["cupy"].cuda, kind), getattr(cupy.cuda, kind)
        assert [n for n in dir(fake) if n[0] != "_" and not hasattr(real, n)] == [], kind


def test_every_public_attribute_of_a_fake_array_is_cupys():
    cupy = oracle("cupy")
    assert [n for n in dir(fake_cupy.ndarray) if n[0] != "_" and not hasattr(cupy.ndarray, n)] == []


def test_methods_have_the_signatures_of_cupys_docstrings():
    cupy = oracle("cupy")
    for name, signature in names.signatures(names.METHODS).items():
        first = getattr(cupy.ndarray, name).__doc__.split("\n")[0].split(" -> ")[0]
        first = first.removeprefix("_ndarray_base.").replace("Py_ssize_t ", "")
        assert first == f"{name}{signature}"


def test_a_name_the_fake_lacks_is_an_attribute_error_that_says_where_to_add_it(cp):
    with pytest.raises(AttributeError, match=r"cupy.*'nanmedian'.*names\.py"):
        _ = cp.nanmedian
    with pytest.raises(AttributeError, match="random"):
        _ = cp.random.standard_normal
    with pytest.raises(ImportError):
        import cupyx  # noqa: F401


@pytest.mark.parametrize(
    "call",
    [
        lambda cp, x: cp.add(x, x, where=x),
        lambda cp, x: cp.exp(x, order="K"),
        lambda cp, x: cp.sum(x, initial=0),
        lambda cp, x: cp.max(x, where=x),
        lambda cp, x: cp.zeros((2,), like=x),
        lambda cp, x: cp.clip(x, min=0, max=1),
        lambda cp, x: x.var(mean=0),
        lambda cp, x: cp.add(x),
    ],
)
def test_arguments_that_cupy_does_not_take_are_refused(cp, call):
    with pytest.raises(TypeError):
        call(cp, on_device(cp))


def test_the_refused_keywords_are_refused_by_the_installed_cupy_too():
    cupy = oracle("cupy")
    for call in (lambda: cupy.add(1, 2, where=True), lambda: cupy.exp(1, order="K"), lambda: cupy.add(1)):
        with pytest.raises(TypeError, match="Wrong"):
            call()


# NumPy arrays are refused, and the fake refuses NumPy


REFUSED = {
    "operator": lambda cp, x, h: x + h,
    "reflected operator": lambda cp, x, h: h + x,
    "in-place operator": lambda cp, x, h: x.__iadd__(h),
    "in place on the host": lambda cp, x, h: h.__iadd__(x),
    "comparison": lambda cp, x, h: x < h,
    "reflected comparison": lambda cp, x, h: h == x,
    "matmul": lambda cp, x, h: x @ h.T,
    "reflected matmul": lambda cp, x, h: h.T @ x,
    "ufunc": lambda cp, x, h: cp.maximum(x, h),
    "ufunc out": lambda cp, x, h: cp.exp(x, out=h),
    "where": lambda cp, x, h: cp.where(x > 0, x, h),
    "reduction": lambda cp, x, h: cp.sum(h),
    "reduction out": lambda cp, x, h: cp.sum(x, axis=0, out=h[0]),
    "list member": lambda cp, x, h: cp.concatenate([x, h]),
    "index": lambda cp, x, h: x[np.array([0])],
    "index in a tuple": lambda cp, x, h: x[0, np.array([0])],
    "take": lambda cp, x, h: cp.take(x, np.array([0])),
    "setitem value": lambda cp, x, h: x.__setitem__(0, h[0]),
    "setitem index": lambda cp, x, h: x.__setitem__(np.array([0]), 1),
    "setitem into the host": lambda cp, x, h: h.__setitem__(0, x[0]),
    "fill": lambda cp, x, h: x.fill(h),
    "view": lambda cp, x, h: cp.broadcast_to(h, (4, 2, 3)),
    "0-d array": lambda cp, x, h: x + np.array(1.0),
    "list": lambda cp, x, h: x + [1, 2, 3],
    "reduction of a list": lambda cp, x, h: cp.sum([1, 2]),
    "None": lambda cp, x, h: x == None,  # noqa: E711
    "kernel": lambda cp, x, h: x.__minigrad_host__("k", np.add, x, h),
    "asarray": lambda cp, x, h: np.asarray(x),
    "array of arrays": lambda cp, x, h: np.array([x, x]),
    "numpy ufunc": lambda cp, x, h: np.add(x, x),
    "numpy ufunc out": lambda cp, x, h: np.add(h, h, out=x),
    "numpy function": lambda cp, x, h: np.sum(x),
    "numpy concatenate": lambda cp, x, h: np.concatenate([h, x]),
    "memoryview": lambda cp, x, h: memoryview(x),
    "index of a list": lambda cp, x, h: [1, 2][cp.argmax(x)],
}


@pytest.mark.parametrize("name", REFUSED)
def test_numpy_and_device_arrays_do_not_mix_in(name, cp, device):
    x, h = on_device(cp), np.ones((2, 3), "float32")
    with pytest.raises(TypeError):
        REFUSED[name](cp, x, h)
    assert (h == 1).all() and device.host_reads == []


def test_the_error_names_function_argument_and_cure(cp):
    with pytest.raises(
        TypeError, match=r"cupy\.add: Unsupported type <class 'numpy\.ndarray'> for argument 1.*asarray"
    ):
        on_device(cp) + np.ones(3)
    with pytest.raises(TypeError, match=r"Implicit conversion.*\.get\(\)"):
        np.asarray(on_device(cp))


def test_numpy_scalars_are_operands_and_keep_numpys_promotion(cp):
    x = on_device(cp)
    assert (x * np.float32(2)).dtype == np.float32
    assert (np.float32(2) * x).dtype == np.float32
    assert (x * np.float64(2)).dtype == np.float64
    assert (x * 2.5).dtype == np.float32
    assert type(np.float32(2) - x) is fake_cupy.ndarray


def test_another_library_may_take_over_an_operation(cp):
    class Tensor:
        __array_ufunc__ = None

        def __radd__(self, other):
            return "taken"

    assert on_device(cp) + Tensor() == "taken"


def test_backend_knows_a_device_array_by_its_class(cp):
    assert hasattr(cp.ndarray, "__cuda_array_interface__")
    x = on_device(cp)
    assert not isinstance(x, np.ndarray)
    assert x.__cuda_array_interface__["shape"] == (2, 3)
    assert x.device.id == 0 and x.data.ptr == x.T.data.ptr != x[1].data.ptr
    assert cp.get_array_module(x) is cp and cp.get_array_module(np.ones(2)) is np


def test_stricter_than_cupy_where_cupy_would_go_wrong_silently(cp):
    x = cp.zeros(4)
    with pytest.raises(IndexError):
        x[cp.asarray([4])]
    with pytest.raises(ValueError, match="twice"):
        x[cp.asarray([1, 1])] = cp.ones(2)
    x[cp.asarray([1, 1])] = 5  # one value: no race
    with pytest.raises(ValueError, match="read-only"):
        cp.broadcast_to(cp.ones(1), (3,))[...] = 1


# what the host reads and what it uploads


READS = {
    "float": lambda cp, x: float(x.sum()),
    "int": lambda cp, x: int(x.sum()),
    "bool": lambda cp, x: bool(x.sum()),
    "complex": lambda cp, x: complex(x.sum()),
    "item": lambda cp, x: x.sum().item(),
    "tolist": lambda cp, x: x.tolist(),
    "tobytes": lambda cp, x: x.tobytes(),
    "get": lambda cp, x: x.get(),
    "asnumpy": lambda cp, x: cp.asnumpy(x),
    "repr": lambda cp, x: repr(x),
    "str": lambda cp, x: str(x),
    "format": lambda cp, x: f"{x.sum():.3f}",
    "pickle": lambda cp, x: pickle.dumps(x),
    "boolean mask": lambda cp, x: x[x > 2],
    "nonzero": lambda cp, x: x.nonzero(),
    "argwhere": lambda cp, x: cp.argwhere(x),
    "flatnonzero": lambda cp, x: cp.flatnonzero(x),
    "unique": lambda cp, x: cp.unique(x),
    "bincount": lambda cp, x: cp.bincount(x.astype("int32").ravel()),
    "compress": lambda cp, x: cp.compress(cp.ones(2, bool), x, axis=0),
    "repeat": lambda cp, x: cp.repeat(x, cp.asarray([1, 2]), axis=0),
}


@pytest.mark.parametrize("name", READS)
def test_a_host_read_is_on_record_with_its_line(name, cp, device):
    x = on_device(cp)
    READS[name](cp, x)
    assert device.host_reads == [name]
    assert "test_fake_cupy.py:" in device.host_reads[0].where


def test_one_argument_where_and_branches_on_device_values_are_host_reads(cp, device):
    x = on_device(cp)
    cp.where(x > 2)
    if x.sum() > 3:
        x[x > 2] = x[x > 2]
    assert device.host_reads == ["nonzero", "bool", "boolean mask", "boolean mask"]


def test_what_stays_on_the_device_reads_nothing(cp, device):
    x = on_device(cp)
    loss = (x.sum(axis=0) * x[0, 0] + cp.where(x > 2, x, 0).mean() - x.max()).sum()
    x[x > 2] = 0
    assert (loss.shape, type(loss)) == ((), fake_cupy.ndarray)
    assert type(x[0, 0]) is fake_cupy.ndarray and x[0, 0].ndim == 0
    assert type(cp.allclose(x, x)) is fake_cupy.ndarray
    assert device.host_reads == []


def test_overflow_and_zero_division_do_not_warn_as_on_a_gpu(cp):
    x = cp.zeros(2)
    assert np.isnan((x / x).get()).all() and np.isinf((1 / x).get()).all()


def test_uploads_are_counted_and_set_checks_as_cupy_does(cp, device):
    x = cp.asarray(np.ones(3, "float32"))
    cp.array([1.0, 2.0, 3.0])
    x.set(np.zeros(3, "float32"))
    x[[0, 2]]
    assert device.uploads == ["asarray", "array", "set", "index list"]
    assert cp.asarray(x) is x and device.uploads[4:] == []
    with pytest.raises(TypeError, match="float64"):
        x.set(np.zeros(3))
    with pytest.raises(ValueError, match="Shape"):
        x.set(np.zeros(2, "float32"))
    with pytest.raises(TypeError, match="Only numpy"):
        x.set(x)


def test_python_floats_among_the_operands_are_counted_and_nothing_else_is(cp, device):
    x = on_device(cp)
    x * 2 + np.float32(0.5)
    x.fill(0.5)
    cp.full((2,), 0.5)
    assert device.python_scalars == []
    x * 0.5, 0.5 - x, cp.maximum(x, 0.0), cp.where(x > 0, x, 0.0), x.clip(0.0, 1)
    x /= 3.0
    assert device.python_scalars == ["multiply", "subtract", "maximum", "where", "clip", "divide"]
