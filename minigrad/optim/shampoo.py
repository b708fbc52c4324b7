"""Shampoo: for each dimension of a tensor a matrix, so that the gradient is whitened along all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product
from typing import Any

import numpy as np

from kernels.rules import MATRIX_GRADIENT, MATRIX_STEP, SHAMPOO_GRAFT

from ..arena import cut
from ..backend import SILENT, Array, empty, hush, unhush, xp_of
from ..tensor import Tensor
from .groups import Range, averages
from .lars import call
from .matrix import MatrixRule, Shape, check_count, compute_kind, eigh, matmul, matrix_view
from .optimizer import Run
from .record import Record

GRAFTS = (None, "sgd", "rmsprop", "adam")


@dataclass(frozen=True)
class Block:
    """A part of a tensor, its shape, and what the names of its matrices begin with."""

    where: tuple[slice, ...]
    shape: Shape
    prefix: str


@cache
def blocks(shape: Shape, largest: int | None) -> tuple[Block, ...]:
    """The parts of a tensor, none longer than `largest` in any dimension; as equal as can be."""
    cuts = []
    for n in shape:
        count = 1 if largest is None else -(-n // largest)
        ends = [n * k // count for k in range(count + 1)] if n else [0]
        cuts.append([slice(a, b) for a, b in pairwise(ends)])
    parts = list(product(*cuts))
    return tuple(
        Block(where, tuple(s.stop - s.start for s in where), f"block_{k}_" if len(parts) > 1 else "")
        for k, where in enumerate(parts)
    )


class Shampoo(MatrixRule):
    """S_i <- S_i + G_i G_i^T;  p <- p - lr G x_1 S_1^(-1/2k) ... x_k S_k^(-1/2k),

    for a tensor of k dimensions: G_i is the gradient with dimension i in front and the others flattened, x_i
    the product along dimension i, and S_i = eps 1 at first: eps stands inside the sum. A matrix moves by
    L^(-1/4) G R^(-1/4). The sums are of the gradient itself, not of what other dimensions made of it.

    lr, momentum, weight_decay at least 0, eps > 0. The paper names no values beside momentum 0.9; these are
    pytorch_optimizer's. momentum is heavy ball over what is subtracted (the paper does not say where).

    refresh_period  every so many steps, from the first on, the roots are computed; between them the sums grow
                    and the old roots serve. (pytorch_optimizer's first roots, after as many steps, are zero
                    until then: it stands still)
                    Roots of the first gradients, which leave directions empty, magnify by eps^(-1/2) what
                    later ones bring there: with a period take grafting, or a larger eps (the MLP on digits,
                    lr 0.1, period 10: 10 % right; with eps 1e-3 92 %, with grafting="sgd" 94 %)
    beta            S <- beta S + (1 - beta) (G G^T + eps 1), as Anil et al.; 1 is the paper's sum
    block_size      dimensions above it are cut, and every block is a tensor of its own [Anil et al., 3.4];
                    None: never
    grafting        "sgd", "rmsprop", "adam": each tensor's step has the norm of that rule's, with `betas` and
                    `grafting_eps`; lr is then that rule's
    as_matrix       tensors of more dimensions, as filters, are matrices (O, I kh kw): roots of order 4
    double          eigenvalues in float64, also where the sums are float32
    decoupled       p <- (1 - lr weight_decay) p - ...; else an L2 penalty in G
    maximize        climbs

    Nothing is read back between refreshes. State: a matrix n x n and its root for each dimension n, up to
    block_size. Eigenvalues that rounding made less than eps count as eps.
    [Gupta, Koren & Singer 2018, arXiv:1802.09568, Algorithms 1 and 2; Anil et al. 2020, arXiv:2002.09018]
    """

    steady, by_kernels = True, False
    kernel = MATRIX_STEP
    ranges = {
        "beta": Range("beta value", high=1.0 + 2**-52),
        "betas": Range("betas", high=1, count=2),
        "grafting_eps": Range("grafting_eps value", above=True),
    }
    record = Record(
        year=2018,
        paper="Gupta, Koren & Singer, Shampoo: preconditioned stochastic tensor optimization, ICML 2018, "
        "arXiv:1802.09568, Algorithms 1 and 2",
        latex=r"L \leftarrow L + G G^\top, \quad R \leftarrow R + G^\top G, \quad"
        r" \theta \leftarrow \theta - \eta\, L^{-1/4} G R^{-1/4}",
        oracles=("pytorch_optimizer",),
        kind="matrix",
        launches="2, and 3 to 5 a dimension of each block; at a refresh 10 more",
        proof="tests/test_shampoo.py",
        texts=(MATRIX_GRADIENT, SHAMPOO_GRAFT, MATRIX_STEP),
        presets={
            "pytorch_optimizer": dict(block_size=None, decoupled=False),
            "paper": dict(momentum=0.9, block_size=None),
            "anil": dict(
                momentum=0.9, beta=0.999, refresh_period=20, block_size=128, grafting="adam", as_matrix=True
            ),
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        eps: float = 1e-6,
        refresh_period: int = 1,
        *,
        beta: float = 1.0,
        block_size: int | None = 512,
        grafting: str | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        grafting_eps: float = 1e-8,
        as_matrix: bool = False,
        double: bool = False,
        decoupled: bool = True,
        maximize: bool = False,
    ):
        options: dict[str, Any] = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, eps=eps)
        options |= dict(refresh_period=refresh_period, beta=beta, block_size=block_size)
        options |= dict(grafting=grafting, betas=betas, grafting_eps=grafting_eps, as_matrix=as_matrix)
        super().__init__(params, options | dict(double=double, decoupled=decoupled, maximize=maximize))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        check_count("Shampoo", "refresh_period", group["refresh_period"])
        if group["block_size"] is not None:
            check_count("Shampoo", "block_size", group["block_size"])
        if group["grafting"] not in GRAFTS:
            raise ValueError(
                f"Shampoo: Invalid grafting: {group['grafting']!r}; it must be one of "
                f"{', '.join(map(repr, GRAFTS))}"
            )

    # -------------------------------------------------------------------------------------------------- state

    def vectors(self, group: dict[str, Any]) -> tuple[str, ...]:
        moments = {"rmsprop": ("exp_avg_sq",), "adam": ("exp_avg_sq", "exp_avg")}
        return ("momentum_buffer",) * bool(group["momentum"]) + moments.get(group["grafting"], ())

    def view(self, p: Tensor, group: dict[str, Any]) -> Shape:
        """The shape in which a parameter is preconditioned."""
        return matrix_view(p.array.shape) if group["as_matrix"] or not p.ndim else p.array.shape

    def blocks(self, p: Tensor, group: dict[str, Any]) -> tuple[Block, ...]:
        """The blocks of a parameter."""
        return blocks(self.view(p, group), group["block_size"]) if p.array.size else ()

    def matrices_of(self, p: Tensor, group: dict[str, Any]) -> Mapping[str, Shape]:
        return {
            f"{block.prefix}{name}_{i}": (n, n)
            for block in self.blocks(p, group)
            for i, n in enumerate(block.shape)
            for name in ("sum", "root")
        }

    def begin(self, run: Run, group: dict[str, Any]) -> None:
        eps = float(group["eps"])
        for p in run.params:
            for name, (n, _) in self.matrices_of(p, group).items():
                held = self.matrix(p, name, (n, n))
                held.fill(0)
                if "root" not in name:
                    held.reshape(-1)[:: n + 1] = eps

    # ------------------------------------------------------------------------------------------------- a step

    def plain(self) -> bool:
        steps = self.steps
        return all(steps.get(p, 0) % g["refresh_period"] != 0 for g in self.param_groups for p in g["params"])

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        names = {
            "maximize": group["maximize"],
            "decay": group["weight_decay"] and not group["decoupled"],
            "momentum": group["momentum"],
            "adam": group["grafting"] == "adam",
        }
        return tuple([name for name, wanted in names.items() if wanted])

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        lr, decay, beta = float(group["lr"]), float(group["weight_decay"]), float(group["beta"])
        beta1, beta2 = map(float, group["betas"])
        return dict(
            lr=lr,
            keep=1 - lr * decay if group["decoupled"] else 1.0,
            weight_decay=decay,
            momentum=float(group["momentum"]),
            beta=beta,
            share=1.0 if beta == 1 else 1 - beta,  # of a new gradient in the sums
            added=0.0 if beta == 1 else (1 - beta) * float(group["eps"]),
            refresh=float((t - 1) % int(group["refresh_period"]) == 0),
            **averages(beta1, beta2),
            bias1=1 - beta1**t,
            bias2=1 - beta2**t,
            eps=float(group["grafting_eps"]),
        )

    def launch(self, run: Run, group: dict[str, Any], flags: tuple[str, ...], scalars: Any) -> None:
        if run.start == run.stop:
            return
        arena, values = run.arena, run.piece(run.arena.array)
        kind = compute_kind(arena)
        update = empty((run.stop - run.start,), kind, arena.device)
        call(MATRIX_GRADIENT, flags, scalars, run.piece(arena.gradient), values, update)
        graft = update
        if group["grafting"] in ("rmsprop", "adam"):
            graft = empty(update.shape, kind, arena.device)
            first = self.slot(run, "exp_avg") if group["grafting"] == "adam" else None
            call(SHAMPOO_GRAFT, flags, scalars, update, self.slot(run, "exp_avg_sq"), graft, first)
        token = hush(SILENT)
        try:
            for p in run.params:
                offset, shape = p.offset - run.start, self.view(p, group)
                d, like = cut(update, offset, shape), cut(graft, offset, shape)
                wanted = norm(like) if group["grafting"] else None
                for block in self.blocks(p, group):
                    d[block.where] = self.whitened(p, group, block, d[block.where], scalars)
                if wanted is not None and d.size:
                    regrown(d, wanted)
        finally:
            unhush(token)
        buffer = self.slot(run, "momentum_buffer") if group["momentum"] else None
        call(MATRIX_STEP, flags, scalars, update, values, buffer)

    def whitened(
        self, p: Tensor, group: dict[str, Any], block: Block, g: Array, scalars: dict[str, float]
    ) -> Array:
        """A block's gradient times the roots of all its dimensions; the sums have taken it in before."""
        xp, kind = xp_of(g), g.dtype.type
        found = g
        for i, n in enumerate(block.shape):
            total, root = (self.matrix(p, f"{block.prefix}{name}_{i}", (n, n)) for name in ("sum", "root"))
            unfolded = xp.moveaxis(g, i, 0).reshape(n, -1)
            outer = matmul(unfolded, unfolded.T)
            if scalars["share"] != 1:
                xp.multiply(total, kind(scalars["beta"]), out=total)
                outer = outer * kind(scalars["share"])
                outer.reshape(-1)[:: n + 1] += kind(scalars["added"])
            xp.add(total, outer, out=total)
            if scalars["refresh"]:
                power = -1 / (2 * len(block.shape))
                root[...] = inverse_root(total, power, float(group["eps"]), group["double"])
            moved = matmul(root, xp.moveaxis(found, i, 0).reshape(n, -1))
            rest = block.shape[:i] + block.shape[i + 1 :]
            found = xp.moveaxis(moved.reshape(n, *rest), 0, i)
        return found


def inverse_root(a: Array, power: float, least: float, double: bool) -> Array:
    """a^power of a symmetric matrix whose eigenvalues are at least `least`."""
    xp, kind = xp_of(a), a.dtype
    w, v = eigh(a.astype(np.float64) if double else a)
    least = max(least, float(np.finfo(kind).tiny))
    w = xp.power(xp.maximum(w, w.dtype.type(least)), w.dtype.type(power))
    return matmul(v * w, v.T).astype(kind)


def norm(a: Array) -> Array:
    """The norm of all elements, on their device."""
    return xp_of(a).sqrt((a * a).sum())


def regrown(d: Array, wanted: Array) -> None:
    """d with another norm, in its place; zero stays zero."""
    xp, own, one = xp_of(d), norm(d), d.dtype.type(1)
    some = own > d.dtype.type(0)
    factor = xp.where(some, wanted, d.dtype.type(0)) / xp.where(some, own, one)
    xp.multiply(d, factor, out=d)
