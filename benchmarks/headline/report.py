"""The figures as Markdown: a table for each batch size, and under it what may be said of it.

Every contestant has a line, won or lost, and what did not run says why.
"""

from __future__ import annotations

import statistics

from .figures import Cell, apart, cells, counts, faster, in_words, judged, rate, share, times_as_fast
from .results import Results
from .table import EAGER, GROUPS, OURS, ROWS, TITLES, Group

HEAD = """\
Microseconds of a whole step: batch gather, forward, backward, clipping, AdamW. Median of the windows (ours:
before and after the others), fastest and slowest; `host`: until the step was handed over; `begin`: the first
twenty steps, compiling and capturing among them. `x`: how many times as fast as it minigrad graph is, by the
slower of its two runs beside it. Losses are those of steps 1 and 100 and the mean of steps 91 to 100; a time
counts where all are PyTorch eager's to 1e-3.
"""
COMPARED = (
    "us a step",
    "fastest to slowest",
    "host",
    "begin, s",
    "losses, at 1, 100, 91 to 100",
    "apart",
    "x",
)
RATED = (
    "bytes",
    "copy",
    "minigrad graph",
    "of a copy",
    "minigrad eager",
    "torch fused",
    "foreach",
    "default",
)


def markdown(results: Results) -> str:
    """The whole table."""
    machine = ", ".join(f"{k} {v}" for k, v in results.machine.items())
    lines = ["# A training step on a GPU", "", f"{machine}.", "", *versions(results), *HEAD.split("\n")]
    for row in sorted(ROWS):
        lines += [f"## {row}: {TITLES[row]}", "", *(rates(results) if row == "H5" else [])]
        for group in (g for g in GROUPS if g.row == row):
            for size in group.sizes:
                lines += comparison(results, group, size)
            lines += faster(results, group)
        lines += [*judged(results, row), ""]
    return "\n".join(lines)


def versions(results: Results) -> list[str]:
    """The libraries' versions, each once."""
    found = {f"{k} {v}" for c in results.cells.values() for k, v in c.get("versions", {}).items()}
    return ["Versions: " + ", ".join(sorted(found)) + ".", ""] if found else []


def head(first: str, columns: tuple[str, ...]) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join([first, *columns])} |", "|---" * (len(columns) + 1) + "|"]


def refused(name: str, error: str, columns: int) -> str:
    """The line of what did not run."""
    return f"| {name} | did not run: {error.replace('|', '/')} {'| ' * columns}|"


def comparison(results: Results, group: Group, size: int) -> list[str]:
    """The table of one batch size, and the ratios in words."""
    there = cells(results, group, size)
    if not there:
        return []
    lines = [f"### {group.kind}, batch {size}, {group.precision}", "", *head("", COMPARED)]
    lines += [line(who, there) for who in group.contestants]
    words = in_words(there)
    return [*lines, "", f"minigrad graph is {'; '.join(words)}.", ""] if words else [*lines, ""]


def line(who: str, there: dict[str, Cell]) -> str:
    """One contestant."""
    cell = there.get(who)
    if cell is None:
        return f"| {who} | not measured {'| ' * 6}|"
    if "error" in cell:
        return refused(who, cell["error"], 6)
    t, ours = cell["times_us"], cell.get("ours_us", []) if who == OURS else []
    median = " and ".join(f"{o:.1f}" for o in ours) if len(ours) == 2 else f"{statistics.median(t):.1f}"
    difference, ratio = apart(cell, there.get(EAGER)), times_as_fast(there, who)
    agrees = "?" if difference is None else f"{difference:.1e}"
    if difference is not None and not counts(cell, there):
        agrees += " **does not count**"
    name = f"{who} (eagerly: {cell['why']})" if cell.get("why") else who
    losses = ", ".join(f"{loss:.4f}" for loss in cell["losses"])
    spread, shown = f"{min(t):.1f} to {max(t):.1f}", "" if ratio is None or who == OURS else f"{ratio:.2f}"
    columns = (
        name,
        median,
        spread,
        f"{cell['host_us']:.1f}",
        f"{cell['begin_s']:.1f}",
        losses,
        agrees,
        shown,
    )
    return f"| {' | '.join(columns)} |"


# ---- H5


def rates(results: Results) -> list[str]:
    """The rules, GB/s of each contestant, ours as a share of a copy's."""
    there = [cell for key, cell in results.cells.items() if key[0] == "H5"]
    if not there:
        return []
    lines = ["GB/s: the bytes that the rule must move, by the time of a step; in brackets microseconds.", ""]
    return [*lines, *head("rule", RATED), *map(rule, there), ""]


def rule(cell: Cell) -> str:
    """One rule."""
    name = cell["contestant"]
    if "error" in cell:
        return refused(name, cell["error"], 7)
    if OURS in cell["why"]:
        name += f" (eagerly: {cell['why'][OURS]})"
    moved = "" if cell["moved"] is None else str(cell["moved"])
    best = share(cell)
    part = "" if best is None else f"{100 * best:.0f} %"
    peers = [reached(cell, who) for who in ("minigrad", "fused", "foreach", "default")]
    columns = (name, moved, f"{cell['copy']:.0f}", reached(cell, OURS), part, *peers)
    return f"| {' | '.join(columns)} |"


def reached(cell: Cell, who: str) -> str:
    """GB/s, and microseconds of a step."""
    if who not in cell["ms"]:
        return ""
    speed = rate(cell, who)
    time = f"({1e3 * cell['ms'][who]:.0f})" + (" **differs**" if who in cell["differ"] else "")
    return time if speed is None else f"{speed:.0f} {time}"
