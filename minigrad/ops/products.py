"""Matrix products. Views are multiplied where they lie; a leaf's gradient is written into its arena slot.

On the host products of moderate size have a loop of their own (kernels/products.py), BLAS does the others.
On a device cuBLAS is called directly (kernels/cuda/blas.py): one launch for whatever layout, batches too.
On the CPU float16 and bfloat16 are multiplied in float32, as PyTorch accumulates them: NumPy's own loops
would add in half precision, and be slow.
"""

from __future__ import annotations

from math import prod

import numpy as np

from kernels import cuda, products

from ..autograd import op
from ..backend import destination, xp_of
from .sums import is_half


def product(a, b, out=None):
    """a @ b on arrays, into `out` if given."""
    if type(a) is not np.ndarray:
        y = cuda.blas.matmul(a, b, out)
        if y is not None:
            return y
        xp = xp_of(a)  # without cuBLAS
        if (a.ndim > 2 or b.ndim > 2) and a.dtype.name == "bfloat16":  # cupy.matmul has no batches of it
            y = xp.matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)
            if out is not None:
                out[...] = y
            return y if out is None else out
        return xp.matmul(a, b) if out is None else xp.matmul(a, b, out=out)
    if a.dtype.itemsize == 2 and is_half(a):
        y = np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)
        if out is None:
            return y
        out[...] = y
        return out
    return products.product(a, b, out)


PIECE = 1 << 16  # elements of a part of a product that is added to what stands in memory: it stays in cache


def add_product(a, b, out):
    """out += a @ b on matrices: on a device the product does it, on the host some rows of it at a time."""
    if type(a) is not np.ndarray:
        if out.dtype != a.dtype or cuda.blas.matmul(a, b, out, 1) is None:
            out += product(a, b)
        return
    rows = max(PIECE // b.shape[1], 4)
    for k in range(0, len(a), rows):
        out[k : k + rows] += product(a[k : k + rows], b)


@op
def matmul(a, b):
    """a @ b for arrays of two or more axes: matrices in the last two, the rest broadcast."""
    if destination.array is None or a.ndim != 2 or b.ndim != 2:
        return product(a, b)
    return product(a, b, destination.take(a.shape[:1] + b.shape[1:], a.dtype))


matmul.vjp(a=lambda g, b: matmul(g, b.mT), b=lambda g, a: matmul(a.mT, g))


def flat(x):
    """x as a matrix, the last dim its columns: an array or a Tensor."""
    return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])


@op
def linear_product(x, w):
    """x @ w.T: (..., I), (O, I) -> (..., O), as one product of matrices whatever the leading axes."""
    if x.ndim != 2:
        return product(flat(x), w.T).reshape(*x.shape[:-1], w.shape[0])
    if destination.array is None:
        return product(x, w.T)
    return product(x, w.T, destination.take((x.shape[0], w.shape[0]), x.dtype))


linear_product.vjp(
    x=lambda g, w: linear_product(g, w.mT),
    w=lambda g, x: matmul(flat(g).mT, flat(x)),
)
