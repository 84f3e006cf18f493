"""Threads for the blocking calls of the async client under asyncio.

anyio's take 60 microseconds of a processor for each call: a third of all that a small message needs. These take 10.

Short calls are made by a few threads: more of them take the interpreter's lock from one another, and an inbox of small
messages takes up to twice as long. Calls that wait for a network, a pipe or a slow disk get more, up to forty. Which
they are shows by how many calls are begun: `look` counts them.

Nothing is locked, as a signal handler may raise between any two steps (`concurrency.py`), so a count can be wrong by
one for a moment. No thread keeps a process from ending.
"""

from __future__ import annotations

import _thread
import os
import queue
import time
from collections.abc import Callable

_FEW_THREADS = 4
_MAX_THREADS = 40

LOOK_SECONDS = 0.01
"""How long a thread may take for a call, on average, before there are more threads."""

_IDLE_SECONDS = 5.0
"""How long a thread waits for a call before it ends, if there are more than a few."""

Call = Callable[[], Callable[[], object]]
"""A call that raises nothing; the thread calls its result when it is free for the next call."""


class WorkerThreads:
    """Threads that are started as they are needed, for the whole process."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._submitted = 0
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        """An entry for each thread that may still be started."""
        for _ in range(_MAX_THREADS):
            self._permits.put(None)
        self._looked = time.monotonic()
        self._begun = 0
        """How many calls had been begun by then."""

    def count(self) -> int:
        """Return how many threads there are."""
        return _MAX_THREADS - self._permits.qsize()

    def submit(self, call: Call) -> None:
        """Have a thread call it; where no thread can be had, it is called here. Who submits must also `look`."""
        if self._process != os.getpid():
            # A fork copies no threads.
            self._start()
        if (count := self.count()) < _FEW_THREADS and not self._start_thread() and not count:
            call()()
            return
        self._calls.put(call)
        self._submitted += 1

    def look(self) -> bool:
        """Start another thread, if calls wait, and the threads have begun less than one each since the last look.

        To be called `LOOK_SECONDS` after `submit`, and again and again after these while it returns True: calls wait.
        """
        waiting = self._calls.qsize()
        now, begun = time.monotonic(), self._submitted - waiting
        # Several event loops may look, each in its turn.
        if now >= self._looked + LOOK_SECONDS:
            if waiting and begun - self._begun < max(self.count(), 1):
                self._start_thread()
            self._looked, self._begun = now, begun
        return bool(waiting)

    def _start_thread(self) -> bool:
        """Start a thread. Return whether that could be done."""
        try:
            self._permits.get_nowait()
        except queue.Empty:
            return False
        try:
            _thread.start_new_thread(_work, (self._calls, self._permits))
        except RuntimeError:
            self._permits.put(None)
            return False
        return True


def _work(calls: queue.SimpleQueue[Call], permits: queue.SimpleQueue[None]) -> None:
    while True:
        try:
            call = calls.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            if _MAX_THREADS - permits.qsize() > _FEW_THREADS:
                permits.put(None)
                return
            continue
        ended = call()
        del call
        ended()
        del ended
