"""The curve of a run: a JSON object a line, so that a run that is killed loses nothing that it had written.

{"step": 20, "loss": 1.93, "lr": 0.001}
{"step": 40, "score": 0.71}
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Curve:
    """curve.jsonl, to be written to: `with Curve(path) as curve: curve.add(step=20, loss=1.93)`.

    after   0 begins anew; a resumed run goes on after step `after`: later lines, and a line that a kill cut
            short, are removed first
    """

    def __init__(self, path: str | Path, after: int = 0):
        self.path = Path(path)
        kept = [row for row in rows(self.path) if row["step"] <= after] if after else []
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        os.replace(temporary, self.path)
        self.file = open(self.path, "a")  # noqa: SIM115  closed by __exit__

    def __enter__(self) -> Curve:
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.close()

    def add(self, **row: Any) -> None:
        """One more line."""
        print(json.dumps(row), file=self.file, flush=True)

    def sync(self) -> None:
        """Down to the disk: before a checkpoint that counts on these lines."""
        os.fsync(self.file.fileno())


def rows(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a curve.jsonl, without one that is no whole line."""
    path, found = Path(path), []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            found.append(row)
    return found


def draw(path: Path, title: str) -> str:
    """curve.jsonl as a picture beside it, if matplotlib is there; what to say about it."""
    try:
        import matplotlib
    except ImportError:
        return " (matplotlib would draw it)"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = rows(path)
    if not points:  # a run shorter than --log-every
        return ""
    titles = dict(loss="training loss", score="held-out score")
    shown = [key for key in titles if any(key in row for row in points)]
    size = (4.5 * len(shown), 3.2)
    figure, panels = pyplot.subplots(1, len(shown), figsize=size, layout="constrained", squeeze=False)
    for axes, key in zip(panels[0], shown, strict=True):
        line = [(row["step"], row[key]) for row in points if key in row]
        axes.plot(*zip(*line, strict=True), marker="o" if key == "score" else None, markersize=3)
        axes.set(xlabel="step", title=titles[key])
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path.with_suffix(".png"), dpi=120)
    pyplot.close(figure)
    return f", {path.with_suffix('.png').name}"
