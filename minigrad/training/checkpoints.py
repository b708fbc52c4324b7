"""Checkpoints: everything that a run is made of, in one file, and the run goes on as if it had not stopped.

A state is a nest of dictionaries and lists with Tensors in it, as state_dict() gives them. In the file every
Tensor has its path as a name ("optimizer/state/0/exp_avg"), and the nest stands as JSON in the metadata
(minigrad.nest; minigrad.checkpoint: one safetensors file with a SHA-256, complete or not there).

    checkpoints = Checkpoints("runs/a", keep=3)
    parts = dict(model=model, optimizer=optimizer, loader=loader, random=mg.random.default_generator)
    if (found := checkpoints.latest()) is not None:
        restore(parts, found.state, found.path)
    ...
    checkpoints.save(step, state_of(parts))

`latest` takes the newest sound file and says what is wrong with newer ones. A kill at any moment leaves all
files that were there: a new one appears complete, by renaming, before an old one goes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import checkpoint, random
from ..checkpoint import CheckpointError
from ..nest import packed, unpacked
from ..optim.optimizer import Optimizer
from ..tensor import Tensor

KIND = "training state"
BEST = "best.safetensors"
_NAME = re.compile(r"step-(\d{8,})\.safetensors")


@dataclass
class Found:
    """A checkpoint that was read: where, after which step, the state; and what was wrong with newer ones."""

    path: Path
    step: int
    state: dict[str, Any]
    problems: list[str] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of one run: step-00000120.safetensors, ..., and the best weights.

    keep    how many of the last ones stay, from 1; best.safetensors always stays
    """

    def __init__(self, folder: str | Path, keep: int = 3):
        if not isinstance(keep, int) or keep < 1:
            raise ValueError(f"Checkpoints: keep is {keep!r}; it is a positive whole number")
        self.folder, self.keep = Path(folder), keep

    def __repr__(self) -> str:
        return f"Checkpoints({str(self.folder)!r}, keep={self.keep}) with steps {self.steps()}"

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.safetensors"

    def steps(self) -> list[int]:
        """The steps of which there is a file, in order."""
        names = [p.name for p in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(int(found[1]) for found in map(_NAME.fullmatch, names) if found)

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write the state after `step` steps; then, and not before, files older than the last `keep` go."""
        tensors, nest = packed(state)
        checkpoint.save(self.path(step), tensors, dict(kind=KIND, step=step, state=nest))
        for old in self.steps()[: -self.keep]:
            self.path(old).unlink(missing_ok=True)
        return self.path(step)

    def save_best(self, weights: Mapping[str, Any], meta: Mapping[str, Any]) -> Path:
        """Write the weights that a run is remembered by, under their own names, with `meta`."""
        checkpoint.save(self.folder / BEST, weights, meta)
        return self.folder / BEST

    def latest(self) -> Found | None:
        """The newest sound checkpoint, None if there is none at all.

        CheckpointError where there are some and each is damaged: to begin anew would overwrite them.
        """
        problems: list[str] = []
        for step in reversed(self.steps()):
            try:
                found = read(self.path(step))
            except CheckpointError as error:
                problems.append(str(error))
            else:
                found.problems = problems
                return found
        if problems:
            raise CheckpointError("no sound checkpoint:\n    " + "\n    ".join(problems))
        return None

    def forget_after(self, step: int) -> None:
        """Remove checkpoints of later steps: a run that goes on from `step` makes them again.

        What a killed save left half-written goes too.
        """
        for later in self.steps():
            if later > step:
                self.path(later).unlink(missing_ok=True)
        for pattern in (".step-*.tmp", f".{BEST}.*.tmp"):
            for half in self.folder.glob(pattern):
                with contextlib.suppress(OSError):
                    half.unlink()


def read(path: str | Path) -> Found:
    """A checkpoint that Checkpoints.save wrote, or the latest one of a folder. CheckpointError."""
    path = Path(path)
    if path.is_dir():
        found = Checkpoints(path).latest()
        if found is None:
            raise CheckpointError(f"{path}: a folder without a checkpoint (step-*.safetensors)")
        return found
    tensors, meta = checkpoint.load(path)
    if meta.get("kind") != KIND:
        raise CheckpointError(
            f"{path}: weights only, no state to go on from; --init takes it, --resume does not"
        )
    try:
        state = unpacked(meta["state"], tensors)
        return Found(path, int(meta["step"]), {str(k): v for k, v in state.items()})
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its state cannot be read ({type(error).__name__}: {error})") from None


def weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(weights by name, what is said of them) of best.safetensors, or of a checkpoint of train.py."""
    tensors, meta = checkpoint.load(path)
    if meta.get("kind") != KIND:
        return tensors, meta
    state = read(path).state
    if not isinstance(state.get("model"), dict):
        raise CheckpointError(f"{path}: a checkpoint without a 'model'")
    return state["model"], state.get("about", {})


# ------------------------------------------------------------------------------------- the state of objects


@contextlib.contextmanager
def at_rest(*optimizers: Any) -> Iterator[None]:
    """The parameters are what was learnt: to evaluate, to save, to load.

    Rules that train somewhere else (Schedule-Free) are put into eval mode, and back to the bit afterwards;
    what has no such modes, and what is no optimizer, is left alone.
    """
    moved: list[Any] = [o for o in optimizers if isinstance(o, Optimizer) and hasattr(o, "eval")]
    for o in moved:
        o.eval()
    try:
        yield
    finally:
        for o in moved:
            o.train()


def state_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> copy of the state of each object: its state_dict(), or get_state() of a random generator."""
    with at_rest(*parts.values()):
        return {
            name: owned(part.get_state() if isinstance(part, random.Generator) else part.state_dict())
            for name, part in parts.items()
        }


def restore(parts: Mapping[str, Any], state: Mapping[str, Any], label: Any = "the state") -> None:
    """Load each object's part of a state, in the order given: all of it, or nothing.

    CheckpointError names what is missing or does not fit; then every object is as it was before.
    """
    missing = [name for name in parts if name not in state]
    if missing:
        raise CheckpointError(f"{label}: holds no {' and no '.join(missing)}; it has {', '.join(state)}")
    former = state_of(parts)
    touched: list[str] = []
    try:
        with at_rest(*parts.values()):
            for name, part in parts.items():
                touched.append(name)
                _same_types(former[name], state[name])
                _load(part, state[name])
    except Exception as error:  # whatever a state that does not fit makes an object raise
        with at_rest(*parts.values()):
            for name in touched:
                _load(parts[name], former[name])
        what = (
            str(error)
            if isinstance(error, (ValueError, RuntimeError))
            else f"{type(error).__name__}: {error}"
        )
        raise CheckpointError(
            f"{label}: its {touched[-1]} does not fit, nothing was changed: {what}"
        ) from error


def _load(part: Any, state: Any) -> None:
    if isinstance(part, random.Generator):
        part.set_state(state)
    else:
        part.load_state_dict(state)


def _same_types(ours: Any, theirs: Any) -> None:
    """ValueError for a named Tensor that was saved in another type: a copy would round it."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for name, t in ours.items():
            other = theirs.get(name)
            if isinstance(t, Tensor) and isinstance(other, Tensor) and t.dtype is not other.dtype:
                raise ValueError(f"{name} is {other.dtype.name} in the file, {t.dtype.name} here")


def owned(state: Any) -> Any:
    """A copy of a nest in which no Tensor shares memory with the original."""
    if isinstance(state, Tensor):
        return Tensor(state.array.copy())
    if isinstance(state, Mapping):
        return {k: owned(v) for k, v in state.items()}
    return type(state)(map(owned, state)) if isinstance(state, (list, tuple)) else state
