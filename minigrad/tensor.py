"""A Tensor: an array, and where it came from.

    array           numpy.ndarray or cupy.ndarray: the values, and the device
    requires_grad   whether gradients are wanted for it
    node            the recorded operation that made it; None for a leaf (a parameter, or data)
    grad            for a leaf: the gradient that backward() accumulates, a Tensor
    version         (count of in-place changes,), one list shared by all views of the same memory

Arithmetic, printing and the many methods of a Tensor are attached by the public face (minigrad/public), with
PyTorch's names; this file has what every Tensor needs: its attributes, backward, hooks, and the rules of
changing in place. A Tensor that is part of a graph is changed only by rebinding it to a new result (`x += y`
on a tensor that is not a view), or under no_grad(); what a recorded operation still needs is guarded by its
version.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend
from .backend import Array, device, dtype, dtype_of
from .hooks import Handle
from .size import Size

_generic = np.generic
UNCHANGED = (0,)  # the version of a tensor until its first change or view


if TYPE_CHECKING:  # the shape of an operator, for the type checker

    def _operator(self: Any, other: Any) -> Tensor: ...

    def _unary(self: Any) -> Tensor: ...


class Tensor:
    """An array with a gradient. Made by `mg.tensor(...)` and the other creation functions."""

    # What every operation touches is in slots; the rest, which few tensors have, falls back on the class
    __slots__ = ("__dict__", "__weakref__", "array", "node", "requires_grad", "version")

    grad: Tensor | None = None
    hooks: dict | None = None  # of a leaf; those of other tensors stand at their node
    arena: Any = None  # of a parameter that an optimizer trains: the buffer that holds it,
    offset = stop = 0  # from where to where in that (pads included),
    slot: Tensor | None = None  # and where its gradient goes
    is_view = scaled = False  # scaled: a gradient of a loss that a GradScaler scaled
    __array_priority__ = 1000  # numpy_array * tensor is our business

    if TYPE_CHECKING:  # methods attached by the public face

        def __getattr__(self, name: str) -> Any: ...

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _operator
        __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _operator
        __matmul__ = __rmatmul__ = __and__ = __or__ = __xor__ = __lshift__ = __rshift__ = _operator
        __iadd__ = __isub__ = __imul__ = __itruediv__ = __lt__ = __le__ = __gt__ = __ge__ = _operator
        __neg__ = __abs__ = __invert__ = _unary
        __getitem__ = _operator

        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __iter__(self) -> Iterator[Tensor]: ...

    def __init__(self, array: Array):
        if isinstance(array, _generic):  # NumPy turns 0-d results into scalars
            array = np.asarray(array)
        self.array = array
        self.node: Any = None
        self.requires_grad = False
        self.version: Any = UNCHANGED

    # --------------------------------------------------------------------------------------------- attributes

    @property
    def shape(self) -> Size:
        return Size(self.array.shape)

    @property
    def dtype(self) -> dtype:
        return dtype_of(self.array)

    @property
    def device(self) -> device:
        return backend.device_of(self.array)

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def is_leaf(self) -> bool:
        """True for what the user made: `.grad` is filled for leaves that require gradients."""
        return self.node is None

    @property
    def grad_fn(self) -> Any:
        return self.node

    @property
    def is_cuda(self) -> bool:
        return backend.on_device(self.array)

    @property
    def _version(self) -> int:
        return self.version[0]

    @property
    def data(self) -> Tensor:
        """The same values outside the graph. Assigning copies into this tensor's memory."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if tuple(value.shape) != tuple(self.shape):
            raise ValueError(f"data: shape {tuple(value.shape)} into a tensor of shape {tuple(self.shape)}")
        self.array[...] = backend.to_device(value.array, self.device)
        self.touch()

    def __len__(self) -> int:
        if not self.array.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.array.shape[0]

    __hash__ = object.__hash__  # by identity, though == compares values

    # ---------------------------------------------------------------------------------------------- the graph

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Add d(self)/d(leaf) to `.grad` of every leaf (or `inputs`); `gradient` for a non-scalar."""
        from . import autograd

        autograd.backward(self, gradient, retain_graph, create_graph, inputs)

    def unit_gradient(self) -> Tensor:
        """The gradient of self with respect to itself: one."""
        key = (self.array.dtype, self.array.shape, self.device)
        if (found := _ones.get(key)) is None:
            found = _ones[key] = Tensor(backend.full(self.array.shape, 1, self.array.dtype, self.device))
        return found

    def detach(self) -> Tensor:
        """The same memory, outside the graph."""
        out = Tensor(self.array)
        out.version, out.is_view = self.shared_version(), True
        return out

    def detach_(self) -> Tensor:
        """Leave the graph, in place."""
        self.node, self.requires_grad = None, False
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for gradients (of a floating leaf), or stop asking. In place; returns self."""
        if requires_grad and not self.dtype.is_floating_point:
            raise TypeError(
                f"requires_grad_: only floating tensors have gradients, this is {self.dtype.name}"
            )
        if not requires_grad and self.node is not None:
            raise RuntimeError("requires_grad_(False): this tensor was computed; use detach()")
        self.requires_grad = bool(requires_grad)
        return self

    def retain_grad(self) -> None:
        """Fill `.grad` of a computed tensor too. It is called on the tensor, before backward."""
        if not self.requires_grad:
            raise RuntimeError("retain_grad: this tensor does not require gradients")
        if self.node is not None:
            self.node.out = weakref.ref(self)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Handle:
        """Call hook(gradient) when the gradient is complete; a Tensor that it returns replaces it."""
        if not self.requires_grad:
            raise RuntimeError("register_hook: this tensor does not require gradients")
        holder = self if self.node is None else self.node
        if holder.hooks is None:
            holder.hooks = {}
        return Handle(holder.hooks, hook)

    # -------------------------------------------------------------------------------------- changing in place

    def touch(self) -> None:
        """Count a change in place: graphs that still need the old values will refuse to go on."""
        self.shared_version()[0] += 1

    def shared_version(self) -> list:
        """The version as a list, for views of the same memory to share."""
        if self.version.__class__ is tuple:
            self.version = [0]
        return self.version

    def changed(self, result: Tensor, name: str) -> Tensor:
        """Take over the value of `result`, for an in-place operation; every in-place method ends here.

        Outside a graph, the values go into this tensor's memory. In a graph, self is rebound to the result,
        which is refused for a leaf (its gradient would be lost) and for a view (its base would not see it).
        """
        from .grad_mode import is_grad_enabled

        if tuple(result.shape) != tuple(self.shape):
            raise ValueError(
                f"{name}: the result has shape {tuple(result.shape)}, this tensor {tuple(self.shape)}"
            )
        if (
            result.array.dtype != self.array.dtype
            and dtype_of(result.array).priority // 10 > self.dtype.priority // 10
        ):
            raise TypeError(
                f"{name}: a {result.dtype.name} result does not fit into a {self.dtype.name} tensor"
            )
        if is_grad_enabled() and (self.requires_grad or result.requires_grad):
            if self.requires_grad and self.node is None:
                raise RuntimeError(
                    f"{name}: a leaf that requires gradients is changed in place; use no_grad()"
                )
            if self.is_view or len(self.version) > 1:
                raise RuntimeError(
                    f"{name}: a view in a graph is changed in place; use the out-of-place form"
                )
            if result.array.dtype != self.array.dtype:
                result = result.to(self.dtype)
            self.touch()
            self.array, self.node, self.requires_grad = result.array, result.node, result.requires_grad
            return self
        self.array[...] = result.array
        self.touch()
        return self


_ones: dict[tuple, Tensor] = {}  # the gradients that backward passes start from; never written to


class Parameter(Tensor):
    """A leaf that a Module owns and an optimizer trains. It is never rebound: `p.data = x` copies in."""

    def __init__(self, data: Any, requires_grad: bool = True):
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter: {type(data).__name__} is no Tensor; use Parameter(mg.tensor(...))")
        super().__init__(data.array)
        self.requires_grad = requires_grad
        if requires_grad and not self.dtype.is_floating_point:
            raise TypeError(f"Parameter: only floating tensors have gradients, this is {self.dtype.name}")

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"
