"""Declarations of a kernel: `"S g, raw int32 seg"` into parameters, and their types from the arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernels.check import usable_name
from kernels.dtypes import CONCRETE, FLOATS, compute_type
from kernels.errors import KernelError
from kernels.functions import FUNCTIONS


@dataclass(frozen=True, slots=True)
class Parameter:
    """One array of a kernel; `kind`: array (iterated), raw (indexed), row or col (one value for each)."""

    name: str
    type: str  # a letter or a concrete type
    kind: str
    output: bool


_DECLARATION = re.compile(r"(?:(\w+)\s+)?(\w+)\s+(\w+)")


def parameters(kernel: str, text: str, *, output: bool, kinds: Sequence[str]) -> tuple[Parameter, ...]:
    """The parameters of one declaration string; raises KernelError for what is not one."""
    found = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = _DECLARATION.fullmatch(part)
        where = "outputs" if output else "inputs"
        if not match:
            raise KernelError(
                kernel, where, part, "a declaration is [kind] type name, like 'S x' or 'raw int32 seg'"
            )
        kind, type_, name = match.groups()
        if kind is not None and (kind not in kinds or (output and kind == "raw")):
            allowed = " ".join(k for k in kinds if not (output and k == "raw")) or "none"
            raise KernelError(
                kernel, where, kind, f"is not a kind of parameter here; the kinds are: {allowed}"
            )
        if type_ not in CONCRETE and not re.fullmatch("[A-Z]", type_):
            cure = f"is not a type; a type is one capital letter or one of {' '.join(CONCRETE)}"
            raise KernelError(kernel, where, type_, cure)
        found.append(Parameter(name, type_, kind or "array", output))
    return tuple(found)


def names(kernel: str, where: str, text: str) -> tuple[str, ...]:
    """Names separated by spaces, each once."""
    found = tuple(text.split())
    for name in found:
        if not name.isidentifier() or found.count(name) > 1:
            raise KernelError(kernel, where, name, "must be a name, and stand once")
    return found


def check_names(kernel: str, found: Sequence[str], letters: Sequence[str], builtins: Sequence[str]) -> None:
    """Refuse parameter and scalar names that C, the language or another parameter already uses."""
    for k, name in enumerate(found):
        why = usable_name(name)
        if name in found[:k]:
            why = "is declared twice"
        elif name in FUNCTIONS or name in letters or name in builtins:
            why = "is the name of a function, a type or a built-in index"
        if why:
            raise KernelError(kernel, "declaration", name, f"{why}; choose another name")


def bind(kernel: str, params: Sequence[Parameter], arrays: Mapping[str, Any]) -> dict[str, str]:
    """The concrete type of every letter, from the arrays given (by parameter name).

    T follows from S; without an S it is what the T arrays hold, else float32. Raises TypeError naming the
    argument when two arrays of one letter differ, or a dtype has no place in a kernel.
    """
    letters: dict[str, str] = {}
    origin: dict[str, str] = {}
    for p in sorted(params, key=lambda p: p.type == "T"):  # S decides T, so T comes last
        if p.name not in arrays:
            continue
        dtype = arrays[p.name].dtype
        found = dtype.name
        if found not in CONCRETE or not dtype.isnative:
            raise TypeError(
                f"kernel {kernel!r}: argument {p.name!r} is {dtype!r}; kernels hold {' '.join(CONCRETE)}"
            )
        if p.type in CONCRETE:
            if found != p.type:
                raise TypeError(
                    f"kernel {kernel!r}: argument {p.name!r} is {found}, declared {p.type}; cast it first"
                )
            continue
        if p.type == "T" and "T" not in letters and "S" in letters:
            letters["T"], origin["T"] = compute_type(letters["S"]), origin["S"]
        if letters.setdefault(p.type, found) != found:
            raise TypeError(
                f"kernel {kernel!r}: argument {p.name!r} is {found}, but {p.type} is {letters[p.type]} here, "
                f"because of argument {origin[p.type]!r}; cast one of them"
            )
        origin.setdefault(p.type, p.name)
        if p.type in "ST" and found not in (FLOATS if p.type == "S" else ("float32", "float64")):
            allowed = " ".join(FLOATS) if p.type == "S" else "float32 float64"
            raise TypeError(f"kernel {kernel!r}: argument {p.name!r} is {found}; {p.type} may be {allowed}")
    if "T" not in letters:
        letters["T"] = compute_type(letters.get("S", "float32"))
    for p in params:
        if p.type not in CONCRETE and p.type not in letters:
            cure = f"pass an array for {p.name!r}" if p.output else "it needs an array"
            raise TypeError(f"kernel {kernel!r}: nothing says what type {p.type} is; {cure}")
    return letters
