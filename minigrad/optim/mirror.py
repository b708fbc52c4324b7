"""Mirror descent: the step is taken in another geometry, where the constraint is at home.

    grad psi(p) <- grad psi(p) - lr g                                          [Nemirovski & Yudin 1983]

psi is the mirror map, convex, and grad psi* undoes grad psi. Half the squared norm gives gradient descent;
the negative entropy sum p log p gives multiplicative steps, which keep weights positive, and with the sum of
each row fixed stay on the simplex: exponentiated gradient.
"""

from __future__ import annotations

from typing import Any

from kernels.cuda import graph
from kernels.rules import EXPONENTIATED, MIRROR, P_NORM

from ..arena import cut
from ..grad_mode import no_grad
from ..tensor import Tensor
from .groups import Range
from .optimizer import Optimizer, Run
from .record import Record

MIRRORS = ("euclidean", "entropy", "hypentropy", "burg", "p-norm")
POSITIVE = ("entropy", "burg")
NORMALIZE = ("row", "tensor")


class MirrorDescent(Optimizer):
    """grad psi(p) <- grad psi(p) - lr g, for the mirror map psi that `mirror` names:

        "euclidean"     |p|^2 / 2               p <- p - lr g, which is SGD bit for bit
        "entropy"       sum p log p             p <- p exp(-lr g), for p >= 0 (EGU: unnormalised)
        "hypentropy"    its like for p of any sign: p = w+ - w- with w+ w- = beta^2,
                        w+ <- w+ exp(-lr g), w- <- w- exp(lr g) (EGU+-); beta is where it changes from
                        multiplying (|p| above it) to adding
        "burg"          -sum log p              p <- p / (1 + lr g p), for p >= 0, so relative to p squared;
                        where the denominator is below 1/10, at the pole of the map, it counts as 1/10
        "p-norm"        |p|_power^2 / 2         with power > 1, |p|_power the norm of a whole parameter:
                        power = 2 is gradient descent; r / (r - 1), r = 2 ln n, much like EGU+- for n weights
        (f, h)          any other: f = grad psi and h = grad psi*, functions of Tensors; one after the other
                        gives back its argument. Each parameter is mapped by itself.

    normalize holds the sum of weights at 1, with "entropy" only: "row" for each row (the last axis), "tensor"
    for each whole parameter: p <- p exp(-lr g) / Z. The sum is 1 to n roundings in float64; equal gradients
    move nothing. Weights that do not sum to 1 yet are normalised by their first step. lr >= 0; beta > 0;
    ValueError for negative weights where the mirror has none. One launch a group; with normalize and
    the p-norm one a parameter; a pair of functions launches what they do.
    [Nemirovski & Yudin 1983; Kivinen & Warmuth 1997; Ghai, Hazan & Singer 2020 for hypentropy; Burg 1967 and
    Bregman 1967 for -sum log p; Grove, Littlestone & Schuurmans 2001 and Gentile 2003 for the p-norm]
    """

    kernel = MIRROR
    steady = True
    ranges = {"beta": Range("beta", above=True), "power": Range("power", 1, above=True)}
    record = Record(
        year=1983,
        paper="Nemirovski & Yudin, Problem complexity and method efficiency in optimization, 1983",
        latex=r"\nabla\psi(\theta) \leftarrow \nabla\psi(\theta) - \eta g",
        oracles=("torch", "optax"),
        proof="tests/test_mirror.py",
        texts=(MIRROR, P_NORM),
        presets={
            "S3": {},
            "egu": dict(mirror="entropy"),
            "egu+-": dict(mirror="hypentropy"),
            "grove": dict(mirror="p-norm"),
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        mirror: Any = "euclidean",
        normalize: str | None = None,
        beta: float = 1.0,
        power: float = 2.0,
    ):
        options = dict(lr=lr, mirror=mirror, normalize=normalize, beta=beta, power=power)
        super().__init__(params, options)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        rule, mirror, normalize = type(self).__name__, group["mirror"], group["normalize"]
        pair = isinstance(mirror, (tuple, list)) and len(mirror) == 2 and all(map(callable, mirror))
        if not pair and mirror not in MIRRORS:
            raise ValueError(
                f"{rule}: Invalid mirror: {mirror!r}; it is one of {', '.join(MIRRORS)}, or a pair of "
                "functions (grad psi, grad psi*)"
            )
        if normalize is not None and (normalize not in NORMALIZE or mirror != "entropy"):
            raise ValueError(
                f"{rule}: Invalid normalize: {normalize!r} with mirror={mirror!r}; with 'entropy' it may be "
                f"{' or '.join(NORMALIZE)}, else None"
            )

    def group(self, given: dict[str, Any]) -> dict[str, Any]:
        whole = super().group(given)
        if isinstance(whole["mirror"], str) and whole["mirror"] in POSITIVE:
            for k, p in enumerate(whole["params"]):
                if not bool((p.array >= 0).all()):
                    name = repr(whole["param_names"][k]) if "param_names" in whole else f"params[{k}]"
                    raise ValueError(
                        f"{type(self).__name__}: {name} has negative weights; under {whole['mirror']!r} they "
                        "are positive: start from 1/n each, or take mirror='hypentropy' for weights of any "
                        "sign"
                    )
        return whole

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        mirror = group["mirror"]
        return (mirror,) if isinstance(mirror, str) and mirror in MIRROR.flags else ()

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        found = dict(lr=float(group["lr"]), beta_square=float(group["beta"]) ** 2)
        if isinstance(group["mirror"], str) and group["mirror"] == "p-norm":
            r = float(group["power"])
            s = r / (r - 1)
            found |= dict(power=r, one_over_power=1 / r, dual=s, one_over_dual=1 / s)
        return found

    def launch(self, run: Run, group: dict[str, Any], flags: tuple[str, ...], scalars: Any) -> None:
        mirror, normalize, lr = group["mirror"], group["normalize"], scalars["lr"]
        if normalize is None and isinstance(mirror, str) and mirror != "p-norm":
            super().launch(run, group, flags, scalars)
            return
        for p in run.params:
            if not p.array.size:
                continue
            gradient = cut(run.arena.gradient, p.offset, p.array.shape)
            if isinstance(mirror, str) and mirror == "p-norm":
                numbers = {name: scalars[name] for name in P_NORM.scalars}
                weights = p.array.reshape(1, -1)
                P_NORM(gradient.reshape(1, -1), weights, weights, scalars=numbers)
            elif isinstance(mirror, str):
                shape = (1, -1) if normalize == "tensor" or p.ndim == 0 else p.array.shape
                weights = p.array.reshape(shape)
                EXPONENTIATED(gradient.reshape(shape), weights, weights, scalars=dict(lr=lr))
            else:
                graph.refuse(f"the mirror of {type(self).__name__} is the program's own function")
                with no_grad():
                    found = mirror[1](mirror[0](Tensor(p.array)) - lr * Tensor(gradient))
                p.array[...] = found.array


class ExponentiatedGradient(MirrorDescent):
    """p <- p exp(-lr g) / Z, each row (the last axis) on the simplex: mirror descent with the entropy.

    normalize="tensor" takes a whole parameter for one row, None keeps weights positive only. The paper starts
    from 1/n each. lr >= 0; ValueError for negative weights. MirrorDescent says more.
    [Kivinen & Warmuth 1997, Exponentiated gradient versus gradient descent for linear predictors]
    """

    record = Record(
        year=1997,
        paper="Kivinen & Warmuth, Exponentiated gradient versus gradient descent, Inf. & Comp. 132, 1997",
        latex=r"\theta_i \leftarrow \theta_i e^{-\eta g_i} / \sum_j \theta_j e^{-\eta g_j}",
        oracles=(),
        proof="tests/test_mirror.py",
        kind="layer-wise",
        launches="tensors",
        texts=(EXPONENTIATED, MIRROR),
        presets={"paper": {}, "egu": dict(normalize=None)},
    )

    def __init__(self, params: Any, lr: float | Tensor = 0.1, normalize: str | None = "row"):
        super().__init__(params, lr, "entropy", normalize)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["mirror"] != "entropy":
            raise ValueError(
                "ExponentiatedGradient: mirror is 'entropy' here; others are optim.MirrorDescent's"
            )
