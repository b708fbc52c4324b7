"""Interrupt: a run that is asked to stop finishes its step, saves, and tells how to go on.

    with Interrupt() as asked:
        for step in range(steps):
            ...
            if asked.signal:
                save()
                asked.leave("go on with ...")

SIGINT (Ctrl-C) and SIGTERM (what `kill` and batch systems send) only raise a flag, which the loop reads where
it can stop. A second signal ends the process at once, also in the middle of a save: files are complete or
not there. The exit code is 128 + the signal's number, the shell's convention: 130 and 143.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """While it is entered, `signal` is None, or the first signal that came.

    It does nothing in threads other than the main one: Python hands out signals there."""

    signal: signal.Signals | None = None

    def __enter__(self) -> Interrupt:
        self.signal, self._former = None, {}
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._raised) for number in SIGNALS}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _raised(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)  # no clean-up: whoever asks twice does not want to wait
        self.signal = signal.Signals(number)

    def leave(self, message: str) -> NoReturn:
        """One line on stderr, and exit with 128 + the signal's number."""
        assert self.signal is not None
        print(message, file=sys.stderr)
        raise SystemExit(128 + self.signal)
