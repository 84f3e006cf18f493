"""A clock that can be moved on, so that a test sees in no time what takes MESH days."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta


class MovableClock:
    """The present time of another clock, plus what it has been moved on by. Calling it gives the time.

    Args:
        base: the clock that it is ahead of, with its time zone.
    """

    def __init__(self, base: Callable[[], datetime]) -> None:
        self._base = base
        self._ahead = timedelta()
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        return self._base() + self._ahead

    def advance(self, by: timedelta) -> None:
        """Moves the clock on. Raises ValueError for a time that is negative."""
        if by < timedelta():
            raise ValueError("by: a clock cannot be moved back")
        with self._lock:
            self._ahead += by

    def reset(self) -> None:
        """Puts it back to the clock that it is made from."""
        with self._lock:
            self._ahead = timedelta()
