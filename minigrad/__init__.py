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

from . import autograd, backend, derivatives, linalg, public
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
from .check import gradcheck, gradgradcheck
from .derivatives import hessian, hvp, jacobian, jvp, vhp, vjp
from .grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .public.register import EXPORTS
from .tensor import Parameter, Size, Tensor
from .threads import get_num_threads, set_num_threads

globals().update(EXPORTS)  # add, sum, matmul, ...: the functions of the public face
half, float, double, int, long, short = float16, float32, float64, int32, int64, int16

for _name, _value in dict(
    functional=derivatives, gradcheck=gradcheck, gradgradcheck=gradgradcheck, no_grad=no_grad,
    enable_grad=enable_grad, set_grad_enabled=set_grad_enabled, inference_mode=inference_mode,
).items():  # fmt: skip
    setattr(autograd, _name, _value)  # PyTorch has them there too

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import cuda, data, nn, optim


def __getattr__(name: str) -> Any:
    """Subpackages are loaded when they are first used: `import minigrad` alone stays quick."""
    if name in ("cuda", "data", "nn", "optim"):
        return import_module(f"minigrad.{name}")
    raise AttributeError(f"module 'minigrad' has no attribute {name!r}")
