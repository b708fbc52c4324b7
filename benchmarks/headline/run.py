"""The processes: each contestant in its own, ours before and after the others, within the time there is.

A process prints a line of JSON for each batch size, or rule, as soon as it is measured: what it has finished
counts, should its time run out. No contestant is begun that is not likely to finish.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .report import markdown
from .results import Results
from .table import GROUPS, OURS, PARAMETERS, Group, likely

SCRIPT = Path(__file__).resolve().parent.parent / "gpu.py"
LATE = "not done when the time ran out"
RULE_SECONDS, RATES_BEGIN = 8, 25
LONGEST = 1200  # seconds of one process, where no budget says less


def say(line: str) -> None:
    print(line, flush=True)


class Run:
    """One command: what it measures, until when, and what it leaves out."""

    def __init__(self, results: Results, options: Any):
        self.results, self.again, self.only = results, options.again, options.contestants
        self.flags = ["--steps", str(options.steps), *["--dry"] * options.dry]
        self.until = None if options.minutes is None else time.monotonic() + 60 * options.minutes
        self.left_out: list[str] = []
        self.now = time.strftime("%Y-%m-%d %H:%M")

    def left(self) -> float:
        """Seconds."""
        return LONGEST if self.until is None else max(0.0, self.until - time.monotonic())

    def row(self, row: str) -> None:
        """All groups of a row."""
        if row == "H5":
            self.rates()
        for group in GROUPS:
            if group.row == row:
                self.group(group)

    # ---- H1 to H4

    def group(self, group: Group) -> None:
        """Ours, those that are still to be measured, ours again: their ratios are of one command."""
        peers = [c for c in group.contestants[1:] if self.only is None or c in self.only]
        missing = [c for c in peers if self.again or not self.have(group, c)]
        if not missing and self.have(group, OURS) and not self.again:
            return
        name = f"{group.row} {group.kind} {group.precision}"
        if self.left() < likely(OURS, group):
            self.left_out.append(f"{name}: {', '.join([OURS, *missing])}")
            return
        first = self.contestant(OURS, group)
        begun = []
        for peer in missing:
            if self.left() < likely(peer, group) + likely(OURS, group):
                self.left_out.append(f"{name}: {peer}")
                continue
            begun.append(peer)
            self.contestant(peer, group)
            self.beside(group, [peer], first, {})
        again = self.contestant(OURS, group) if begun and self.left() >= likely(OURS, group) else {}
        self.beside(group, [OURS, *begun], first, again)

    def have(self, group: Group, contestant: str) -> bool:
        """Whether all sizes are measured; what failed is tried again only if it came too late."""
        return all(self.done(group.row, group.kind, group.precision, n, contestant) for n in group.sizes)

    def done(self, *key: Any) -> bool:
        cell = self.results.get(*key)
        return cell is not None and cell.get("error") != LATE

    def contestant(self, who: str, group: Group) -> dict[int, list[float]]:
        """Measure it -> its windows by size."""
        windows: dict[int, list[float]] = {}
        started = time.monotonic()
        sizes = [str(s) for s in group.sizes]
        for found in self.child([who, group.kind, group.precision, *sizes], len(sizes)):
            size = group.sizes[len(windows)]
            windows[size] = found.get("times_us", [])
            self.results.put(dict(row=group.row, kind=group.kind, precision=group.precision, size=size,
                                  contestant=who, at=self.now, **found))  # fmt: skip
        shown = [
            f"{n} {statistics.median(w):.1f} us" if w else f"{n} did not run" for n, w in windows.items()
        ]
        took = f"{time.monotonic() - started:.0f} s"
        say(f"{group.row} {group.kind} {group.precision} {who}: {', '.join(shown)} ({took})")
        self.results.save(markdown(self.results))
        return windows

    def beside(self, group: Group, who: list[str], first: dict, again: dict) -> None:
        """Note our windows of this command, before and after, in the cells of those that ran beside them."""
        for contestant in who:
            for size in group.sizes:
                cell = self.results.get(group.row, group.kind, group.precision, size, contestant)
                if cell is not None and "times_us" in cell:
                    cell["ours_us"] = [statistics.median(w[size]) for w in (first, again) if w.get(size)]
        self.results.save(markdown(self.results))

    # ---- H5

    def rates(self) -> None:
        """The rules that are still to be measured, in one process."""
        from . import rates

        key = ("H5", "optimizers", "fp32", PARAMETERS)
        names = [n for n in rates.rules() if self.again or not self.done(*key, n)]
        count = len(names) if self.until is None else int((self.left() - RATES_BEGIN) / RULE_SECONDS)
        if count < len(names):
            self.left_out.append(f"H5: {', '.join(names[max(count, 0) :])}")
        names = names[: max(count, 0)]
        if not names:
            return
        for name, found in zip(
            names, self.child(["rates", "optimizers", "fp32", *names], len(names)), strict=True
        ):
            self.results.put(dict(zip(("row", "kind", "precision", "size"), key, strict=True))
                             | dict(contestant=name, at=self.now, **found))  # fmt: skip
        say(f"H5: {len(names)} rules")
        self.results.save(markdown(self.results))

    # ---- processes

    def child(self, arguments: list[str], expected: int) -> Iterator[dict[str, Any]]:
        """`expected` dictionaries of what a process says; {"error": ...} for each that it did not come to."""
        command = [sys.executable, str(SCRIPT), "--child", *arguments, *self.flags]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self.left(), check=False)
            said, why = done.stdout, (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        except subprocess.TimeoutExpired as late:
            said, why = (late.stdout or b"").decode(), LATE
        found = [json.loads(line) for line in said.splitlines() if line.startswith('{"')]
        yield from found[:expected]
        for _ in range(expected - len(found)):
            yield {"error": why[:300]}
