"""Which work runs when, in this process: four verbs, which a fleet's engine has as well.

`enqueue` asks for work, `every` repeats it, one key is worked on by one thread at a time, and `run` does the work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from nel_mesh.io.clock import Clock

Work = Callable[[], object]


class Runner(Protocol):
    """Runs work, each key's one after another."""

    def enqueue(self, key: str, work: Work) -> None:
        """Have work done soon. Of a key that waits already, it is done once; of one that is running, once more."""

    def every(self, seconds: float, work: Work) -> None:
        """Do short work again and again, in the thread of `run`."""

    def run(self, is_over: Callable[[], bool]) -> None:
        """Work until it is over, then wait for what is running."""


class ThreadRunner:
    """Runs work in threads of this process.

    Args:
        workers: how many keys are worked on at once.
        clock: where time comes from.
        on_bug: called with an error that some work raised.
    """

    def __init__(self, workers: int, clock: Clock, on_bug: Callable[[str, Exception], object]) -> None:
        self._clock = clock
        self._on_bug = on_bug
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="agent")
        self._guard = threading.Lock()
        self._running: set[str] = set()
        self._again: dict[str, Work] = {}
        self._repeated: list[tuple[float, Work]] = []
        self._wake = threading.Event()
        self._is_closed = False

    def enqueue(self, key: str, work: Work) -> None:
        """Have work done soon."""
        with self._guard:
            if self._is_closed:
                return
            if key in self._running:
                self._again[key] = work
                return
            self._running.add(key)
        self._threads.submit(self._work, key, work)

    def every(self, seconds: float, work: Work) -> None:
        """Do short work again and again."""
        self._repeated.append((seconds, work))

    def wake(self) -> None:
        """Do what is repeated now, not at its time."""
        self._wake.set()

    def run(self, is_over: Callable[[], bool]) -> None:
        """Work until it is over, then wait for what is running."""
        due = [0.0] * len(self._repeated)
        try:
            while not is_over():
                is_woken = self._wake.is_set()
                self._wake.clear()
                for number, (seconds, work) in enumerate(self._repeated):
                    if is_woken or self._clock.monotonic() >= due[number]:
                        self._do("repeated", work)
                        due[number] = self._clock.monotonic() + seconds
                wait = min(due, default=1.0) - self._clock.monotonic()
                if not is_over():
                    self._wake.wait(max(0.01, min(wait, 1.0)))
        finally:
            with self._guard:
                self._is_closed = True
                self._again.clear()
            self._threads.shutdown(wait=True)

    def _work(self, key: str, work: Work) -> None:
        self._do(key, work)
        with self._guard:
            following = self._again.pop(key, None)
            if following is None or self._is_closed:
                self._running.discard(key)
                return
        self._threads.submit(self._work, key, following)

    def _do(self, key: str, work: Work) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - one mailbox's bug must not stop the others
            self._on_bug(key, error)
