"""minigrad.amp with the device "cuda" filled in: the names of torch.cuda.amp."""

from __future__ import annotations

from typing import Any

from .. import amp
from ..backend import float16


class autocast(amp.autocast):
    """amp.autocast("cuda", ...)"""

    def __init__(self, enabled: bool = True, dtype: Any = float16, cache_enabled: bool = True):
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """amp.GradScaler("cuda", ...)"""

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        super().__init__("cuda", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
