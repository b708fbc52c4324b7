"""CUDA graphs: a stream to capture on, a capture that ends cleanly, and who is asked while one goes on.

current()           the recorder of the step that this thread watches or captures; None almost always
refuse(what)        tell it that the step cannot be captured, and why; nothing happens without one
stream()            the thread's stream: made the current one for good, because a graph cannot be captured
                    on the default stream, and work on two streams would have to wait for each other
captured(...)       run a function while its launches are recorded, not executed -> a Graph
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any


class _Local(threading.local):
    recorder: Any = None  # a class attribute: looking for one that is missing takes six times as long


_local = _Local()


def current() -> Any:
    """The recorder of the step that this thread watches or captures; None almost always."""
    return _local.recorder


def refuse(what: str) -> None:
    """The step that goes on does what a graph cannot hold."""
    recorder = current()
    if recorder is not None:
        recorder.refuse(what)


@contextlib.contextmanager
def recorded_by(recorder: Any) -> Iterator[None]:
    """Within the block, `recorder` is the one that is asked."""
    before, _local.recorder = current(), recorder
    try:
        yield
    finally:
        _local.recorder = before


def stream() -> Any:
    """The thread's non-blocking stream on its current device, from now on its current one."""
    import cupy

    key = (id(cupy), cupy.cuda.Device().id)
    held = _local.__dict__.setdefault("streams", {})
    if key not in held:
        held[key] = (cupy.cuda.Stream(non_blocking=True), cupy)  # the module too: its id stays its own
    found = held[key][0]
    if cupy.cuda.get_current_stream().ptr != found.ptr:
        cupy.cuda.get_current_stream().synchronize()  # what was begun elsewhere is done
        found.use()
    return found


def pool() -> Any:
    """Memory for one graph alone: what it frees while it is captured nobody else may have."""
    import cupy

    return cupy.cuda.MemoryPool()


def allocating(from_pool: Any) -> Any:
    """A context in which new arrays take their memory from a pool."""
    import cupy

    return cupy.cuda.using_allocator(from_pool.malloc)


def after_default(on: Any) -> None:
    """The stream waits for what the default stream has been given: uploads of other threads go there."""
    import cupy

    on.wait_event(cupy.cuda.Stream.null.record())


def captured(function: Callable[[], Any], on: Any) -> tuple[Any, Any]:
    """(Graph, what function() returned). What it raises comes through, after the capture was ended.

    The garbage collector is off meanwhile: memory that it frees at some moment would end the capture.
    """
    on.synchronize()
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        on.begin_capture()
        try:
            out = function()
        except BaseException:
            with contextlib.suppress(Exception):  # CUDA says again that the capture failed
                on.end_capture()
            raise
        made = on.end_capture()
    finally:
        if enabled:
            gc.enable()
    made.upload(on)
    return made, out
