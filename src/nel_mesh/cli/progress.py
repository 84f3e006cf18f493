"""A progress bar for a transfer that takes over a second: bytes, speed and time left."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nel_mesh.cli.text import size

if TYPE_CHECKING:
    from rich.progress import Progress

SHOW_AFTER_SECONDS = 1.0
"""A shorter transfer needs no bar."""


class Bar:
    """A progress bar on stderr. Call it, from any thread, with the bytes done and, if known, the total."""

    def __init__(self, label: str, *, enabled: bool) -> None:
        self._enabled = enabled
        self._label = label
        self._done = 0
        self._total: int | None = None
        self._start: tuple[float, int] | None = None
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._task: Any = None
        self._ended = False
        self._timer = threading.Timer(SHOW_AFTER_SECONDS, self._show)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        if self._enabled:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._ended = True
            if self._progress:
                self._progress.stop()

    def __call__(self, done: int, total: int | None = None) -> None:
        if self._start is None:
            # The bytes of an earlier run say nothing about the speed of this one.
            self._start = (time.monotonic(), done)
        self._done, self._total = done, total
        if self._progress:
            self._progress.update(self._task, completed=done, total=total)

    def speed(self) -> str:
        """The speed over the whole transfer, and the time left; empty as long as neither is known."""
        if self._start is None:
            return ""
        since, before = self._start
        seconds, transferred = time.monotonic() - since, self._done - before
        if seconds <= 0 or transferred <= 0:
            return ""
        bytes_per_second = transferred / seconds
        text = f"{size(round(bytes_per_second))}/s"
        if self._total is None:
            return text
        return f"{text}, {timedelta(seconds=round((self._total - self._done) / bytes_per_second))} left"

    def _show(self) -> None:
        # Imported only when there is a bar to be seen: it takes a while.
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, Task, TextColumn
        from rich.text import Text

        class SpeedColumn(ProgressColumn):
            """As rich's own, which forgets the time before the bar appeared."""

            def render(column, task: Task) -> Text:  # noqa: N805 - `self` is the bar
                return Text(self.speed(), style="progress.remaining", no_wrap=True)

        with self._lock:
            if self._ended:
                return
            progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                DownloadColumn(),
                SpeedColumn(),
                console=Console(stderr=True),
                transient=True,
                expand=True,
            )
            self._task = progress.add_task(self._label, total=self._total, completed=self._done)
            progress.start()
            self._progress = progress
