"""Taps: what goes into a layer's product and what comes out, for those who ask.

    with tapped() as taps:
        loss = F.cross_entropy(model(x), y)
    taps[0].weight, taps[0].bias, taps[0].output

A layer s = W a + b that uses a parameter leaves a tap while `tapped()` is on: its weight and bias, its inputs
a as a matrix with a row for each use of W (an example; of a convolution, an example and a place), and its
output s, before any activation, as a Tensor of the graph. K-FAC is built of these. It is the functions
(F.linear, F.conv1d, F.conv2d, F.embedding) that leave taps, not the modules: so a model that calls them with
its own parameters is seen too. An activation that would be fused with the product is then a step of its own.

Weights that autocast has cast are not parameters any more, and leave none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .backend import Array, xp_of
from .grad_mode import is_grad_enabled
from .tensor import Tensor


@dataclass(slots=True, eq=False)
class Tap:
    """One use of a layer's parameters: s = W a + b, for `rows` of a.

    inputs   () -> (rows, in), made when asked: the columns of a convolution are large. Of a table look-up
             a is the unit vector of a row's number, and inputs gives the numbers, (rows,), whole
    output   s: (..., out), or (N, out, ...) with channels=1
    skipped  of a look-up: the row that gets no gradient
    """

    weight: Tensor
    bias: Tensor | None
    inputs: Callable[[], Array]
    output: Tensor
    channels: int = -1
    lookup: bool = False
    skipped: int | None = None

    def rows(self, g: Array) -> Array:
        """A gradient by the output as (rows, out), in the order of the inputs."""
        return xp_of(g).moveaxis(g, self.channels, -1).reshape(-1, g.shape[self.channels])


class _Taps(threading.local):
    """Where this thread's layers leave taps, if anywhere."""

    found: list[Tap] | None = None
    watch: Callable[[Tap], None] | None = None


_taps = _Taps()


def wanted(weight: Tensor) -> bool:
    """Whether a layer with this weight shall leave a tap."""
    return _taps.found is not None and weight.requires_grad and weight.is_leaf and is_grad_enabled()


def leave(tap: Tap) -> None:
    """Leave a tap with who asked last."""
    if _taps.found is not None:
        _taps.found.append(tap)
    if _taps.watch is not None:
        _taps.watch(tap)


@contextmanager
def tapped(watch: Callable[[Tap], None] | None = None) -> Iterator[list[Tap]]:
    """Inside, the layers of this thread leave their taps in the list, in the order of their calls, and show
    each to watch(tap) when its output is there and nobody has used it yet."""
    before = _taps.found, _taps.watch
    found: list[Tap] = []
    _taps.found, _taps.watch = found, watch
    try:
        yield found
    finally:
        _taps.found, _taps.watch = before
