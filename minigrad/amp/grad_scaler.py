"""`GradScaler`: the loss times a scale, so that small gradients do not vanish in float16.

    loss' = scale loss,   g = g' / scale      exact but for what leaves the range: scale is a power of two
    inf or nan in g': skip the step,  scale <- backoff scale
    growth_interval good steps in a row:  scale <- growth scale      [Micikevicius et al. 2018, section 3.2]

Scale, count of good steps and the flag found_inf live on the device. Unscaling an optimizer is one launch
over the arena's gradients, which looks for inf and nan as well, and a small one that makes one flag of it.
`step` reads that flag: the one host read. A skipped step touches nothing: no parameter, no state, no step
count, no hook; `skipped` says so, and who counts steps for a schedule leaves that one out.

In a captured step (minigrad/graph) nothing is read: the optimizer's kernels look at the flag themselves, and
its scalars stay at their row. Then `skipped` reads when it is asked for, and the optimizer's step counts are
corrected when somebody wants them.

Which gradients are scaled is known exactly: the backward pass of a scaled loss marks those that it adds to,
`unscale_` takes the mark away. Clipping refuses marked ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from enum import Enum
from typing import Any

import numpy as np

from kernels.cuda import graph
from kernels.scaling import UPDATE_SCALE
from kernels.tick import HOLD

from ..backend import (
    Array,
    cuda_is_available,
    device_of,
    float16,
    full,
    on_device,
    to_device,
    to_host,
    xp_of,
)
from ..nn.utils.clip_grad import clip_grad_norm_
from ..ops.constants import constants
from ..public.promote import cast, result_type
from ..tensor import Tensor
from .scaling import inverse_of, scaled, unscaled


class Stage(Enum):
    """Where an optimizer is between two updates of the scale."""

    READY, UNSCALED, STEPPED = range(3)


class _State:
    """What is known of an optimizer since the last update."""

    def __init__(self) -> None:
        self.stage = Stage.READY
        self.found_inf: Array = None  # (1,), on the scale's device: 0 where all gradients are finite


class GradScaler:
    """Dynamic loss scaling, with PyTorch's dynamics.

        scaler.scale(loss).backward();  scaler.step(optimizer, clip=1.0);  scaler.update()

    device           where the scale lives at last is where the first loss is; "cuda" without a GPU disables
                     the scaler with a warning
    init_scale       the first scale
    growth_factor    > 1, after growth_interval good steps in a row
    backoff_factor   < 1, after a step with inf or nan
    enabled          False: scale() returns what it gets, step() steps

    skipped          whether the last step() left the optimizer as it was; after a captured one it is a read
    found_inf        the same as a 0-d float32 Tensor on the device, not 0 if it did, for a captured step to
                     return
    skips            how many steps were left out, of those that are known; optimizer.settle() knows all
    grad_norm        the total norm before clipping, of the last step(clip=) that clipped; a 0-d Tensor
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        self._device, self._enabled = str(device).partition(":")[0], bool(enabled)
        if self._enabled and self._device == "cuda" and not cuda_is_available():
            warnings.warn(
                "GradScaler is enabled, but CUDA is not available. Disabling.",
                stacklevel=2 + (type(self) is not GradScaler),
            )
            self._enabled = False
        if self._enabled and not growth_factor > 1:
            raise ValueError(f"GradScaler: growth_factor={growth_factor}; it must be > 1")
        if self._enabled and not backoff_factor < 1:
            raise ValueError(f"GradScaler: backoff_factor={backoff_factor}; it must be < 1")
        self._init_scale, self._init_tracker = float(init_scale), 0
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval = growth_interval
        self._scale: Array = None  # float32 (1,), from the first scale() on
        self._inverse: Array = None  # 1 / scale
        self._tracker: Array = None  # float64 (1,): good steps in a row
        self._states: dict[Any, _State] = {}
        self.skips = 0
        self._skipped = False
        self._flag: Array = None  # found_inf of the last step
        self._norm: Tensor | None = None
        self._held: Array = None  # where captured steps put the norm
        self._captured = False  # whether the last step was a captured one

    @property
    def skipped(self) -> bool:
        """Whether the last step() left the optimizer as it was."""
        return bool(to_host(self._flag)[0] != 0) if self._captured else self._skipped

    @property
    def found_inf(self) -> Tensor | None:
        """Not 0 if the last step() left the optimizer as it was; None before the first."""
        return None if self._flag is None else Tensor(self._flag.reshape(()))

    @property
    def grad_norm(self) -> Tensor | None:
        """The total norm before clipping, of the last step(clip=) that clipped."""
        if not self._captured or self._held is None:
            return self._norm
        return Tensor(xp_of(self._held).array(self._held).reshape(()))  # the next step writes there

    # ------------------------------------------------------------------------------------------------ scaling

    def _begin(self, where: Any) -> None:
        """Put the scale on the device of the first loss."""
        self._scale = full((1,), self._init_scale, np.dtype("float32"), where)
        self._inverse = full((1,), inverse_of(self._init_scale), np.dtype("float32"), where)
        self._tracker = full((1,), self._init_tracker, np.dtype("float64"), where)

    def scale(self, outputs: Any) -> Any:
        """outputs times the scale: a Tensor, or a list, tuple or iterable of them."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            if self._scale is None:
                self._begin(outputs.device)
            scale = Tensor(to_device(self._scale, outputs.device).reshape(()))
            d = result_type(outputs, scale)
            return scaled(cast(outputs, d), cast(scale, d))
        if isinstance(outputs, Iterable) and not isinstance(outputs, (str, bytes)):
            found = map(self.scale, outputs)
            return type(outputs)(found) if isinstance(outputs, (list, tuple)) else found
        raise ValueError(
            f"scale: a {type(outputs).__name__}; outputs must be a Tensor or an iterable of Tensors"
        )

    def _state(self, name: str, optimizer: Any) -> _State:
        if self._scale is None:
            raise RuntimeError(
                f"Attempted {name} but _scale is None: scaler.scale(loss) was not called before; is the loss "
                "of this iteration scaled?"
            )
        return self._states.setdefault(optimizer, _State())

    def unscale_(self, optimizer: Any) -> None:
        """Divide the optimizer's gradients by the scale, in place: to look at them, or to clip them.

        Once between two updates, after the last backward of a step. Reads nothing back.
        """
        if not self._enabled:
            return
        state = self._state("unscale_", optimizer)
        if state.stage is Stage.UNSCALED:
            raise RuntimeError(
                "unscale_() has already been called on this optimizer since the last update()."
            )
        if state.stage is Stage.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if any(p.grad.dtype is float16 for p in params):
            raise ValueError(
                "Attempting to unscale FP16 gradients. They have lost already what scaling is to keep: leave "
                "the parameters in float32, autocast casts them"
            )
        state.found_inf = unscaled(params, self._inverse)
        for p in params:
            p.grad.touch()
            if p.grad.scaled:
                p.grad.scaled = False
        state.stage = Stage.UNSCALED

    # ----------------------------------------------------------------------------------------------- stepping

    def step(self, optimizer: Any, *args: Any, clip: float | None = None, **kwargs: Any) -> Any:
        """Unscale (unless unscale_ did), then optimizer.step(...) if all gradients are finite.

        clip     first clip_grad_norm_ the optimizer's gradients to this total norm: unscale, clip, step, in
                 the only order that is right

        Returns what optimizer.step returns, None for a step that was skipped. Reads the flag: the one wait
        for the device.
        """
        if not self._enabled:
            self._clip(optimizer, clip)
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs or any(callable(a) for a in args):
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        state = self._state("step", optimizer)
        if state.stage is Stage.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if state.stage is Stage.READY:
            self.unscale_(optimizer)
        if state.found_inf is None:
            raise RuntimeError(
                "No inf checks were recorded for this optimizer: none of its parameters has a gradient"
            )
        result, self._flag = None, state.found_inf
        recorder = graph.current()
        self._captured = recorder is not None and on_device(state.found_inf)
        if self._captured:
            recorder.scalers[self] = None
            self._clip(optimizer, clip)
            with recorder.leaving_out(self, optimizer, state.found_inf):
                self._hold(clip)
                result = optimizer.step(*args, **kwargs)
        else:
            self._skipped = bool(to_host(state.found_inf)[0])
            self.skips += self._skipped
            if not self._skipped:
                self._clip(optimizer, clip)
                result = optimizer.step(*args, **kwargs)
        state.stage = Stage.STEPPED
        return result

    def _hold(self, clip: float | None) -> None:
        """Keep the norm where the next captured step finds it, if this one is taken."""
        if clip is None or self._norm is None:
            return
        norm = self._norm.array.reshape(1)
        if self._held is None or (self._held.dtype, device_of(self._held)) != (norm.dtype, device_of(norm)):
            self._held = full((1,), np.nan, norm.dtype, device_of(norm))
        HOLD(norm, self._held)

    def _clip(self, optimizer: Any, clip: float | None) -> None:
        if clip is not None:
            params = [p for group in optimizer.param_groups for p in group["params"]]
            self._norm = clip_grad_norm_(params, clip)

    def update(self, new_scale: Any = None) -> None:
        """The scale of the next iteration, from what this one found; or new_scale. Reads nothing back.

        At the end of an iteration, after all its optimizers' steps.
        """
        if not self._enabled:
            return
        if self._scale is None:
            raise RuntimeError(
                "Attempted update but _scale is None: scaler.scale(loss) was not called before"
            )
        recorder = graph.current()
        if recorder is not None:
            recorder.scalers[self] = None
        if new_scale is not None:
            graph.refuse("GradScaler.update is given a scale")
            self._set(new_scale)
        else:
            flags = [s.found_inf for s in self._states.values() if s.found_inf is not None]
            if not flags:
                raise RuntimeError(
                    "No inf checks were recorded prior to update: call step(optimizer) or unscale_(optimizer)"
                )
            found = flags[0]
            for flag in flags[1:]:
                found = found + flag
            numbers = (float(self._growth_factor), float(self._backoff_factor), float(self._growth_interval))
            scalars = constants(UPDATE_SCALE, self._tracker, numbers)
            UPDATE_SCALE(found, self._scale, self._inverse, self._tracker, scalars=scalars)
        self._states = {}

    def _set(self, new_scale: Any) -> None:
        """Take over a scale: a number, or a Tensor of one element, which is copied."""
        if isinstance(new_scale, Tensor):
            if new_scale.array.size != 1 or new_scale.requires_grad or not new_scale.dtype.is_floating_point:
                raise ValueError(
                    f"update: new_scale is {new_scale.dtype.name}{list(new_scale.shape)}; it is a float, or "
                    "a floating Tensor of one element that requires no gradient"
                )
            value = to_device(new_scale.array, device_of(self._scale)).reshape(1)
            self._scale[...] = value
            self._inverse[...] = np.float64(1) / self._scale.astype(np.float64)
        else:
            self._scale.fill(np.float32(new_scale))
            self._inverse.fill(inverse_of(new_scale))

    # ---------------------------------------------------------------------------------------- captured steps

    def between(self) -> bool:
        """Whether an optimizer was unscaled or stepped since the last update()."""
        return bool(self._states)

    def options(self) -> tuple:
        """What is the same at every replay of a captured step."""
        return (
            self._growth_factor,
            self._backoff_factor,
            self._growth_interval,
            id(self._scale),
            self._enabled,
        )

    def saying(self) -> tuple:
        """What a step leaves here on the host."""
        return self._flag, self._norm, self._held, self._captured, dict(self._states)

    def said(self, left: tuple) -> None:
        """Be as a step, captured before, would leave it."""
        self._flag, self._norm, self._held, self._captured, states = left
        self._states = dict(states)

    # -------------------------------------------------------------------------------------------------- state

    def get_scale(self) -> float:
        """The scale, 1 if disabled. Reads the device."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else float(to_host(self._scale)[0])

    def get_growth_factor(self) -> float:
        """What the scale grows by."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what the scale grows by."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale shrinks by."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what the scale shrinks by."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """After how many good steps in a row the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set after how many good steps in a row the scale grows."""
        self._growth_interval = new_interval

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        return self._init_tracker if self._tracker is None else int(to_host(self._tracker)[0])

    def is_enabled(self) -> bool:
        """Whether it scales at all."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """Scale, factors, interval and count of good steps, as numbers; {} if disabled. After update()."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._get_growth_tracker(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state_dict(), PyTorch's own too; without effect if disabled."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled instance of "
                "GradScaler."
            )
        names = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")
        if missing := [n for n in names if n not in state_dict]:
            raise ValueError(f"GradScaler.load_state_dict: no {', '.join(missing)} in {list(state_dict)}")
        scale, growth, backoff, interval, tracker = (state_dict[n] for n in names)
        self._init_scale, self._init_tracker = float(scale), int(tracker)
        self._growth_factor, self._backoff_factor, self._growth_interval = growth, backoff, interval
        if self._scale is not None:
            self._set(self._init_scale)
            self._tracker.fill(self._init_tracker)

    def __getstate__(self) -> dict[str, Any]:
        if self._states:
            raise RuntimeError(
                "A GradScaler instance may only be pickled at the beginning of an iteration, or at the end "
                "after scaler.update()."
            )
        numbers = dict(_init_scale=self.get_scale(), _init_tracker=self._get_growth_tracker())
        arrays = ("_scale", "_inverse", "_tracker", "_flag", "_norm", "_held")
        return self.__dict__ | numbers | dict.fromkeys(arrays) | dict(_captured=False)
