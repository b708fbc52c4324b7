"""The module functions and the operators: NumPy's function on the wrapped arrays, one launch counted.

`FUNCTIONS` holds what `cupy.<name>` offers; the tables of `names.py` say which class each belongs to, and the
few that are not simply NumPy's are written out here. Launches inside CuPy's composite functions (`var`,
`pad`, `tensordot`) are counted as one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from . import names
from .array import count_floats, launch, ndarray, unwrap, wrap
from .device import current, garbage

FUNCTIONS: dict[str, Callable] = {}


def settled(host: np.ndarray) -> np.ndarray:
    """The same values in the device's memory."""
    if host.dtype.kind in "OSUMm":
        raise ValueError(f"Unsupported dtype {host.dtype}: the device holds numbers only")
    return current().settle(host)


def _ufunc(name: str) -> Callable:
    """cupy's ufunc: operands, then outputs; keywords out, dtype, casting."""
    ufunc = getattr(np, name)

    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if wrong := {k: v for k, v in kwargs.items() if k not in ("dtype", "casting")}:
            raise TypeError(f"Wrong arguments {wrong}")
        if len(args) == ufunc.nin + 1 and ufunc.nout == 1 and out is None:
            args, out = args[:-1], args[-1]
        if len(args) != ufunc.nin:
            raise TypeError(
                f"Wrong number of arguments for 'cupy_{name}': needs {ufunc.nin}, got {len(args)}"
            )
        for position, a in enumerate(args):
            operand(name, a, position)
        count_floats(name, args)
        return launch(name, ufunc, args, kwargs, out, key=str(kwargs.get("dtype")))

    call.__name__ = name
    return call


def operand(name: str, value: Any, position: int) -> None:
    """TypeError, as CuPy's, for what is neither a device array nor a scalar."""
    if not isinstance(value, (ndarray, bool, int, float, complex, np.generic)):
        raise TypeError(
            f"cupy.{name}: Unsupported type {type(value)} for argument {position}; "
            "NumPy and CuPy arrays do not mix, use cupy.asarray"
        )


def _function(name: str, signature: inspect.Signature, run: Callable) -> Callable:
    """`run(name, arguments)` behind CuPy's own signature; the first argument must be on the device."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as e:
            raise TypeError(f"cupy.{name}{signature}: {e}") from None
        return run(name, bound)

    call.__name__ = name
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def _on_device(name: str, value: Any) -> None:
    if isinstance(value, (list, tuple)) and value:
        for v in value:
            _on_device(name, v)
    elif not isinstance(value, ndarray):
        raise TypeError(
            f"cupy.{name}: Unsupported type {type(value)}; the first argument must be a cupy.ndarray"
        )


def _compute(name: str, bound: inspect.BoundArguments, module: Any = np) -> Any:
    """NumPy's function of the same name, which takes the same arguments in the same order (few do not)."""
    given = bound.arguments
    _on_device(name, given["a"] if name == "compress" else next(iter(given.values())))
    if name == "clip":
        count_floats(name, given.values())
    if isinstance(given.get("repeats"), ndarray):
        current().host_read(name)  # the host must learn the size of the result
    out = given.pop("out", None)
    for optional in ("where", "minlength") + ("dtype",) * (name in ("argmax", "argmin")):
        if given.get(optional) is None:
            given.pop(optional, None)
    in_place = name in ("put_along_axis", "putmask", "copyto")
    return launch(name, getattr(module, name), bound.args, bound.kwargs, out, in_place)


def _read(name: str, bound: inspect.BoundArguments) -> Any:
    current().host_read(name)
    return _compute(name, bound)


def _creation(name: str, bound: inspect.BoundArguments) -> ndarray:
    if name.endswith("_like"):
        _on_device(name, next(iter(bound.arguments.values())))
    bound.arguments.pop("subok", None)
    if name.startswith("empty"):
        return wrap(settled(garbage(getattr(np, name)(*unwrap(name, bound.args), **bound.kwargs))))
    return launch(name, getattr(np, name), bound.args, bound.kwargs)


def _host(name: str, bound: inspect.BoundArguments) -> Any:
    return getattr(np, name)(*unwrap(name, bound.args), **unwrap(name, bound.kwargs))


