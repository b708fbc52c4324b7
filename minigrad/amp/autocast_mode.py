"""`autocast`: a block in which products run in half precision, and what needs more in float32.

Which function does what stands in one table, minigrad/public/autocast.py.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from ..backend import as_dtype, bfloat16, cuda_is_available, dtype, float16
from ..grad_mode import mode
from ..public.autocast import DEFAULTS, Casting

KINDS = ("cuda", "cpu")
SUPPORTED = (bfloat16, float16)


def is_autocast_available(device_type: str) -> bool:
    """Whether autocast knows this kind of device: "cuda" and "cpu"."""
    return device_type in KINDS


def _kind(device_type: Any) -> str:
    """The device type; ValueError for what is no string, RuntimeError for another kind of device."""
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if not is_autocast_available(device_type):
        raise RuntimeError(
            f"User specified an unsupported autocast device_type '{device_type}'; use 'cuda' or 'cpu'"
        )
    return device_type


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """Whether autocast is on in this thread for a kind of device; without one, for any.

    (PyTorch's, without an argument, asks for CUDA alone.)
    """
    types = {} if mode.casting is None else mode.casting.types
    if device_type is None:
        return any(types.values())
    return types.get(_kind(device_type)) is not None


def get_autocast_dtype(device_type: str) -> dtype:
    """The half type for a kind of device: that of the block, else float16 on CUDA and bfloat16 on the CPU."""
    found = None if mode.casting is None else mode.casting.types.get(_kind(device_type))
    return as_dtype(DEFAULTS[_kind(device_type)]) if found is None else found


def is_autocast_cache_enabled() -> bool:
    """Whether casts of parameters are kept until the end of the outermost autocast block."""
    return mode.casting is None or mode.casting.cached


class autocast:
    """Inside `with autocast("cuda"):` the functions of the lists choose their type; also a decorator.

    device_type     "cuda" or "cpu": the tensors that are meant; those of the other device are left alone
    dtype           float16 or bfloat16; None: float16 on CUDA, bfloat16 on the CPU. Another one disables
                    autocast with a warning, as "cuda" without a GPU does
    enabled         False switches it off inside an outer block
    cache_enabled   parameters that no optimizer holds in its arena are cast once a block, not at every use

    Blocks nest; the state is a thread's own. On the CPU a product of halves is computed in float32 and
    rounded once: right, not quick. Call backward outside the block, or inside: it never casts.
    """

    def __init__(
        self,
        device_type: str,
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ):
        self.device = _kind(device_type)
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else as_dtype(dtype)
        self._cache_enabled = is_autocast_cache_enabled() if cache_enabled is None else bool(cache_enabled)
        self._enabled = bool(enabled)
        if enabled and self.fast_dtype not in SUPPORTED:
            kind = device_type.upper()
            warnings.warn(
                f"In {kind} autocast, but the target dtype is not supported. Disabling autocast.\n"
                f"{kind} Autocast only supports dtypes of {', '.join(map(repr, SUPPORTED))} currently.",
                stacklevel=2 + (type(self) is not autocast),
            )
            self._enabled = False
        elif enabled and device_type == "cuda" and not cuda_is_available():
            warnings.warn(
                "CUDA is not available. Disabling autocast.", stacklevel=2 + (type(self) is not autocast)
            )
            self._enabled = False
        self.outer: list[Casting | None] = []  # a stack: one object may be entered again inside itself

    def __enter__(self) -> autocast:
        before: Casting | None = mode.casting
        self.outer.append(before)
        types = {} if before is None else before.types
        types = dict.fromkeys(KINDS) | types | {self.device: self.fast_dtype if self._enabled else None}
        if any(types.values()):
            mode.casting = Casting(types, {} if before is None else before.cast, self._cache_enabled)
        else:
            mode.casting = None
        return self

    def __exit__(self, *exc: Any) -> None:
        mode.casting = self.outer.pop()

    def __call__(self, function: Callable) -> Callable:
        if not callable(function):
            raise TypeError(
                f"autocast()(func) requires a callable, but got {type(function).__name__}; as a context "
                "manager it is `with autocast(device_type):`"
            )

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return wrapped
