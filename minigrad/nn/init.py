"""How parameters begin: fills in place, with PyTorch's names and distributions, and returns the tensor.

For a layer with weight W (out, in, *window): fan_in = in * window, fan_out = out * window. Drawing W with
variance gain^2 / fan_in keeps the size of activations from layer to layer, 1 / fan_out that of gradients; the
gain makes up for what the activation function takes away. All numbers come from one host generator
(mg.manual_seed), or from the one that is passed, so that a seed gives the same parameters on every device.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import random
from ..backend import device_of, to_device
from ..tensor import Tensor

# --------------------------------------------------------------------------------------- gains, fans, filling

_GAINS = dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "sigmoid"), 1.0) | {
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The gain that makes up for an activation function; param is leaky_relu's negative slope (0.01)."""
    if nonlinearity == "leaky_relu":
        if isinstance(param, bool) or not isinstance(param, (int, float, type(None))):
            raise TypeError(f"calculate_gain: the negative slope {param!r} is no number")
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        names = ", ".join([*_GAINS, "leaky_relu"])
        raise ValueError(f"calculate_gain: no gain is known for {nonlinearity!r}; use one of {names}")
    return _GAINS[nonlinearity]


def _fans(name: str, tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out)"""
    if tensor.array.ndim < 2:
        raise ValueError(
            f"{name}: a weight of two or more dims has fans, this has shape {list(tensor.shape)}"
        )
    out, into, *window = tensor.array.shape
    return into * math.prod(window), out * math.prod(window)


def _fill(tensor: Tensor, values: Any) -> Tensor:
    """Put host values into a tensor, outside any graph."""
    array = tensor.array
    array[...] = to_device(np.asarray(values, array.dtype), device_of(array)) if np.ndim(values) else values
    tensor.touch()
    return tensor


def _draw(tensor: Tensor, generator: Any, method: str, *args: Any) -> np.ndarray:
    """float64 numbers of the tensor's shape from a method of the host generator."""
    return getattr(random.host(generator), method)(*args, tensor.array.shape)


# ------------------------------------------------------------------------------------------ the distributions


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """U(a, b)"""
    return _fill(tensor, _draw(tensor, generator, "uniform", a, b))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """N(mean, std^2)"""
    return _fill(tensor, _draw(tensor, generator, "normal", mean, std))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """val everywhere"""
    return _fill(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere"""
    return _fill(tensor, 1)


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere"""
    return _fill(tensor, 0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix: ones on the diagonal of a 2-dim tensor, square or not."""
    if tensor.array.ndim != 2:
        raise ValueError(f"eye_: a tensor of two dims is needed, this has shape {list(tensor.shape)}")
    return _fill(tensor, np.eye(*tensor.array.shape))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The convolution that copies as many channels as there are, for each group: weight (out, in, *kernel)"""
    shape = tensor.array.shape
    if len(shape) not in (3, 4, 5):
        raise ValueError(f"dirac_: a tensor {list(shape)}; it is a convolution's weight of 3, 4 or 5 dims")
    if groups < 1 or shape[0] % groups:
        raise ValueError(f"dirac_: groups={groups} must be positive and divide the {shape[0]} outputs")
    values = np.zeros(shape)
    each, middle = shape[0] // groups, tuple(n // 2 for n in shape[2:])
    for g in range(groups):
        for k in range(min(each, shape[1])):
            values[(g * each + k, k, *middle)] = 1
    return _fill(tensor, values)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """U(-a, a), a = gain sqrt(6 / (fan_in + fan_out))     [Glorot & Bengio 2010, eq. 16]"""
    bound = gain * math.sqrt(6.0 / sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out))     [Glorot & Bengio 2010, eq. 12]"""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans("xavier_normal_", tensor))), generator)


def _kaiming_std(name: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"{name}: mode {mode!r}; use 'fan_in' or 'fan_out'")
    fan = _fans(name, tensor)[mode.lower() == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """U(-b, b), b = gain sqrt(3 / fan); a is leaky_relu's negative slope     [He et al. 2015, eq. 10, 14]"""
    if 0 in tensor.array.shape:
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """N(0, s^2), s = gain / sqrt(fan); a is leaky_relu's negative slope     [He et al. 2015, eq. 10, 14]"""
    if 0 in tensor.array.shape:
        return tensor
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Any = None,
) -> Tensor:
    """N(mean, std^2) restricted to [a, b]: values, not multiples of std."""
    if not a < b:
        raise ValueError(f"trunc_normal_: the interval [{a}, {b}] is empty; a must be below b")
    rng = random.host(generator)
    values = _truncated(rng, (a - mean) / std, (b - mean) / std, tensor.array.size)
    return _fill(tensor, np.clip(mean + std * values, a, b).reshape(tensor.array.shape))


