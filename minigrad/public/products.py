"""Products of vectors, matrices and batches of matrices, with PyTorch's names and rank rules.

All end in `ops.matmul`, the BLAS product of matrices, or where nothing is summed in `ops.mul`. Operands
must have one dtype: a product of mixed types is a mistake more often than a wish.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp_of
from ..tensor import Tensor
from .arithmetic import scaled
from .autocast import listed
from .dims import check_tensor, one_dim
from .promote import same_device
from .register import EXPORTS, alias, in_place, method, public


def check_product(name: str, *operands: Tensor) -> None:
    """TypeError for operands of a product that are no Tensors, of different dtypes, or of bools."""
    check_tensor(name, *operands)
    first = operands[0]
    for other in operands[1:]:
        if other.array.dtype != first.array.dtype:
            raise TypeError(
                f"{name}: {_told(first)} and {_told(other)}; the operands must have one dtype, convert with "
                f".to(minigrad.{first.dtype.name}) or .to(minigrad.{other.dtype.name})"
            )
    if first.array.dtype.kind == "b":
        raise TypeError(f"{name}: bools have no product; convert with .to(minigrad.int64) or .float()")


def _told(x: Tensor) -> str:
    return f"{x.dtype.name}{list(x.array.shape)}"


def check_dims(name: str, *operands: tuple[str, Tensor, int]) -> None:
    """ValueError for an operand (its name, itself, the dims it must have) of another rank."""
    for word, x, ndim in operands:
        if x.array.ndim != ndim:
            kind = ("number", "vector", "matrix", "batch of matrices (3-d)")[ndim]
            raise ValueError(f"{name}: {word} is {_told(x)}; it must be a {kind}")


def check_inner(name: str, a: Tensor, b: Tensor, n: int, m: int) -> None:
    """ValueError when the sizes that are summed over differ."""
    if n != m:
        raise ValueError(f"{name}: {_told(a)} and {_told(b)}: the inner sizes {n} and {m} differ")


@public
@method
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """input @ other: matrices in the last two dims, leading dims broadcast.

    A vector stands for a row on the left, for a column on the right, and its dim is dropped from the
    result: two vectors give a number.
    """
    check_product("matmul", input, other)
    a, b = input.array, other.array
    if not a.ndim or not b.ndim:
        raise ValueError(
            f"matmul: {_told(input)} and {_told(other)}; both need at least one dim, use * for numbers"
        )
    check_inner("matmul", input, other, a.shape[-1], b.shape[-2] if b.ndim > 1 else b.shape[0])
    n = a.shape[-1]
    if a.ndim == 1:
        y = ops.matmul(ops.reshape(input, (1, n)), ops.reshape(other, (n, 1)) if b.ndim == 1 else other)
        return ops.reshape(y, b.shape[:-2] + b.shape[-1:] if b.ndim > 1 else ())
    if b.ndim == 1:
        y = ops.linear_product(input, ops.reshape(other, (1, n)))
        return ops.reshape(y, a.shape[:-1])
    if b.ndim == 2 < a.ndim:  # one product of a tall matrix
        return ops.linear_product(input, ops.matrix_transpose(other))
    return ops.matmul(input, other)


def _at(self: Tensor, other: Any) -> Tensor:
    if isinstance(other, Tensor):
        a, b = self.array, other.array
        if a.ndim == 2 == b.ndim and a.dtype is b.dtype and a.shape[1] == b.shape[0] and a.dtype.kind != "b":
            return ops.matmul(self, other)  # nothing to sort out
    return matmul(self, other)


def _rat(self: Tensor, other: Any) -> Tensor:
    return matmul(other, self)


Tensor.__matmul__ = listed(_at, "__matmul__")
Tensor.__rmatmul__ = listed(_rat, "__rmatmul__")


@public
@method
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    check_product("mm", input, mat2)
    check_dims("mm", ("input", input, 2), ("mat2", mat2, 2))
    return matmul(input, mat2)


@public
@method
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices: (B, n, m), (B, m, p) -> (B, n, p)"""
    check_product("bmm", input, mat2)
    check_dims("bmm", ("input", input, 3), ("mat2", mat2, 3))
    if input.array.shape[0] != mat2.array.shape[0]:
        raise ValueError(f"bmm: {_told(input)} and {_told(mat2)}: the batch sizes differ")
    return matmul(input, mat2)


@public
@method
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """A matrix times a vector."""
    check_product("mv", input, vec)
    check_dims("mv", ("input", input, 2), ("vec", vec, 1))
    return matmul(input, vec)


