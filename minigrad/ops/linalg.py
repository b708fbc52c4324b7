"""Linear algebra on (batches of) square and rectangular matrices, by LAPACK on the CPU and cuSOLVER on a GPU.

Decompositions have several results; an operation has one. So their parts are laid side by side in the last
dim (`packed`), and taken out of the resulting Tensor as views (`part`).
"""

from __future__ import annotations

from math import prod

from ..autograd import op
from ..backend import xp_of
from ..tensor import Tensor
from .index import embed, getitem
from .products import matmul
from .select import masked
from .shape import reshape
from .sums import expand
from .sums import sum as sum_over


def lower(x, k=0):
    """The lower triangle of a Tensor, from diagonal k down; the rest 0."""
    rows, columns = x.array.shape[-2:]
    return masked(x, xp_of(x.array).tri(rows, columns, k, dtype=bool))


def along_rows(x):
    """(..., n) -> (..., n, 1)"""
    return reshape(x, (*x.array.shape, 1))


def along_columns(x):
    """(..., n) -> (..., 1, n)"""
    return reshape(x, (*x.array.shape[:-1], 1, x.array.shape[-1]))


def diagonal(x):
    """(..., n) -> (..., n, n): diagonal matrices."""
    n = x.array.shape[-1]
    return masked(expand(along_columns(x), (*x.array.shape, n)), xp_of(x.array).eye(n, dtype=bool))


def of_diagonal(x):
    """(..., n, n) -> (..., n): the diagonal of each matrix."""
    return sum_over(masked(x, xp_of(x.array).eye(x.array.shape[-1], dtype=bool)), (x.array.ndim - 1,), False)


def quotient(x, y, ignore=False):
    """x / y, and 0 / 0 = 0: what depends on no vectors has a gradient at equal values too."""
    zero = (y.array == 0) & ((x.array == 0) | ignore)
    return x / (y + Tensor(zero.astype(x.array.dtype)))


@op
def inv(x):
    """The inverse of each matrix."""
    return xp_of(x).linalg.inv(x)


inv.vjp(x=lambda g, y: -matmul(matmul(y.mT, g), y.mT))


@op
def solve(a, b):
    """x with a x = b, for square a and matrices b."""
    return xp_of(a).linalg.solve(a, b)


@solve.joint_vjp
def _(g, needed, y, a):
    gb = solve(a.mT, g)
    return -matmul(gb, y.mT) if needed[0] is not False else None, gb


@op
def det(x):
    """The determinant of each matrix."""
    return xp_of(x).linalg.det(x)


det.vjp(x=lambda g, x: reshape(g, (*g.array.shape, 1, 1)) * cofactor(x))


@op
def cofactor(x):
    """det(x) x^-T, defined for singular matrices too: from the singular values, products of all but one."""
    xp = xp_of(x)
    u, s, v = xp.linalg.svd(x)
    n = s.shape[-1]
    others = xp.prod(xp.where(xp.eye(n, dtype=bool), s.dtype.type(1), s[..., None, :]), axis=-1)
    sign = xp.linalg.det(u) * xp.linalg.det(v)
    return (sign[..., None, None] * (u * others[..., None, :])) @ v


@cofactor.joint_vjp
def _(g, needed, y, x):
    # C = det(x) Y^T with Y = x^-1:  <g, dC> = (<g, C> Y^T - Y^T g^T C, dx)
    inverse = inv(x).mT
    total = sum_over(g * y, (y.array.ndim - 2, y.array.ndim - 1), True)
    return (total * inverse - matmul(matmul(inverse, g.mT), y),)


@op
def logabsdet(x):
    """ln |det x| of each matrix"""
    return xp_of(x).linalg.slogdet(x)[1]


logabsdet.vjp(x=lambda g, x: reshape(g, (*g.array.shape, 1, 1)) * inv(x).mT)


@op
def cholesky(x):
    """The lower triangular L with L L^T = x, for positive definite x, of which the lower triangle is read."""
    return xp_of(x).linalg.cholesky(x)


@cholesky.joint_vjp
def _(g, needed, y):
    # S = sym of the lower triangle of L^T g with its diagonal halved;  L^-T S L^-1
    triangle = lower(matmul(y.mT, g))
    half = (triangle + lower(triangle, -1).mT) * 0.5
    return (solve(y.mT, solve(y.mT, half.mT).mT),)


@op
def pinv(x, atol, rtol):
    """The pseudo-inverse: singular values of at most atol, or rtol times the largest, count as 0."""
    xp = xp_of(x)
    u, s, v = xp.linalg.svd(x, full_matrices=False)
    if not s.size:
        return x.mT.copy()
    kept = (s > s.max(axis=-1, keepdims=True) * rtol) & (s > atol)
    inverse = xp.where(kept, 1 / xp.where(kept, s, s.dtype.type(1)), s.dtype.type(0))
    return v.mT @ (inverse[..., :, None] * u.mT)


