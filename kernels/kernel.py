"""What Elementwise and Rows share: the declared kernel, its variants by flag, its calls by dtype.

    Kernel      name, parameters, scalars, flags, text          one, defined in a module
    Variant     the text with its flags decided, checked        one per set of flags
    Bound       a variant on one machine for certain dtypes     what a call looks up, and runs

A call finds its Bound by (machine, flags, dtypes) in one dictionary; that is all the Python there is on
the way to the compiled loop. Everything that can be wrong with a call is looked at only when the loop
refuses the arrays, so a good call does not pay for the error messages of a bad one.
"""

from __future__ import annotations

import linecache
import struct
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from operator import itemgetter
from types import FrameType
from typing import Any

import numpy as np

from kernels import machines
from kernels.check import Check, Scope
from kernels.dtypes import concrete, numpy_dtype
from kernels.errors import KernelError
from kernels.signature import Parameter, bind, check_names, names, parameters
from kernels.text import Statement, parse, resolve_flags

registry: dict[str, Kernel] = {}  # every kernel defined by this package or minigrad, by name

# At definition a text is checked with half-precision storage, the strictest S there is; another letter
# may be an index or a float, so it passes if either reading does.
_SAMPLES = ("int64", "float32")

Run = Callable[[tuple[Any, ...], Any], Any]


class Variant:
    """A kernel's text for one set of flags: its statements, the parameters it mentions, what it loads."""

    def __init__(self, kernel: Kernel, flags: frozenset[str]) -> None:
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
        for p in self.parameters:
            if p.output and p.name not in check.written:
                raise KernelError(kernel.name, "outputs", p.name, "is an output that the text never assigns")
        self.outputs = tuple(p for p in self.parameters if p.output)

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


