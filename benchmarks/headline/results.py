"""What has been measured, in a file: kept as it comes, taken up again by the next command.

A cell is one contestant at one batch size of one network and precision, or one rule of H5. Cells of another
GPU or driver are not taken up: a table is of one machine.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

KEY = ("row", "kind", "precision", "size", "contestant")


class Results:
    """The cells by row, kind, precision, size and contestant; `place` None: nothing is kept."""

    def __init__(self, place: Path | None, machine: dict[str, str]):
        self.place, self.machine = place, machine
        self.cells: dict[tuple, dict[str, Any]] = {}
        self.other = ""  # the machine of a file that is not taken up
        if place is None or not place.exists():
            return
        found = json.loads(place.read_text())
        names = [
            " with driver ".join(about[k] for k in ("gpu", "driver")) for about in (found["machine"], machine)
        ]
        if names[0] != names[1]:
            self.other = names[0]
        else:
            self.cells = {tuple(c[k] for k in KEY): c for c in found["cells"]}

    def get(self, *key: Any) -> dict[str, Any] | None:
        return self.cells.get(key)

    def put(self, cell: dict[str, Any]) -> None:
        """Keep a cell, in the place of an older one."""
        self.cells[tuple(cell[k] for k in KEY)] = cell

    def save(self, text: str) -> None:
        """The cells as JSON, and the text that shows them beside it; each in one piece."""
        if self.place is None:
            return
        self.place.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(dict(machine=self.machine, cells=list(self.cells.values())), indent=1) + "\n"
        for path, written in ((self.place, content), (self.place.with_suffix(".md"), text)):
            partial = path.with_name(path.name + ".partial")
            partial.write_text(written)
            os.replace(partial, path)
