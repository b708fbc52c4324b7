"""`cupy.cuda` of the fake: one GPU, streams, events, memory pools, and graphs that really replay.

A capture refuses what would break or freeze a real one: a host read, an upload, a wait, the default stream or
a blocking one, another stream that was not forked from it, the first use of a kernel, memory from the default
pool, a pool that must grow, and cuBLAS through CuPy. After such a refusal `end_capture` raises too, as CUDA's
does.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .device import Block, current, garbage

_handles = itertools.count(1)


class CUDARuntimeError(RuntimeError):
    """cupy.cuda.runtime.CUDARuntimeError"""


class Device:
    """cupy.cuda.Device: number 0 is the only one."""

    def __init__(self, device: Any = None):
        self.id = 0 if device is None else int(getattr(device, "id", device))
        self.compute_capability = "90"

    def use(self) -> None:
        runtime.setDevice(self.id)

    def __enter__(self) -> Device:
        self.use()
        return self

    def __exit__(self, *exc: Any) -> None:
        pass

    def synchronize(self) -> None:
        current().synchronize("Device.synchronize")

    @property
    def mem_info(self) -> tuple[int, int]:
        return runtime.memGetInfo()

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"


def _set_device(index: int) -> None:
    if index != 0:
        raise CUDARuntimeError(f"cudaErrorInvalidDevice: device {index}; the fake GPU is number 0")


runtime = types.ModuleType("cupy.cuda.runtime", "one fake GPU")
vars(runtime).update(
    CUDARuntimeError=CUDARuntimeError,
    getDeviceCount=lambda: 1,
    getDevice=lambda: 0,
    setDevice=_set_device,
    deviceSynchronize=lambda: current().synchronize("deviceSynchronize"),
    driverGetVersion=lambda: 13000,
    runtimeGetVersion=lambda: 13000,
    memGetInfo=lambda: (64 << 30, 80 << 30),
    getDeviceProperties=lambda device: {
        "name": b"Fake GPU",
        "major": 9,
        "minor": 0,
        "multiProcessorCount": 132,
    },
    streamCaptureModeGlobal=0,
    streamCaptureModeThreadLocal=1,
    streamCaptureModeRelaxed=2,
)


class Stream:
    """cupy.cuda.Stream. Work runs at once; what a stream decides is whether it can capture."""

    null: Stream

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: Any = None
    ):
        self.ptr = 0 if null else next(_handles)
        self.is_non_blocking, self.priority = non_blocking, priority
        self._before: list = []

    def __enter__(self) -> Stream:
        self._before.append(current().stream)
        return self.use()

    def __exit__(self, *exc: Any) -> None:
        current().stream = self._before.pop()

    def use(self) -> Stream:
        current().stream = self
        return self

    @property
    def done(self) -> bool:
        return True

    def synchronize(self) -> None:
        current().synchronize("Stream.synchronize")

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Work after this waits for the event; one recorded in a capture draws this stream in."""
        if event._captured:
            current().capturing_streams.append(self)

    def begin_capture(self, mode: Any = None) -> None:
        device = current()
        if self.ptr == 0 or not self.is_non_blocking:
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureImplicit: capture needs Stream(non_blocking=True); this one "
                "depends on the default stream"
            )
        if device.capture is not None:
            raise CUDARuntimeError("cudaErrorIllegalState: a stream is capturing already")
        device.capture, device.capturing_streams = Graph(), [self]

    def end_capture(self) -> Graph:
        device = current()
        if device.capture is None or device.capturing_streams[0] is not self:
            raise CUDARuntimeError("cudaErrorIllegalState: this stream is not capturing")
        graph, device.capture, device.capturing_streams = device.capture, None, []
        graph._undo()
        if graph._invalid:
            raise CUDARuntimeError(f"cudaErrorStreamCaptureInvalidated: {graph._invalid}")
        return graph

    def is_capturing(self) -> bool:
        return current().capture is not None and self in current().capturing_streams


