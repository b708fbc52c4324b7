"""Recurrent layers and cells: RNN, LSTM, GRU, with PyTorch's parameters and names."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from ..tensor import Tensor
from . import init
from .functional import recurrent as functions
from .functional.recurrent import GATES
from .linear import check_sizes, empty_parameter
from .module import Module


def _zeros(like: Tensor, *shape: int) -> Tensor:
    return like.new_zeros(shape)


def _uniform(module: Module, hidden_size: int) -> None:
    """All parameters U(-1/sqrt(H), 1/sqrt(H))."""
    bound = 1 / math.sqrt(hidden_size) if hidden_size else 0.0
    for p in module.parameters():
        init.uniform_(p, -bound, bound)


def _tensor(name: str, input: Any) -> Tensor:
    if not isinstance(input, Tensor):
        raise TypeError(
            f"{name}: a {type(input).__name__} input; it takes a Tensor of equally long sequences "
            "(PackedSequence is not supported: pad them, and mask the loss)"
        )
    return input


class RNNBase(Module):
    """Layers of recurrent cells: (T, B, I) -> (T, B, H), or (B, T, ...) with batch_first.

    Returns (output, h_n), for LSTM (output, (h_n, c_n)): the last layer's h of all steps, and the last states
    (layers * directions, B, H) of all layers. Bidirectional layers go both ways and give (T, B, 2 H). Dropout
    stands between layers. A sequence alone, (T, I), has no B anywhere. Without hx the states begin as 0.
    Parameters weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_ih_l0_reverse, ... begin as
    U(-1/sqrt(H), 1/sqrt(H)).
    """

    mode: str
    states: ClassVar[int] = 1

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if mode.upper() not in ("RNN_TANH", "RNN_RELU", "LSTM", "GRU"):
            raise ValueError(f"{name}: mode {mode!r}; use 'RNN_TANH', 'RNN_RELU', 'LSTM' or 'GRU'")
        check_sizes(name, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if min(input_size, hidden_size, num_layers) <= 0:
            sizes = f"input_size={input_size}, hidden_size={hidden_size}, num_layers={num_layers}"
            raise ValueError(f"{name}: {sizes}; all are positive")
        for word, given in (("bias", bias), ("batch_first", batch_first)):
            if not isinstance(given, bool):
                raise TypeError(f"{name}: {word}={given!r}; use True or False")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"{name}: dropout={dropout}; a probability lies in [0, 1]")
        if proj_size:
            raise ValueError(f"{name}: proj_size={proj_size} is not supported; use 0, and a Linear behind it")
        self.mode = mode
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self._names: list[str] = []
        ways = 2 if bidirectional else 1
        rows = GATES[mode.lower()] * hidden_size
        for layer in range(num_layers):
            into = input_size if layer == 0 else hidden_size * ways
            for suffix in ("", "_reverse")[:ways]:
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, into),
                    "weight_hh": (rows, hidden_size),
                }
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
                for what, shape in shapes.items():
                    self._names.append(f"{what}_l{layer}{suffix}")
                    setattr(self, self._names[-1], empty_parameter(shape, device, dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        _uniform(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Nothing: parameters lie as they should."""

    def _states(self, x: Tensor, hx: Any, batch: int, alone: bool) -> list[Tensor]:
        """The states to begin with, (layers * directions, B, H) each."""
        if hx is None:
            count = self.num_layers * (2 if self.bidirectional else 1)
            return [_zeros(x, count, batch, self.hidden_size)] * self.states
        given = list(hx) if self.states > 1 else [hx]
        wanted = 2 if alone else 3
        if len(given) != self.states or any(
            not isinstance(h, Tensor) or h.array.ndim != wanted for h in given
        ):
            form = "a pair (h, c)" if self.states > 1 else "a Tensor"
            raise ValueError(
                f"{type(self).__name__}: hx is {form} of {wanted} dims for an input of {x.array.ndim - alone}"
            )
        return [h.unsqueeze(1) for h in given] if alone else given

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        x = _tensor(type(self).__name__, input)
        alone = x.array.ndim == 2
        if x.array.ndim not in (2, 3):
            raise ValueError(
                f"{type(self).__name__}: input {list(x.shape)}; it has 2 dims (one sequence) or 3"
            )
        side = 0 if self.batch_first else 1  # where B stands
        if alone:
            x = x.unsqueeze(side)
        states = self._states(x, hx, x.array.shape[side], alone)
        members = self.__dict__
        y, *last = functions.run(
            *(self.mode.lower(), x, states, [members[n] for n in self._names], self.bias),
            *(self.num_layers, self.dropout, self.training, self.bidirectional, self.batch_first),
        )
        if alone:
            y, last = y.squeeze(side), [h.squeeze(1) for h in last]
        return y, last[0] if self.states == 1 else tuple(last)

    def extra_repr(self) -> str:
        said = f"{self.input_size}, {self.hidden_size}"
        defaults = dict(num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False)
        shown = {name: getattr(self, name) for name in defaults}
        return said + "".join(f", {k}={v}" for k, v in shown.items() if v != defaults[k])


