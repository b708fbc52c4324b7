"""H5: every elementwise optimizer, over one vector: the bytes that its step must move, by the time it takes.

The bytes are those of the rule's record (`python -m minigrad.optim`), for minigrad and for PyTorch: so a form
that moves more, as one without a fused kernel does, shows a lower rate. Contestants alternate block by block
in one process. Parameters must agree after five steps. A copy's rate is measured in the same process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from contest import Contest, bandwidth, waiting
from race import medians, race

import minigrad as mg

from .measure import Plan


def rules() -> list[str]:
    """The elementwise rules that need a gradient and nothing else."""
    return [r.name for r in mg.optim.zoo.values() if r.kind == "elementwise" and not r.needs]


def measured(names: list[str], elements: int, where: str, plan: Plan) -> Iterator[dict[str, Any]]:
    """A rule after the other: ms of each contestant, bytes moved, GB/s of a copy."""
    copy = bandwidth(elements, where, plan.steps, plan.windows)["copy"]
    for name in names:
        try:
            contest = Contest(name, [(elements,)], where)
            steps = contest.steps()
            differ = contest.differing(steps)
            times = race(steps, plan.steps, plan.windows, waiting(where))
            why = {who: step.why for who, step in steps.items() if getattr(step, "why", "")}
            bytes_moved = mg.optim.zoo[name].moved_bytes
            yield dict(rule=name, ms=medians(times), times_ms=times, moved=bytes_moved, elements=elements,
                       copy=copy, differ=differ, why=why)  # fmt: skip
        except Exception as error:
            yield dict(rule=name, error=f"{type(error).__name__}: {error}"[:300])