Stream.null = Stream(null=True)


class Graph:
    """The launches of one capture, which `launch` runs again on the same memory."""

    def __init__(self) -> None:
        self.graph, self.graphExec = next(_handles), next(_handles)
        self._nodes: list[tuple[str, Callable[[], None]]] = []
        self._before: list[tuple[np.ndarray, np.ndarray]] = []  # operands, their values before a launch
        self._made: list[np.ndarray] = []
        self._invalid = ""

    def _record(self, name: str, replay: Callable[[], None], before: Any, made: Any) -> None:
        self._nodes.append((name, replay))
        self._before += before
        self._made += made

    def _undo(self) -> None:
        for array, values in reversed(self._before):
            array[...] = values
        for array in self._made:
            garbage(array)
        self._before, self._made = [], []

    def launch(self, stream: Stream | None = None) -> None:
        current().note("launch_log", "graph")
        for _, replay in self._nodes:
            replay()

    def upload(self, stream: Stream | None = None) -> None:
        """Nothing to do: the nodes are at hand."""


def nodes(graph: Graph) -> Counter:
    """How many nodes of each name a captured graph has (of the fake only; CUDA has cudaGraphGetNodes)."""
    return Counter(name for name, _ in graph._nodes)


class Event:
    """cupy.cuda.Event: remembers the time, and the capture in which it was recorded."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self._time, self._captured, self.done = 0.0, False, True

    def record(self, stream: Stream | None = None) -> None:
        stream = current().stream if stream is None else stream
        self._time, self._captured = time.perf_counter(), stream in current().capturing_streams

    def synchronize(self) -> None:
        current().synchronize("Event.synchronize")


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two events."""
    return (end_event._time - start_event._time) * 1e3


class MemoryPool:
    """Counts bytes and keeps freed blocks by size (multiples of 512), so growth during a capture is seen."""

    def __init__(self, allocator: Any = None, _default: bool = False):
        self._default, self._used = _default, 0
        self._free: dict[int, list[np.ndarray]] = {}  # size -> memory, what was freed last at the end

    def malloc(self, size: int) -> Block:
        size = -(-size // 512) * 512
        free = self._free.setdefault(size, [])
        current().check_pool(self, size, grows=size > 0 and not free)
        self._used += size
        return Block(self, free.pop() if free else np.empty(size, np.uint8))

    def _give_back(self, memory: np.ndarray) -> None:
        self._used -= memory.size
        self._free.setdefault(memory.size, []).append(memory)

    def used_bytes(self) -> int:
        return self._used

    def free_bytes(self) -> int:
        return sum(size * len(blocks) for size, blocks in self._free.items())

    def total_bytes(self) -> int:
        return self.used_bytes() + self.free_bytes()

    def n_free_blocks(self) -> int:
        return sum(len(blocks) for size, blocks in self._free.items() if size)

    def free_all_blocks(self, stream: Any = None) -> None:
        self._free.clear()


def set_allocator(allocator: Any = None) -> None:
    """New arrays take their memory from `allocator` (a pool's malloc); from no pool at all if it is None."""
    current().allocator = MemoryPool().malloc if allocator is None else allocator


@contextlib.contextmanager
def using_allocator(allocator: Any = None) -> Iterator[None]:
    """Within the block, new arrays take their memory from `allocator`."""
    before = current().allocator
    set_allocator(allocator)
    try:
        yield
    finally:
        set_allocator(before)


OFFERED = dict(
    Device=Device,
    Event=Event,
    Graph=Graph,
    MemoryPool=MemoryPool,
    Stream=Stream,
    get_current_stream=lambda: current().stream,
    get_device_id=lambda: 0,
    get_elapsed_time=get_elapsed_time,
    is_available=lambda: True,
    runtime=runtime,
    set_allocator=set_allocator,
    using_allocator=using_allocator,
)