class RNN(RNNBase):
    __doc__ = f"h[t] = tanh(x[t] W_ih^T + b_ih + h[t-1] W_hh^T + b_hh), or relu.\n\n{RNNBase.__doc__}"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: nonlinearity={nonlinearity!r}; use 'tanh' or 'relu'")
        sizes = input_size, hidden_size, num_layers
        options: tuple[Any, ...] = bias, batch_first, dropout, bidirectional, 0, device, dtype
        super().__init__(f"RNN_{nonlinearity.upper()}", *sizes, *options)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    __doc__ = f"c <- f c + i g,  h <- o tanh(c)     [Hochreiter & Schmidhuber 1997]\n\n{RNNBase.__doc__}"
    states = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        sizes = input_size, hidden_size, num_layers
        options: tuple[Any, ...] = bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        super().__init__("LSTM", *sizes, *options)


class GRU(RNNBase):
    __doc__ = f"h <- (1 - z) n + z h     [Cho et al. 2014]\n\n{RNNBase.__doc__}"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        sizes = input_size, hidden_size, num_layers
        options: tuple[Any, ...] = bias, batch_first, dropout, bidirectional, 0, device, dtype
        super().__init__("GRU", *sizes, *options)


class _Cell(Module):
    """One step of a recurrent layer: (B, I), (B, H) -> (B, H); (I), (H) -> (H)."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = self.gates * hidden_size
        self.weight_ih = empty_parameter((rows, input_size), device, dtype)
        self.weight_hh = empty_parameter((rows, hidden_size), device, dtype)
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, empty_parameter((rows,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        _uniform(self, self.hidden_size)

    def _step(self, function: Any, input: Any, hx: Any) -> Any:
        name = type(self).__name__
        x = _tensor(name, input)
        if x.array.ndim not in (1, 2):
            raise ValueError(f"{name}: input {list(x.shape)}; it is (B, {self.input_size}), or one vector")
        alone = x.array.ndim == 1
        if hx is None:
            hx = [_zeros(x, *x.array.shape[:-1], self.hidden_size)] * self.states
        else:
            hx = list(hx) if self.states > 1 else [hx]
        if alone:
            x, hx = x[None], [h[None] for h in hx]
        last = function(
            *(x, hx if self.states > 1 else hx[0], self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        )
        if self.states == 1:
            return last[0] if alone else last
        return tuple([h[0] for h in last]) if alone else last

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """h <- tanh(x W_ih^T + b_ih + h W_hh^T + b_hh), or relu: (B, I), (B, H) -> (B, H)"""

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNNCell: nonlinearity={nonlinearity!r}; use 'tanh' or 'relu'")
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        cell = functions.rnn_tanh_cell if self.nonlinearity == "tanh" else functions.rnn_relu_cell
        return self._step(cell, input, hx)


class LSTMCell(_Cell):
    """c <- f c + i g,  h <- o tanh(c): (B, I), ((B, H), (B, H)) -> (h, c)"""

    gates, states = 4, 2

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        return self._step(functions.lstm_cell, input, hx)


class GRUCell(_Cell):
    """h <- (1 - z) n + z h: (B, I), (B, H) -> (B, H)"""

    gates = 3

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._step(functions.gru_cell, input, hx)
