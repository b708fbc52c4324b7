"""Running statistics that hold still: `with hold(): model(x)` normalizes by the batch and remembers nothing.

A layer in training follows the statistics of its batches (batch norm: running_mean, running_var, and
num_batches_tracked). Where one step of an optimizer passes the same batch through the model twice, as SAM
does, or an evaluation of the loss is only a trial, the second pass must not count: the layers ask `held()`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Depth(threading.local):
    """How many hold() this thread is inside of."""

    count = 0


_depth = _Depth()


def held() -> bool:
    """True where running statistics are to stay as they are."""
    return _depth.count > 0


@contextmanager
def hold() -> Iterator[None]:
    """Inside, running statistics stay as they are; in this thread, and nested as one likes."""
    _depth.count += 1
    try:
        yield
    finally:
        _depth.count -= 1
