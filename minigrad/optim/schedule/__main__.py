"""A picture of schedules: python -m minigrad.optim.schedule --plot cosine [--warmup 50 --out cosine.png]."""

from __future__ import annotations

import argparse
import ast
import sys
from typing import Any

from .named import SCHEDULES, named


def option(text: str) -> tuple[str, Any]:
    """("gamma", 0.5) of "gamma=0.5"; what is no Python literal is a word."""
    name, sign, value = text.partition("=")
    if not (sign and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main(argv: list[str] | None = None) -> None:
    """Draw the schedules asked for into one PNG; one line and exit code 2 for what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m minigrad.optim.schedule",
        description="Draw learning-rate schedules over a run, as PNG.",
        epilog="schedules: " + "; ".join(f"{name}: {shape.says}" for name, shape in SCHEDULES.items()),
    )
    add = parser.add_argument
    add("--plot", nargs="+", required=True, metavar="NAME", help="which to draw, or all")
    add("--lr", type=float, default=0.1, metavar="X", help="the highest learning rate (default: 0.1)")
    add("--steps", type=int, default=1000, metavar="N", help="optimizer steps of the run (default: 1000)")
    add("--warmup", type=float, metavar="N", help="steps of linear warm-up (default: what the schedule has)")
    add("--floor", type=float, metavar="X", help="learning rate at the end (default: what the schedule has)")
    add(
        "--option",
        type=option,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="gamma=0.5, or parts=['linear','step']",
    )
    add("--log", action="store_true", help="a logarithmic scale of learning rates")
    add("--out", metavar="FILE", help="the picture (default: the first name, .png)")
    given = parser.parse_args(argv)

    names = list(SCHEDULES) if given.plot == ["all"] else given.plot
    ts = range(given.steps + 1)
    try:
        curves = {
            name: named(name, given.lr, given.steps, given.warmup, given.floor, **dict(given.option))
            for name in names
        }
        out = given.out or f"{given.plot[0]}.png"
        draw({name: [curve(t) for t in ts] for name, curve in curves.items()}, out, given.log)
    except (ImportError, OSError, TypeError, ValueError) as error:
        why = "an option of another type is needed: " if isinstance(error, TypeError) else ""
        print(f"{parser.prog}: {why}{error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(out)


def draw(curves: dict[str, list[float]], out: str, log: bool = False) -> None:
    """The curves, learning rate over steps, as a PNG file. ImportError, with the cure, without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"a picture needs matplotlib ({error}): pip install matplotlib") from None
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, values in curves.items():
        axes.plot(values, label=name)
    axes.set(xlabel="completed optimizer steps", ylabel="learning rate", yscale="log" if log else "linear")
    axes.grid(alpha=0.3)
    if len(curves) <= 6:
        axes.legend(fontsize="small")
    else:
        axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(out, format="png")


if __name__ == "__main__":
    main()
