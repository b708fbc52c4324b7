"""A thread that stays a few items ahead of the loop that uses them.

NumPy's copies and a file's reads let other threads run, so the next batch is made while the present one is
trained on. The items are made one after the other by one thread: which they are does not depend on it.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from queue import SimpleQueue
from typing import Any


def prefetched(items: Generator[Any, None, None], ahead: int) -> Iterator[Any]:
    """The items of a generator, made by a thread that is at most `ahead` of them ahead.

    What the generator raises is raised here, at the place of the item that was not made, with the traceback
    of the thread. When this iterator is closed or dropped the thread ends after the item it is at, and the
    generator is closed by it.
    """
    ready: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    slots, dropped = threading.Semaphore(ahead), threading.Event()

    def work() -> None:
        try:
            with closing(items):
                while slots.acquire() and not dropped.is_set():
                    ready.put((next(items), None))
        except BaseException as error:  # StopIteration too: it belongs to the loop that waits for an item
            ready.put((None, error))

    thread = threading.Thread(target=work, name="minigrad-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                try:
                    raise error
                finally:
                    del error  # its traceback holds this frame
            slots.release()
            yield item
    finally:
        dropped.set()
        slots.release()
        if thread is not threading.current_thread():  # the collector may drop an iterator in any thread
            thread.join()
