"""What is being captured: the recorder that the doors between host and device ask."""

from __future__ import annotations

import threading
from typing import Any

_local = threading.local()


def current() -> Any:
    """The recorder of the step that this thread is capturing; None almost always."""
    return getattr(_local, "recorder", None)