@pinv.joint_vjp
def _(g, needed, y, x):
    # dY = -Y dx Y + Y Y^T dx^T (1 - x Y) + (1 - Y x) dx^T Y^T Y, for a rank that stays
    turned = -matmul(matmul(y.mT, g), y.mT)
    left, right = matmul(matmul(g.mT, y), y.mT), matmul(matmul(y.mT, y), g.mT)
    return turned + left - matmul(x, matmul(y, left)) + right - matmul(matmul(right, y), x), None


# ------------------------------------------------------------------------ decompositions with several parts


def packed(x, *arrays):
    """The parts of a decomposition of x as one array (..., total)."""
    batch = x.shape[:-2]
    return xp_of(x).concatenate([a.reshape(*batch, prod(a.shape[len(batch) :])) for a in arrays], axis=-1)


def part(x, shapes, k):
    """Part k of a packed Tensor."""
    start = sum([prod(s) for s in shapes[:k]])
    return reshape(getitem(x, (..., slice(start, start + prod(shapes[k])))), x.array.shape[:-1] + shapes[k])


def parts(x, shapes):
    return [part(x, shapes, k) for k in range(len(shapes))]


def qr_shapes(m, n):
    """Of Q and R."""
    return [(m, min(m, n)), (min(m, n), n)]


@op
def qr(x):
    """Q, R with Q R = x, Q^T Q = 1, R upper triangular, of (..., m, n); packed."""
    return packed(x, *xp_of(x).linalg.qr(x))


@qr.joint_vjp
def _(g, needed, y, x):
    shapes = qr_shapes(*x.array.shape[-2:])
    (q, r), (gq, gr) = parts(y, shapes), parts(g, shapes)
    m, n = x.array.shape[-2:]
    if m >= n:
        return (_qr_gradient(q, r, gq, gr),)
    # x = [X | Y], R = [U | V] with Q U = X, V = Q^T Y
    gu, gv = getitem(gr, (..., slice(0, m))), getitem(gr, (..., slice(m, n)))
    u, right = getitem(r, (..., slice(0, m))), getitem(x, (..., slice(m, n)))
    gx = _qr_gradient(q, u, gq + matmul(right, gv.mT), gu)
    return (
        embed(gx, (..., slice(0, m)), x.array.shape)
        + embed(matmul(q, gv), (..., slice(m, n)), x.array.shape),
    )


def _qr_gradient(q, r, gq, gr):
    """For a square R: (gq + Q sym(M)) R^-T, M = R gr^T - gq^T Q, sym mirrors the lower triangle."""
    below = lower(matmul(r, gr.mT) - matmul(gq.mT, q))
    return solve(r, (gq + matmul(q, below + lower(below, -1).mT)).mT).mT


def eigh_shapes(n):
    """Of the eigenvalues and the eigenvectors."""
    return [(n,), (n, n)]


@op
def eigh(x, side):
    """w, V with x = V diag(w) V^T, w ascending, of symmetric x, read from its 'L' or 'U' side; packed."""
    return packed(x, *xp_of(x).linalg.eigh(x, side))


@eigh.joint_vjp
def _(g, needed, y):
    n = eigh_size(y.array.shape[-1])
    (w, v), (gw, gv) = parts(y, eigh_shapes(n)), parts(g, eigh_shapes(n))
    eye = xp_of(w.array).eye(n, dtype=bool)
    turn = quotient(matmul(v.mT, gv), along_columns(w) - along_rows(w), eye)
    middle = turn + diagonal(gw - of_diagonal(turn))
    return matmul(matmul(v, middle), v.mT), None


def eigh_size(total):
    """n, from n + n^2."""
    return int(((1 + 4 * total) ** 0.5 - 1) / 2 + 0.5)


def svd_shapes(m, n):
    """Of U, S and V^T."""
    return [(m, min(m, n)), (min(m, n),), (min(m, n), n)]


@op
def svd(x):
    """U, S, V^T with x = U diag(S) V^T, S descending, of (..., m, n); packed."""
    return packed(x, *xp_of(x).linalg.svd(x, full_matrices=False))


@svd.joint_vjp
def _(g, needed, y, x):
    shapes = svd_shapes(*x.array.shape[-2:])
    (u, s, v), (gu, gs, gv) = parts(y, shapes), parts(g, shapes)
    m, n = x.array.shape[-2:]
    row, column = along_rows(s), along_columns(s)
    gap = column * column - row * row
    of_u, of_v = matmul(u.mT, gu), matmul(v, gv.mT)
    middle = quotient(of_u - of_u.mT, gap) * column + row * quotient(of_v - of_v.mT, gap) + diagonal(gs)
    gx = matmul(matmul(u, middle), v)
    if m > n:
        gx = gx + matmul(quotient(gu - matmul(u, of_u), column), v)
    if n > m:
        gx = gx + matmul(u, quotient(gv - matmul(of_v.mT, v), row))
    return (gx,)
