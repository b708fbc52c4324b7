"""SOAP: Adam, in the basis in which Shampoo's matrices are diagonal."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

from kernels.rules import MATRIX_GRADIENT, MATRIX_STEP, SOAP_DIRECTION
from kernels.rules import SOAP as TEXT

from ..arena import cut
from ..backend import SILENT, Array, empty, hush, unhush, xp_of
from ..tensor import Tensor
from .groups import averages, number
from .lars import call
from .matrix import MatrixRule, Shape, check_count, compute_kind, eigh, matmul, matrix_view, merged
from .optimizer import Run
from .record import Record


class SOAP(MatrixRule):
    """m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) (Q g)^2;
    p <- (1 - lr weight_decay) (p - lr' Q^T (Q m / (sqrt(v) + eps))),

    lr' = lr sqrt(1 - beta2^s) / (1 - beta1^s) unless correct_bias is False.

    Q turns a tensor into the eigenbases Q_i of averages GG_i <- beta GG_i + (1 - beta) G_i G_i^T along each
    of its dimensions (Shampoo's, with a decay): Q g = Q_L^T g Q_R of a matrix. The averages take a gradient
    in after its step, so that no gradient chooses its own basis.

    The first step moves nothing: its gradient makes the averages, and their eigenvectors the bases. Steps are
    counted from the second for Adam's corrections, s = t - 1, and every precondition_frequency of them the
    bases move by one turn of power iteration and QR; v follows as its axes are sorted. state["step"] is t.

    Arguments and defaults are the authors': lr >= 0, betas in [0, 1), shampoo_beta in [0, 1) or None for
    beta2, eps > 0, weight_decay >= 0, precondition_frequency, max_precondition_dim (longer dimensions keep
    their own basis), merge_dims (neighbouring dimensions are one while their product is at most that),
    precondition_1d (vectors take part; else they are Adam's), normalize_grads (each tensor's step has rms
    lr'), correct_bias.

    as_matrix      tensors of more dimensions, as filters, are matrices (O, I kh kw)
    maximize       climbs

    Nothing is read back between refreshes, nor at one. QR is in float32, in float64 for float64 parameters
    (elsewhere always in float32). State: m, v, and two matrices n x n for each dimension n.
    [Vyas et al. 2024, arXiv:2409.11321, Algorithm 3, and the authors' code, which skips the first step]
    """

    steady, by_kernels = True, False
    kernel = TEXT
    record = Record(
        year=2024,
        paper="Vyas et al., SOAP: improving and stabilizing Shampoo using Adam, arXiv:2409.11321, "
        "Algorithm 3",
        latex=r"\theta \leftarrow \theta - \eta\, Q_L \frac{Q_L^\top m\, Q_R}{\sqrt{v} + \epsilon} Q_R^\top,"
        r" \quad v \leftarrow \beta_2 v + (1 - \beta_2)\,(Q_L^\top g\, Q_R)^2",
        oracles=("pytorch_optimizer",),
        kind="matrix",
        launches="4, and 9 to 11 a dimension of each tensor; at a refresh 10 more",
        proof="tests/test_soap.py",
        texts=(MATRIX_GRADIENT, TEXT, SOAP_DIRECTION, MATRIX_STEP),
        presets={"paper": {}, "pytorch_optimizer": {}},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        max_precondition_dim: int = 10000,
        merge_dims: bool = False,
        precondition_1d: bool = False,
        normalize_grads: bool = False,
        correct_bias: bool = True,
        *,
        as_matrix: bool = False,
        maximize: bool = False,
    ):
        options: dict[str, Any] = dict(
            lr=lr, betas=betas, shampoo_beta=shampoo_beta, eps=eps, weight_decay=weight_decay
        )
        options |= dict(precondition_frequency=precondition_frequency)
        options |= dict(max_precondition_dim=max_precondition_dim, merge_dims=merge_dims)
        options |= dict(precondition_1d=precondition_1d, normalize_grads=normalize_grads)
        options |= dict(correct_bias=correct_bias, as_matrix=as_matrix, maximize=maximize)
        super().__init__(params, options)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        check_count("SOAP", "precondition_frequency", group["precondition_frequency"])
        check_count("SOAP", "max_precondition_dim", group["max_precondition_dim"])
        if group["shampoo_beta"] is not None:
            number("SOAP", "shampoo_beta", group["shampoo_beta"], 0, 1)

    # -------------------------------------------------------------------------------------------------- state

    def vectors(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def view(self, p: Tensor, group: dict[str, Any]) -> Shape:
        """The shape in which a parameter is preconditioned."""
        shape = p.array.shape
        if group["as_matrix"] or not shape:
            shape = matrix_view(shape)
        many = len(shape) > 1 and group["merge_dims"]
        return merged(shape, int(group["max_precondition_dim"])) if many else shape

    def turned(self, p: Tensor, group: dict[str, Any]) -> dict[int, int]:
        """Dimension -> length of those that have a basis."""
        shape = self.view(p, group)
        if not p.array.size or (p.ndim < 2 and not group["precondition_1d"]):
            return {}
        return {i: n for i, n in enumerate(shape) if n <= group["max_precondition_dim"]}

    def matrices_of(self, p: Tensor, group: dict[str, Any]) -> Mapping[str, Shape]:
        return {f"{name}_{i}": (n, n) for i, n in self.turned(p, group).items() for name in ("GG", "Q")}

    # ------------------------------------------------------------------------------------------------- a step

    def plain(self) -> bool:
        steps = self.steps
        return all(
            steps.get(p, 0) % g["precondition_frequency"] != 0 for g in self.param_groups for p in g["params"]
        )

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("maximize",) if group["maximize"] else ()

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        lr, (beta1, beta2), s = float(group["lr"]), map(float, group["betas"]), t - 1
        rate = lr
        if group["correct_bias"] and s:
            rate *= sqrt(1 - beta2**s) / (1 - beta1**s)
        keep = 1 - lr * float(group["weight_decay"])
        beta = beta2 if group["shampoo_beta"] is None else float(group["shampoo_beta"])
        return dict(
            lr=rate * keep,  # the decay is of what the step has left
            keep=keep,
            momentum=0.0,
            weight_decay=0.0,
            beta=beta,
            first=float(s == 0),
            refresh=float(s > 0 and s % int(group["precondition_frequency"]) == 0),
            **averages(beta1, beta2),
            eps=float(group["eps"]),
        )

    def launch(self, run: Run, group: dict[str, Any], flags: tuple[str, ...], scalars: Any) -> None:
        if run.start == run.stop:
            return
        arena, values = run.arena, run.piece(run.arena.array)
        params = [p for p in run.params if p.array.size]
        kind, room = compute_kind(arena), (run.stop - run.start,)
        update = empty(room, kind, arena.device)
        call(MATRIX_GRADIENT, flags, scalars, run.piece(arena.gradient), values, update)
        if not scalars["first"]:
            m, v = self.slot(run, "exp_avg"), self.slot(run, "exp_avg_sq")
            projected = update.copy()  # the pads stay zero
            for p in params:
                self.turn(p, group, cut(projected, p.offset - run.start, self.view(p, group)), True)
            call(TEXT, (), scalars, update, projected, m, v)
            projected[...] = m
            for p in params:
                self.turn(p, group, cut(projected, p.offset - run.start, self.view(p, group)), True)
            call(SOAP_DIRECTION, (), scalars, v, projected)
            for p in params:
                d = cut(projected, p.offset - run.start, self.view(p, group))
                self.turn(p, group, d, False)
                if group["normalize_grads"]:
                    normalize(d)
            call(MATRIX_STEP, (), scalars, projected, values)
        token = hush(SILENT)
        try:
            for p in params:
                self.learn(p, group, cut(update, p.offset - run.start, self.view(p, group)), scalars)
        finally:
            unhush(token)

    def turn(self, p: Tensor, group: dict[str, Any], d: Array, into: bool) -> None:
        """d in the eigenbases, or back out of them, in its place."""
        found, xp = d, xp_of(d)
        turned = self.turned(p, group)
        for i, n in turned.items():
            q = self.matrix(p, f"Q_{i}", (n, n))
            moved = matmul(q.T if into else q, xp.moveaxis(found, i, 0).reshape(n, -1))
            found = xp.moveaxis(moved.reshape(n, *d.shape[:i], *d.shape[i + 1 :]), 0, i)
        if turned:
            d[...] = found

    def learn(self, p: Tensor, group: dict[str, Any], g: Array, scalars: dict[str, float]) -> None:
        """The averages take in a gradient; the first makes the bases, a refresh moves them."""
        xp, kind = xp_of(g), g.dtype.type
        for i, n in self.turned(p, group).items():
            total, basis = self.matrix(p, f"GG_{i}", (n, n)), self.matrix(p, f"Q_{i}", (n, n))
            unfolded = xp.moveaxis(g, i, 0).reshape(n, -1)
            outer = matmul(unfolded, unfolded.T) * kind(1 - scalars["beta"])
            if scalars["first"]:
                total[...] = outer
                basis[...] = eigh(total)[1][:, ::-1]  # the largest first
                continue
            xp.multiply(total, kind(scalars["beta"]), out=total)
            xp.add(total, outer, out=total)
            if scalars["refresh"]:
                turned = matmul(total, basis)
                order = xp.argsort(-(basis * turned).sum(axis=0))
                v = cut(self.place(p, "exp_avg_sq").reshape(-1), 0, g.shape)
                v[...] = xp.take(v, order, axis=i)
                basis[...] = orthogonal(xp.take(turned, order, axis=1))


def orthogonal(a: Array) -> Array:
    """Q of a = Q R; nan where a holds nan or inf, as on a device."""
    return xp_of(a).linalg.qr(a)[0]


def normalize(d: Array) -> None:
    """d / (1e-30 + rms(d)), in its place."""
    xp, kind = xp_of(d), d.dtype.type
    xp.divide(d, xp.sqrt((d * d).mean()) + kind(1e-30), out=d)
