"""minigrad: reverse-mode autograd over NumPy and CuPy arrays, with PyTorch's names.

>>> import minigrad as mg
>>> x = mg.tensor([1.0, 2.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4.])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _guard

_guard.check()

from . import anomaly, autograd, backend, linalg, public
from .anomaly import is_anomaly_check_nan_enabled, is_anomaly_enabled
from .autograd import grad
from .backend import (
    bfloat16,
    device,
    dtype,
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    resolve_device,
    set_default_dtype,
    uint8,
)
from .backend import bool_ as bool
from .grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .public.register import EXPORTS
from .tensor import Parameter, Size, Tensor
from .threads import (
    get_float32_matmul_precision,
    get_num_threads,
    set_float32_matmul_precision,
    set_num_threads,
)

globals().update(EXPORTS)  # add, sum, matmul, ...: the functions of the public face
half, float, double, int, long, short = float16, float32, float64, int32, int64, int16

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import amp, backends, cuda, data, graph, nn, optim, training, utils
    from .amp import autocast, get_autocast_dtype, is_autocast_cache_enabled, is_autocast_enabled
    from .check import gradcheck, gradgradcheck
    from .derivatives import hessian, hvp, jacobian, jvp, vhp, vjp
    from .serialization import load, save

_MODES: dict[str, Any] = dict(no_grad=no_grad, enable_grad=enable_grad, set_grad_enabled=set_grad_enabled)
_MODES |= dict(detect_anomaly=anomaly.detect_anomaly, set_detect_anomaly=anomaly.set_detect_anomaly)
_LATER = dict(gradcheck="check", gradgradcheck="check", save="serialization", load="serialization")
_LATER |= dict.fromkeys(
    ("autocast", "get_autocast_dtype", "is_autocast_cache_enabled", "is_autocast_enabled"), "amp"
)
_LATER |= dict.fromkeys(("hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"), "derivatives")


def __getattr__(name: str) -> Any:
    """What not every program needs is loaded when it is first used: `import minigrad` alone stays quick."""
    if name in ("amp", "backends", "cuda", "data", "graph", "nn", "optim", "training", "utils"):
        return import_module(f"minigrad.{name}")
    if name in _LATER:
        return getattr(import_module(f"minigrad.{_LATER[name]}"), name)
    raise AttributeError(f"module 'minigrad' has no attribute {name!r}")


def _in_autograd(name: str) -> Any:
    """PyTorch's further names in `autograd`: gradcheck, functional.hvp and its like, no_grad, anomalies."""
    if name == "functional":
        return import_module("minigrad.derivatives")
    if name in _MODES:
        return _MODES[name]
    if _LATER.get(name) == "check":
        return __getattr__(name)
    raise AttributeError(f"module 'minigrad.autograd' has no attribute {name!r}")


autograd.__getattr__ = _in_autograd  # type: ignore[method-assign]