class Kernel:
    """A named text with declared parameters; calls run it on the machine that owns the arrays."""

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
        self._pick = itemgetter(*self.scalars) if self.scalars else None
        self._pack = struct.Struct(f"{len(self.scalars)}d").pack
        self._variants: dict[frozenset[str], Variant] = {}
        self._bound: dict[tuple[Any, ...], Run] = {}
        self._machines: dict[tuple[Any, ...], Any] = {}
        self._check_every_flag()
        self._register(frame.f_globals.get("__name__", ""))

    # -- definition ------------------------------------------------------------------------------------

    def check_text(self, check: Check, statements: tuple[Statement, ...]) -> None:
        """Check one variant's statements (Rows adds its own laws)."""
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

    # -- a call ----------------------------------------------------------------------------------------

    def __call__(self, *args: Any, scalars: Any = None, flags: Any = ()) -> Any:
        """Run on the arrays: inputs, then outputs; outputs left out (or None) are allocated. Returns them."""
        if type(args[0] if args else None) is np.ndarray:
            try:
                run = self._bound[(machines.current, flags, *[a.dtype for a in args])]
            except (KeyError, AttributeError, TypeError):
                run = None  # first call with these dtypes, or a None among the arguments
            if run is not None:
                result = run(args, self.host_scalars(scalars))
                if result is not NotImplemented:
                    return result
        return self._careful(args, scalars, flags)

    def host_scalars(self, scalars: Any) -> Any:
        """The scalars in declared order as packed doubles; an array of them passes through as it is."""
        if type(scalars) is dict and len(scalars) == len(self.scalars) and self._pick is not None:
            try:
                picked = self._pick(scalars)
                return self._pack(*picked) if len(self.scalars) > 1 else self._pack(picked)
            except KeyError:
                pass
        if scalars is None and not self.scalars:
            return None
        if hasattr(scalars, "dtype") and getattr(scalars, "ndim", 0) == 1:
            return scalars
        if isinstance(scalars, Mapping):
            missing = [s for s in self.scalars if s not in scalars]
            unknown = [s for s in scalars if s not in self.scalars]
            if missing or unknown:
                raise ValueError(
                    f"kernel {self.name!r}: its scalars are {' '.join(self.scalars) or 'none'}; "
                    f"missing: {' '.join(missing) or 'none'}, unknown: {' '.join(unknown) or 'none'}"
                )
            scalars = [scalars[s] for s in self.scalars]
        scalars = () if scalars is None else tuple(scalars)
        if len(scalars) != len(self.scalars):
            raise ValueError(
                f"kernel {self.name!r} takes {len(self.scalars)} scalars, not {len(scalars)}: "
                f"{' '.join(self.scalars) or 'none'}"
            )
        return self._pack(*scalars)

    def _careful(self, args: tuple[Any, ...], scalars: Any, flags: Any) -> Any:
        """The same call with everything looked at: finds the device, the types and what is wrong."""
        variant = self.variant(flags)
        if len(args) > len(self.parameters):
            raise TypeError(
                f"kernel {self.name!r} takes {len(self.parameters)} arrays, not {len(args)}: {self._say()}"
            )
        passed = args
        args += (None,) * (len(self.parameters) - len(args))
        kept = {p.name: args[k] for p, k in zip(variant.parameters, variant.positions, strict=True)}
        given = {}
        for p in variant.parameters:
            if kept[p.name] is not None:
                given[p.name] = kept[p.name]
            elif not p.output:
                raise TypeError(f"kernel {self.name!r} needs the input {p.name!r}: {self._say()}")
            elif p.name in variant.loaded:
                raise TypeError(f"kernel {self.name!r} reads {p.name!r} before it writes it: pass the array")
        device = self._device(given)
        letters = bind(self.name, variant.parameters, given)
        if device is not None:
            return self.launch(variant, letters, kept, scalars, device)
        hp = self.host_scalars(scalars)
        if isinstance(hp, bytes):
            hp = np.frombuffer(hp).astype(letters["T"])
        elif hp is not None and (type(hp) is not np.ndarray or hp.dtype.name != letters["T"]):
            where = "the device" if hasattr(type(hp), "__cuda_array_interface__") else "the host"
            raise TypeError(
                f"kernel {self.name!r}: scalars are {hp.dtype} on {where}, not {letters['T']} on the host"
            )
        if hp is not None and hp.size != len(self.scalars):
            raise ValueError(f"kernel {self.name!r}: {hp.size} scalars for {' '.join(self.scalars)}")
        host = machines.machine()
        result = self.execute(host, variant, letters, kept, None if hp is None else np.ascontiguousarray(hp))
        if host == "compiled" and isinstance(flags, Hashable) and not any(a is None for a in passed):
            key = (host, flags, *[a.dtype for a in passed])  # the next call of this form takes the short way
            self.remember(key, variant, letters, passed)
        return result

    def _say(self) -> str:
        return ", ".join(f"{p.type} {p.name}" for p in self.parameters)

    def _device(self, given: Mapping[str, Any]) -> Any:
        """None for host arrays, else the first device array; TypeError when both kinds are mixed."""
        host = {k: a for k, a in given.items() if isinstance(a, np.ndarray)}
        device = {k: a for k, a in given.items() if hasattr(type(a), "__cuda_array_interface__")}
        for k, a in given.items():
            if k not in host and k not in device:
                raise TypeError(
                    f"kernel {self.name!r}: argument {k!r} is a {type(a).__name__}, not an array; "
                    "pass numbers as scalars, or as an array of the right dtype"
                )
        if host and device:
            h, d = next(iter(host)), next(iter(device))
            raise TypeError(
                f"kernel {self.name!r}: argument {h!r} is a NumPy array on the host and {d!r} a "
                f"{type(device[d]).__module__.split('.')[0]} array on the device; move one of them"
            )
        return next(iter(device.values()), None)

    # -- what Elementwise and Rows do differently --------------------------------------------------------

    def execute(
        self, host: str, variant: Variant, letters: dict[str, str], kept: dict[str, Any], hp: Any
    ) -> Any:
        """Run on host arrays, everything checked; raises for shapes that do not fit."""
        raise NotImplementedError

    def remember(
        self, key: tuple[Any, ...], variant: Variant, letters: Mapping[str, str], args: Sequence[Any]
    ) -> None:
        """Keep the short way for calls of this form, where there is one."""
        raise NotImplementedError

    def launch(
        self, variant: Variant, letters: dict[str, str], kept: dict[str, Any], scalars: Any, like: Any
    ) -> Any:
        """Run on device arrays; `like` is one of them."""
        raise NotImplementedError

    def output_dtype(self, p: Parameter, letters: Mapping[str, str], given: Mapping[str, Any]) -> np.dtype:
        """The dtype of an output to allocate; taken from an array of the same type where there is one."""
        name = concrete(p.type, letters)
        return next(
            (a.dtype for a in given.values() if a is not None and a.dtype.name == name), None
        ) or numpy_dtype(name)


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
