"""Into other types and places, and out of minigrad: to, float, cpu, clone, numpy, item, tolist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend, ops
from ..backend import CPU, as_dtype, on_device, resolve_device
from ..grad_mode import is_grad_enabled
from ..tensor import Tensor
from .promote import cast, check_operand, scalar, tensor_of
from .register import method, public

# -------------------------------------------------------------------------------------- another type or place


def _is_device(value: Any) -> bool:
    return isinstance(value, backend.device) or (
        isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda")
    )


@method
def to(self: Tensor, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False,
       copy: bool = False) -> Tensor:  # fmt: skip
    """to(dtype), to(device), to(device, dtype), to(other): x itself when nothing changes, unless copy=True.

    non_blocking is accepted without effect: a copy to the GPU is ordered with what follows it.
    """
    rest = list(args)
    if rest and isinstance(rest[0], Tensor):
        other = rest.pop(0)
        device, dtype = other.device, other.dtype
    elif rest and not isinstance(rest[0], bool):
        if rest[0] is None or _is_device(rest[0]):
            device = rest.pop(0)
        if rest and not isinstance(rest[0], bool):
            dtype = rest.pop(0)
    if len(rest) > 2 or not all(isinstance(v, bool) for v in rest):
        raise TypeError(f"to: arguments {args}; the forms are to(dtype), to(device, dtype) and to(other)")
    copy = rest[1] if len(rest) == 2 else copy
    out = self
    if device is not None and (where := resolve_device(device)) != self.device:
        out = ops.move(out, where)
    if dtype is not None:
        out = cast(out, as_dtype(dtype))
    return ops.clone(out) if copy and out is self else out


@method
def type(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The tensor in another dtype; without one, the name of its type, like 'minigrad.FloatTensor'."""
    if dtype is None:
        names = dict(bool="Bool", uint8="Byte", int8="Char", int16="Short", int32="Int", int64="Long")
        names |= dict(float16="Half", bfloat16="BFloat16", float32="Float", float64="Double")
        return f"minigrad.{'cuda.' if self.is_cuda else ''}{names[self.dtype.name]}Tensor"
    return cast(self, as_dtype(dtype))


@method
def type_as(self: Tensor, other: Tensor) -> Tensor:
    """The tensor with the dtype and device of `other`."""
    return to(self, other)


def _cast_method(name: str, d: backend.dtype) -> Callable:
    def typed(self: Tensor) -> Tensor:
        return cast(self, d)

    typed.__name__, typed.__doc__ = name, f"The tensor as {d.name}; itself when it is one."
    return method(typed)


for _name in "double half bfloat16 long short float int bool".split():
    _cast_method(_name, as_dtype(_name))
_cast_method("char", backend.int8)
_cast_method("byte", backend.uint8)


@method
def cpu(self: Tensor) -> Tensor:
    """The tensor in the memory of the host; itself when it is there."""
    return ops.move(self, CPU) if on_device(self.array) else self


