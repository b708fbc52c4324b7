"""The record of a fake GPU: what was launched on it, allocated, uploaded, and read back, and from which line.

Every computing call of the fake ends in `Device.execute`. It counts the launch by name, runs the NumPy
function at once, and - while a stream is capturing - keeps the call as a closure, so that `Graph.launch`
computes again into the same memory. On a GPU a call that is being captured is not run. Here it is, because
the calls after it need its shapes and indices; `end_capture` undoes it: what it wrote gets its old values,
and what it made is garbage until the first replay.
"""

from __future__ import annotations

import contextlib
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

_HERE = str(Path(__file__).parent)


class Note(str):
    """A name that remembers where it was noted: compares as the name, prints with the line."""

    where: str

    def __new__(cls, name: str) -> Note:
        note = super().__new__(cls, name)
        frame: Any = sys._getframe(1)
        while frame.f_back and frame.f_code.co_filename.startswith(_HERE):
            frame = frame.f_back
        place = "/".join(Path(frame.f_code.co_filename).parts[-2:])
        note.where = f"{place}:{frame.f_lineno} in {frame.f_code.co_name}"
        return note

    def __repr__(self) -> str:
        return f"<{self!s} at {self.where}>"


@dataclass
class Counts:
    """What happened on the device, by name. Notes print with the line that caused them."""

    launches: Counter = field(default_factory=Counter)
    launch_log: list[Note] = field(default_factory=list)
    host_reads: list[Note] = field(default_factory=list)  # the host waited for a value of the device
    synchronizations: list[Note] = field(
        default_factory=list
    )  # the host waited for the device, no value read
    uploads: list[Note] = field(default_factory=list)
    python_scalars: list[Note] = field(default_factory=list)  # Python floats as operands
    allocations: int = 0

    @property
    def launched(self) -> int:
        """Launches of any name."""
        return len(self.launch_log)


_live: dict[int, int] = {}  # address -> bytes of all memory that some array holds
_pooled: WeakValueDictionary[int, np.ndarray] = WeakValueDictionary()  # and of all that some pool has


class Block:
    """Device memory of one allocation, shared by an array and its views; the last one frees it.

    `memory` is what the pool hands out again: a graph that is replayed after its memory went to another array
    spoils that array, as on a GPU. Its address is what `data.ptr` counts from.
    """

    __slots__ = ("address", "memory", "pool", "size")

    def __init__(self, pool: Any, memory: np.ndarray):
        self.pool, self.memory, self.size = pool, memory, memory.size
        self.address: int = memory.__array_interface__["data"][0]
        _live[self.address] = self.size
        _pooled[self.address] = memory

    def __del__(self, live: dict[int, int] = _live) -> None:  # also when the interpreter ends
        live.pop(self.address, None)
        self.pool._give_back(self.memory)

    def settle(self, host: np.ndarray) -> np.ndarray:
        """A copy of an array in this memory, its strides kept where it has no gaps."""
        strides, last = host.strides, sum((n - 1) * s for n, s in zip(host.shape, host.strides))
        if host.size and (min((0, *strides)) < 0 or last + host.itemsize != host.nbytes):
            strides = None
        placed = np.ndarray(host.shape, host.dtype, self.memory, 0, strides if host.size else None)
        placed[...] = host
        return placed


def memory_of_pools() -> tuple[list[int], dict[int, int]]:
    """All memory that pools have, for `inside`: what a replayed graph works on need not be an array's."""
    sizes = {a: memory.size for a, memory in list(_pooled.items())}
    return sorted(sizes), sizes


def inside(address: int, nbytes: int, among: Any = None) -> bool:
    """Whether these bytes lie in the memory of one array (or of one block of memory_of_pools())."""
    if among is None:
        return any(a <= address and address + nbytes <= a + size for a, size in list(_live.items()))
    starts, sizes = among
    at = bisect_right(starts, address) - 1
    return at >= 0 and address + nbytes <= starts[at] + sizes[starts[at]]


