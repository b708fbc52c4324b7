"""Recurrent networks as functions, with the arguments of torch.lstm, torch.gru, torch.rnn_tanh, ...

    h[t] = cell(x[t], h[t-1]):   x (T, B, I), h (B, H) -> (T, B, H)

A layer is one product for the inputs of all steps, then the steps. Parameters of each layer and direction,
in order: weight_ih (gates H, I), weight_hh (gates H, H), and bias_ih, bias_hh (gates H) if there are biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ... import ops
from ...ops import recurrent
from ...public.autocast import listed
from ...public.promote import same_device
from ...tensor import Tensor
from .activation import floating
from .dropout import dropout as drop
from .linear import linear

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}


def _direction(
    kind: str, x: Tensor, state: Sequence[Tensor], params: Sequence[Tensor], reverse: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One direction of one layer: (T, B, I), states (B, H) -> (T, B, H), the last states."""
    w_ih, w_hh, *biases = params
    b_ih, b_hh = biases or (None, None)
    if kind == "gru":  # its hidden bias of the new state stands inside the reset gate
        y = recurrent.gru(linear(x, w_ih, b_ih), *state, w_hh, b_hh, reverse)
    else:
        z = linear(x, w_ih, None if b_ih is None or b_hh is None else b_ih + b_hh)
        if kind == "lstm":
            y = recurrent.lstm(z, *state, w_hh, reverse)
            steps = y.array.shape[0] - 1
            return y[:steps], (y[0 if reverse else steps - 1], y[steps])
        y = recurrent.rnn(z, *state, w_hh, kind == "rnn_relu", reverse)
    return y, (y[0 if reverse else y.array.shape[0] - 1],)


@partial(listed, name="recurrent_layers")
def run(
    kind: str,
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """All layers: input (T, B, I), or (B, T, I) if batch_first, states (layers * directions, B, H)."""
    x = floating(kind, input)
    each, ways = 4 if has_biases else 2, 2 if bidirectional else 1
    _check(kind, x, hx, params, each * ways * num_layers, ways * num_layers, batch_first)
    if batch_first:
        x = x.transpose(0, 1)
    last: list[tuple[Tensor, ...]] = []
    for layer in range(num_layers):
        if layer and dropout and train:
            x = drop(x, dropout)
        found = []
        for way in range(ways):
            k = layer * ways + way
            own = params[each * k : each * (k + 1)]
            y, states = _direction(kind, x, [h[k] for h in hx], own, bool(way))
            found.append(y)
            last.append(states)
        x = ops.cat(2, *found) if ways > 1 else found[0]
    y = x.transpose(0, 1) if batch_first else x
    return y, *[ops.stack(0, *states) for states in zip(*last, strict=True)]


def _check(
    kind: str,
    x: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    count: int,
    states: int,
    batch_first: bool,
) -> None:
    """Raise for what does not go together."""
    if len(params) != count:
        raise ValueError(f"{kind}: {len(params)} parameters; these layers have {count}")
    shape = x.array.shape
    into, hidden = params[0].array.shape[1], params[1].array.shape[1]
    said = "(B, T, {})" if batch_first else "(T, B, {})"
    if len(shape) != 3 or shape[2] != into:
        raise ValueError(f"{kind}: input {list(shape)}; it is {said.format(into)}")
    steps, batch = shape[:2][::-1] if batch_first else shape[:2]
    if not steps:
        raise ValueError(f"{kind}: input {list(shape)} has no steps; give at least one")
    for h in hx:
        if h.array.shape != (states, batch, hidden):
            raise ValueError(
                f"{kind}: hx {list(h.shape)} for an input {list(shape)}; it is {[states, batch, hidden]}: "
                "(layers * directions, B, H)"
            )
    same_device(kind, x, *hx, *params)
    kinds = {t.dtype.name for t in (x, *hx, *params)}
    if len(kinds) > 1:
        raise TypeError(f"{kind}: mixed dtypes {', '.join(sorted(kinds))}; cast with .to(dtype)")


def _cell(
    kind: str,
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
) -> tuple[Tensor, ...]:
    """One step: (B, I), states (B, H) -> states."""
    biases = [] if b_ih is None or b_hh is None else [b_ih, b_hh]
    _check(kind, input[None], [h[None] for h in hx], params := [w_ih, w_hh, *biases], len(params), 1, False)
    return _direction(kind, input[None], hx, params, False)[1]


@listed
def rnn_tanh_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """tanh(x W_ih^T + b_ih + h W_hh^T + b_hh): (B, I), (B, H) -> (B, H)"""
    return _cell("rnn_tanh", input, [hx], w_ih, w_hh, b_ih, b_hh)[0]


@listed
def rnn_relu_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """max(x W_ih^T + b_ih + h W_hh^T + b_hh, 0): (B, I), (B, H) -> (B, H)"""
    return _cell("rnn_relu", input, [hx], w_ih, w_hh, b_ih, b_hh)[0]


@listed
def lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """i, f, g, o of x W_ih^T + b_ih + h W_hh^T + b_hh;  c <- f c + i g,  h <- o tanh(c): (h, c)"""
    h, c = _cell("lstm", input, hx, w_ih, w_hh, b_ih, b_hh)
    return h, c


@listed
def gru_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """r, z of x W_ih^T + b_ih + h W_hh^T + b_hh;  n = tanh(x_n + r h_n);  h <- (1 - z) n + z h"""
    return _cell("gru", input, [hx], w_ih, w_hh, b_ih, b_hh)[0]