@method
def cuda(self: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """The tensor on a GPU, the current one unless `device` says which."""
    return to(self, "cuda" if device is None else f"cuda:{device}" if device.__class__ is int else device)


@public
@method
def clone(input: Tensor) -> Tensor:
    """A copy in memory of its own; gradients pass through."""
    return ops.clone(input)


# --------------------------------------------------------------------------------------- into the same memory


def _filled(self: Tensor, value: Tensor, name: str) -> Tensor:
    """self with the values of another tensor; in a graph its old values get the gradient 0."""
    shape, into = value.array.shape, self.array.shape
    if len(shape) > len(into) or any(n not in (1, m) for n, m in zip(shape[::-1], into[::-1])):
        raise ValueError(f"{name}: a tensor of shape {shape} does not broadcast to {into}")
    value = cast(to(value, device=self.device), self.dtype)
    if is_grad_enabled() and (self.requires_grad or value.requires_grad):
        return self.changed(ops.overwrite(self, value), name)
    return self.changed(ops.expand(value, self.array.shape), name)


@method
def copy_(self: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """Take over the values of src, broadcast to this shape and cast to this dtype; gradients flow to src."""
    return _filled(self, tensor_of("copy_", src), "copy_")


@method
def fill_(self: Tensor, value: Any) -> Tensor:
    """Set every element to a number, or to the value of a 0-d tensor."""
    if isinstance(value, Tensor):
        if value.array.ndim:
            raise ValueError(f"fill_: the value has shape {tuple(value.shape)}; it must be a number or 0-d")
        return _filled(self, value, "fill_")
    check_operand("fill_", value)
    return _filled(self, Tensor(scalar(value, self.dtype)), "fill_")


@method
def zero_(self: Tensor) -> Tensor:
    """Set every element to 0."""
    return fill_(self, 0)


# ------------------------------------------------------------------------------------------- leaving minigrad


@method
def numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """The values as a numpy.ndarray on the same memory. force=True detaches, and copies from a GPU."""
    if force:
        return backend.to_host(self.array)
    if self.requires_grad:
        raise RuntimeError("numpy: this tensor requires gradients; use .detach().numpy()")
    if self.is_cuda:
        raise TypeError(f"numpy: this tensor is on {self.device}; use .cpu().numpy()")
    return self.array


def _array(self: Tensor, dtype: Any = None, copy: Any = None) -> np.ndarray:
    """What np.asarray(tensor) asks for."""
    return np.array(self.numpy(), dtype=dtype, copy=copy)


@method
def item(self: Tensor) -> Any:
    """The one value as a Python number. On a GPU this waits for the device."""
    if self.array.size != 1:
        raise ValueError(f"item: a tensor of shape {tuple(self.shape)} has not one element; use tolist()")
    value = backend.to_host(self.array).item()
    return float(value) if self.dtype.is_floating_point else value


@method
def tolist(self: Tensor) -> Any:
    """The values as nested lists of numbers; a number for a 0-d tensor. On a GPU this waits for it."""
    array = backend.to_host(self.array)
    return (array.astype(np.float32) if self.dtype is backend.bfloat16 else array).tolist()


def _bool(self: Tensor) -> bool:
    if self.array.size != 1:
        raise ValueError(
            f"the truth of a tensor of shape {tuple(self.shape)} is ambiguous; use .any() or .all()"
        )
    return bool(item(self))


def _index(self: Tensor) -> int:
    if self.dtype.is_floating_point:
        raise TypeError(f"a {self.dtype.name} tensor is no index; use an integer tensor")
    return int(item(self))


for _name, _function in {
    "__array__": _array,
    "__bool__": _bool,
    "__index__": _index,
    "__float__": lambda self: float(item(self)),
    "__int__": lambda self: int(item(self)),
}.items():
    setattr(Tensor, _name, _function)


@method
def __deepcopy__(self: Tensor, memo: dict) -> Tensor:
    """A leaf with its own memory; RuntimeError for a computed tensor, whose graph cannot be copied."""
    if self.node is not None:
        raise RuntimeError("deepcopy: only leaves can be copied deeply; use .detach().clone()")
    out = self.__class__.__new__(self.__class__)
    memo[id(self)] = out
    Tensor.__init__(out, self.array.copy())
    out.requires_grad = self.requires_grad
    if self.grad is not None:
        out.grad = Tensor(self.grad.array.copy())
    return out


@method
def __reduce_ex__(self: Tensor, protocol: Any) -> tuple:
    """What pickle keeps: values, type and requires_grad; neither graph nor gradient, as PyTorch's."""
    return _restored, (self.__class__, self.array, self.requires_grad)


def _restored(cls: Any, array: Any, requires_grad: bool) -> Tensor:
    out = cls.__new__(cls)
    Tensor.__init__(out, array)
    out.requires_grad = requires_grad
    return out
