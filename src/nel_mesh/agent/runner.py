"""Which work runs when, in this process: four verbs, which a fleet's engine has as well.

`enqueue` asks for tasks, `every` repeats short work, of one kind and subject one task runs at a time, and `run` does
them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple, Protocol

from nel_mesh.io.clock import Clock


class Task(NamedTuple):
    """Something to be done, by names: in a fleet another machine may do it.

    Attributes:
        kind: what is to be done, such as `visit`.
        subject: to what, such as a mailbox id.
        is_local: whether only this machine can do it.
    """

    kind: str
    subject: str = ""
    is_local: bool = False

    @property
    def key(self) -> str:
        """What only one thread works on at a time."""
        return f"{self.kind} {self.subject}".strip()


Do = Callable[[Task], object]


class Runner(Protocol):
    """Does tasks, those of one key one after another."""

    def enqueue(self, tasks: Iterable[Task]) -> None:
        """Have tasks done soon. One that waits already is done once; one that is running, once more."""

    def every(self, seconds: float, work: Callable[[], object]) -> None:
        """Do short work again and again, in the thread of `run`."""

    def wake(self) -> None:
        """Do what is repeated now, not at its time. Not for a signal handler."""

    def running(self) -> dict[str, datetime]:
        """Return the keys of the tasks that run in this process, and since when."""

    def run(self, is_over: Callable[[], bool]) -> None:
        """Work until it is over, then wait for what is running."""


class ThreadRunner:
    """Does tasks in threads of this process.

    Args:
        workers: how many are done at once.
        clock: where time comes from.
        do: does one.
        on_error: called with the key of a task, and the error that it raised.
    """

    def __init__(self, workers: int, clock: Clock, do: Do, on_error: Callable[[str, Exception], object]) -> None:
        self._clock = clock
        self._do_task = do
        self._on_error = on_error
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="agent")
        self._guard = threading.Lock()
        self._running: dict[str, datetime | None] = {}
        self._again: dict[str, Task] = {}
        self._repeated: list[tuple[float, Callable[[], object]]] = []
        self._wake = threading.Event()
        self._is_closed = False

    def enqueue(self, tasks: Iterable[Task]) -> None:
        """Have tasks done soon."""
        for task in tasks:
            with self._guard:
                if self._is_closed:
                    return
                if task.key in self._running:
                    if self._running[task.key] is not None:
                        self._again[task.key] = task
                    continue
                self._running[task.key] = None
            self._threads.submit(self._work, task)

    def every(self, seconds: float, work: Callable[[], object]) -> None:
        """Do short work again and again."""
        self._repeated.append((seconds, work))

    def wake(self) -> None:
        """Do what is repeated now, not at its time."""
        self._wake.set()

    def running(self) -> dict[str, datetime]:
        """Return the keys of the tasks that run, and since when."""
        with self._guard:
            return {key: since for key, since in self._running.items() if since is not None}

    def run(self, is_over: Callable[[], bool]) -> None:
        """Work until it is over, then wait for what is running."""
        due = [0.0] * len(self._repeated)
        try:
            while not is_over():
                is_woken = self._wake.is_set()
                self._wake.clear()
                for number, (seconds, work) in enumerate(self._repeated):
                    if is_woken or self._clock.monotonic() >= due[number]:
                        self._do("repeated work", work)
                        due[number] = self._clock.monotonic() + seconds
                wait = min(due, default=1.0) - self._clock.monotonic()
                if not is_over():
                    self._wake.wait(max(0.01, min(wait, 1.0)))
        finally:
            with self._guard:
                self._is_closed = True
                self._again.clear()
            self._threads.shutdown(wait=True)

    def _work(self, task: Task) -> None:
        with self._guard:
            self._running[task.key] = self._clock.now()
        self._do(task.key, lambda: self._do_task(task))
        with self._guard:
            following = self._again.pop(task.key, None)
            if following is None or self._is_closed:
                self._running.pop(task.key, None)
                return
            self._running[task.key] = None
        self._threads.submit(self._work, following)

    def _do(self, key: str, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - one mailbox's bug must not stop the others
            self._on_error(key, error)
