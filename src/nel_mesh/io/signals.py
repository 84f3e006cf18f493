"""Signals that ask the process to stop: Ctrl-C, SIGTERM and, on Windows, Ctrl-Break."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

_LOOK_SECONDS = 0.5


@contextlib.contextmanager
def told_to_stop() -> Iterator[Callable[[], None]]:
    """Yield a function that waits until this process is asked to stop. Meanwhile the signals do nothing else.

    To be used in the main thread only.
    """
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in _numbers()}
    try:
        yield lambda: _wait(stopped)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _numbers() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _wait(stopped: threading.Event) -> None:
    # On Windows no signal is heard during a wait, so there it is many short ones.
    while not stopped.wait(_LOOK_SECONDS if os.name == "nt" else None):
        pass
