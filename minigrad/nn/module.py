"""Module: a function with parameters, made of other modules.

Assigning is declaring: `self.weight = Parameter(...)` and `self.inner = Linear(3, 4)` in a subclass's
`__init__` make `weight` and everything inside `inner` known to `parameters()`, `state_dict()`, `to()` and
`train()`. The values are ordinary attributes; the one thing kept beside them is `_members`: which names are
parameters, buffers and modules, in the order of their declaration.

A Parameter is never replaced by the functions here: `to`, `load_state_dict` and their like change its
contents, so optimizers and tied layers that hold it stay right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..arena import move as move_arena
from ..arena import zero_grad
from ..tensor import Parameter, Tensor
from .hooks import Hooks
from .placement import destination, move
from .state import load_state, save_state

PARAMETER, BUFFER, MODULE = "parameter", "buffer", "module"
_TYPES = {PARAMETER: Parameter, BUFFER: Tensor}  # and MODULE: Module, below


class Module(Hooks):
    """The base of all layers and models: write `__init__`, which calls super().__init__(), and `forward`."""

    training: bool
    _members: dict[str, str]  # name -> PARAMETER | BUFFER | MODULE, in the order of declaration
    _unsaved: frozenset[str] = frozenset()  # buffers that state_dict() leaves out

    if TYPE_CHECKING:  # what is assigned in __init__

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self) -> None:
        self.__dict__.update(training=True, _members={})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no forward(); define it, or call a module inside it")

    # -------------------------------------------------------------------------------------------- declaration

    def __setattr__(self, name: str, value: Any) -> None:
        kind = self.__dict__.get("_members", {}).get(name)
        if isinstance(value, Parameter):
            kind = self._declare(name, PARAMETER, kind)
        elif isinstance(value, Module):
            kind = self._declare(name, MODULE, kind)
        elif kind is not None and value is not None and not isinstance(value, _TYPES[kind]):
            raise TypeError(
                f"{type(self).__name__}.{name} is a {kind}; a {_TYPES[kind].__name__} or None can go "
                f"there, not {type(value).__name__}"
            )
        object.__setattr__(self, name, value)

    def _declare(self, name: str, kind: str, before: str | None) -> str:
        """Note that `name` is a `kind`; a name that changes its kind moves to the end."""
        if "_members" not in self.__dict__:
            raise AttributeError(
                f"{type(self).__name__}.{name}: call super().__init__() before assigning a {kind}"
            )
        if before != kind:
            self._members.pop(name, None)
            self._members[name] = kind
        return kind

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._members.pop(name, None)

    def _register(self, name: str, value: Any, kind: str) -> None:
        if "_members" not in self.__dict__:
            raise AttributeError(
                f"{type(self).__name__}: call super().__init__() before registering a {kind}"
            )
        if not isinstance(name, str):
            raise TypeError(f"register_{kind}: the name is a {type(name).__name__}, not a string")
        if "." in name or not name:
            raise KeyError(f"register_{kind}: {name!r} is no name; it must not be empty nor contain a dot")
        if hasattr(self, name) and self._members.get(name) != kind:
            raise KeyError(f"register_{kind}: {type(self).__name__} already has an attribute {name!r}")
        if value is not None and not isinstance(value, _TYPES[kind]):
            raise TypeError(
                f"register_{kind}: {name!r} is a {type(value).__name__}, not a {_TYPES[kind].__name__}"
            )
        self._declare(name, kind, self._members.get(name))
        object.__setattr__(self, name, value)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """`self.name = param`, where param may be None: a parameter that this instance does without."""
        if isinstance(param, Tensor) and param.node is not None:
            raise ValueError(f"register_parameter: {name!r} was computed; a parameter is a leaf")
        self._register(name, param, PARAMETER)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """`self.name = tensor`: state that moves with the module and is saved with it (if persistent), not
        trained."""
        self._register(name, tensor, BUFFER)
        self._unsaved = self._unsaved - {name} if persistent else self._unsaved | {name}

    def register_module(self, name: str, module: Module | None) -> None:
        """`self.name = module`, where the name may be any string without a dot."""
        self._register(name, module, MODULE)

    add_module = register_module

    def _of_kind(self, kind: str) -> Mapping[str, Any]:
        return MappingProxyType({n: self.__dict__[n] for n, k in self._members.items() if k == kind})

    _parameters = property(
        lambda self: self._of_kind(PARAMETER), doc="This module's own parameters, by name."
    )
    _buffers = property(lambda self: self._of_kind(BUFFER), doc="This module's own buffers, by name.")
    _modules = property(lambda self: self._of_kind(MODULE), doc="This module's own modules, by name.")

    # ----------------------------------------------------------------------------------------- what is inside

    def named_modules(
        self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) for this module and all below; one that stands in two places comes once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, path, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all modules below it."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) for the modules directly below this one."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules directly below this one."""
        return (module for _, module in self.named_children())

    def _named(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        owners = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        seen = set()
        for path, owner in owners:
            for name, value in owner._of_kind(kind).items():
                if value is None or (remove_duplicate and value in seen):
                    continue
                seen.add(value)
                yield f"{path}.{name}" if path else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) for all parameters; a tied one comes once, under its first name."""
        return self._named(PARAMETER, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer) for all buffers."""
        return self._named(BUFFER, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module of a dotted name; AttributeError names the part that is missing."""
        found: Any = self
        for name in target.split(".") if target else []:
            owner, found = found, found.__dict__.get(name)
            if not isinstance(found, Module):
                raise AttributeError(
                    f"get_submodule({target!r}): {type(owner).__name__} has no module {name!r}"
                )
        return found

    def _get(self, target: str, kind: str) -> Any:
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        if owner._members.get(name) != kind:
            raise AttributeError(f"get_{kind}({target!r}): {type(owner).__name__} has no {kind} {name!r}")
        return owner.__dict__[name]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of a dotted name."""
        return self._get(target, PARAMETER)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of a dotted name."""
        return self._get(target, BUFFER)

    # ------------------------------------------------------------------------------------------- changing all

    def train(self, mode: bool = True) -> Module:
        """Training mode for this module and all below (dropout drops); `eval()` is the other one."""
        if not isinstance(mode, bool):
            raise TypeError(f"train: the mode is a {type(mode).__name__}, not a bool")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Evaluation mode: train(False)."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Ask for gradients of all parameters, or freeze them."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters; with set_to_none=False fill them with zeros."""
        zero_grad(self.parameters(), set_to_none)

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """fn(module) for every module below, then for this one: for initialisation."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Module:
        """Move to a device, cast floating parameters and buffers, or both: to(device), to(dtype),
        to(device, dtype), to(tensor).

        In place: the Parameters stay the same objects; gradients and optimizer state move with them.
        """
        where, kind = destination(*args, **kwargs)
        tensors = list(chain(self.parameters(), self.buffers()))
        move_arena(tensors, where, kind.numpy if kind else None)
        for tensor in tensors:
            if tensor.arena is None:
                move(tensor, where, kind)
            if tensor.grad is not None and tensor.grad is not tensor.slot:
                move(tensor.grad, where, kind)
        return self

    def cuda(self, device: Any = None) -> Module:
        """to("cuda"), or to that GPU."""
        return self.to(f"cuda:{device}" if isinstance(device, int) else device or "cuda")

    def cpu(self) -> Module:
        """to("cpu")"""
        return self.to("cpu")

    def type(self, dst_type: Any) -> Module:
        """to(dtype)"""
        return self.to(dtype=dst_type)

    def float(self) -> Module:
        """to(float32)"""
        return self.to(dtype="float32")

    def double(self) -> Module:
        """to(float64)"""
        return self.to(dtype="float64")

    def half(self) -> Module:
        """to(float16)"""
        return self.to(dtype="float16")

    def bfloat16(self) -> Module:
        """to(bfloat16)"""
        return self.to(dtype="bfloat16")

    # ---------------------------------------------------------------------------------------- state, printing

    def state_dict(
        self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Tensor]:
        """Dotted name -> parameter or persistent buffer, detached but sharing memory (with keep_vars,
        themselves)."""
        return save_state(self, destination, prefix, keep_vars)

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> Any:
        """Copy the values of a state_dict() into this module's parameters and buffers.

        Names must match exactly unless strict is False, shapes always; RuntimeError lists what does not, and
        then nothing was changed. Returns (missing_keys, unexpected_keys). Values are cast and moved to where
        they go.
        """
        return load_state(self, state_dict, strict, assign)

    def extra_repr(self) -> str:
        """What stands between the parentheses when a module is printed; for subclasses to define."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        inner = [f"({name}): " + repr(m).replace("\n", "\n  ") for name, m in self._modules.items()]
        if len(lines) == 1 and not inner:
            return f"{self._get_name()}({extra})"
        body = "".join(f"\n  {line}" for line in lines + inner)
        return f"{self._get_name()}({body}\n)" if body else f"{self._get_name()}()"


_TYPES[MODULE] = Module
