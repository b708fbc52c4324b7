"""What a configuration asks for, made: the optimizer in its groups, the schedules, the averaged weights."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import nn, optim, training
from minigrad.optim import schedule as schedules
from minigrad.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from minigrad.optim.whole import WholeVector

from .configuration import Config


def grouped(model: nn.Module, c: Config) -> list[dict[str, Any]]:
    """Named parameters: matrices and filters decay; norms, biases and vectors do not. None that is frozen."""
    for name, p in model.named_parameters():
        if c.freeze is not None and name.startswith(c.freeze):
            p.requires_grad_(False)
    last, decay = training.chain(c.optimizer)[-1].cls, c.weight_decay
    if hasattr(last, "split"):  # Muon: hidden matrices, and AdamW for the rest
        return last.split(model) if decay is None else last.split(model, decay)
    groups = optim.param_groups(model, weight_decay=1.0)  # 1 or 0: whether they decay at all
    if issubclass(last, WholeVector):  # L-BFGS and its like see one vector
        named = [entry for group in groups for entry in group["params"]]
        return [dict(params=named, weight_decay=decay)]
    return [group | dict(weight_decay=decay if group["weight_decay"] else 0.0) for group in groups]


def optimizer_of(model: nn.Module, c: Config) -> Any:
    """The update rule over the model's parameters, in groups of one learning rate and weight decay each."""
    known = training.taken(c.optimizer)
    options = dict(lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay) | c.optimizer_options
    options = {name: value for name, value in options.items() if value is not None}
    if options.get("momentum") and "nesterov" in known:
        options = dict(nesterov=True) | options
    if options.get("momentum") == 0:
        options.pop("nesterov", None)
    groups = []
    for group in grouped(model, c):
        rates: dict[float | None, list[tuple[str, Any]]] = {}
        for name, p in group.pop("params"):
            fitting = [(len(prefix), x) for prefix, x in c.lr_of or [] if name.startswith(prefix)]
            rates.setdefault(max(fitting)[1] if fitting else None, []).append((name, p))
        if "weight_decay" not in known or group["weight_decay"] is None:
            group.pop("weight_decay")
        groups += [group | dict(params=p) | ({} if x is None else dict(lr=x)) for x, p in rates.items()]
    if all(set(group) == {"params"} for group in groups):  # nothing tells them apart
        groups = [dict(params=[p for group in groups for p in group["params"]])]
    for prefix, _ in c.lr_of or []:
        names = [name for name, _ in model.named_parameters()]
        if not any(name.startswith(prefix) for name in names):
            raise ValueError(f"--lr-of {prefix}: no parameter's name starts so; they are {names}")
    return training.optimizer_named(c.optimizer, groups, options)


Rates = list[tuple[dict[str, Any], schedules.Schedule]]


def rates_of(optimizer: Any, c: Config, task: Any) -> tuple[Rates, training.Plateau | None]:
    """Each group that has a learning rate, and its schedule; a rate that the rule learns is left to it.

    With --schedule plateau, also what lowers them."""
    groups = [g for g in optimizer.param_groups if "lr" in g and not isinstance(g["lr"], mg.Tensor)]
    if len(groups) < len(optimizer.param_groups) and (c.schedule != "constant" or c.warmup):
        raise ValueError(f"--schedule {c.schedule}: {c.optimizer} sees to its learning rate; use constant")
    if c.schedule == "plateau":
        mode, warm = "max" if task.better is max else "min", (c.warmup or 0.0) * task.steps
        lrs = [g["lr"] for g in groups]
        plateau = training.Plateau(lrs, mode, warm, **c.schedule_options or {})
        return list(zip(groups, plateau.schedules)), plateau
    return [(g, schedule_of(c, task, g["lr"])) for g in groups], None


def schedule_of(c: Config, task: Any, lr: float) -> schedules.Schedule:
    """Completed optimizer steps -> learning rate."""
    per = task.epoch if c.schedule_per == "epoch" else 1
    length = -(-task.steps // per)
    warm = None if c.warmup is None else c.warmup * length
    at = schedules.named(c.schedule, lr, length, warm, **c.schedule_options or {})
    return schedules.per_epoch(at, per)


def averaged_of(model: nn.Module, c: Config) -> Any:
    """A model whose weights, and batch norm's statistics, are an average of the trained one's; or None."""
    if c.ema is not None:
        return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(c.ema), use_buffers=True)
    return None if c.swa is None else AveragedModel(model, use_buffers=True)
