"""The configuration of train.py: what the command line says, else what goes with data, model and rule.

A resumed run takes its configuration from the checkpoint. What would make another run of it is refused by
name; free are device, epochs (the schedule is that of the new length from here on), log-every, save-every,
keep and out, which do not change the steps that were made.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import minigrad as mg
from minigrad import training
from minigrad.checkpoint import CheckpointError
from minigrad.optim.schedule import SCHEDULES
from minigrad.training.arguments import (
    count,
    free,
    non_negative,
    option,
    pairs,
    parser_of,
    positive,
    rate_of,
    share,
)
from minigrad.training.guide import ALIASES

IMAGES = ("digits", "fashion", "mnist", "fashion_mnist", "cifar10")
TEXTS = ("shakespeare", "tiny_shakespeare")

# What goes with a model besides its optimizer and schedule (training/presets.py), and with a data set
PRESETS: dict[str, dict[str, Any]] = {
    "mlp": dict(data="digits", epochs=60),
    "cnn": dict(data="fashion", epochs=40, augment=True, validation=0.1),
    "transformer": dict(data="shakespeare", epochs=2),
}
PARTICULAR: dict[str, dict[str, Any]] = {
    "mnist": dict(epochs=10, batch_size=128),
    "fashion_mnist": dict(epochs=10, batch_size=128),
    "cifar10": dict(epochs=20, batch_size=128, lr=0.1),
}
# Rules that ask for one function several times a step see nearly all images at once, for so many epochs
WHOLE = {"lbfgs": 10, "nonlinearcg": 20, "newtoncg": 20}


@dataclasses.dataclass
class Config:
    """What a run is made of. None: the rule's own default, or not at all."""

    model: str = option("what to train (default: all three)", choices=sorted(PRESETS))
    data: str = option("what to train it on; the default goes with the model", choices=IMAGES + TEXTS)
    device: str = option("cpu, cuda or cuda:N (default: a GPU if there is one)", free=True)
    seed: int = option("seed of initialisation, order and dropout", int, "N", default=0)
    epochs: float = option("times through the data; of a text: thousands of steps", positive, "N", free=True)
    batch_size: int = option("examples a batch", count, "N")
    accumulate: int = option("batches a step: gradients of N batches as of one", count, "N", default=1)
    optimizer: str = option(
        "the update rule, any of the library; sam+adamw is one around another", metavar="NAME"
    )
    optimizer_options: dict[str, Any] = option(  # noqa: RUF009
        "further options of the update rule: betas=[0.9,0.99] eps=1e-6, or one JSON object",
        metavar="KEY=VALUE", nargs="+",
    )  # fmt: skip
    lr: float | None = option("learning rate, > 0 (default: the model's, else the rule's own)", positive, "X")
    lr_of: list[tuple[str, float]] = option(  # noqa: RUF009
        "another learning rate for parameters whose names start so; repeat it", rate_of, "PREFIX=X",
        action="append",
    )  # fmt: skip
    momentum: float | None = option(
        "momentum, >= 0, in Nesterov's form where there is one", non_negative, "X"
    )
    weight_decay: float | None = option("weight decay of matrices, >= 0", non_negative, "X")
    schedule: str = option(
        "how the learning rate changes; plateau: it falls where the score on held-out data gets no better",
        choices=[*SCHEDULES, "plateau"], default="constant",
    )  # fmt: skip
    schedule_options: dict[str, Any] = option(  # noqa: RUF009
        "further options of the schedule: floor=1e-4 gamma=0.5, or one JSON object; of plateau: factor=0.1 "
        "patience=1 min_lr=0; of sequential: parts=[\"warmup_constant\",\"cosine\"] at=[0.1]",
        metavar="KEY=VALUE", nargs="+",
    )  # fmt: skip
    schedule_per: str = option("it changes every", choices=("step", "epoch"), default="step")
    warmup: float | None = option(
        "share of the steps in which lr rises, in [0, 1) (default: the schedule's own)", share, "X"
    )
    clip: float | None = option("largest norm of all gradients together", positive, "X")
    amp: str | None = option("mixed precision: products in a half type", choices=("float16", "bfloat16"))
    ema: float | None = option("judge an exponential average of the weights, decay X in [0, 1)", share, "X")
    swa: float | None = option(
        "judge the equal average of the weights from this share of the run on (default: 0.75)", share, "X",
        nargs="?", const=0.75,
    )  # fmt: skip
    early_stop: int | None = option("stop after N looks at held-out data without a better score", count, "N")
    clip_adaptive: float | None = option(
        "largest norm of each unit's gradient as a share of the norm of its weights", positive, "X"
    )
    augment: bool = option("shift and mirror training images", bool)
    validation: float = option("share of the training images to hold out, in [0, 1)", share, "X", default=0.0)
    init: str | None = option("start from a file's weights, as far as names and shapes fit", metavar="FILE")
    freeze: str | None = option("do not train parameters whose names start so", metavar="PREFIX")
    lr_find: bool = option("a learning-rate range test instead of training", bool)
    sweep: bool = option("short runs at learning rates of six decades instead of training", bool)
    recommend: bool = option("ask a few questions, and say what to begin with", bool, free=True)
    diagnose: bool = option("watch the run, and say at the end what ails it", bool, free=True)
    graph: bool = option("on a GPU, a whole step as one launch", bool, default=True, free=True)
    anomaly: bool = option("name the operation that made the first nan (slow)", bool, free=True)
    log_every: int = option("steps between two looks at the loss", count, "N", default=20, free=True)
    save_every: int | None = option(
        "steps between two checkpoints (default: a tenth of the run)", count, "N", free=True
    )
    keep: int = option("how many checkpoints stay", count, "N", default=3, free=True)
    resume: str | None = option(
        "go on from a checkpoint, a folder of them, or (auto) where this run was, if it was begun",
        metavar="PATH", nargs="?", const="auto", free=True,
    )  # fmt: skip
    out: str = option("where curves, weights and checkpoints go", metavar="FOLDER", default="runs", free=True)

    @property
    def folder(self) -> Path:
        return Path(self.out) / f"{self.model}-{self.data}-{self.optimizer}-{self.seed}"


