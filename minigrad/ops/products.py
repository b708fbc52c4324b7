"""Matrix products. Transposed views go to BLAS as they are; a leaf's gradient is written into its arena slot.

On the CPU float16 and bfloat16 are multiplied in float32, as PyTorch accumulates them: NumPy's own loops
would add in half precision, and be slow.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..autograd import op
from ..backend import destination, xp_of
from .sums import is_half


def product(a, b, out=None):
    """a @ b on arrays, into `out` if given."""
    if type(a) is np.ndarray and is_half(a):
        y = np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)
        if out is None:
            return y
        out[...] = y
        return out
    return xp_of(a).matmul(a, b, out=out) if out is not None else xp_of(a).matmul(a, b)


@op
def matmul(a, b):
    """a @ b for arrays of two or more axes: matrices in the last two, the rest broadcast."""
    shape = a.shape[:-1] + b.shape[-1:]
    return product(a, b, destination.take(shape, a.dtype) if a.ndim == 2 == b.ndim else None)


matmul.vjp(a=lambda g, b: matmul(g, b.mT), b=lambda g, a: matmul(a.mT, g))


def flat(x):
    """x as a matrix, the last dim its columns: an array or a Tensor."""
    return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])


@op
def linear_product(x, w):
    """x @ w.T: (..., I), (O, I) -> (..., O), as one product of matrices whatever the leading axes."""
    rows = flat(x)
    out = destination.take((rows.shape[0], w.shape[0]), x.dtype) if x.ndim == 2 else None
    y = product(rows, w.T, out)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[0])


linear_product.vjp(
    x=lambda g, w: linear_product(g, w.mT),
    w=lambda g, x: matmul(flat(g).mT, flat(x)),
)
