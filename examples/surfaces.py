"""Paths of optimizers on surfaces of two parameters, as a picture: what a rule does, seen.

    python -m examples.surfaces [--out surfaces.png] [--surfaces rosenbrock branin ...]

Each panel is a surface with its level lines and the paths of the optimizers from one start. Rules that take a
gradient get it from the same closure as those that search without. Needs matplotlib (minigrad[plots]).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import optim


@dataclass(frozen=True)
class Surface:
    """f of a Tensor of two numbers, where to start, and the box to draw."""

    f: Callable[[mg.Tensor], mg.Tensor]
    start: tuple[float, float]
    box: tuple[float, float, float, float]  # x from, to; y from, to
    lowest: float


def rosenbrock(p: mg.Tensor) -> mg.Tensor:
    return 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2


def branin(p: mg.Tensor) -> mg.Tensor:
    valley = p[1] - 5.1 / (4 * math.pi**2) * p[0] ** 2 + 5 / math.pi * p[0] - 6
    return valley**2 + 10 * (1 - 1 / (8 * math.pi)) * mg.cos(p[0]) + 10


def wells(p: mg.Tensor) -> mg.Tensor:
    """Two minima, the left one lower."""
    return (p[0] ** 2 - 1) ** 2 + 0.3 * p[0] + p[1] ** 2 + 0.5


def narrow(p: mg.Tensor) -> mg.Tensor:
    return 0.5 * (p[0] ** 2 + 50 * p[1] ** 2)


SURFACES = {
    "rosenbrock": Surface(rosenbrock, (-1.2, 1.0), (-2.0, 2.0, -1.0, 3.0), 0.0),
    "branin": Surface(branin, (2.0, 8.0), (-5.0, 10.0, 0.0, 15.0), 0.397887),
    "wells": Surface(wells, (1.3, 1.0), (-2.0, 2.0, -1.5, 1.5), 0.1947),
    "narrow": Surface(narrow, (4.0, 1.0), (-5.0, 5.0, -1.5, 1.5), 0.0),
}

# name -> (what makes it over [p] and a box, steps)
RULES: dict[str, tuple[Callable[[Any, Surface], Any], int]] = {
    "SGD": (lambda p, s: optim.SGD(p, lr=1e-3), 300),
    "NesterovFlow": (lambda p, s: optim.NesterovFlow(p, lr=0.1, method="rk45"), 60),
    "Adam": (lambda p, s: optim.Adam(p, lr=0.1), 300),
    "CoordinateDescent": (lambda p, s: optim.CoordinateDescent(p), 100),
    "CMAES": (lambda p, s: optim.CMAES(p, sigma=0.5), 40),
    "SimulatedAnnealing": (lambda p, s: optim.SimulatedAnnealing(p, cooling=0.98), 300),
    "BayesianOptimization": (
        lambda p, s: optim.BayesianOptimization(p, bounds=[s.box[:2], s.box[2:]]),
        40,
    ),
}


def path(rule: str, surface: Surface) -> tuple[np.ndarray, list[float], int]:
    """(points (steps + 1, 2), the loss at each, evaluations) of a rule from the surface's start."""
    p = mg.nn.Parameter(mg.tensor(surface.start, dtype="float64"))
    make, steps = RULES[rule]
    optimizer, calls = make([p], surface), 0
    points = [p.array.copy()]

    def closure() -> mg.Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = surface.f(p)
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
        points.append(p.array.copy())
    losses = [float(surface.f(mg.tensor(x))) for x in points]
    return np.array(points), losses, calls


def draw(names: Sequence[str], out: str) -> None:
    """The picture: a panel a surface."""
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit(
            "examples.surfaces: the picture needs matplotlib; install minigrad[plots]"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(names), figsize=(6 * len(names), 5), squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        s = SURFACES[name]
        x, y = np.meshgrid(np.linspace(*s.box[:2], 120), np.linspace(*s.box[2:], 120))
        z = s.f(mg.tensor(np.stack([x.ravel(), y.ravel()]))).numpy().reshape(x.shape)
        axes.contour(x, y, np.log10(z - s.lowest + 1e-3), 20, colors="0.8", linewidths=0.7)
        for rule in RULES:
            points, losses, calls = path(rule, s)
            axes.plot(
                *points.T, ".-", markersize=3, linewidth=0.9, label=f"{rule}: {min(losses):.3g} ({calls})"
            )
        axes.set(title=name, xlim=s.box[:2], ylim=s.box[2:])
        axes.legend(fontsize=7, title="lowest loss (evaluations)", title_fontsize=7)
    figure.tight_layout()
    figure.savefig(out, dpi=120)
    pyplot.close(figure)


def main(args: Sequence[str] | None = None) -> None:
    """Draw the chosen surfaces into a PNG."""
    parser = argparse.ArgumentParser(description="Paths of optimizers on surfaces of two parameters.")
    parser.add_argument("--out", default="surfaces.png", help="where the picture goes")
    parser.add_argument("--surfaces", nargs="+", choices=list(SURFACES), default=list(SURFACES))
    options = parser.parse_args(args)
    draw(options.surfaces, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
