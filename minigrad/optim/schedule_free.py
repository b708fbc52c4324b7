"""Schedule-Free: an average of the path in place of a schedule of learning rates.

    y = (1 - beta) z + beta x        where the gradient is taken: what the parameters hold in train mode
    z <- z - lr d(y)                 the base rule's step
    x <- (1 - c) x + c z             the average, c = weight_t / (sum of weights): what to evaluate and keep

weight_t = t^r max(lr so far)^weight_lr_power, so that the steps of a warm-up, which are short, count less.

    for batch in batches:
        loss(batch).backward()
        optimizer.step(); optimizer.zero_grad()
    optimizer.eval()                 the parameters are x: evaluate, save
    optimizer.train()                the parameters are y again, to the very bit; steps go on

What is in the parameters in train mode is not what was learnt, and is easily saved by mistake:
model.state_dict() and optimizer.state_dict() then refuse. Batch norm's running statistics
are those of y: take them anew at x before evaluating (a few forward passes in the model's train mode).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

from kernels.rules import ADAMW_SCHEDULE_FREE, SCHEDULE_FREE_EVAL, SCHEDULE_FREE_TRAIN, SGD_SCHEDULE_FREE

from ..tensor import Tensor
from .excursion import pieces
from .groups import Range
from .optimizer import Optimizer, Run
from .record import Record


class ScheduleFree(Optimizer):
    """What the two rules share: weights of the average, and the two modes.

    An optimizer starts in train mode, where x, y and z still are one (the package's starts in eval mode; its
    programs call train() before they train, and run here as they are). step() in eval mode raises. While in
    eval mode y is kept beside z; a parameter that was changed meanwhile gets the y of its new x.
    """

    carries = ("weight_sum", "lr_max")
    ranges = {
        "r": Range("r value"),
        "weight_lr_power": Range("weight_lr_power value"),
        "warmup_steps": Range("warmup_steps value"),
    }

    def averaging(self, group: dict[str, Any]) -> float:
        """beta: how near y is to x."""
        return float(group["momentum"])

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        name = "momentum" if "momentum" in group else "betas"
        if not 0 < self.averaging(group) < 1:
            what = f"{type(self).__name__}: Invalid {name} value: {group[name]}"
            raise ValueError(f"{what}; {'it' if name == 'momentum' else 'the first'} must be in (0, 1)")

    def begin(self, run: Run, group: dict[str, Any]) -> None:
        """z = y = x"""
        self.slot(run, "z")[...] = run.piece(run.arena.array)

    def scalars(  # type: ignore[override]
        self, group: dict[str, Any], t: int, kept: dict[str, float]
    ) -> dict[str, float]:
        lr, warmup = float(group["lr"]), group["warmup_steps"]
        if t <= warmup:
            lr *= t / warmup
        kept["lr_max"] = max(lr, kept.get("lr_max", 0.0))
        weight = t ** float(group["r"]) * kept["lr_max"] ** float(group["weight_lr_power"])
        kept["weight_sum"] = kept.get("weight_sum", 0.0) + weight
        c = weight / kept["weight_sum"] if kept["weight_sum"] else 0.0
        return dict(
            lr=lr,
            average=c,
            push=lr * (1 - self.averaging(group) * (1 - c)),
            weight_decay=float(group["weight_decay"]),
        )

    # ---------------------------------------------------------------------------------------------- the modes

    def eval(self) -> None:
        """The parameters become x, the average, to evaluate and to save: one launch a group."""
        for group in self.param_groups:
            if group["train_mode"]:
                away = 1 - 1 / self.averaging(group)
                for z, p, y in self._pieces(group):
                    SCHEDULE_FREE_EVAL(z, p, y, scalars=dict(away=away))
                group["train_mode"] = False

    def train(self) -> None:
        """The parameters become y again, to go on: one launch a group."""
        for group in self.param_groups:
            if not group["train_mode"]:
                beta = self.averaging(group)
                scalars = dict(away=1 - 1 / beta, toward=1 - beta)
                for z, p, y in self._pieces(group):
                    SCHEDULE_FREE_TRAIN(z, y, p, scalars=scalars)
                group["train_mode"] = True
        for p in self.parameters():
            p.arena.states.get(self, {}).pop("y", None)

    def _pieces(self, group: dict[str, Any]) -> list[tuple[Any, Any, Any]]:
        """(z, parameters, y) of those that took a step, in contiguous pieces; graphs hear of the change."""
        found = []
        for arena, start, stop in pieces(p for p in group["params"] if self.steps.get(p)):
            arrays = (arena.state(self, "z"), arena.array, arena.state(self, "y"))
            found.append(tuple([a[start:stop] for a in arrays]))
            arena.version[0] += 1
        return found

    def allowed(self) -> None:
        """In train mode."""
        if not all(group["train_mode"] for group in self.param_groups):
            raise RuntimeError(
                f"{type(self).__name__}: step() in eval mode, in which the parameters are the average x; "
                "call optimizer.train() first, and optimizer.eval() before evaluating"
            )

    # ------------------------------------------------------------------------------------------------- saving

    def slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        return super().slots(group) + (() if group["train_mode"] else ("y",))

    def refuse_to_save(self, params: Any) -> None:
        """RuntimeError if any of these parameters holds y and not the weights x. nn asks before it saves."""
        training = {p for group in self.param_groups if group["train_mode"] for p in group["params"]}
        if any(p in training and self.steps.get(p) for p in params):
            raise RuntimeError(
                f"{type(self).__name__}: in train mode the parameters are y, where gradients are taken, and "
                "not the weights x; call optimizer.eval() before state_dict(), optimizer.train() after"
            )

    def bare(self) -> dict[str, Any]:
        """As Optimizer.bare, in eval mode: RuntimeError in train mode, once a step was taken."""
        self.refuse_to_save(self.parameters())
        return super().bare()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As Optimizer.load_state_dict; the schedulefree package's too, whose counts stand in its groups.

        The mode is the saved one, and the parameters are to be those saved with it.
        """
        super().load_state_dict(_spread(state_dict))


