"""What to begin with: a walk through the questions and the habits of guide.py.

    print(recommend(domain="transformer", dataset="large", depth=12, fast=True))

The guides do not say what counts where answers disagree ("very deep" asks for AdamW, "generalise" for SGD).
Here every answer votes for the rules that it names, the domain with two votes, and between equals the one
that stands first in RULES wins. `corrections` says where a guide's figures were replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .guide import ALIASES, DEEP, DOMAINS, INVERTED, KEEP_RATE, QUESTIONS, RULES, Answer, Domain, Question
from .scaling import linear_scaling


@dataclass
class Recommendation:
    """What to begin with, and why.

    optimizer, options   a rule's name in mg.optim.zoo, in small letters, and its options, lr among them
    schedule             a name for --schedule;  warmup: share of the steps;  clip: norm, or None
    batch_size           examples a step; None: all of them
    path                 (question, answer, what the answer speaks for), in order
    reasons, corrections sentences
    """

    optimizer: str
    options: dict[str, Any]
    schedule: str
    warmup: float
    clip: float | None
    batch_size: int | None
    path: list[tuple[str, str, str]]
    reasons: list[str]
    corrections: list[str]

    @property
    def lr(self) -> float:
        """The learning rate to begin with; a sweep around it finds the one to use."""
        return self.options["lr"]

    def flags(self) -> list[str]:
        """The same as options of train.py."""
        found = ["--optimizer", self.optimizer, "--lr", f"{self.lr:g}", "--schedule", self.schedule]
        if self.warmup:
            found += ["--warmup", f"{self.warmup:g}"]
        if "momentum" in self.options:
            found += ["--momentum", f"{self.options['momentum']:g}"]
        if self.options.get("weight_decay"):
            found += ["--weight-decay", f"{self.options['weight_decay']:g}"]
        if self.clip is not None:
            found += ["--clip", f"{self.clip:g}"]
        if self.batch_size is not None:
            found += ["--batch-size", str(self.batch_size)]
        return found

    def __str__(self) -> str:
        lines = [f"{q}  {a}\n    -> {advice}" for q, a, advice in self.path]
        options = ", ".join(f"{k}={v!r}" for k, v in self.options.items())
        lines += ["", f"Begin with {RULES[self.optimizer].shown}({options})"]
        warm = f", the first {self.warmup:.0%} of the steps warm-up" if self.warmup else ""
        lines.append(f"    schedule    {self.schedule}{warm}")
        lines.append(f"    batch size  {self.batch_size or 'all examples'}")
        if self.clip is not None:
            lines.append(f"    clip        gradients of norm beyond {self.clip:g}")
        lines += [f"    because     {reason}" for reason in self.reasons]
        lines += [f"    corrected   {said}" for said in self.corrections]
        return "\n".join([*lines, "", "python train.py " + " ".join(self.flags())])


def recommend(
    domain: str | None = None,
    dataset: str | None = None,
    depth: int | str | None = None,
    fast: bool | None = None,
    generalize: bool | None = None,
    accelerator: str | None = None,
    batch_size: int | None = None,
) -> Recommendation:
    """Walk the tree with the answers given; what is left out does not vote.

    domain       a name of DOMAINS or ALIASES           dataset      "large" or "small"
    depth        number of layers, "deep" or "moderate"  fast, generalize    True or False
    accelerator  "large_batch", "memory" or "none"      batch_size   if it is settled; lr follows it
    ValueError for other answers. Without any, it is AdamW with a cosine, as that guide ends.

    >>> recommend(domain="cnn", generalize=True).optimizer
    'sgd'
    >>> recommend(domain="transformer", fast=True).optimizer
    'adamw'
    """
    if isinstance(depth, (int, float)) and not isinstance(depth, bool):
        if not depth > 0:
            raise ValueError(f"recommend: depth={depth}; a model has at least one layer")
        depth = "deep" if depth > DEEP else "moderate"
    if batch_size is not None and not batch_size > 0:
        raise ValueError(f"recommend: batch_size={batch_size}; it must be positive")
    given = dict(dataset=dataset, depth=depth, fast=fast, generalize=generalize, accelerator=accelerator)
    votes = dict.fromkeys(RULES, 0)
    path: list[tuple[str, str, str]] = []
    settled: dict[str, Any] = {}
    habit = None
    if domain is not None:
        habit = _domain(domain)
        votes[habit.rule] += 2
        path.append(("What is it?", habit.shown, f"{RULES[habit.rule].shown}, {habit.schedules[0]}"))
    for name, value in given.items():
        if value is None:
            continue
        question = QUESTIONS[name]
        if value not in question.answers:
            known = ", ".join(repr(a) for a in question.answers)
            raise ValueError(f"recommend: {name}={value!r}; the answers are {known}")
        answer = question.answers[value]
        for voted in answer.votes:
            votes[voted] += 1
        path.append((question.text, answer.words, answer.advice))
        settled |= answer.settles
    return _settle(votes, path, settled, habit, batch_size)


def _domain(name: str) -> Domain:
    key = ALIASES.get(name, name)
    if key not in DOMAINS:
        raise ValueError(f"recommend: domain={name!r}; the domains are {', '.join([*DOMAINS, *ALIASES])}")
    return DOMAINS[key]


def _settle(
    votes: dict[str, int],
    path: list[tuple[str, str, str]],
    settled: dict[str, Any],
    habit: Domain | None,
    batch_size: int | None,
) -> Recommendation:
    """The rule with most votes, with what domain and answers settle."""
    chosen = max(RULES, key=lambda name: votes[name])  # the first of equals
    rule = RULES[chosen]
    options = dict(rule.options)
    by_domain = habit is not None and habit.rule == chosen
    if habit is not None and by_domain:
        options |= habit.options
    if chosen == "sgd" and "weight_decay" in settled:
        options["weight_decay"] = settled["weight_decay"]
    reasons = [_counted(votes)]
    batch = settled.get("batch", 32) if habit is None or habit.batch is None else habit.batch[0]
    if "batch" in settled and (settled["batch"] is None or settled["batch"] > (batch or 0)):
        batch = settled["batch"]
    batch = batch_size or batch
    if batch is not None and not (by_domain and "lr" in options and habit and "lr" in habit.options):
        scaled = linear_scaling(options["lr"], batch, rule.reference, rule.scaling)
        if batch != rule.reference:
            how = "its ratio" if rule.scaling == "linear" else "the root of its ratio"
            reasons.append(
                f"lr {options['lr']:g} is for batches of {rule.reference}; {how} to {batch} scales it"
            )
        options["lr"] = float(f"{scaled:.3g}")
    schedule = habit.schedules[0] if habit is not None else "warmup_cosine" if chosen == "adamw" else "cosine"
    if chosen == "sgd" and habit is None and "schedule" in settled:
        schedule = settled["schedule"]
    warmup = max(habit.warmup if habit is not None else 0.0, settled.get("warmup", 0.0))
    if schedule == "warmup_cosine" and not warmup:
        warmup = 0.05
    elif warmup and schedule == "cosine":
        schedule = "warmup_cosine"
    elif schedule not in ("warmup_cosine", "warmup_linear"):
        warmup = 0.0
    clip = settled.get("clip", habit.clip if habit is not None else None)
    corrections = [INVERTED] if chosen == "sgd" else []
    if len({name for name, n in votes.items() if n}) > 1:
        corrections.append(KEEP_RATE)
    return Recommendation(chosen, options, schedule, warmup, clip, batch, path, reasons, corrections)


def _counted(votes: dict[str, int]) -> str:
    counts = [f"{RULES[n].shown} {v}" for n, v in sorted(votes.items(), key=lambda item: -item[1]) if v]
    if not counts:
        return "nothing was said: AdamW with weight decay and a cosine is where most begin"
    return f"of the votes, {', '.join(counts)} (the domain counts double)"


def ask(
    given: Mapping[str, Any] | None = None, read: Callable[[str], str] = input, show: Callable = print
) -> Recommendation:
    """The same in conversation: asks what `given` leaves open; an empty answer skips the question.

    It ends, with what was said so far, at the end of the input.
    """
    answers: dict[str, Any] = {k: v for k, v in (given or {}).items() if v is not None}
    domain = Question("What is it?", {name: Answer(d.shown, (), "") for name, d in DOMAINS.items()})
    for name, question in {"domain": domain, **QUESTIONS}.items():
        if name in answers:
            continue
        words = {("yes" if v is True else "no" if v is False else str(v)): v for v in question.answers}
        while True:
            try:
                said = read(f"{question.text} [{' / '.join(words)}] ").strip().lower()
            except EOFError:
                return recommend(**answers)
            if name == "depth" and said.isdigit() and int(said) > 0:
                words[said] = int(said)
            found = [w for w in words if said and w.startswith(said)]
            if not said or len(found) == 1 or said in words:
                break
            show(f"{said!r} is none of {', '.join(words)}")
        if said:
            answers[name] = words[said if said in words else found[0]]
    return recommend(**answers)
