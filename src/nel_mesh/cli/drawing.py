"""The bar as rich draws it. Imported only when there is one to be seen."""

from __future__ import annotations

from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from nel_mesh.cli.output import size
from nel_mesh.cli.progress import Bar


class Drawing:
    """A bar on stderr, redrawn until it is stopped; it leaves nothing behind."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            DownloadColumn(),
            _Pace(bar),
            console=Console(stderr=True),
            transient=True,
            expand=True,
        )
        self._task = self._progress.add_task(bar.label, total=bar.total, completed=bar.done)
        self._progress.start()

    def update(self) -> None:
        """Takes note of how far the transfer has come."""
        self._progress.update(self._task, completed=self._bar.done, total=self._bar.total)

    def stop(self) -> None:
        """Wipes it out."""
        self._progress.stop()


class _Pace(ProgressColumn):
    """Speed and time left, over the whole transfer: rich's own forgets what was before the bar appeared."""

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self._bar = bar

    def render(self, task: Task) -> Text:
        speed, left = self._bar.bytes_per_second(), self._bar.seconds_left()
        words = "" if speed is None else f"{size(round(speed))}/s"
        if left is not None:
            words += f", {timedelta(seconds=round(left))} left"
        return Text(words, style="progress.remaining", no_wrap=True)