def _spread(given: dict[str, Any]) -> dict[str, Any]:
    """A state of the package in our form: k, weight_sum and lr_max of a group are its parameters' own."""
    if not isinstance(given, Mapping) or not any("k" in g for g in given.get("param_groups", ())):
        return given
    state, groups = dict(given["state"]), []
    for group in given["param_groups"]:
        own = {name: group[name] for name in ("weight_sum", "lr_max")}
        for index in group["params"]:
            if index in state:
                state[index] = {**state[index], "step": group["k"], **own, "y": 0 * state[index]["z"]}
        groups.append({n: v for n, v in group.items() if n not in ("k", "scheduled_lr", *own)})
    return dict(state=state, param_groups=groups)


class SGDScheduleFree(ScheduleFree):
    """z <- z - lr (g + weight_decay y);  x <- (1 - c) x + c z;  y <- (1 - momentum) z + momentum x.

    The gradient g is taken at y. Arguments and defaults are the schedulefree package's: lr >= 0 (a number or
    a 0-d Tensor), large; momentum in (0, 1); weight_decay >= 0, an L2 penalty at y; warmup_steps in which lr
    rises in a straight line from lr / warmup_steps; r >= 0 and weight_lr_power >= 0 of the weights
    t^r (largest lr)^weight_lr_power. foreach is without effect. [Defazio et al. 2024, eq. 1-3 and section 3]
    """

    kernel = SGD_SCHEDULE_FREE
    record = Record(
        year=2024,
        paper="Defazio et al., The road less scheduled, arXiv:2405.15682, eq. 1-3",
        latex=r"y = (1-\beta) z + \beta x, \quad z \leftarrow z - \eta\, g(y), \quad"
        r" x \leftarrow (1-c)\,x + c z",
        oracles=("schedulefree", "optax"),
        presets={"paper": {}, "schedulefree": {}, "optax": {}},
        texts=(SGD_SCHEDULE_FREE,),
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        foreach: bool | None = None,
    ):
        options = dict(lr=lr, momentum=momentum, weight_decay=weight_decay, warmup_steps=warmup_steps, r=r)
        super().__init__(params, options | dict(weight_lr_power=weight_lr_power, train_mode=True))


class AdamWScheduleFree(ScheduleFree):
    """z <- z - lr (g / (sqrt(v^) + eps) + weight_decay y);  x <- (1 - c) x + c z;

    y <- (1 - beta1) z + beta1 x;  v <- beta2 v + (1 - beta2) g^2,  v^ = v / (1 - beta2^t),  g taken at y.

    Adam with the average x in place of its momentum and of a schedule. Arguments and defaults are the
    schedulefree package's: lr >= 0 (a number or a 0-d Tensor), beta1 in (0, 1), beta2 in [0, 1), eps > 0,
    weight_decay >= 0, at y and scaled by lr; warmup_steps, r and weight_lr_power as in SGDScheduleFree.
    foreach is without effect.
    [Defazio et al. 2024, Algorithm 1; it decays at y, and its lr carries the bias correction of v]
    """

    kernel = ADAMW_SCHEDULE_FREE
    record = Record(
        year=2024,
        paper="Defazio et al., The road less scheduled, arXiv:2405.15682, Algorithm 1",
        latex=r"y = (1-\beta_1) z + \beta_1 x, \quad z \leftarrow z - \eta\,\big(g(y) / (\sqrt{\hat v} +"
        r" \epsilon) + \lambda y\big), \quad x \leftarrow (1-c)\,x + c z",
        oracles=("schedulefree", "optax"),
        presets={"paper": {}, "schedulefree": {}, "optax": {}},
        texts=(ADAMW_SCHEDULE_FREE,),
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.0025,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        foreach: bool | None = None,
    ):
        options = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, warmup_steps=warmup_steps, r=r)
        super().__init__(params, options | dict(weight_lr_power=weight_lr_power, train_mode=True))

    def averaging(self, group: dict[str, Any]) -> float:
        return float(group["betas"][0])

    def scalars(  # type: ignore[override]
        self, group: dict[str, Any], t: int, kept: dict[str, float]
    ) -> dict[str, float]:
        beta2 = float(group["betas"][1])
        return super().scalars(group, t, kept) | dict(
            beta2=beta2,
            one_minus_beta2=1 - beta2,
            eps=float(group["eps"]),
            bias2_sqrt=sqrt(1 - beta2**t),
        )
