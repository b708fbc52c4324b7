"""A command line from a dataclass: each field says what it is, once.

    @dataclass
    class Config:
        lr: float | None = option("learning rate, > 0", positive, "X")
        log_every: int = option("steps between two looks at the loss", count, "N", default=20, free=True)

`parser_of(Config)` makes --lr and --log-every of it. What the command line does not say is None, so that
presets and checkpoints can tell a choice from a default. `free` marks what a resumed run may change.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any


def option(text: str, kind: Any = str, metavar: str | None = None, *, default: Any = None,
           free: bool = False, **more: Any) -> Any:  # fmt: skip
    """A field of a configuration; `more` goes to argparse's add_argument."""
    shown = "" if default is None or kind is bool else f" (default: {default})"
    about = dict(help=text + shown, kind=kind, metavar=metavar, more=more, free=free)
    return dataclasses.field(default=default, metadata=about)


def parser_of(config: Any, **options: Any) -> argparse.ArgumentParser:
    """A parser with one option for each field; options go to ArgumentParser."""
    parser = argparse.ArgumentParser(allow_abbrev=False, **options)
    for f in dataclasses.fields(config):
        name, about = "--" + f.name.replace("_", "-"), f.metadata
        if about["kind"] is bool:
            kinds: dict[str, Any] = dict(action=argparse.BooleanOptionalAction)
        else:
            kinds = dict(type=about["kind"], metavar=about["metavar"])
        parser.add_argument(name, dest=f.name, default=None, help=about["help"], **kinds, **about["more"])
    return parser


def free(config: Any) -> set[str]:
    """The names of the fields that a resumed run may change."""
    return {f.name for f in dataclasses.fields(config) if f.metadata["free"]}


# ------------------------------------------------------------------------------------------ kinds of values


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def non_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not zero or a positive number")
    return value


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


def rate_of(text: str) -> tuple[str, float]:
    """PREFIX=X -> (prefix, learning rate)."""
    prefix, sign, value = text.partition("=")
    try:
        if not prefix or not sign:
            raise ValueError(text)
        return prefix, non_negative(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not PREFIX=LEARNING_RATE, as head=0.01") from None


def pairs(words: list[str]) -> dict[str, Any]:
    """key=value ... or one JSON object -> a dictionary; values are JSON where they can be, else strings.

    >>> pairs(["eps=1e-6", "betas=[0.9, 0.99]", "line_search_fn=strong_wolfe"])
    {'eps': 1e-06, 'betas': (0.9, 0.99), 'line_search_fn': 'strong_wolfe'}
    """
    found: dict[str, Any] = {}
    for word in words:
        if word.lstrip().startswith("{"):
            found |= json.loads(word)
            continue
        key, sign, value = word.partition("=")
        if not key or not sign:
            raise ValueError(f"{word!r} is not KEY=VALUE, nor a JSON object")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = {"True": True, "False": False, "None": None}.get(value, value)
    return {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
