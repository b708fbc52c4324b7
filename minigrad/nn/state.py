"""A module's state as a dictionary, dotted name -> Tensor, with PyTorch's names, and back.

Loading copies into the Tensors that are there, after everything has been checked: either all of it goes in,
or an error lists what does not fit and nothing has changed.
"""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import device_of, to_device
from ..tensor import Tensor

if TYPE_CHECKING:
    from .module import Module


class IncompatibleKeys(namedtuple("IncompatibleKeys", "missing_keys unexpected_keys")):
    """What load_state_dict(strict=False) could not match: two lists of names."""

    __slots__ = ()

    def __repr__(self) -> str:
        return super().__repr__() if any(self) else "<All keys matched successfully>"


def _saved(module: Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) for all that is saved; tied tensors under each of their names, as in PyTorch."""
    own = {**module._parameters, **module._buffers}
    for name, tensor in own.items():
        if tensor is not None and name not in module._unsaved:
            yield prefix + name, tensor
    for name, child in module._modules.items():
        if child is not None:
            yield from _saved(child, f"{prefix}{name}.")


def save_state(module: Module, destination: Any, prefix: str, keep_vars: bool) -> dict[str, Tensor]:
    """The work of Module.state_dict."""
    found = OrderedDict() if destination is None else destination
    saved = list(_saved(module, prefix))
    for arena in {id(t.arena): t.arena for _, t in saved if t.arena is not None}.values():
        for optimizer in arena.states:  # one that has put something else in place of the weights
            getattr(optimizer, "refuse_to_save", _no_objection)([t for _, t in saved])
    for name, tensor in saved:
        found[name] = tensor if keep_vars else tensor.detach()
    return found


def _no_objection(params: Any) -> None:
    """What most optimizers say: their parameters are the weights."""


def load_state(module: Module, state: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """The work of Module.load_state_dict."""
    what = f"load_state_dict of {type(module).__name__}"
    if not isinstance(state, Mapping):
        raise TypeError(f"{what}: expected a dictionary of tensors, not {type(state).__name__}")
    if assign:
        raise ValueError(f"{what}: assign=True would replace Parameters; values are always copied into them")
    targets = dict(_saved(module, ""))
    missing = [name for name in targets if name not in state]
    unexpected = [name for name in state if name not in targets]
    wrong = []
    for name, target in targets.items():
        value = state.get(name, target)
        if not isinstance(value, (Tensor, np.ndarray)):
            wrong.append(f"{name} is a {type(value).__name__}, not a Tensor")
        elif tuple(value.shape) != tuple(target.shape):
            wrong.append(
                f"{name} has shape {list(value.shape)} in the dictionary, {list(target.shape)} in the module"
            )
    if strict:
        wrong += [f"missing: {', '.join(missing)}"] * bool(missing)
        wrong += [f"unexpected: {', '.join(unexpected)}"] * bool(unexpected)
    if wrong:
        raise RuntimeError(f"{what}: nothing was loaded:\n    " + "\n    ".join(wrong))
    for name, target in targets.items():
        if name in state:
            value = state[name]
            array = value.array if isinstance(value, Tensor) else value
            target.array[...] = to_device(array, device_of(target.array))
            target.touch()
    return IncompatibleKeys(missing, unexpected)
