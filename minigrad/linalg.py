"""torch.linalg: norms, solving, determinants, and the decompositions of matrices.

Matrices stand in the last two dims, leading dims are a batch; the types are float32 and float64. All are
differentiable to any order, where the mathematics is: not for the vectors that belong to equal eigenvalues
or singular values.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import ops
from .backend import float32, float64, xp_of
from .ops.linalg import eigh_shapes, lower, part, qr_shapes, svd_shapes
from .public.autocast import listed
from .public.dims import check_tensor, one_dim
from .public.norms import vector_norm
from .public.products import check_inner, check_product, matmul, multi_dot
from .public.products import linalg_cross as cross
from .public.register import alias
from .tensor import Tensor

__all__ = [  # what the other files of the public face lend is named here
    "cholesky", "cross", "det", "eigh", "eigvalsh", "inv", "logdet", "matmul", "matrix_norm",
    "matrix_power", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve", "solve_triangular", "svd",
    "svdvals", "vector_norm",
]  # fmt: skip


class slogdet_result(NamedTuple):
    sign: Tensor
    logabsdet: Tensor


class qr_result(NamedTuple):
    Q: Tensor
    R: Tensor


class eigh_result(NamedTuple):
    eigenvalues: Tensor
    eigenvectors: Tensor


class svd_result(NamedTuple):
    U: Tensor
    S: Tensor
    Vh: Tensor


def _matrices(name: str, *tensors: Tensor, square: bool = True) -> None:
    """TypeError unless float32 or float64; ValueError unless (square) matrices."""
    check_product(name, *tensors)
    for x in tensors:
        if x.dtype not in (float32, float64):
            raise TypeError(
                f"{name}: {x.dtype.name} matrices are not supported; convert with .float() or .double()"
            )
        shape = tuple(x.array.shape)
        if len(shape) < 2:
            raise ValueError(f"{name}: a tensor of shape {shape} is no matrix; two or more dims are needed")
        if square and shape[-1] != shape[-2]:
            raise ValueError(f"{name}: the matrices must be square, this is a tensor of shape {shape}")


def inv(A: Tensor) -> Tensor:
    """The inverse of square matrices. LinAlgError (a ValueError) for singular ones on the CPU."""
    _matrices("inv", A)
    return ops.inv(A)


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with A X = B (X A = B unless left); B is vectors where it has the shape of A without the last dim."""
    _matrices("solve", A)
    check_product("solve", A, B)
    n = A.array.shape[-1]
    vector = B.array.ndim == 1 or (B.array.ndim == A.array.ndim - 1 and B.array.shape == A.array.shape[:-1])
    if vector:
        if not left:
            raise ValueError(f"solve: left=False needs matrices B, not vectors of shape {tuple(B.shape)}")
        check_inner("solve", A, B, n, B.array.shape[-1])
        y = ops.solve(A, ops.reshape(B, (*B.array.shape, 1)))
        return ops.reshape(y, y.array.shape[:-1])
    check_inner("solve", A, B, n, B.array.shape[-2 if left else -1])
    return ops.solve(A, B) if left else ops.solve(A.mT, B.mT).mT


def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X with A X = B (X A = B unless left) for a triangle of A; its diagonal counts as 1 if unitriangular."""
    _matrices("solve_triangular", A)
    _matrices("solve_triangular", A, B, square=False)
    check_inner("solve_triangular", A, B, A.array.shape[-1], B.array.shape[-2 if left else -1])
    triangle = lower(A.mT if upper else A, -1 if unitriangular else 0)
    if unitriangular:
        triangle = triangle + Tensor(xp_of(A.array).eye(A.array.shape[-1], dtype=A.array.dtype))
    return solve(triangle.mT if upper else triangle, B, left=left)


def det(A: Tensor) -> Tensor:
    """The determinant of square matrices; singular ones have gradients too, but no gradients of these."""
    _matrices("det", A)
    return ops.det(A)


def slogdet(A: Tensor) -> slogdet_result:
    """(sign, ln |det A|) of square matrices: no overflow where det has one."""
    _matrices("slogdet", A)
    return slogdet_result(Tensor(xp_of(A.array).linalg.slogdet(A.array)[0]), ops.logabsdet(A))


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The lower triangular L with L L^T = A, or the upper U with U^T U = A, of positive definite matrices."""
    _matrices("cholesky", A)
    return ops.cholesky(A.mT).mT if upper else ops.cholesky(A)


def qr(A: Tensor, mode: str = "reduced") -> qr_result:
    """(Q, R) with Q R = A, Q^T Q = 1 and R upper triangular: (..., m, k), (..., k, n), k = min(m, n).

    mode 'r' leaves Q empty and has no gradient; 'complete', with an m x m Q, has none either unless m <= n.
    """
    _matrices("qr", A, square=False)
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"qr: mode={mode!r}; use 'reduced', 'complete' or 'r'")
    m, n = A.array.shape[-2:]
    if mode == "reduced" or (mode == "complete" and m <= n):
        y = ops.qr(A)
        return qr_result(part(y, qr_shapes(m, n), 0), part(y, qr_shapes(m, n), 1))
    if A.requires_grad:
        raise ValueError(f"qr: mode={mode!r} has no gradient here; use mode='reduced', or A.detach()")
    xp = xp_of(A.array)
    if mode == "r":
        return qr_result(Tensor(xp.zeros(0, A.array.dtype)), Tensor(xp.linalg.qr(A.array, "r")))
    q, r = xp.linalg.qr(A.array, "complete")
    return qr_result(Tensor(q), Tensor(r))