def _view(name: str, bound: inspect.BoundArguments) -> Any:
    args, kwargs = bound.args, bound.kwargs
    if name in ("broadcast_arrays", "atleast_1d", "atleast_2d"):  # several arrays in, as many views out
        _on_device(name, args)
        if name == "broadcast_arrays":
            shape = np.broadcast_shapes(*(a.shape for a in args))
            return [a._view(lambda h: np.broadcast_to(h, shape)) for a in args]
        views = [a._view(getattr(np, name)) for a in args]
        return views[0] if len(views) == 1 else views
    a, *rest = args
    _on_device(name, a)
    if name == "reshape":
        return a.reshape(bound.arguments["newshape"], order=bound.arguments.get("order", "C"), **kwargs)
    function = getattr(np, name)
    if name.endswith("split"):
        count = len(function(a._host, *rest, **kwargs))
        return [a._view(lambda h, k=k: function(h, *rest, **kwargs)[k]) for k in range(count)]
    return a._view(lambda h: function(h, *rest, **kwargs))


def _as_strided(name: str, bound: inspect.BoundArguments) -> ndarray:
    a, *rest = bound.args
    _on_device(name, a)
    return a._view(lambda h: getattr(np.lib.stride_tricks, name)(h, *rest, **bound.kwargs))


def refuse_capture() -> None:
    """What every cuBLAS, cuSOLVER and cuFFT call of CuPy does while its stream is capturing."""
    if current().capture is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")


def _blas(name: str, bound: inspect.BoundArguments) -> Any:
    refuse_capture()
    operands: Any = bound.args
    if name == "einsum":
        _on_device(name, operands[1:])
        return launch(name, np.einsum, operands, bound.kwargs)
    _on_device(name, operands[:2])
    out = bound.arguments.pop("out", None)
    if name == "matmul" and len(operands) == 3:
        operands, out = operands[:2], operands[2]
    if name == "matmul" and max(a.ndim for a in operands) > 2:
        _count_batched(*operands)
    function = getattr(np, name)
    bfloat16 = operands[0].dtype
    if bfloat16.name == "bfloat16":  # NumPy answers in float32, CuPy in the operands' type

        def function(*ab, **named):
            return np.asarray(getattr(np, name)(*ab, **named)).astype(bfloat16)

    named = {k: v for k, v in bound.kwargs.items() if k != "out"}
    return launch(name, function, operands, named, out)


def _count_batched(a: ndarray, b: ndarray) -> None:
    """The launches that CuPy 14.2 hides behind a batched matmul."""
    if a.dtype.name == "bfloat16":
        raise TypeError("data type 'E' not understood")  # cupy.matmul has no batched bfloat16
    hidden = ["matmul copy" for x in (a, b) if not x.flags.c_contiguous]
    hidden += ["matmul cast"] * 3 * (a.dtype == np.float16)
    hidden += ["matmul pointers"] * 3 * (b.ndim == 2)
    for name in hidden:
        current().note("launch_log", name)


def _linalg(name: str, bound: inspect.BoundArguments) -> Any:
    if name != "norm":  # CuPy's norm is made of reductions, the others of cuSOLVER
        refuse_capture()
    return _compute(name, bound, np.linalg)


def where(name: str, bound: inspect.BoundArguments) -> Any:
    condition, x, y = (bound.arguments.get(p) for p in ("condition", "x", "y"))
    _on_device(name, condition)
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        return FUNCTIONS["nonzero"](condition)
    operand(name, x, 1)
    operand(name, y, 2)
    count_floats(name, (x, y))
    return launch(name, np.where, (condition, x, y))


def array(name: str, bound: inspect.BoundArguments) -> ndarray:
    """Device array -> itself or a copy; device arrays in a list -> one launch; anything else is an upload."""
    bound.apply_defaults()
    given = bound.arguments
    obj = given["obj"] if name == "array" else given["a"]
    dtype, copy = given["dtype"], given["copy"]
    if isinstance(obj, ndarray):
        if dtype is not None and obj.dtype != np.dtype(dtype):
            return obj.astype(dtype)
        return obj.copy() if copy else obj
    if isinstance(obj, (list, tuple)) and _holds_device(obj):
        _on_device(name, obj)
        return launch(name, lambda nested: np.array(nested, dtype), (obj,))
    host = np.array(obj, dtype, ndmin=given.get("ndmin", 0))
    current().upload(name)
    return wrap(settled(host))


