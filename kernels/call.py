"""Calling a kernel: the short way for a call like one before, and the careful one for the first.

A call finds its compiled loop by (machine, flags, dtypes) in one dictionary; that is all the Python there is
on the way. Everything that can be wrong with a call is looked at only when there is no entry or the loop
refuses the arrays, so a good call does not pay for the error messages of a bad one.

    K(*inputs, *outputs, scalars=None, flags=(), unless=None)

Outputs left out, or None, are allocated. All arrays are NumPy's, or all are on one device: the arrays decide
where the kernel runs. `unless` is an array of one float32 there: where it is not 0, the call writes nothing.
No text knows of it: the machines do, and on a device nobody on the host has to look at it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np

from kernels import machines
from kernels.cuda import graph
from kernels.dtypes import concrete, numpy_dtype
from kernels.kernel import Definition, Variant
from kernels.signature import Parameter, bind

Run = Callable[[tuple[Any, ...], Any], Any]


class Kernel(Definition):
    """A definition that runs on the machine that owns the arrays. Elementwise and Rows say what differs."""

    contiguous: ClassVar[bool] = False  # whether the loops want all arrays without gaps

    def __init__(self, *declaration: Any) -> None:
        super().__init__(*declaration)
        self._pick = itemgetter(*self.scalars) if self.scalars else None
        self._pack = struct.Struct(f"{len(self.scalars)}d").pack
        self._short: dict[tuple[Any, ...], Run] = {}
        self._machines: dict[tuple[Any, ...], Any] = {}

    def __call__(self, *args: Any, scalars: Any = None, flags: Any = (), unless: Any = None) -> Any:
        """Run on the arrays: inputs, then outputs; outputs left out (or None) are allocated. Returns them."""
        if unless is None and type(args[0] if args else None) is np.ndarray:
            try:
                run = self._short.get((machines.current, flags, *[a.dtype for a in args]))
            except AttributeError:  # a None among the arguments
                run = self._short.get((machines.current, flags, *[getattr(a, "dtype", None) for a in args]))
            except TypeError:  # flags in a list
                run = None
            if run is not None:
                result = run(args, self.host_scalars(scalars))
                if result is not NotImplemented:
                    return result
        return self._careful(args, scalars, flags, unless)

    def host_scalars(self, scalars: Any) -> Any:
        """The scalars in declared order as packed doubles; an array of them passes through as it is."""
        if type(scalars) is dict and len(scalars) == len(self.scalars) and self._pick is not None:
            try:
                picked = self._pick(scalars)
                return self._pack(*picked) if len(self.scalars) > 1 else self._pack(picked)
            except KeyError:
                pass
        if scalars is None:
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
        scalars = tuple(scalars)
        if len(scalars) != len(self.scalars):
            raise ValueError(
                f"kernel {self.name!r} takes {len(self.scalars)} scalars, not {len(scalars)}: "
                f"{' '.join(self.scalars) or 'none'}"
            )
        return self._pack(*scalars)

    # -- the careful way ---------------------------------------------------------------------------------

    def _careful(self, passed: tuple[Any, ...], scalars: Any, flags: Any, unless: Any) -> Any:
        """The same call with everything looked at: finds the device, the types and what is wrong."""
        variant = self.variant(flags)
        say = ", ".join(f"{p.type} {p.name}" for p in self.parameters)
        if len(passed) > len(self.parameters):
            raise TypeError(
                f"kernel {self.name!r} takes {len(self.parameters)} arrays, not {len(passed)}: {say}"
            )
        args = passed + (None,) * (len(self.parameters) - len(passed))
        arrays = {p.name: args[k] for p, k in zip(variant.parameters, variant.positions, strict=True)}
        for p in variant.parameters:
            if arrays[p.name] is None and not p.output:
                raise TypeError(f"kernel {self.name!r} needs the input {p.name!r}: {say}")
            if arrays[p.name] is None and p.name in variant.loaded:
                raise TypeError(f"kernel {self.name!r} reads {p.name!r} before it writes it: pass the array")
        given = {name: a for name, a in arrays.items() if a is not None}
        on_device = self._on_device(given if unless is None else given | {"unless": unless})
        letters = bind(self.name, variant.parameters, given)
        outputs = tuple([arrays[p.name] for p in variant.outputs])
        if on_device:
            recorder = graph.current()
            if recorder is not None and scalars is not None and variant.scalars:
                scalars = recorder.scalars(self, scalars, letters["T"])
            if recorder is not None and unless is None and not any(a is None for a in outputs):
                unless = recorder.unless
        if unless is not None:
            self._check_unless(outputs, unless)
        if on_device:
            return self._launch(variant, letters, arrays, passed, scalars, flags, unless)
        if unless is not None and unless.reshape(-1)[0] != 0:
            return outputs[0] if len(outputs) == 1 else outputs
        hp = self._checked_scalars(variant, scalars, letters["T"])
        host = machines.machine()
        result = self._execute(host, variant, letters, arrays, hp)
        if host == "compiled" and isinstance(flags, Hashable):
            key = (host, flags, *[getattr(a, "dtype", None) for a in passed])
            self._remember(key, variant, letters, passed)
        return result

    def _on_device(self, given: Mapping[str, Any]) -> bool:
        """Whether the arrays are a device's; TypeError when they are of both kinds, or no arrays."""
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
        return bool(device)

    def _check_unless(self, outputs: tuple[Any, ...], unless: Any) -> None:
        """A call that may write nothing is given what it would write, and one number to tell."""
        if unless.dtype != np.float32 or unless.size != 1:
            raise TypeError(
                f"kernel {self.name!r}: unless is {unless.dtype} of shape {unless.shape}; it is one float32"
            )
        if any(a is None for a in outputs):
            raise TypeError(
                f"kernel {self.name!r}: with unless= it may write nothing, so pass all of its outputs"
            )

    def _checked_scalars(self, variant: Variant, scalars: Any, t: str) -> np.ndarray | None:
        """The scalars as an array of T on the host; None where the text uses none and none were given."""
        hp = self.host_scalars(() if scalars is None and variant.scalars else scalars)
        if hp is None:
            return None
        if isinstance(hp, bytes):
            with np.errstate(over="ignore"):
                return np.frombuffer(hp).astype(t)
        if type(hp) is not np.ndarray or hp.dtype != t:
            where = "host" if type(hp) is np.ndarray else "device"
            raise TypeError(
                f"kernel {self.name!r}: scalars are {hp.dtype} on the {where}, not {t} on the host"
            )
        if hp.size != len(self.scalars):
            raise ValueError(f"kernel {self.name!r}: {hp.size} scalars for {' '.join(self.scalars)}")
        return np.ascontiguousarray(hp)

    def _complete(
        self,
        variant: Variant,
        letters: Mapping[str, str],
        arrays: Mapping[str, Any],
        empty: Callable[..., Any],
    ) -> tuple[tuple[int, ...], dict[str, Any], Any]:
        """The full shape, all arrays with the missing outputs allocated, and what the call returns."""
        shape = self.full_shape(variant, arrays)
        whole = dict(arrays)
        for p in variant.outputs:
            if whole[p.name] is None:
                whole[p.name] = empty(self.output_shape(p, shape), self._output_dtype(p, letters, arrays))
        results = [whole[p.name] for p in variant.outputs]
        return shape, whole, results[0] if len(results) == 1 else tuple(results)

    def _output_dtype(self, p: Parameter, letters: Mapping[str, str], given: Mapping[str, Any]) -> np.dtype:
        """The dtype of an output to allocate; taken from an array of the same type where there is one."""
        name = concrete(p.type, letters)
        same = (a.dtype for a in given.values() if a is not None and a.dtype.name == name)
        return next(same, None) or numpy_dtype(name)

    def _execute(
        self,
        host: str,
        variant: Variant,
        letters: Mapping[str, str],
        arrays: Mapping[str, Any],
        hp: np.ndarray | None,
    ) -> Any:
        """Run on a host machine."""
        shape, whole, result = self._complete(variant, letters, arrays, np.empty)
        ready, back = self._untangle(variant, whole)
        machine = self._machine(host, variant, letters)
        machine.run(ready, shape, hp)
        for to, made in back:
            to[...] = made
        return result

    def _untangle(
        self, variant: Variant, arrays: Mapping[str, np.ndarray]
    ) -> tuple[list[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
        """The arrays as the loops want them, and what to copy back afterwards."""
        ready, back = [], []
        outs = {p: np.asarray(arrays[p.name]) for p in variant.outputs}
        for k, (p, a) in enumerate(outs.items()):
            if not a.flags.writeable:
                raise ValueError(
                    f"kernel {self.name!r}: output {p.name!r} is read-only; pass a writeable array"
                )
            for q, b in list(outs.items())[:k]:
                if np.may_share_memory(a, b) and np.shares_memory(a, b):
                    raise ValueError(
                        f"kernel {self.name!r}: the outputs {q.name!r} and {p.name!r} overlap in memory"
                    )
        for p in variant.parameters:
            a = np.asarray(arrays[p.name])  # a view of the plain array below a subclass
            dense = a.flags.c_contiguous or not (self.contiguous or p.kind == "raw")
            meets = not p.output and any(_meets(p, a, q, b) for q, b in outs.items())
            if not (a.flags.aligned and dense) or meets:
                ready.append(a.copy(order="C"))
                if p.output:
                    back.append((a, ready[-1]))
            else:
                ready.append(a)
        return ready, back

    def _machine(self, host: str, variant: Variant, letters: Mapping[str, str]) -> Any:
        """The variant on a host machine, for these types; made once."""
        key = (host, variant.flags, *sorted(letters.items()))
        made = self._machines.get(key)
        if made is None:
            if host == "compiled":
                from kernels.compiled import native  # a computer without a compiler does not need it

                made = native(variant, letters, self.host_source)
            made = self._machines[key] = made or self.interpreter(variant, letters)
        return made

    # -- the short way -----------------------------------------------------------------------------------

    def _remember(
        self, key: tuple[Any, ...], variant: Variant, letters: Mapping[str, str], args: Sequence[Any]
    ) -> None:
        """Keep the short way for calls of this form. The library still looks at shapes, and may object."""
        run = self._machine("compiled", variant, letters).short
        if run is None:
            return
        absent = (None,) * (len(self.parameters) - len(args))
        given = dict(zip((p.name for p in self.parameters), args, strict=False))
        places = [k for p, k in zip(variant.parameters, variant.positions, strict=True) if p.output]
        made = [
            (k, self.parameters[k], self._output_dtype(self.parameters[k], letters, given))
            for k in places
            if k >= len(args) or args[k] is None
        ]
        model = next((k for k in variant.positions if self._gives_shape(self.parameters[k], args, k)), None)
        output_shape = self.output_shape

        def complete(args: tuple[Any, ...], packed: Any) -> Any:
            """Every output was given."""
            if run(args, packed, machines.threads):
                return NotImplemented
            return args[places[0]] if len(places) == 1 else tuple([args[k] for k in places])

        def allocate(args: tuple[Any, ...], packed: Any) -> Any:
            """Outputs were left out: they get the first array's shape, unless the library objects."""
            shape = args[model or 0].shape
            whole = [*args, *absent]
            for k, p, dtype in made:
                whole[k] = np.empty(output_shape(p, shape), dtype)
            if run(tuple(whole), packed, machines.threads):
                return NotImplemented
            return whole[places[0]] if len(places) == 1 else tuple([whole[k] for k in places])

        if not made:
            self._short[key] = complete
        elif model is not None:
            self._short[key] = allocate

    @staticmethod
    def _gives_shape(p: Parameter, args: Sequence[Any], k: int) -> bool:
        return p.kind == "array" and k < len(args) and args[k] is not None

    # -- the device --------------------------------------------------------------------------------------

    def _launch(
        self,
        variant: Variant,
        letters: Mapping[str, str],
        arrays: Mapping[str, Any],
        passed: tuple[Any, ...],
        scalars: Any,
        flags: Any,
        unless: Any,
    ) -> Any:
        """Run on device arrays: CuPy's, or any that answer to its interface."""
        import cupy

        shape, whole, result = self._complete(variant, letters, arrays, cupy.empty)
        key = ("cuda", unless is not None, variant.flags, *sorted(letters.items()))
        if key not in self._machines:
            self._machines[key] = self.device_kernel(variant, letters, unless is not None)
        self._machines[key](whole, shape, scalars, unless)
        return result

    # -- what Elementwise and Rows say -------------------------------------------------------------------

    # of (variant, letters); each brings its machine's code with it when it is first called
    host_source: Callable[..., str]  # the C++ of a variant
    interpreter: Callable[
        ..., Any
    ]  # the variant on NumPy: an object with compiled.Native's `run`, `short` None
    device_kernel: Callable[..., Any]  # a function of (arrays by name, shape, scalars)

    def full_shape(self, variant: Variant, arrays: Mapping[str, Any]) -> tuple[int, ...]:
        """The shape that the iterated arrays have together; ValueError naming the shapes that do not fit."""
        raise NotImplementedError

    def output_shape(self, p: Parameter, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one output, given the full one."""
        return shape


def _meets(p: Parameter, a: np.ndarray, q: Parameter, b: np.ndarray) -> bool:
    """Whether writing the output b would change elements of the input a that are still to be read."""
    if not np.may_share_memory(a, b):
        return False
    same = a.__array_interface__["data"] == b.__array_interface__["data"]
    same = same and a.shape == b.shape and a.strides == b.strides and a.itemsize == b.itemsize
    return p.kind != q.kind or not same
