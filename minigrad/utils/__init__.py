"""PyTorch's place for what is minigrad.data here: `from minigrad.utils.data import DataLoader`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import data

__all__ = ["data"]


def __getattr__(name: str) -> Any:
    """Loaded when it is first used."""
    if name == "data":
        return import_module("minigrad.utils.data")
    raise AttributeError(f"module 'minigrad.utils' has no attribute {name!r}; it has data")