@public
@method
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Σ input tensor, of two vectors of one size."""
    check_product("dot", input, tensor)
    check_dims("dot", ("input", input, 1), ("tensor", tensor, 1))
    check_inner("dot", input, tensor, input.array.size, tensor.array.size)
    return matmul(input, tensor)


EXPORTS["vdot"] = dot  # of real vectors the same
Tensor.vdot = dot  # type: ignore[attr-defined]


@public
@method
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """y[i, j] = input[i] vec2[j], of two vectors; types are promoted."""
    check_tensor("outer", input, vec2)
    check_dims("outer", ("input", input, 1), ("vec2", vec2, 1))
    return ops.reshape(input, (input.array.size, 1)) * vec2


alias(outer, "ger")


@public
@method
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Σ over the last dims of both: y[..., ---] = Σ_k input[..., k] other[---, k]; numbers are multiplied."""
    check_product("inner", input, other)
    if not input.array.ndim or not other.array.ndim:
        return input * other
    return tensordot(input, other, ([-1], [-1]))


@public
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Σ over pairs of dims: the last `dims` of a with the first of b, or dims listed, ([of a], [of b])."""
    check_product("tensordot", a, b)
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.array.ndim, b.array.ndim):
            raise ValueError(
                f"tensordot: dims={dims} for {_told(a)} and {_told(b)}; use 0 to the smaller number of dims"
            )
        of_a, of_b = list(range(a.array.ndim - dims, a.array.ndim)), list(range(dims))
    else:
        of_a, of_b = ([d] if isinstance(d, int) else list(d) for d in dims)
        of_a = [one_dim("tensordot", d, a.array.ndim) for d in of_a]
        of_b = [one_dim("tensordot", d, b.array.ndim) for d in of_b]
    if len(of_a) != len(of_b):
        raise ValueError(f"tensordot: dims={dims}; as many dims of a as of b are needed")
    for d, e in zip(of_a, of_b):
        check_inner("tensordot", a, b, a.array.shape[d], b.array.shape[e])
    free_a = [d for d in range(a.array.ndim) if d not in of_a]
    free_b = [d for d in range(b.array.ndim) if d not in of_b]
    shape_a, shape_b = [a.array.shape[d] for d in free_a], [b.array.shape[d] for d in free_b]
    n = prod([a.array.shape[d] for d in of_a])
    left = reshaped(permuted(a, free_a + of_a), (prod(shape_a), n))
    right = reshaped(permuted(b, of_b + free_b), (n, prod(shape_b)))
    return reshaped(ops.matmul(left, right), (*shape_a, *shape_b))


def permuted(x: Tensor, order: Any) -> Tensor:
    """The dims of x in another order; x itself where that is the order they have."""
    return x if list(order) == list(range(x.array.ndim)) else ops.permute(x, tuple(order))


def reshaped(x: Tensor, shape: Any) -> Tensor:
    """x in another shape; itself where it has that one."""
    return x if x.array.shape == tuple(shape) else ops.reshape(x, tuple(shape))


# ----------------------------------------------------------------------------- sums of a tensor and a product


def _added(name: str, input: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    """beta input + alpha product; with beta 0 the input is not looked at, so nan and inf do not spread."""
    y = scaled(name, product, alpha, "alpha")
    return y if beta == 0 else scaled(name, input, beta, "beta") + y


@public
@method
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta input + alpha mat1 @ mat2"""
    check_product("addmm", mat1, mat2, input)
    return _added("addmm", input, mm(mat1, mat2), beta, alpha)


@public
@method
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta input + alpha mat @ vec"""
    check_product("addmv", mat, vec, input)
    return _added("addmv", input, mv(mat, vec), beta, alpha)


@public
@method
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta input + alpha outer(vec1, vec2)"""
    return _added("addr", input, outer(vec1, vec2), beta, alpha)


@public
@method
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta input + alpha bmm(batch1, batch2)"""
    check_product("baddbmm", batch1, batch2, input)
    return _added("baddbmm", input, bmm(batch1, batch2), beta, alpha)


@public
@method
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta input + alpha Σ over the batch of bmm(batch1, batch2)"""
    check_product("addbmm", batch1, batch2, input)
    check_dims("addbmm", ("batch1", batch1, 3), ("batch2", batch2, 3))
    return _added("addbmm", input, tensordot(batch1, batch2, ([0, 2], [0, 1])), beta, alpha)


for _function in (addmm, addmv, addr, baddbmm, addbmm):
    in_place(_function)


# ------------------------------------------------------------------------------------------- further products