def _holds_device(obj: Any) -> bool:
    return any(isinstance(o, ndarray) or (isinstance(o, (list, tuple)) and _holds_device(o)) for o in obj)


def asnumpy(name: str, bound: inspect.BoundArguments) -> np.ndarray:
    a, out = bound.arguments["a"], bound.arguments.get("out")
    if isinstance(a, ndarray):
        return a._read(name, out, bound.arguments.get("order", "C"))
    return np.asarray(a)


def _table(text: str, run: Callable) -> dict[str, Callable]:
    return {name: _function(name, signature, run) for name, signature in names.signatures(text).items()}


FUNCTIONS |= {name: _ufunc(name) for name in names.UFUNCS}
FUNCTIONS |= _table(names.VIEWS, _view) | _table(names.COMPUTE, _compute) | _table(names.READS, _read)
FUNCTIONS |= _table(names.BLAS, _blas) | _table(names.CREATION, _creation) | _table(names.HOST, _host)
_special = names.signatures(names.SPECIAL)
for _name, _run in dict(array=array, asarray=array, asanyarray=array, asnumpy=asnumpy, where=where).items():
    FUNCTIONS[_name] = _function(_name, _special[_name], _run)
LINALG = _table(names.LINALG, _linalg)
STRIDE_TRICKS = _table(names.STRIDE_TRICKS, _as_strided)


# operators and methods: the functions again, under the array's names


def _defers(other: Any) -> bool:
    """True for objects that take over the operation, by NumPy's protocol (a Tensor; never a NumPy array)."""
    if isinstance(other, (ndarray, np.ndarray, np.generic)):
        return False
    return getattr(other, "__array_ufunc__", ()) is None or getattr(other, "__array_priority__", 0) > 100


def _binary(name: str) -> tuple[Callable, Callable, Callable]:
    function = FUNCTIONS[name]

    def forward(self: ndarray, other: Any) -> Any:
        return NotImplemented if _defers(other) else function(self, other)

    def reflected(self: ndarray, other: Any) -> Any:
        return NotImplemented if _defers(other) else function(other, self)

    def in_place(self: ndarray, other: Any) -> Any:
        return NotImplemented if _defers(other) else function(self, other, out=self)

    return forward, reflected, in_place


_OPERATORS = dict(add="add", sub="subtract", mul="multiply", truediv="divide", floordiv="floor_divide")
_OPERATORS |= dict(mod="remainder", pow="power", lshift="left_shift", rshift="right_shift")
_OPERATORS |= {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"}
for _op, _name in _OPERATORS.items():
    for _prefix, _method in zip(("", "r", "i"), _binary(_name), strict=True):
        setattr(ndarray, f"__{_prefix}{_op}__", _method)
for _op in ("divmod", "matmul"):  # CuPy has no in-place form of these
    for _prefix, _method in zip(("", "r"), _binary(_op), strict=False):
        setattr(ndarray, f"__{_prefix}{_op}__", _method)
_COMPARISONS = dict(eq="equal", ne="not_equal", lt="less", le="less_equal", gt="greater", ge="greater_equal")
for _op, _name in _COMPARISONS.items():
    setattr(ndarray, f"__{_op}__", _binary(_name)[0])
for _op, _name in dict(neg="negative", pos="positive", abs="absolute", invert="invert").items():
    setattr(ndarray, f"__{_op}__", lambda self, _f=FUNCTIONS[_name]: _f(self))
ndarray.__hash__ = None  # type: ignore[method-assign, assignment]


def _as_method(name: str, signature: inspect.Signature) -> Callable:
    function = FUNCTIONS[name]
    first, *_ = inspect.signature(function).parameters

    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        return function(**{first: given.pop("self"), **given})

    call.__name__ = name
    return call


for _name, _signature in names.signatures(names.METHODS).items():
    setattr(ndarray, _name, _as_method(_name, _signature))