def runs(argv: list[str] | None = None) -> list[tuple[Config, training.Found | None]]:
    """The runs that the command line asks for, each with the checkpoint that it goes on from.

    With --recommend there are none.
    One line and exit code 2 for what is wrong."""
    parser = parser_of(Config, prog="train.py", description="Train a model on real data.")
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    try:
        if given.pop("recommend", False):
            known = dict(domain=ALIASES.get(given.get("model", "")), batch_size=given.get("batch_size"))
            print(training.ask({k: v for k, v in known.items() if v is not None}))
            return []
        auto = "cuda" if mg.cuda.is_available() else "cpu"
        given["device"] = str(mg.resolve_device(given.get("device", auto)))
        for name in ("optimizer_options", "schedule_options"):
            if name in given:
                given[name] = pairs(given[name])
        if "optimizer" in given:
            records = training.chain(given["optimizer"])
            given["optimizer"] = "+".join(record.name.lower() for record in records)
        if given.get("resume", "auto") != "auto":
            found = training.read(given["resume"])
            return [(continued(found, given), found)]
        chosen = [configuration(model, given) for model in models(given)]
        if "resume" not in given:
            return [(c, None) for c in chosen]
        places = [(c, training.Checkpoints(c.folder).latest()) for c in chosen]
        return [(c, None) if found is None else (continued(found, given), found) for c, found in places]
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f"train.py: {error}\n")


def models(given: dict[str, Any]) -> list[str]:
    """The models to train: the one that was named, or all that go with the data."""
    if "model" in given:
        return [given["model"]]
    return [m for m in PRESETS if "data" not in given or (m == "transformer") == (given["data"] in TEXTS)]


