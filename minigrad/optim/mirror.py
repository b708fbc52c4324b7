"""Mirror descent: the step is taken in another geometry, where the constraint is at home.

    grad psi(p) <- grad psi(p) - lr g                                          [Nemirovski & Yudin 1983]

psi is the mirror map, convex, and grad psi* undoes grad psi. Half the squared norm gives gradient descent;
the negative entropy sum p log p gives multiplicative steps, which keep weights positive, and with the sum of
each row fixed stay on the simplex: exponentiated gradient.
"""

from __future__ import annotations

from typing import Any

from kernels.rules import EXPONENTIATED, MIRROR

from ..arena import cut
from ..grad_mode import no_grad
from ..tensor import Tensor
from .groups import Range
from .optimizer import Optimizer, Run
from .record import Record

MIRRORS = ("euclidean", "entropy", "hypentropy")
NORMALIZE = ("row", "tensor")


class MirrorDescent(Optimizer):
    """grad psi(p) <- grad psi(p) - lr g, for the mirror map psi that `mirror` names:

        "euclidean"     |p|^2 / 2               p <- p - lr g, which is SGD bit for bit
        "entropy"       sum p log p             p <- p exp(-lr g), for p >= 0 (EGU: unnormalised)
        "hypentropy"    its like for p of any sign: p = w+ - w- with w+ w- = beta^2,
                        w+ <- w+ exp(-lr g), w- <- w- exp(lr g) (EGU+-); beta is where it changes from
                        multiplying (|p| above it) to adding
        (f, h)          any other: f = grad psi and h = grad psi*, functions of Tensors; one after the other
                        gives back its argument. Each parameter is mapped by itself.

    normalize holds the sum of weights at 1, with "entropy" only: "row" for each row (the last axis), "tensor"
    for each whole parameter: p <- p exp(-lr g) / Z. The sum is 1 to n roundings in float64; equal gradients
    move nothing. Weights that do not sum to 1 yet are normalised by their first step. lr >= 0; beta > 0;
    ValueError for negative weights where the mirror has none. One launch a group; with normalize one a
    parameter; a pair of functions launches what they do.
    [Nemirovski & Yudin 1983; Kivinen & Warmuth 1997; Ghai, Hazan & Singer 2020 for hypentropy]
    """

    kernel = MIRROR
    ranges = {"beta": Range("beta", above=True)}
    record = Record(
        year=1983,
        paper="Nemirovski & Yudin, Problem complexity and method efficiency in optimization, 1983",
        latex=r"\nabla\psi(\theta) \leftarrow \nabla\psi(\theta) - \eta g",
        oracles=("torch", "optax"),
        proof="tests/test_mirror.py",
        texts=(MIRROR,),
        presets={
            "S3": {},
            "egu": dict(mirror="entropy"),
            "egu+-": dict(mirror="hypentropy"),
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        mirror: Any = "euclidean",
        normalize: str | None = None,
        beta: float = 1.0,
    ):
        super().__init__(params, dict(lr=lr, mirror=mirror, normalize=normalize, beta=beta))

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
        if whole["mirror"] == "entropy":
            for k, p in enumerate(whole["params"]):
                if not bool((p.array >= 0).all()):
                    name = repr(whole["param_names"][k]) if "param_names" in whole else f"params[{k}]"
                    raise ValueError(
                        f"{type(self).__name__}: {name} has negative weights; under the entropy weights are "
                        "positive: start from 1/n each, or take mirror='hypentropy' for weights of any sign"
                    )
        return whole

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        mirror = group["mirror"]
        return (mirror,) if mirror in ("entropy", "hypentropy") else ()

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        return dict(lr=float(group["lr"]), beta_square=float(group["beta"]) ** 2)

    def launch(self, run: Run, group: dict[str, Any], flags: tuple[str, ...], scalars: Any) -> None:
        mirror, normalize, lr = group["mirror"], group["normalize"], scalars["lr"]
        if normalize is None and isinstance(mirror, str):
            super().launch(run, group, flags, scalars)
            return
        for p in run.params:
            if not p.array.size:
                continue
            gradient = cut(run.arena.gradient, p.offset, p.array.shape)
            if isinstance(mirror, str):
                shape = (1, -1) if normalize == "tensor" or p.ndim == 0 else p.array.shape
                weights = p.array.reshape(shape)
                EXPONENTIATED(gradient.reshape(shape), weights, weights, scalars=dict(lr=lr))
            else:
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
