"""A bar for a transfer that takes over a second: how much, how fast, how long to go."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from nel_mesh.cli.drawing import Drawing

PATIENCE_IN_SECONDS = 1.0
"""What is over sooner needs no bar."""


class Bar:
    """Call it with the bytes done and, if known, the bytes in all; from any thread."""

    def __init__(self, label: str, *, shown: bool) -> None:
        self.wanted = shown
        """Whether anybody looks."""
        self.label = label
        self.done = 0
        self.total: int | None = None
        self._first: tuple[float, int] | None = None
        self._lock = threading.Lock()
        self._drawing: Drawing | None = None
        self._ended = False
        self._timer = threading.Timer(PATIENCE_IN_SECONDS, self._show)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        if self.wanted:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._ended = True
            if self._drawing:
                self._drawing.stop()

    def __call__(self, done: int, total: int | None = None) -> None:
        if self._first is None:
            # What an earlier run transferred says nothing of this one's speed.
            self._first = (time.monotonic(), done)
        self.done, self.total = done, total
        if self._drawing:
            self._drawing.update()

    def bytes_per_second(self) -> float | None:
        """How fast it has been so far; None if that cannot be said yet."""
        if self._first is None:
            return None
        since, before = self._first
        seconds = time.monotonic() - since
        return (self.done - before) / seconds if seconds > 0 and self.done > before else None

    def seconds_left(self) -> float | None:
        """How long it still takes at that speed; None if that cannot be said."""
        speed = self.bytes_per_second()
        return None if speed is None or self.total is None else (self.total - self.done) / speed

    def _show(self) -> None:
        from nel_mesh.cli.drawing import Drawing

        with self._lock:
            if not self._ended:
                self._drawing = Drawing(self)
