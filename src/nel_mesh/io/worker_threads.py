"""Threads for the blocking calls of the async client under asyncio.

anyio's take 60 microseconds of a processor for each call: a third of all that a small message needs. These take 10.

Nothing is locked, as a signal handler may raise between any two steps (`concurrency.py`). Threads are not ended: one
that waits costs nothing, and keeps no process from ending.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import queue
from collections.abc import Callable

_MAX_THREADS = 40

Call = Callable[[], Callable[[], object]]
"""A call that raises nothing; the thread calls its result when it is free for the next call."""


class WorkerThreads:
    """Threads that are started as they are needed, for the whole process."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._started = 0
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        """An entry for each thread that will take a call."""

    def submit(self, call: Call) -> None:
        """Have a thread call it; where no thread can be had, it is called here."""
        if self._process != os.getpid():
            # A fork copies no threads.
            self._start()
        try:
            self._free.get_nowait()
        except queue.Empty:
            if self._started < _MAX_THREADS:
                with contextlib.suppress(RuntimeError):
                    _thread.start_new_thread(_work, (self._calls, self._free))
                    self._started += 1
        if self._started:
            # After the thread was started: an interruption in between leaves nothing undone in the queue.
            self._calls.put(call)
        else:
            call()()


def _work(calls: queue.SimpleQueue[Call], free: queue.SimpleQueue[None]) -> None:
    while True:
        ended = calls.get()()
        # First, as the next call may follow at once.
        free.put(None)
        ended()
        del ended