@listed
def multi_dot(tensors: Any) -> Tensor:
    """The product of two or more matrices, in the order of least work; the first and last may be vectors."""
    matrices = list(tensors)
    if len(matrices) < 2:
        raise ValueError(f"multi_dot: {len(matrices)} matrices; two or more are needed")
    check_product("multi_dot", *matrices)
    row, column = matrices[0].array.ndim == 1, matrices[-1].array.ndim == 1
    if row:
        matrices[0] = ops.reshape(matrices[0], (1, matrices[0].array.size))
    if column:
        matrices[-1] = ops.reshape(matrices[-1], (matrices[-1].array.size, 1))
    check_dims("multi_dot", *[(f"tensors[{k}]", x, 2) for k, x in enumerate(matrices)])
    for a, b in pairwise(matrices):
        check_inner("multi_dot", a, b, a.array.shape[1], b.array.shape[0])
    y = _product_of(matrices, _splits([*[x.array.shape[0] for x in matrices], matrices[-1].array.shape[1]]))
    shape = y.array.shape[1 if row else 0 : 1 if column else 2]
    return reshaped(y, shape)


def _splits(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Where to split the product of matrices i ... j, of sizes[k] x sizes[k + 1], for the least work."""
    n = len(sizes) - 1
    cost, best = {(i, i): 0 for i in range(n)}, {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            work = {
                k: cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)
            }
            best[i, j] = min(work, key=work.__getitem__)
            cost[i, j] = work[best[i, j]]
    return best


def _product_of(matrices: list[Tensor], splits: dict[tuple[int, int], int]) -> Tensor:
    def part(i: int, j: int) -> Tensor:
        return matrices[i] if i == j else ops.matmul(part(i, splits[i, j]), part(splits[i, j] + 1, j))

    return part(0, len(matrices) - 1)


@public
def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of matrices, in the order of least work."""
    return matrices[0] if len(matrices) == 1 else multi_dot(matrices)


@public
@method
def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: every element of input times the whole of other, as blocks."""
    check_tensor("kron", input, other)
    ndim = max(input.array.ndim, other.array.ndim)
    a = (1,) * (ndim - input.array.ndim) + input.array.shape
    b = (1,) * (ndim - other.array.ndim) + other.array.shape
    left = ops.reshape(input, tuple([n for size in a for n in (size, 1)]))
    right = ops.reshape(other, tuple([n for size in b for n in (1, size)]))
    return ops.reshape(left * right, tuple([n * m for n, m in zip(a, b)]))


@public
@method
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The cross product of vectors along dim, which has size 3 (the first such dim by default)."""
    check_tensor("cross", input, other)
    if dim is None:
        dim = next((d for d, n in enumerate(input.array.shape) if n == 3), None)
        if dim is None:
            raise ValueError(f"cross: no dim of {_told(input)} has size 3")
    return linalg_cross(input, other, dim=dim)


@listed
def linalg_cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The cross product of vectors along dim, which has size 3; the other dims broadcast."""
    check_tensor("cross", input, other)
    if input.array.ndim != other.array.ndim:
        raise ValueError(f"cross: {_told(input)} and {_told(other)}: both need as many dims")
    k = one_dim("cross", dim, input.array.ndim)
    if input.array.ndim == 0 or input.array.shape[k] != 3 or other.array.shape[k] != 3:
        raise ValueError(f"cross: {_told(input)} and {_told(other)}: dim {dim} must have size 3")
    same_device("cross", input, other)
    xp = xp_of(input.array)
    ahead, behind = Tensor(xp.asarray([1, 2, 0])), Tensor(xp.asarray([2, 0, 1]))
    return ops.take(input, ahead, k) * ops.take(other, behind, k) - ops.take(input, behind, k) * ops.take(
        other, ahead, k
    )


@public
@method
def trace(input: Tensor) -> Tensor:
    """Σ of the diagonal of a matrix. Integers are summed as int64."""
    check_tensor("trace", input)
    check_dims("trace", ("input", input, 2))
    rows, columns = input.array.shape
    places = xp_of(input.array).arange(min(rows, columns)) * np.int64(columns + 1)
    return ops.take(ops.reshape(input, (rows * columns,)), Tensor(places), 0).sum()


@public
def cdist(
    x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary"
) -> Tensor:
    """The p-norm distance of every row of x1 to every row of x2: (..., P, M), (..., R, M) -> (..., P, R)

    compute_mode is accepted and without effect: differences are always formed, so close rows keep their
    digits.
    """
    check_product("cdist", x1, x2)
    if x1.array.ndim < 2 or x2.array.ndim < 2:
        raise ValueError(f"cdist: {_told(x1)} and {_told(x2)}; both must be matrices, or batches of them")
    check_inner("cdist", x1, x2, x1.array.shape[-1], x2.array.shape[-1])
    if p < 0:
        raise ValueError(f"cdist: p={p}; it must be 0 or more")
    a, b = x1.array.shape, x2.array.shape
    left = ops.reshape(x1, (*a[:-1], 1, a[-1]))
    right = ops.reshape(x2, (*b[:-2], 1, *b[-2:]))
    return (left - right).norm(p, dim=-1)
