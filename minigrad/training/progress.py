"""Progress: where a run is, as a part of its checkpoints."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..tensor import Tensor

HOPELESS = 20  # steps skipped in a row that end a run; float16 finds its scale in fewer


@dataclasses.dataclass
class Progress:
    """Where a run is: steps made, those skipped of them, and how many of these in a row just now; the best
    score so far and its weights; the losses since the last line of the log."""

    device: str
    step: int = 0
    skipped: int = 0
    row: int = 0
    best: float | None = None
    best_step: int = 0
    weights: dict[str, Tensor] | None = None
    losses: list[Tensor] = dataclasses.field(default_factory=list)  # they stay on the device

    def state_dict(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "device"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        losses = [t.to(self.device) for t in state["losses"]]
        vars(self).update({k: state[k] for k in self.state_dict()} | dict(losses=losses))
