"""Samples of the matrix products, einsum, and linear algebra."""

import numpy as np

from samples import Sample, normal, positive, uniform


def product(name, *shapes, **options):
    return Sample(
        f"{name} {' '.join(map(str, shapes))}", options.pop("fn"), *[normal(*s) for s in shapes], **options
    )


def matmul(a, b):
    return product("matmul", a, b, fn=lambda m, x, y: x @ y)


PRODUCTS = [
    matmul((3, 4), (4, 2)),
    matmul((1, 4), (4, 1)),
    matmul((3, 0), (0, 2)),
    matmul((0, 4), (4, 2)),
    matmul((4,), (4,)),
    matmul((4,), (4, 2)),
    matmul((3, 4), (4,)),
    matmul((4,), (2, 4, 3)),
    matmul((2, 3, 4), (4,)),
    matmul((2, 3, 4), (4, 5)),
    matmul((3, 4), (2, 4, 5)),
    matmul((2, 3, 4), (2, 4, 5)),
    matmul((2, 1, 3, 4), (5, 4, 2)),
    matmul((1, 3, 4), (2, 4, 5)),
    matmul((2, 3, 2, 4), (4, 3)),
    matmul((0, 3, 4), (4, 2)),
    Sample("matmul function", lambda m, x, y: m.matmul(x, y), normal(3, 4), normal(4, 2)),
    Sample("matmul of transposes", lambda m, x, y: x.t() @ y.t(), normal(4, 3), normal(2, 4)),
    Sample("matmul with itself", lambda m, x: x @ x.mT, normal(2, 3, 4)),
    Sample("matmul of parts", lambda m, x, y: x[:, ::2] @ y[1:], normal(3, 4), normal(3, 2)),
    Sample("matmul of ints", lambda m, x, y: x @ y, np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2)),
    product("mm", (3, 4), (4, 2), fn=lambda m, x, y: m.mm(x, y)),
    product("bmm", (2, 3, 4), (2, 4, 5), fn=lambda m, x, y: x.bmm(y)),
    product("mv", (3, 4), (4,), fn=lambda m, x, y: m.mv(x, y)),
    product("dot", (4,), (4,), fn=lambda m, x, y: x.dot(y)),
    product("dot empty", (0,), (0,), fn=lambda m, x, y: m.dot(x, y)),
    product("vdot", (4,), (4,), fn=lambda m, x, y: m.vdot(x, y)),
    product("outer", (3,), (4,), fn=lambda m, x, y: m.outer(x, y)),
    product("ger", (3,), (4,), fn=lambda m, x, y: x.ger(y)),
    product("inner", (2, 3, 4), (5, 4), fn=lambda m, x, y: m.inner(x, y)),
    product("inner vectors", (4,), (4,), fn=lambda m, x, y: m.inner(x, y)),
    product("inner numbers", (), (2, 3), fn=lambda m, x, y: m.inner(x, y)),
    product("addmm", (3, 2), (3, 4), (4, 2), fn=lambda m, c, x, y: m.addmm(c, x, y)),
    product("addmm row", (2,), (3, 4), (4, 2), fn=lambda m, c, x, y: c.addmm(x, y, beta=0.5, alpha=-2)),
    product("addmm beta=0", (3, 2), (3, 4), (4, 2), fn=lambda m, c, x, y: m.addmm(c, x, y, beta=0)),
    product("addmv", (3,), (3, 4), (4,), fn=lambda m, c, x, y: m.addmv(c, x, y, beta=2, alpha=0.5)),
    product("addr", (3, 4), (3,), (4,), fn=lambda m, c, x, y: m.addr(c, x, y, beta=2, alpha=0.5)),
    product(
        "baddbmm", (2, 3, 5), (2, 3, 4), (2, 4, 5), fn=lambda m, c, x, y: m.baddbmm(c, x, y, beta=2, alpha=3)
    ),
    product("addbmm", (3, 5), (2, 3, 4), (2, 4, 5), fn=lambda m, c, x, y: m.addbmm(c, x, y, beta=2, alpha=3)),
    product("addmm_", (3, 2), (3, 4), (4, 2), fn=lambda m, c, x, y: (c * 1).addmm_(x, y)),
    product(
        "chain_matmul",
        (3, 4),
        (4, 2),
        (2, 5),
        fn=lambda m, *x: m.chain_matmul(*x),
        reference=lambda m, *x: m.linalg.multi_dot(x),
    ),
    product("multi_dot", (3, 10), (10, 2), (2, 7), (7, 1), fn=lambda m, *x: m.linalg.multi_dot(x)),
    product("multi_dot vectors", (3,), (3, 2), (2,), fn=lambda m, *x: m.linalg.multi_dot(x)),
    product("tensordot 2", (3, 4, 5), (4, 5, 2), fn=lambda m, x, y: m.tensordot(x, y)),
    product("tensordot 0", (3,), (2,), fn=lambda m, x, y: m.tensordot(x, y, dims=0)),
    product(
        "tensordot lists", (3, 4, 5), (5, 2, 3), fn=lambda m, x, y: m.tensordot(x, y, dims=([2, 0], [0, 2]))
    ),
    product("tensordot negative", (3, 4), (2, 4), fn=lambda m, x, y: m.tensordot(x, y, dims=([-1], [-1]))),
    product("kron", (2, 3), (3, 2), fn=lambda m, x, y: m.kron(x, y)),
    product("kron ranks", (2,), (3, 2), fn=lambda m, x, y: x.kron(y)),
    product("cross", (3, 4), (3, 4), fn=lambda m, x, y: m.cross(x, y, dim=0)),
    product("cross dim=-1", (2, 3), (2, 3), fn=lambda m, x, y: x.cross(y, -1)),
    product("linalg.cross", (2, 3), (1, 3), fn=lambda m, x, y: m.linalg.cross(x, y)),
    product("trace", (3, 3), fn=lambda m, x: m.trace(x)),
    product("trace wide", (2, 4), fn=lambda m, x: x.trace()),
    Sample("trace of ints", lambda m, x: m.trace(x), np.arange(9, dtype=np.int32).reshape(3, 3)),
    product("cdist", (4, 3), (2, 3), fn=lambda m, x, y: m.cdist(x, y), second=False),
    product("cdist p=1 batch", (2, 4, 3), (1, 2, 3), fn=lambda m, x, y: m.cdist(x, y, p=1.0), second=False),
    product("cdist p=3", (4, 3), (2, 3), fn=lambda m, x, y: m.cdist(x, y, p=3.0), second=False),
]


