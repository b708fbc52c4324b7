"""A kernel as it is declared: its name, parameters, scalars, flags and text, and its variants by flag.

    Definition  what a module writes down: one text with `#if FLAG` lines
    Variant     the text with its flags decided, read and checked: one for each set of flags

Calling is the business of call.py, which builds on this.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import FrameType

from kernels.check import Check, Scope
from kernels.dtypes import concrete
from kernels.errors import KernelError
from kernels.signature import Parameter, check_names, names, parameters
from kernels.text import parse, resolve_flags
from kernels.tree import Statement

registry: dict[str, Definition] = {}  # every kernel defined by this package or minigrad, by name

# At definition a text is checked with half-precision storage, the strictest S there is; another letter
# may be an index or a float, so it passes if either reading does.
_SAMPLES = ("int64", "float32")


class Variant:
    """A kernel's text for one set of flags: its statements, the parameters it mentions, what it loads."""

    def __init__(self, kernel: Definition, flags: frozenset[str]) -> None:
        self.kernel, self.flags = kernel, flags
        self.text = resolve_flags(kernel.name, kernel.body, kernel.flags, flags)
        self.statements: tuple[Statement, ...] = parse(kernel.name, self.text, kernel.letters)
        self.parameters: tuple[Parameter, ...] = kernel.parameters
        check = self._check()
        self.used = frozenset(check.used)
        self.parameters = tuple(p for p in kernel.parameters if p.name in check.used)
        self.positions = tuple(k for k, p in enumerate(kernel.parameters) if p.name in check.used)
        self.loaded = frozenset(check.loaded)
        self.scalars = tuple(s for s in kernel.scalars if s in check.used)
        self.wants = len(kernel.scalars) if self.scalars else 0  # a call gives all scalars, or none if unused
        for p in self.parameters:
            if p.output and p.name not in check.written:
                raise KernelError(kernel.name, "outputs", p.name, "is an output that the text never assigns")
        self.outputs = tuple(p for p in self.parameters if p.output)
        kernel.finish(self)

    def _check(self) -> Check:
        refused: KernelError | None = None
        for sample in _SAMPLES:
            letters = dict.fromkeys(self.kernel.letters, sample) | {"S": "float16", "T": "float32"}
            scope = self.scope(letters)
            check = Check(scope, {p.name for p in self.kernel.parameters if p.output})
            try:
                self.kernel.check_text(check, self.statements)
            except KernelError as error:
                refused = refused or error
            else:
                return check
        assert refused is not None
        raise refused

    def scope(self, letters: Mapping[str, str]) -> Scope:
        """The names a text starts with, for one choice of types."""
        kernel = self.kernel
        types = {p.name: concrete(p.type, letters) for p in self.parameters if p.kind != "raw"}
        types |= dict.fromkeys(kernel.scalars, letters["T"]) | dict.fromkeys(kernel.builtins, "int64")
        raw = {p.name: concrete(p.type, letters) for p in self.parameters if p.kind == "raw"}
        return Scope(kernel.name, letters, types, raw, kernel.reduces)