class Device(Counts):
    """The fake GPU that `installed()` yields. `counting()` counts a part of a run; `reset()` starts over."""

    def __init__(self) -> None:
        super().__init__()
        self.compiled: set[Any] = set()  # (kernel, dtypes) that have run: a capture may only use these
        self.capture: Any = None  # the Graph being recorded
        self.capturing_streams: list[Any] = []
        self.stream: Any = None
        self.cublas: Any = None  # the libcublas of this machine
        self.cudnn: Any = None  # its libcudnn
        self.allocator: Callable[[int], Block]
        self._open: list[Counts] = [self]
        self._settled: dict[int, Block] = {}

    def reset(self) -> None:
        """All counts to zero."""
        vars(self).update(vars(Counts()))

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counts]:
        """`with device.counting() as c:` counts what happens inside the block in `c` as well."""
        part = Counts()
        self._open.append(part)
        try:
            yield part
        finally:
            self._open = [c for c in self._open if c is not part]

    def note(self, which: str, name: str) -> None:
        note = Note(name)
        for counts in self._open:
            getattr(counts, which).append(note)
            if which == "launch_log":
                counts.launches[name] += 1

    # what the host may do at any time, but not while a stream is capturing

    def host_read(self, name: str) -> None:
        self.note("host_reads", name)
        self._forbid(f"{name} reads the device back")

    def upload(self, name: str) -> None:
        self.note("uploads", name)
        self._forbid(f"{name} copies host memory to the device")

    def synchronize(self, name: str) -> None:
        self.note("synchronizations", name)
        self._forbid(f"{name} waits for the device")

    def _forbid(self, what: str) -> None:
        if self.capture is not None:
            self.capture._invalid = what
            raise RuntimeError(f"cudaErrorStreamCaptureUnsupported: {what}, which a CUDA graph cannot hold")

    def allocate(self, nbytes: int) -> Block:
        for counts in self._open:
            counts.allocations += 1
        return self.allocator(nbytes)

    def settle(self, host: np.ndarray) -> np.ndarray:
        """A new array on the device with these values; `block_of` has its block."""
        block = self.allocate(host.nbytes)
        placed = block.settle(host)
        self._settled[id(placed)] = block
        return placed

    def block_of(self, placed: np.ndarray) -> Block:
        """The block of an array that was just settled."""
        return self._settled.pop(id(placed))

    def check_pool(self, pool: Any, nbytes: int, grows: bool) -> None:
        """Raise for an allocation that would break a graph: from the default pool, or beyond warm-up's."""
        if pool._default:
            self._forbid(
                f"an allocation of {nbytes} bytes from the default pool (give the graph its own MemoryPool)"
            )
        if grows:
            self._forbid(f"an allocation of {nbytes} bytes for which the pool must grow (warm up first)")

    # launches

    def _arrays(self, result: Any) -> Any:
        if isinstance(result, (tuple, list)):
            return tuple(self.settle(np.asarray(r)) for r in result)
        return self.settle(np.asarray(result))

    def execute(
        self, name: str, function: Callable, args: Any, kwargs: Any, in_place: bool, key: Any = (),
        deferred: bool = False,
    ) -> Any:  # fmt: skip
        """Launch `function(*args, **kwargs)` on host arrays; what it computes, None if in place.

        deferred: in a capture it must not run, because what it works on is only known at a replay.
        """
        self.note("launch_log", name)
        key = (name, key, tuple(str(a.dtype) for a in args if isinstance(a, np.ndarray)))
        if self.capture is None:
            self.compiled.add(key)
            result = _run(function, args, kwargs)
            return None if in_place else self._arrays(result)
        if key not in self.compiled:
            self._forbid(f"the first use of kernel {name!r} compiles and loads it (warm up first)")
        if self.stream not in self.capturing_streams:
            self._forbid(f"kernel {name!r} goes to another stream than the one that is capturing")
        if deferred:
            self.capture._record(name, lambda: _run(function, args, kwargs), [], ())
            return None
        before = [(a, a.copy()) for a in _operands((args, kwargs)) if a.flags.writeable]
        result = _run(function, args, kwargs)
        kept = None if in_place else self._arrays(result)

        def replay() -> None:
            again = _run(function, args, kwargs)
            if not in_place:
                for old, new in zip(_flat(kept), again if isinstance(again, (tuple, list)) else (again,)):
                    old[...] = new

        self.capture._record(name, replay, before, _flat(kept))
        return kept


def garbage(array: np.ndarray) -> np.ndarray:
    """Fill with what uninitialised memory may hold at worst: NaN in every format, huge integers, True."""
    if array.dtype.kind == "b":
        array[...] = True
    else:
        byte = b"\xff" if array.dtype.kind in "fcV" else b"\x7f"
        array[...] = np.frombuffer(byte * array.itemsize, array.dtype)[0]
    return array


def _run(function: Callable, args: Any, kwargs: Any) -> Any:
    with np.errstate(all="ignore"):  # a GPU does not warn of overflow or 0/0
        return function(*args, **kwargs)


def _flat(result: Any) -> tuple:
    return result if isinstance(result, tuple) else () if result is None else (result,)


def _operands(value: Any) -> Iterator[np.ndarray]:
    """Every host array inside."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for v in value.values() if isinstance(value, dict) else value:
            yield from _operands(v)


_current: list[Device] = []  # the installed devices, innermost last


def current() -> Device:
    """The device of the innermost `installed()`."""
    if not _current:
        raise RuntimeError("no fake CuPy is installed: use its arrays inside `with fake_cupy.installed():`")
    return _current[-1]
