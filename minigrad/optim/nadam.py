"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

from typing import Any

from kernels.rules import NADAM as TEXT

from ..tensor import Tensor
from .groups import Range, averages
from .optimizer import Optimizer
from .record import Record


class NAdam(Optimizer):
    """p <- p - lr m' / (sqrt(v^) + eps),

    m' = mu_{t+1} m / (1 - mu_1 ... mu_{t+1}) + (1 - mu_t) g / (1 - mu_1 ... mu_t), m and v^ as Adam's, mu_t
    = beta1 (1 - 0.96^(t momentum_decay) / 2). Arguments and defaults are torch.optim.NAdam's: lr >= 0 (a
    number or a 0-d Tensor), betas in [0, 1), eps > 0, weight_decay >= 0 (an L2 penalty, or with
    decoupled_weight_decay AdamW's), momentum_decay >= 0; maximize climbs. foreach and capturable are without
    effect. PyTorch rounds the product of the mu to float32, we keep it in double.

    Sources differ in the momentum; `form` says which m' it is:

        "schedule"      as above                                                      PyTorch; the default
        "simple"        beta1 m / (1 - beta1^(t+1)) + (1 - beta1) g / (1 - beta1^t)   optax
        "anticipation"  (beta1 m + (1 - beta1) g) / (1 - beta1^t)                     S1: bias corrected last

    [Dozat 2016, Algorithm 2, with one v^ = v / (1 - beta2^t) for all]
    """

    kernel = TEXT
    ranges = {"momentum_decay": Range("momentum_decay value")}
    carries = ("mu_product",)
    forms = ("schedule", "simple", "anticipation")
    record = Record(
        year=2016,
        paper="Dozat, Incorporating Nesterov momentum into Adam, ICLR workshop 2016, Algorithm 2",
        latex=r"\theta \leftarrow \theta - \frac{\eta}{\sqrt{\hat v} + \epsilon}"
        r" \left(\frac{\mu_{t+1} m}{1 - \prod_{i \le t+1} \mu_i}"
        r" + \frac{(1 - \mu_t)\, g}{1 - \prod_{i \le t} \mu_i}\right)",
        oracles=("torch", "optax"),
        presets={
            "torch": {},
            "optax": dict(form="simple"),
            "S1": dict(form="anticipation"),
            "S3": {},
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        form: str = "schedule",
    ):
        options = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize, form=form)
        options |= dict(momentum_decay=momentum_decay, decoupled_weight_decay=decoupled_weight_decay)
        super().__init__(params, options | dict(differentiable=differentiable))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["form"] not in self.forms:
            known = ", ".join(map(repr, self.forms))
            raise ValueError(f"NAdam: Invalid form: {group['form']!r}; it must be one of {known}")

    def scalars(  # type: ignore[override]
        self, group: dict[str, Any], t: int, kept: dict[str, float]
    ) -> dict[str, float]:
        lr, (beta1, beta2) = float(group["lr"]), map(float, group["betas"])
        decay = float(group["momentum_decay"])
        mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (k * decay)) for k in (t, t + 1))
        product = kept["mu_product"] = kept.get("mu_product", 1.0) * mu
        m_size, g_size = {
            "schedule": (mu_next / (1 - product * mu_next), (1 - mu) / (1 - product)),
            "simple": (beta1 / (1 - beta1 ** (t + 1)), (1 - beta1) / (1 - beta1**t)),
            "anticipation": (beta1 / (1 - beta1**t), (1 - beta1) / (1 - beta1**t)),
        }[group["form"]]
        return dict(
            lr=lr,
            **averages(beta1, beta2),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            m_size=lr * m_size,
            g_size=lr * g_size,
            bias2=1 - beta2**t,
        )