def _truncated(rng: Any, low: float, high: float, n: int) -> np.ndarray:
    """n numbers of N(0, 1) within [low, high], by rejection     [Robert 1995]"""
    if low > 0 or high < 0:  # a tail: an exponential above the nearer end, mirrored if need be
        sign, near, far = (1.0, low, high) if low > 0 else (-1.0, -high, -low)
        rate = (near + math.sqrt(near * near + 4)) / 2
        if (far - near) * rate < 1:  # short: flat

            def propose(k: int) -> tuple[np.ndarray, np.ndarray]:
                x = rng.uniform(near, far, k)
                return x, (near * near - x * x) / 2
        else:

            def propose(k: int) -> tuple[np.ndarray, np.ndarray]:
                x = near + rng.exponential(1 / rate, k)
                return x, np.where(x <= far, -((x - rate) ** 2) / 2, -np.inf)
    elif high - low < 2:
        sign = 1.0

        def propose(k: int) -> tuple[np.ndarray, np.ndarray]:
            x = rng.uniform(low, high, k)
            return x, -x * x / 2
    else:
        sign = 1.0

        def propose(k: int) -> tuple[np.ndarray, np.ndarray]:
            x = rng.standard_normal(k)
            return x, np.where((low <= x) & (x <= high), 0.0, -np.inf)

    out, have = np.empty(n), 0
    while have < n:
        x, log_accept = propose(max(2 * (n - have), 64))
        x = x[np.log(rng.random(len(x))) < log_accept][: n - have]
        out[have : have + len(x)] = x
        have += len(x)
    return sign * out


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """gain Q with Q^T Q = 1 or Q Q^T = 1, uniform over such matrices; dims after the first are flattened.
    [Saxe et al. 2014; Mezzadri 2007 for the signs]"""
    if tensor.array.ndim < 2:
        raise ValueError(
            f"orthogonal_: a tensor of two or more dims is needed, this has shape {list(tensor.shape)}"
        )
    if not tensor.array.size:
        return tensor
    rows = tensor.array.shape[0]
    flat = _draw(tensor, generator, "normal", 0.0, 1.0).reshape(rows, -1)
    q, r = np.linalg.qr(flat.T if rows < flat.shape[1] else flat)
    q = q * np.copysign(1.0, np.diagonal(r))
    return _fill(tensor, (gain * (q.T if rows < flat.shape[1] else q)).reshape(tensor.array.shape))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """N(0, std^2), but a fraction `sparsity` of each column (rounded up) is zero.     [Martens 2010]"""
    if tensor.array.ndim != 2:
        raise ValueError(f"sparse_: a tensor of two dims is needed, this has shape {list(tensor.shape)}")
    rng = random.host(generator)
    rows, cols = tensor.array.shape
    values = rng.normal(0.0, std, (rows, cols))
    order = rng.random((rows, cols)).argsort(axis=0)
    values[order < math.ceil(sparsity * rows)] = 0.0
    return _fill(tensor, values)
