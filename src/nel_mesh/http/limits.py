"""Limits of time: of one wait, of several steps together, and of a transfer that goes too slowly."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol


class Wait(NamedTuple):
    """How long one wait may take, and what the error says if it takes longer."""

    seconds: float
    message: str


class Limit(Protocol):
    """Decides how long the next wait may take."""

    def next_wait(self) -> Wait:
        """Return the limit of the next wait. Raise TimeoutError if there is no time left."""

    def count(self, length: int) -> None:
        """Note that so many bytes were transferred since `next_wait`."""


class EachWait:
    """The same limit for every wait, however many there are."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait

    def next_wait(self) -> Wait:
        """As `Limit.next_wait`."""
        return self._wait

    def count(self, length: int) -> None:
        """As `Limit.count`."""


class Deadline:
    """One limit for several waits together; `each`, if given, limits every single one as well."""

    def __init__(self, wait: Wait, each: Wait | None = None) -> None:
        self._end = time.monotonic() + wait.seconds
        self._message = wait.message
        self._each = each

    def next_wait(self) -> Wait:
        """As `Limit.next_wait`."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError(self._message)
        if self._each is not None and self._each.seconds < seconds:
            return self._each
        return Wait(seconds, self._message)

    def count(self, length: int) -> None:
        """As `Limit.count`."""


class Pace:
    """A limit for every wait, and the lowest speed over all waits within a window of time.

    Only time spent waiting counts: a caller who takes long over each block is not a slow network.
    """

    def __init__(self, each: Wait, bytes_per_second: float, window_seconds: float) -> None:
        self._each = each
        self._speed = bytes_per_second
        self._window = max(window_seconds, each.seconds)
        self._began = 0.0
        self._waited = 0.0
        self._length = 0

    def next_wait(self) -> Wait:
        """As `Limit.next_wait`."""
        if self._waited >= self._window:
            if self._length < self._speed * self._waited:
                raise TimeoutError(f"slower than {self._speed:g} bytes a second (min_bytes_per_second)")
            self._waited, self._length = 0.0, 0
        self._began = time.monotonic()
        return self._each

    def count(self, length: int) -> None:
        """As `Limit.count`."""
        self._waited += time.monotonic() - self._began
        self._length += length
