"""What an expert would start with, by domain, as data; and optimizers by name.

domain             rule                        schedule              why
mlp                Adam                        constant              few parameters, no tuning
cnn                SGD, Nesterov momentum 0.9  cosine (or step)      generalises best on images
transformer        AdamW, betas (0.9, 0.99)    warm-up, then cosine  gradients of unequal scale
gan                Adam, betas (0, 0.99)       constant (or linear)  the opponent moves: no momentum
rl                 Adam                        constant (or linear)  noisy gradients, moving target
embeddings         Adagrad                     constant              rare rows keep a large step
linear regression  SGD, full batch             constant              convex: any lr < 2 / L converges
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..optim import zoo
from ..optim.optimizer import Optimizer
from ..optim.record import Record
from ..optim.schedule import Schedule, named


@dataclass(frozen=True)
class Preset:
    """An optimizer by name with its options, a schedule by name, and what goes with them.

    warmup is a share of the steps, clip the largest norm of all gradients together. Other schedules that the
    domain uses stand in `also`.
    """

    optimizer: str
    options: Mapping[str, Any]
    schedule: str = "constant"
    also: tuple[str, ...] = ()
    warmup: float = 0.0
    clip: float | None = None
    batch_size: int = 32

    def make(self, params: Any, **options: Any) -> Optimizer:
        """The optimizer over params; options override the preset's."""
        return optimizer_named(self.optimizer, params, {**self.options, **options})

    def rate(self, steps: float, schedule: str | None = None) -> Schedule:
        """Completed steps -> learning rate over a run of so many; `schedule` may be another of its own."""
        if schedule not in (None, self.schedule, *self.also):
            raise ValueError(f"this domain's schedules are {', '.join((self.schedule, *self.also))}")
        return named(schedule or self.schedule, self.options["lr"], steps, self.warmup * steps)


PRESETS: dict[str, Preset] = {
    "mlp": Preset("adam", dict(lr=1e-3, weight_decay=0.0)),
    "cnn": Preset(
        "sgd", dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4), "cosine", ("step",),
        batch_size=64,
    ),
    "transformer": Preset(
        "adamw", dict(lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1), "warmup_cosine", warmup=0.05, clip=1.0,
        batch_size=16,
    ),
    "gan": Preset("adam", dict(lr=2e-4, betas=(0.0, 0.99)), also=("linear",), batch_size=64),
    "rl": Preset("adam", dict(lr=3e-4), also=("linear",), clip=0.5, batch_size=64),
    "embeddings": Preset("adagrad", dict(lr=0.1), batch_size=64),
    "linear regression": Preset("sgd", dict(lr=0.1)),
}  # fmt: skip

# what a rule begins with in train.py where its own defaults are made for other work
NUMBERS: dict[str, dict[str, Any]] = {
    "muon": dict(lr=0.02),
    "shampoo": dict(lr=0.1, refresh_period=10, grafting="sgd", as_matrix=True),
}


# ------------------------------------------------------------------------------------- optimizers by name


def rule(name: str) -> Record:
    """The record of an optimizer by its name, whatever the capitals; ValueError lists the names there are."""
    known = {key.lower(): record for key, record in zoo.items()}
    if name.lower() not in known:
        raise ValueError(f"there is no optimizer {name!r}; there are {', '.join(sorted(known))}")
    return known[name.lower()]


def chain(name: str) -> list[Record]:
    """The rules of a name, from the outermost one: "sam+adamw" is SAM around AdamW.

    ValueError for one that goes around no other."""
    records = [rule(part) for part in name.split("+")]
    for record in records[:-1]:
        if "another rule" not in record.needs:
            raise ValueError(f"{name}: {record.name} goes around no other rule")
    return records


def taken(name: str) -> dict[str, Any]:
    """Name -> default of the options that the rules of a name take, besides what they go around."""
    found: dict[str, Any] = {}
    *around, last = chain(name)
    for made in (*[record.cls for record in around], last.example or last.cls):
        found = _options(made) | found
    return found


def _options(made: Any) -> dict[str, Any]:
    return {
        p.name: None if p.default is inspect.Parameter.empty else p.default
        for p in list(inspect.signature(made).parameters.values())[1:]
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in Optimizer.ignored
    }


def optimizer_named(name: str, params: Any, options: Mapping[str, Any]) -> Optimizer:
    """An optimizer by its name; ValueError for an option that it does not take says what it takes.

    In a name with + each option goes to the outermost rule that takes it.
    """
    records, known, left = chain(name), taken(name), dict(options)
    for key in options:
        if key not in known:
            defaults = ", ".join(f"{k}={v!r}" for k, v in known.items())
            raise ValueError(f"{'+'.join(r.name for r in records)} takes no {key}; it takes {defaults}")
    outer = [(r.cls, {k: left.pop(k) for k in _options(r.cls) if k in left}) for r in records[:-1]]
    optimizer = records[-1].make(params, **left)
    for cls, own in reversed(outer):
        optimizer = cls(optimizer, **own)
    return optimizer
