"""Notice at once when a file is put into a folder on this machine; shares are only noticed by looking."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from watchfiles import watch

_LOOK_AGAIN_SECONDS = 30.0


class FolderWatch:
    """Calls a function when something changes in folders. A context manager.

    Args:
        folders: returns the folders; asked again now and then, as the configuration may change.
        wake: called at a change.
    """

    def __init__(self, folders: Callable[[], list[Path]], wake: Callable[[], object]) -> None:
        self._folders = folders
        self._wake = wake
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="folder watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            there = [folder for folder in self._folders() if folder.is_dir()]
            if not there:
                self._stop.wait(1)
                continue
            try:
                for _ in watch(
                    *there,
                    stop_event=self._stop,
                    recursive=False,
                    step=20,
                    debounce=100,
                    rust_timeout=int(_LOOK_AGAIN_SECONDS * 1000),
                    yield_on_timeout=True,
                    raise_interrupt=False,
                ):
                    self._wake()
                    if {*there} != {folder for folder in self._folders() if folder.is_dir()}:
                        break
            except OSError:
                # The limit of watches is reached, or a folder went: then it is looked at once a second, and no more.
                self._stop.wait(_LOOK_AGAIN_SECONDS)