def eigh(A: Tensor, UPLO: str = "L") -> eigh_result:
    """(w, V) with A = V diag(w) V^T, w ascending, of symmetric A, read from its UPLO triangle ('L', 'U')."""
    _matrices("eigh", A)
    if UPLO not in ("L", "U"):
        raise ValueError(f"eigh: UPLO={UPLO!r}; use 'L' or 'U'")
    y, shapes = ops.eigh(A, UPLO), eigh_shapes(A.array.shape[-1])
    return eigh_result(part(y, shapes, 0), part(y, shapes, 1))


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of symmetric matrices, ascending."""
    return eigh(A, UPLO).eigenvalues


def svd(A: Tensor, full_matrices: bool = True) -> svd_result:
    """(U, S, Vh) with A = U diag(S) Vh, S descending; with full_matrices U and Vh are square.

    Only full_matrices=False has a gradient, unless A is square.
    """
    _matrices("svd", A, square=False)
    m, n = A.array.shape[-2:]
    if full_matrices and m != n:
        if A.requires_grad:
            raise ValueError("svd: full_matrices=True has no gradient for m != n; use full_matrices=False")
        return svd_result(*[Tensor(a) for a in xp_of(A.array).linalg.svd(A.array)])
    y, shapes = ops.svd(A), svd_shapes(m, n)
    return svd_result(*[part(y, shapes, k) for k in range(3)])


def svdvals(A: Tensor) -> Tensor:
    """The singular values, descending."""
    return svd(A, full_matrices=False).S


def pinv(
    A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """The pseudo-inverse: singular values up to max(atol, rtol times the largest) count as 0.

    rtol (rcond is another name for it) is max(m, n) epsilons by default, 0 where an atol is given; both are
    numbers, or tensors of one number a matrix. hermitian promises that A is symmetric, and changes nothing.
    """
    _matrices("pinv", A, square=False)
    if rcond is not None and rtol is not None:
        raise TypeError("pinv: give rcond or rtol, not both; they are the same")
    rtol = rcond if rtol is None else rtol
    if rtol is None and (atol is None or (not isinstance(atol, Tensor) and atol == 0)):
        rtol = max(A.array.shape[-2:]) * float(np.finfo(A.array.dtype).eps)
    return ops.pinv(A, _bound(A, atol), _bound(A, rtol))


def _bound(A: Tensor, value: Any) -> Any:
    """A number, or a tensor of one number a matrix, in a shape that compares with singular values."""
    kind = A.array.dtype
    return value.array.astype(kind)[..., None] if isinstance(value, Tensor) else kind.type(value or 0)


def matrix_power(A: Tensor, n: int) -> Tensor:
    """A multiplied with itself n times, by squaring; the identity for n = 0, powers of the inverse below."""
    _matrices("matrix_power", A)
    if n < 0:
        return matrix_power(inv(A), -n)
    if n == 0:
        return Tensor(xp_of(A.array).eye(A.array.shape[-1], dtype=A.array.dtype)).expand(A.shape).clone()
    half = matrix_power(A, n // 2) if n > 1 else None
    square = None if half is None else ops.matmul(half, half)
    return A if square is None else ops.matmul(square, A) if n % 2 else square


@listed
def matrix_norm(
    A: Tensor, ord: Any = "fro", dim: tuple[int, int] = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The norm of matrices in two dims: 'fro', 'nuc' (Σ singular values), 2, -2 (largest, smallest one),
    1, -1 (largest, smallest column sum of |A|), inf, -inf (of rows)."""
    check_tensor("matrix_norm", A)
    A = A if dtype is None else A.to(dtype)
    if len(dim) != 2 or A.array.ndim < 2:
        raise ValueError(f"matrix_norm: dim={dim} of a tensor of shape {tuple(A.shape)}; two dims are needed")
    row, column = (one_dim("matrix_norm", d, A.array.ndim) for d in dim)
    if row == column:
        raise ValueError(f"matrix_norm: dim={dim} names one dim twice")
    if ord == "fro":
        return vector_norm(A, 2, (row, column), keepdim)
    if ord in ("nuc", 2, -2):
        values = svdvals(A.movedim((row, column), (-2, -1)))
        y = values.sum(-1) if ord == "nuc" else values.amax(-1) if ord == 2 else values.amin(-1)
    elif ord in (1, -1, float("inf"), float("-inf")):
        first, second = (row, column) if abs(ord) == 1 else (column, row)
        sums = A.abs().sum(first)
        second -= second > first
        y = sums.amax(second) if ord > 0 else sums.amin(second)
    else:
        raise ValueError(f"matrix_norm: ord={ord!r}; use 'fro', 'nuc', inf, -inf, 1, -1, 2 or -2")
    if keepdim:
        for d in sorted((row, column)):
            y = y.unsqueeze(d)
    return y


@listed
def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """A vector norm of one dim, a matrix norm of two; without ord the 2-norm of all elements, or over dim."""
    check_tensor("norm", A)
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    two = A.array.ndim == 2 if dim is None else isinstance(dim, (tuple, list)) and len(dim) == 2
    if isinstance(ord, str) or two:
        return matrix_norm(A, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    if dim is None and A.array.ndim > 2:
        raise ValueError(
            f"norm: ord={ord!r} of a tensor of shape {tuple(A.shape)}; name one or two dims with dim="
        )
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


def logdet(input: Tensor) -> Tensor:
    """ln det of square matrices; nan where it is negative, -inf where it is 0."""
    sign, y = slogdet(input)
    return y + ops.log(sign)


_METHODS: dict[str, Any] = dict(
    det=det, slogdet=slogdet, logdet=logdet, inverse=inv, matrix_power=matrix_power
)
for _name, _function in _METHODS.items():
    alias(_function, _name)
