"""What may be said of the cells: whose time counts, how many times as fast, which claims are met.

No time counts whose losses are not PyTorch eager's. Ratios are of runs in one command, by the slower of our
two beside the other.
"""

from __future__ import annotations

import statistics
from typing import Any

from .results import Results
from .table import AGREE, CLAIMS, EAGER, GROUPS, OURS, REDUCED, Claim, Group

Cell = dict[str, Any]


def cells(results: Results, group: Group, size: int) -> dict[str, Cell]:
    """By contestant, those that are there."""
    found = {c: results.get(group.row, group.kind, group.precision, size, c) for c in group.contestants}
    return {who: cell for who, cell in found.items() if cell is not None}


def apart(cell: Cell, reference: Cell | None) -> float | None:
    """How far its losses are from PyTorch eager's, relative; None where one of them did not run."""
    if reference is None or "losses" not in cell or "losses" not in reference:
        return None
    pairs = zip(cell["losses"], reference["losses"], strict=True)
    return max([abs(a - b) / abs(b) if a == a else float("inf") for a, b in pairs])


def counts(cell: Cell, there: dict[str, Cell]) -> bool:
    """Whether its time counts: its losses are PyTorch eager's."""
    difference = apart(cell, there.get(EAGER))
    return difference is not None and difference <= AGREE


def times_as_fast(there: dict[str, Cell], who: str, ours: str = OURS) -> float | None:
    """Its time by ours; None where one of the two did not run, or does not count, or ran eagerly instead."""
    cell, mine = there.get(who, {}), there.get(ours, {})
    if not counts(cell, there) or not counts(mine, there) or mine["why"]:
        return None
    beside = cell.get("ours_us", []) if ours == OURS else [statistics.median(mine["times_us"])]
    return statistics.median(cell["times_us"]) / max(beside) if beside else None


def in_words(there: dict[str, Cell]) -> list[str]:
    """How fast ours is, beside eager, reduce-overhead, and the strongest of PyTorch and of all."""
    peers = {who: times_as_fast(there, who) for who in there if not who.startswith("minigrad")}
    known = {who: ratio for who, ratio in peers.items() if ratio is not None}
    words = [f"{known[who]:.2f} x as fast as {who}" for who in (EAGER, REDUCED) if who in known]
    for named, among in (("PyTorch configuration", "torch"), ("peer", "")):
        if those := [who for who in known if who.startswith(among)]:
            strongest = min(those, key=lambda who: known[who])
            words.append(f"{known[strongest]:.2f} x as fast as the strongest {named}, {strongest}")
    return words


def faster(results: Results, group: Group) -> list[str]:
    """Up to which batch size ours is the faster one; empty where that is not measured."""
    found = []
    for peer in (EAGER, REDUCED):
        ratios = {n: times_as_fast(cells(results, group, n), peer) for n in group.sizes}
        if None in ratios.values():
            continue
        first = next((k for k, n in enumerate(group.sizes) if ratios[n] <= 1), len(group.sizes))
        where = f"at batch <= {group.sizes[first - 1]}" if first else "at none of these batch sizes"
        found.append(f"faster than {peer} {where}")
    return [f"In {group.precision} minigrad graph is {', '.join(found)}.", ""] if found else []


def rate(cell: Cell, who: str) -> float | None:
    """GB/s of an optimizer, by the bytes of the rule's record."""
    if cell.get("moved") is None or who not in cell.get("ms", {}):
        return None
    return cell["moved"] * cell["elements"] / cell["ms"][who] / 1e6


def share(cell: Cell) -> float | None:
    """Our captured step's GB/s, as a share of a copy's in the same process."""
    speed = rate(cell, OURS)
    return None if speed is None or cell["differ"] else speed / cell["copy"]


# ---- claims


def judged(results: Results, row: str) -> list[str]:
    """The claims on a row, a line each: met or missed, by which figures."""
    return [verdict(results, claim) for claim in CLAIMS if claim.row == row]


def verdict(results: Results, claim: Claim) -> str:
    found = measured(results, claim)
    known = [value for value in found.values() if value is not None]
    goal = f"{claim.ours} at least {claim.times} x as fast as {claim.peer}"
    if claim.row == "H5":
        goal = f"every rule at least {100 * claim.times:.0f} % of the GB/s of {claim.peer}"
    if not known:
        return f"- {goal}: **not measured**"
    met = all(value >= claim.times for value in known)
    word = "missed" if not met else "met" if len(known) == len(found) else "met so far"
    shown = ", ".join(f"{where} {'?' if value is None else f'{value:.2f}'}" for where, value in found.items())
    return f"- {goal}: **{word}** ({shown})"


def measured(results: Results, claim: Claim) -> dict[str, float | None]:
    """What the claim is about, by where it is to be measured; None where it is not, or does not count."""
    if claim.row == "H5":
        there = [cell for key, cell in results.cells.items() if key[0] == "H5"]
        return {c["contestant"]: share(c) for c in there if c.get("moved", 0) is not None}
    found = {}
    for group in (g for g in GROUPS if g.row == claim.row):
        for size in claim.sizes or group.sizes:
            ratio = times_as_fast(cells(results, group, size), claim.peer, claim.ours)
            found[f"batch {size} {group.precision}"] = ratio
    return found


def problems(results: Results) -> list[str]:
    """What did not run, or does not count, a line each."""
    found = []
    for (*where, who), cell in results.cells.items():
        name = " ".join(map(str, (*where, who)))
        if "error" in cell:
            found.append(f"{name}: {cell['error']}")
        elif cell.get("differ"):
            found.append(f"{name}: other parameters: {', '.join(cell['differ'])}")
        elif "losses" in cell:
            reference = results.get(*where, EAGER) or {}
            if not counts(cell, {EAGER: reference}):
                found.append(f"{name}: losses {cell['losses']}, PyTorch's {reference.get('losses')}")
    return found