class Definition:
    """A named text with declared parameters, checked for every flag when it is defined."""

    kinds: tuple[str, ...] = ()
    builtins: tuple[str, ...] = ()
    reduces = False

    def __init__(
        self,
        name: str,
        inputs: str,
        outputs: str,
        body: str,
        scalars: str,
        flags: str,
        doc: str,
        frame: FrameType,
    ) -> None:
        self.name, self.body, self.__doc__ = name, body, doc or type(self).__doc__
        self.inputs = parameters(name, inputs, output=False, kinds=self.kinds)
        self.outputs = parameters(name, outputs, output=True, kinds=self.kinds)
        self.parameters = self.inputs + self.outputs
        self.scalars = names(name, "scalars", scalars)
        self.flags = names(name, "flags", flags)
        self.letters = frozenset(p.type for p in self.parameters if len(p.type) == 1) | {"S", "T"}
        if not self.outputs:
            raise KernelError(name, "outputs", outputs, "a kernel needs an output")
        check_names(
            name, [p.name for p in self.parameters] + list(self.scalars), sorted(self.letters), self.builtins
        )
        self.file, self.line = _origin(frame, body)
        self._variants: dict[frozenset[str], Variant] = {}
        self._check_every_flag()
        self._register(frame.f_globals.get("__name__", ""))

    def finish(self, variant: Variant) -> None:
        """Look at a variant whose names and types are right (Rows has its own laws)."""

    def check_text(self, check: Check, statements: tuple[Statement, ...]) -> None:
        """Check one variant's statements."""
        after = check.block(statements, set())
        check.loaded |= (
            check.written & check.outputs
        ) - after  # written on some paths only: keeps its old value

    def _check_every_flag(self) -> None:
        used: set[str] = set()
        for chosen in [(), *((f,) for f in self.flags), self.flags]:
            try:
                variant = self.variant(chosen)
            except KernelError as error:
                if not chosen:
                    raise
                where = f"{error.where} (with flags {' '.join(chosen)})"
                raise KernelError(error.kernel, where, error.token, error.cure) from None
            used |= {p.name for p in variant.parameters} | set(variant.scalars)
        for name in [*(p.name for p in self.parameters), *self.scalars]:
            if name not in used:
                raise KernelError(self.name, "declaration", name, "is declared but the text never uses it")

    def _register(self, module: str) -> None:
        if module.split(".")[0] not in ("kernels", "minigrad"):
            return
        other = registry.get(self.name)
        if other is not None and (other.file, other.line) != (self.file, self.line):
            taken = f"the name is taken by the kernel of {other.file}, line {other.line}"
            raise KernelError(self.name, f"{self.file}, line {self.line}", self.name, taken)
        registry[self.name] = self

    def variant(self, flags: Iterable[str] = ()) -> Variant:
        """The text for these flags; ValueError for a flag the kernel does not have."""
        chosen = frozenset((flags,) if isinstance(flags, str) else flags)
        if unknown := sorted(chosen - set(self.flags)):
            known = " ".join(self.flags) or "none"
            raise ValueError(f"kernel {self.name!r} has no flag {unknown[0]!r}; its flags are: {known}")
        if chosen not in self._variants:
            self._variants[chosen] = Variant(self, chosen)
        return self._variants[chosen]

    def text(self, flags: Iterable[str] = ()) -> str:
        """The resolved text for these flags: what the machines run."""
        return "\n".join(line for line in self.variant(flags).text.split("\n") if line.strip())

    def __repr__(self) -> str:
        def declared(ps: Sequence[Parameter]) -> str:
            return ", ".join(" ".join([p.kind] * (p.kind != "array") + [p.type, p.name]) for p in ps)

        extra = [f"{k}={' '.join(v)!r}" for k, v in (("scalars", self.scalars), ("flags", self.flags)) if v]
        head = ", ".join([repr(self.name), repr(declared(self.inputs)), repr(declared(self.outputs)), *extra])
        return f"{type(self).__name__}({head})\n{self.body.strip(chr(10))}"


def _origin(frame: FrameType, body: str) -> tuple[str, int]:
    """The module file of a text, free of the machine's folders, and the line its first line stands on."""
    module = frame.f_globals.get("__name__", "text")
    line = frame.f_lineno
    source = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
    start = sum(len(s) for s in source.splitlines(keepends=True)[: line - 1])
    at = source.find(body, start)
    if at >= 0:
        line = source.count("\n", 0, at) + 1
    name = frame.f_code.co_filename.replace("\\", "/").rsplit("/", 1)[-1]
    return ("/".join([*module.split(".")[:-1], name]), line)


def caller(depth: int = 2) -> FrameType:
    """The frame of the code that defines a kernel."""
    return sys._getframe(depth)
