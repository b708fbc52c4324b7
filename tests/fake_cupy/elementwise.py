"""cupy.ElementwiseKernel on the fake: CuPy's own class where it is installed, else this stand-in.

Both ask their arguments for `__cupy_override_elementwise_kernel__` before they touch a device. The fake
answers by running minigrad's kernel of that name on the host: CuPy's kernel holds the same text, so the text
tells the flags, and CuPy's parameters, `_g` for `g` and `hp` for the scalars, tell which array is which.
"""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any, NamedTuple

OVERRIDE = "__cupy_override_elementwise_kernel__"


class Parameter(NamedTuple):
    """One declared parameter: "raw T hp" -> ("hp", "T", True)."""

    name: str
    ctype: str
    raw: bool


def _parameters(text: str) -> tuple[Parameter, ...]:
    words = [declared.split() for declared in text.split(",") if declared.strip()]
    return tuple(Parameter(w[-1], w[-2], w[0] == "raw") for w in words)


class ElementwiseKernel:
    """A kernel's declaration. Calling it hands over to the first argument that knows how to run it."""

    def __init__(
        self,
        in_params: str,
        out_params: str,
        operation: str,
        name: str = "kernel",
        reduce_dims: bool = True,
        preamble: str = "",
        no_return: bool = False,
        return_tuple: bool = False,
        **kwargs: Any,
    ):
        self.in_params, self.out_params = _parameters(in_params), _parameters(out_params)
        self.operation, self.name, self.preamble = operation, name, preamble
        self.reduce_dims, self.no_return, self.return_tuple, self.kwargs = (
            reduce_dims,
            no_return,
            return_tuple,
            kwargs,
        )
        self.nin, self.nout = len(self.in_params), len(self.out_params)
        self.nargs = self.nin + self.nout

    def __call__(self, *args: Any, size: int = -1, **kwargs: Any) -> Any:
        for arg in args:
            if hasattr(arg, OVERRIDE):
                return getattr(arg, OVERRIDE)(self, *args, **kwargs)
        raise TypeError(f"kernel {self.name!r} got no device array: {[type(a).__name__ for a in args]}")


def registered(kernel: Any) -> tuple[Any, tuple[str, ...]]:
    """minigrad's kernel and flags behind a CuPy kernel `mg_<name>...`. TypeError if there is none."""
    from kernels.kernel import registry

    named = [k for k in registry.values() if f"{kernel.name}_".startswith(f"mg_{k.name}_")]
    for found in sorted(named, key=lambda k: -len(k.name)):
        subsets = chain.from_iterable(combinations(found.flags, r) for r in range(len(found.flags) + 1))
        texts = {_squeezed(found.text(flags)): flags for flags in subsets}
        if held := [text for text in texts if text in _squeezed(kernel.operation)]:
            return found, texts[max(held, key=len)]
    raise TypeError(
        f"kernel {kernel.name!r} is none of minigrad's, so the fake GPU has no machine to run it on"
    )


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def arguments(kernel: Any, found: Any, args: Any) -> tuple[tuple, Any, Any]:
    """The arguments of a CuPy kernel as minigrad's takes them: arrays in its order, scalars, the guard."""
    given = {p.name: a for p, a in zip((*kernel.in_params, *kernel.out_params), args, strict=True)}
    unused = (0.0,) * len(found.scalars) or None  # a text without scalars under these flags has no hp
    arrays = tuple(given.get(f"_{p.name}", given.get(p.name)) for p in found.parameters)
    return arrays, given.get("hp", unused), given.get("_unless")
