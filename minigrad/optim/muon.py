"""Muon: every matrix moves by an orthogonal matrix, the one nearest to its momentum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt
from typing import Any, cast

import numpy as np

from kernels.rules import ADAM, MATRIX_STEP, MUON

from ..arena import cut
from ..backend import Array, empty, xp_of
from ..tensor import Tensor
from .adam import Adam
from .groups import Range, number, param_groups
from .lars import call
from .matrix import MatrixRule, check_count, compute_kind, matmul, matrix_view
from .optimizer import Run
from .record import Record

# what a matrix of r rows and c columns is multiplied with, by the name that adjust_lr_fn gives it
SHAPE_RULES: dict[str, Callable[[int, int], float]] = {
    "original": lambda r, c: sqrt(max(1, r / c)),  # Jordan's, PyTorch's: rows are outputs
    "match_rms_adamw": lambda r, c: 0.2 * sqrt(max(r, c)),  # Moonshot's: elements as large as AdamW's
    "transposed": lambda r, c: sqrt(max(1, c / r)),  # optax's, whose rows are inputs
    "none": lambda r, c: 1.0,  # tinygrad's
}
SHAPE_RULES |= {"keller": SHAPE_RULES["original"], "moonshot": SHAPE_RULES["match_rms_adamw"]}


def newton_schulz(
    x: Array, coefficients: tuple[float, ...], steps: int, eps: float, eps_added: bool = False
) -> Array:
    """U S' V^T of matrices (B, r, c) = U S V^T, S' about 1: each divided by its norm, at least eps, then

        X <- a X + (b A + c A^2) X,   A = X X^T

    so many times, in the type of x. The coefficients of Muon's author do not converge: they are chosen to
    lift small singular values fast, and leave them all between about 0.7 and 1.2.
    """
    xp, kind = xp_of(x), x.dtype.type
    a, b, c = (kind(k) for k in coefficients)
    tall = x.shape[1] > x.shape[2]
    x = xp.ascontiguousarray(x.swapaxes(1, 2)) if tall else x
    norm = xp.sqrt((x * x).sum(axis=(1, 2), keepdims=True))
    x = x / (norm + kind(eps) if eps_added else xp.maximum(norm, kind(eps)))
    for _ in range(steps):
        gram = matmul(x, x.swapaxes(1, 2))  # NumPy computes half of a product with its own transpose
        inner = matmul(gram, gram)
        inner *= c
        inner += b * gram
        x = a * x + matmul(inner, x)
    return x.swapaxes(1, 2) if tall else x


class Muon(MatrixRule):
    """b <- momentum b + (1 - momentum) g;  p <- (1 - lr weight_decay) p - lr s NS(u),

    u = momentum b + (1 - momentum) g (nesterov), else b. NS is Newton-Schulz: the singular values of u become
    about 1 (`newton_schulz`). For the matrices of hidden layers; Muon.split(model) finds them.

    Arguments and defaults are torch.optim.Muon's: lr, weight_decay, momentum at least 0; eps > 0, the least
    norm that u is divided by; ns_steps in [1, 100); ns_coefficients (a, b, c). The steps of Newton-Schulz are
    in float32, in float64 for float64 parameters; PyTorch's are in bfloat16, by which it is 1.3e-3 away after
    30 steps of lr 0.01 (tests/test_muon.py, where it is 1e-12 with its rounding left out).

    Sources differ in s for r x c matrices; adjust_lr_fn names it:

        None, "original", "keller"        sqrt(max(1, r/c))      Jordan, PyTorch
        "match_rms_adamw", "moonshot"     0.2 sqrt(max(r, c))    Liu et al. 2025: AdamW's lr and decay fit
        "transposed"                      sqrt(max(1, c/r))      optax, whose matrices are (in, out)
        "none"                            1                      tinygrad

    filters          parameters of more dimensions are matrices (O, I kh kw); PyTorch refuses them
    bias_correction  b and g in u are corrected for their beginning at zero, as optax
    eps_added        u / (|u| + eps), as optax
    adamw            for the group of the parameters that are no hidden matrices: AdamW with `betas`,
                     `adamw_eps`, and the group's lr and weight_decay

    Two launches a run, one a matrix, and for each shape 6 (tall: 7) and 8 ns_steps; nothing is read back.
    [Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982]
    """

    kernel = MUON
    steady = True
    held = ("ns_coefficients", "ns_steps", "eps", "eps_added", "adjust_lr_fn")  # what orthogonalize takes
    ranges = {
        "betas": Range("betas", high=1, count=2),
        "adamw_eps": Range("adamw_eps value", above=True),
    }
    record = Record(
        year=2024,
        paper="Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024",
        latex=r"b \leftarrow \mu b + (1-\mu) g, \quad \theta \leftarrow (1 - \eta\lambda)\,\theta"
        r" - \eta\sqrt{\max(1, r/c)}\;\mathrm{NS}(\mu b + (1-\mu) g)",
        oracles=("torch", "optax"),
        kind="matrix",
        launches="2, and for each shape 47 and 1 a matrix",
        proof="tests/test_muon.py",
        texts=(MUON, MATRIX_STEP, ADAM),
        presets={
            "torch": {},
            "paper": dict(lr=0.02, weight_decay=0.0),
            "moonshot": dict(adjust_lr_fn="match_rms_adamw"),
            "tinygrad": dict(lr=0.02, adjust_lr_fn="none"),
            "optax": dict(
                weight_decay=0.0,
                eps=1e-8,
                bias_correction=True,
                eps_added=True,
                adjust_lr_fn="transposed",
            ),
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        filters: bool = False,
        bias_correction: bool = False,
        eps_added: bool = False,
        adamw: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        adamw_eps: float = 1e-8,
    ):
        options: dict[str, Any] = dict(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov)
        options |= dict(ns_coefficients=ns_coefficients, eps=eps, ns_steps=ns_steps)
        options |= dict(adjust_lr_fn=adjust_lr_fn, filters=filters, bias_correction=bias_correction)
        options |= dict(eps_added=eps_added, adamw=adamw, betas=betas, adamw_eps=adamw_eps)
        super().__init__(params, options)

    @staticmethod
    def split(
        model: Any, weight_decay: float = 0.1, adamw: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Groups of a model's parameters for Muon(groups, lr): the hidden matrices, and the rest for AdamW.

        Hidden are the matrices and filters of all layers but embeddings and the last, which gives the
        outputs; the first layer counts as hidden, and so does the only one of a model. Norms and biases do
        not decay. `adamw` are options of the rest, as dict(lr=3e-4, betas=(0.9, 0.95)); without an lr among
        them it is AdamW's own, 1e-3.
        """
        layers = [m for m in model.modules() if isinstance(getattr(m, "weight", None), Tensor)]
        layers = [m for m in layers if m.weight.ndim > 1]
        tables = {m.weight for m in layers if hasattr(m, "num_embeddings")}
        products = [m.weight for m in layers if m.weight not in tables]
        out = tables | set(products[-1:] if len(products) > 1 else ())
        groups, rest = [], dict(lr=1e-3) | dict(adamw or {}) | dict(adamw=True)
        for group in param_groups(model, 1.0):  # of decay 1 and of decay 0
            inside = [p.ndim > 1 and group["weight_decay"] > 0 and p not in out for _, p in group["params"]]
            for hidden, special in ((True, dict(filters=True)), (False, rest)):
                named = [entry for entry, h in zip(group["params"], inside, strict=True) if h == hidden]
                decay = weight_decay * group["weight_decay"]
                groups.append(dict(params=named, weight_decay=decay) | special)
        return [group for group in groups if group["params"]]

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        number("Muon", "ns_steps", group["ns_steps"], 1, 100)
        check_count("Muon", "ns_steps", group["ns_steps"])
        if len(tuple(group["ns_coefficients"])) != 3:
            raise ValueError(f"Muon: ns_coefficients are {group['ns_coefficients']}; they are three numbers")
        rule = group["adjust_lr_fn"]
        if rule is not None and rule not in SHAPE_RULES:
            raise ValueError(
                f"Muon: Adjust learning rate function {rule} is not supported; use {', '.join(SHAPE_RULES)}"
            )
        if group["bias_correction"] and not group["momentum"] < 1:
            raise ValueError(f"Muon: bias_correction needs a momentum below 1; it is {group['momentum']}")
        for p in group.get("params", ()):
            if not group["adamw"] and (p.ndim < 2 or (p.ndim > 2 and not group["filters"])):
                cure = (
                    "filters=True takes (O, I, kh, kw) as (O, I kh kw)" if p.ndim > 2 else "that is AdamW's"
                )
                raise ValueError(
                    "Muon only supports 2D parameters whereas we found a parameter with size: "
                    f"{list(p.shape)}; {cure}: Muon(Muon.split(model)) sees to both"
                )

    # ------------------------------------------------------------------------------------------------- a step

    def vectors(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq") if group["adamw"] else ("momentum_buffer",)

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        if group["adamw"]:
            return ("decoupled_weight_decay",)
        return ("nesterov",) if group["nesterov"] else ()

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        if group["adamw"]:
            return Adam.scalars(cast(Any, self), group | dict(eps=group["adamw_eps"]), t)
        lr, momentum = float(group["lr"]), float(group["momentum"])
        from_buffer, from_gradient = (momentum, 1 - momentum) if group["nesterov"] else (1.0, 0.0)
        if group["bias_correction"]:  # Nesterov's b is that of the next step
            from_buffer /= 1 - momentum ** (t + 1 if group["nesterov"] else t)
            from_gradient /= 1 - momentum**t
        keep = 1 - lr * float(group["weight_decay"])
        found = dict(lr=lr, keep=keep, momentum=momentum, one_minus_momentum=1 - momentum)
        return found | dict(from_buffer=from_buffer, from_gradient=from_gradient)

    def launch(self, run: Run, group: dict[str, Any], flags: tuple[str, ...], scalars: Any) -> None:
        gradient, values = run.piece(run.arena.gradient), run.piece(run.arena.array)
        if group["adamw"]:
            moments = [self.slot(run, name) for name in ("exp_avg", "exp_avg_sq")]
            call(ADAM, flags, scalars, gradient, values, *moments)
            return
        kind = compute_kind(run.arena)
        update = empty((run.stop - run.start,), kind, run.arena.device)
        call(MUON, flags, scalars, gradient, self.slot(run, "momentum_buffer"), update)
        alike: dict[tuple[int, ...], list[Array]] = {}
        for p in run.params:
            shape = matrix_view(p.array.shape)
            if p.array.size:
                alike.setdefault(shape, []).append(cut(update, p.offset - run.start, shape))
        for (r, c), matrices in alike.items():
            self.orthogonalize(matrices, group, kind.type(self.factor(group, r, c)))
        call(MATRIX_STEP, (), scalars, update, values)

    def factor(self, group: dict[str, Any], r: int, c: int) -> float:
        """s of r x c matrices."""
        return SHAPE_RULES[group["adjust_lr_fn"] or "original"](r, c)

    def orthogonalize(self, matrices: list[Array], group: dict[str, Any], factor: np.floating) -> None:
        """factor NS(m) in the place of every m of matrices of one shape."""
        xp = xp_of(matrices[0])
        found = newton_schulz(
            xp.stack(matrices),
            group["ns_coefficients"],
            int(group["ns_steps"]),
            group["eps"],
            group["eps_added"],
        )
        for m, x in zip(matrices, found, strict=True):
            xp.multiply(x, factor, out=m)