def einsum(equation, *shapes):
    return product(f"einsum {equation}", *shapes, fn=lambda m, *x: m.einsum(equation, *x))


EINSUMS = [
    einsum("ij,jk->ik", (3, 4), (4, 2)),
    einsum("ij,jk", (3, 4), (4, 2)),
    einsum("ij,jk->ki", (3, 4), (4, 2)),
    einsum("ba,ca", (3, 4), (2, 4)),
    einsum("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    einsum("bij,bjk->kbi", (2, 3, 4), (2, 4, 5)),
    einsum("i,i->", (3,), (3,)),
    einsum("i,j->ij", (3,), (4,)),
    einsum("i,j", (3,), (4,)),
    einsum("ij->ji", (3, 4)),
    einsum("ij->", (3, 4)),
    einsum("ij->j", (3, 4)),
    einsum("ij", (3, 4)),
    einsum("ba", (3, 4)),
    einsum("ii->i", (3, 3)),
    einsum("ii", (3, 3)),
    einsum("iij->j", (3, 3, 2)),
    einsum("iii->i", (3, 3, 3)),
    einsum("ijij->ij", (2, 3, 2, 3)),
    einsum("bii->b", (2, 3, 3)),
    einsum("ij,ij->ij", (3, 4), (3, 4)),
    einsum("ij,ij->i", (3, 4), (3, 4)),
    einsum("ij,ij", (3, 4), (3, 4)),
    einsum("ij,kl->ijkl", (2, 3), (2, 2)),
    einsum("ij,kj,jl->ikl", (2, 3), (4, 3), (3, 2)),
    einsum("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
    einsum("ij,jk,ki->", (2, 3), (3, 4), (4, 2)),
    einsum("bn,anm,bm->ba", (2, 3), (4, 3, 5), (2, 5)),
    einsum("i,ij,ijk,ijkl->l", (2,), (2, 3), (2, 3, 2), (2, 3, 2, 2)),
    einsum("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)),
    einsum("...ij,jk->...ik", (2, 2, 3, 4), (4, 5)),
    einsum("...ij,...jk", (2, 1, 3, 4), (3, 4, 5)),
    einsum("...i->...", (2, 3, 4)),
    einsum("i...->...i", (2, 3, 4)),
    einsum("i...j,j->i...", (2, 3, 4), (4,)),
    einsum("...,...->...", (2, 3), (3,)),
    einsum("...ii->...i", (2, 3, 3)),
    einsum("...->", (2, 3)),
    einsum("...ij->ij", (2, 3, 4)),
    einsum("A,a->aA", (2,), (3,)),
    einsum("A,a", (2,), (3,)),
    einsum(" i j , j k -> i k ", (3, 4), (4, 2)),
    einsum("ij,jk->ik", (3, 0), (0, 2)),
    einsum("ij,ik->jk", (1, 3), (4, 2)),
    einsum("ij,ij->ij", (1, 4), (3, 1)),
    einsum("ij,jk->ik", (3, 1), (4, 2)),
    einsum("->", ()),
    einsum(",i->i", (), (3,)),
    Sample(
        "einsum lists", lambda m, x, y: m.einsum(x, [0, 1], y, [1, 2], [0, 2]), normal(3, 4), normal(4, 2)
    ),
    Sample(
        "einsum lists, no output", lambda m, x, y: m.einsum(x, [5, 1], y, [1, 2]), normal(3, 4), normal(4, 2)
    ),
    Sample(
        "einsum lists, Ellipsis",
        lambda m, x, y: m.einsum(x, [..., 0, 1], y, [..., 1, 30], [..., 0, 30]),
        normal(2, 3, 4),
        normal(2, 4, 2),
    ),
    Sample("einsum of a list", lambda m, x, y: m.einsum("ij,jk->ik", [x, y]), normal(3, 4), normal(4, 2)),
    Sample("einsum of one twice", lambda m, x: m.einsum("ij,ik->jk", x, x), normal(3, 4)),
    Sample(
        "einsum of transposes",
        lambda m, x, y: m.einsum("ij,jk->ik", x.t(), y.t()),
        normal(4, 3),
        normal(2, 4),
    ),
    Sample(
        "einsum of ints",
        lambda m, x, y: m.einsum("ij,jk->ik", x, y),
        np.arange(6).reshape(2, 3),
        np.arange(6).reshape(3, 2),
    ),
]


def matrices(*shape):
    """Random square matrices, well away from singular ones."""
    return lambda rng: rng.standard_normal(shape) + 3 * np.eye(shape[-1])


def symmetric(x):
    return x + x.mT


def definite(m, x):
    return x @ x.mT + m.eye(x.shape[-1], dtype=x.dtype, device=x.device)


SOLVED = [
    Sample("inv", lambda m, x: m.linalg.inv(x), matrices(3, 3)),
    Sample("inv batch", lambda m, x: x.inverse(), matrices(2, 3, 3)),
    Sample("inv 1x1", lambda m, x: m.inverse(x), positive(1, 1)),
    Sample("solve", lambda m, a, b: m.linalg.solve(a, b), matrices(3, 3), normal(3, 2)),
    Sample("solve vector", lambda m, a, b: m.linalg.solve(a, b), matrices(3, 3), normal(3)),
    Sample("solve batch", lambda m, a, b: m.linalg.solve(a, b), matrices(2, 3, 3), normal(2, 3, 4)),
    Sample("solve batch of vectors", lambda m, a, b: m.linalg.solve(a, b), matrices(2, 3, 3), normal(2, 3)),
    Sample("solve broadcast", lambda m, a, b: m.linalg.solve(a, b), matrices(2, 1, 3, 3), normal(4, 3, 2)),
    Sample(
        "solve left=False", lambda m, a, b: m.linalg.solve(a, b, left=False), matrices(3, 3), normal(2, 3)
    ),
    Sample(
        "solve_triangular",
        lambda m, a, b: m.linalg.solve_triangular(a, b, upper=False),
        matrices(3, 3),
        normal(3, 2),
    ),
    Sample(
        "solve_triangular upper",
        lambda m, a, b: m.linalg.solve_triangular(a, b, upper=True),
        matrices(2, 3, 3),
        normal(2, 3, 2),
    ),
    Sample(
        "solve_triangular unit",
        lambda m, a, b: m.linalg.solve_triangular(a, b, upper=True, unitriangular=True),
        matrices(3, 3),
        normal(3, 2),
    ),
    Sample(
        "solve_triangular right",
        lambda m, a, b: m.linalg.solve_triangular(a, b, upper=False, left=False),
        matrices(3, 3),
        normal(2, 3),
    ),
    Sample("det", lambda m, x: m.linalg.det(x), normal(3, 3)),
    Sample("det batch", lambda m, x: x.det(), normal(2, 3, 3)),
    Sample("det 1x1", lambda m, x: m.det(x), normal(1, 1)),
    Sample(
        "det singular", lambda m, x: m.linalg.det(x), np.arange(9.0).reshape(3, 3), second=False, oracle=False
    ),
    Sample("slogdet", lambda m, x: m.linalg.slogdet(x)[1], normal(3, 3)),
    Sample("slogdet batch", lambda m, x: m.slogdet(x).logabsdet, normal(2, 3, 3)),
    Sample("slogdet sign", lambda m, x: m.linalg.slogdet(x).sign, normal(3, 3), no_grad=(0,)),
    Sample("logdet", lambda m, x: m.logdet(definite(m, x)), normal(2, 3, 3)),
    Sample("cholesky", lambda m, x: m.linalg.cholesky(definite(m, x)), normal(3, 3)),
    Sample("cholesky batch", lambda m, x: m.linalg.cholesky(definite(m, x)), normal(2, 3, 3)),
    Sample("cholesky upper", lambda m, x: m.linalg.cholesky(definite(m, x), upper=True), normal(3, 3)),
    Sample("pinv tall", lambda m, x: m.linalg.pinv(x), normal(4, 3)),
    Sample("pinv wide batch", lambda m, x: m.linalg.pinv(x), normal(2, 2, 3)),
    Sample("pinv of the identity", lambda m, x: m.linalg.pinv(x), np.eye(3)),
    Sample("matrix_power 3", lambda m, x: m.linalg.matrix_power(x, 3), normal(3, 3)),
    Sample("matrix_power 0", lambda m, x: x.matrix_power(0), normal(2, 3, 3), no_grad=(0,)),
    Sample("matrix_power -2", lambda m, x: m.matrix_power(x, -2), matrices(3, 3)),
]

DECOMPOSED = [
    Sample("qr", lambda m, x: m.linalg.qr(x), normal(3, 3)),
    Sample("qr tall", lambda m, x: tuple(m.linalg.qr(x)), normal(4, 2)),
    Sample("qr wide", lambda m, x: tuple(m.linalg.qr(x)), normal(2, 4)),
    Sample("qr batch", lambda m, x: m.linalg.qr(x).R, normal(2, 3, 2)),
    Sample("qr complete", lambda m, x: tuple(m.linalg.qr(x, mode="complete")), normal(4, 2), no_grad=(0,)),
    Sample("qr complete wide", lambda m, x: tuple(m.linalg.qr(x, mode="complete")), normal(2, 3)),
    Sample("qr r", lambda m, x: tuple(m.linalg.qr(x, "r")), normal(4, 2), no_grad=(0,)),
    Sample("eigh values", lambda m, x: m.linalg.eigvalsh(symmetric(x)), normal(3, 3)),
    Sample("eigh", lambda m, x: even(m.linalg.eigh(symmetric(x))), normal(3, 3)),
    Sample("eigh batch upper", lambda m, x: even(m.linalg.eigh(symmetric(x), UPLO="U")), normal(2, 3, 3)),
    Sample(
        "eigh of equal values", lambda m, x: m.linalg.eigvalsh(symmetric(x)).sum(), np.eye(3), second=False
    ),
    Sample("svdvals", lambda m, x: m.linalg.svdvals(x), normal(3, 2)),
    Sample("svdvals of equal values", lambda m, x: m.linalg.svdvals(x).sum(), np.eye(3), second=False),
    Sample("svd", lambda m, x: rebuilt(m.linalg.svd(x)), normal(3, 3)),
    Sample("svd tall", lambda m, x: rebuilt(m.linalg.svd(x, full_matrices=False)), normal(4, 2)),
    Sample("svd wide batch", lambda m, x: rebuilt(m.linalg.svd(x, full_matrices=False)), normal(2, 2, 4)),
    Sample("svd full", lambda m, x: [t.abs() for t in m.linalg.svd(x)], normal(4, 2), no_grad=(0,)),
]


def even(parts):
    """What does not depend on the signs of eigenvectors."""
    return parts[0], parts[1] * parts[1]


def rebuilt(parts):
    """What does not depend on the signs of singular vectors."""
    u, s, v = parts
    return s, u * u, v * v, (u * s.unsqueeze(-2).exp()) @ v


NORMS = [
    Sample(f"matrix_norm {order}", lambda m, x, order=order: m.linalg.matrix_norm(x, order), normal(3, 4))
    for order in ("fro", "nuc", 2, -2, 1, -1, float("inf"), float("-inf"))
] + [
    Sample(
        "matrix_norm dims",
        lambda m, x: m.linalg.matrix_norm(x, "nuc", dim=(0, 2), keepdim=True),
        normal(2, 3, 3),
    ),
    Sample("matrix_norm dims 1", lambda m, x: m.linalg.matrix_norm(x, 1, dim=(-1, 0)), normal(2, 3, 4)),
    Sample(
        "matrix_norm dims inf",
        lambda m, x: m.linalg.matrix_norm(x, float("inf"), dim=(2, 0), keepdim=True),
        normal(2, 3, 4),
    ),
    Sample("linalg.norm", lambda m, x: m.linalg.norm(x), normal(2, 3, 4)),
    Sample("linalg.norm of a vector", lambda m, x: m.linalg.norm(x, 3), uniform(0.5, 1.0, 4)),
    Sample("linalg.norm of a matrix", lambda m, x: m.linalg.norm(x, 2), normal(3, 4)),
    Sample("linalg.norm dim", lambda m, x: m.linalg.norm(x, 1, dim=0, keepdim=True), normal(3, 4)),
    Sample("linalg.norm dims", lambda m, x: m.linalg.norm(x, "fro", dim=(0, 2)), normal(2, 3, 4)),
    Sample("linalg.vector_norm", lambda m, x: m.linalg.vector_norm(x, 2, dim=(0, 2)), normal(2, 3, 4)),
]

SAMPLES = PRODUCTS + EINSUMS + SOLVED + DECOMPOSED + NORMS
