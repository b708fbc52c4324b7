"""Mixed precision: products in a half type, everything that adds up in float32.

    scaler = amp.GradScaler("cuda")
    for x, y in loader:
        with amp.autocast("cuda", dtype=mg.float16):
            loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer, clip=1.0)      # unscales, looks for inf and nan, clips, steps or skips
        scaler.update()
        if not scaler.skipped:                # (after a captured step this waits for the device)
            scheduler.step()                  # schedules count the steps that were taken

The parameters stay float32, the masters; what the products read is their half-precision shadow. float16 has 5
bits of exponent: gradients below 6e-8 would be 0, so the loss is scaled up (grad_scaler.py). bfloat16 has the
exponent of float32 and needs no scaler.
"""

from .autocast_mode import (
    autocast,
    get_autocast_dtype,
    is_autocast_available,
    is_autocast_cache_enabled,
    is_autocast_enabled,
)
from .grad_scaler import GradScaler