def configuration(model: str, given: dict[str, Any]) -> Config:
    """What was said; else what goes with the data, the model, the optimizer."""
    named = given.get("data", PRESETS[model]["data"])
    if (model == "transformer") != (named in TEXTS):
        raise ValueError(f"--model {model} does not go with --data {named}")
    expert, options = training.PRESETS[model], {}
    rule = given.get("optimizer", expert.optimizer)
    preset = dict(optimizer=rule, schedule=expert.schedule, warmup=expert.warmup, clip=expert.clip,
                  batch_size=expert.batch_size, **PRESETS[model])  # fmt: skip
    own = dict(PARTICULAR.get(named, {}))
    if rule == expert.optimizer:  # another rule wants other numbers: its own defaults
        options = dict(expert.options)
        preset |= {k: options.pop(k) for k in ("lr", "momentum", "weight_decay") if k in options}
    else:
        own = {k: v for k, v in own.items() if k != "lr"}
        preset |= dict(momentum=0.9) if rule == "sgd" else {}
        options = dict(training.NUMBERS.get(rule, {}))
        preset |= {k: options.pop(k) for k in ("lr",) if k in options}
    if rule in WHOLE and model != "transformer":
        own |= dict(batch_size=2048, epochs=WHOLE[rule])
    options |= given.get("optimizer_options", {})
    return checked(
        Config(**{**preset, **own, **given, "model": model, "data": named, "optimizer_options": options})
    )


def checked(c: Config) -> Config:
    """ValueError for options that do not go together."""
    needs = {need for record in training.chain(c.optimizer) for need in record.needs}
    several = "closure" in needs
    if c.ema is not None and c.swa is not None:
        raise ValueError("--ema and --swa are two averages of the weights; give one of them")
    if c.early_stop and not c.validation and c.data in IMAGES:
        raise ValueError("--early-stop needs held-out data to look at: add --validation 0.1")
    if c.schedule == "plateau" and not c.validation and c.data in IMAGES:
        raise ValueError("--schedule plateau needs held-out data to look at: add --validation 0.1")
    if c.schedule == "plateau" and c.schedule_per != "step":
        raise ValueError("--schedule-per epoch: plateau changes at looks at held-out data; leave it out")
    if c.amp == "float16" and several:
        raise ValueError(
            f"--amp float16: {c.optimizer} asks for the loss several times a step, at one scale; use bfloat16"
        )
    if c.diagnose and several:
        raise ValueError(
            f"--diagnose: {c.optimizer} asks for the loss several times a step; take another rule"
        )
    if c.accumulate > 1 and "Hessian-vector product" in needs:
        raise ValueError(
            f"--accumulate: {c.optimizer} goes through the loss's graph again; take one batch a step"
        )
    return c


def continued(found: training.Found, given: dict[str, Any]) -> Config:
    """The configuration of a checkpoint, with what a resumed run may change. ValueError for the rest."""
    saved = found.state.get("about", {}).get("config")
    if not isinstance(saved, dict) or set(saved) != {f.name for f in dataclasses.fields(Config)}:
        raise CheckpointError(f"{found.path}: it has no configuration of this train.py")
    may = free(Config)
    for name in sorted(set(given) - may):
        if name == "optimizer_options":  # the model's own stand among them
            given[name] = saved[name] | given[name]
        if given[name] != saved[name]:
            raise ValueError(
                f"--{name.replace('_', '-')} {given[name]} contradicts {found.path}, a run with "
                f"{saved[name]}; leave it out, or begin a new run without --resume"
            )
    here = found.path.parent
    if here.name == Config(**saved).folder.name:
        saved = {**saved, "out": str(here.parent)}
    return checked(Config(**{**saved, **{name: given[name] for name in may & set(given)}}))
