"""Threads for the blocking calls of the async client under asyncio.

anyio's take 60 microseconds of a processor for each call: a third of all that a small message needs. These take 10.

Short calls are made by a few threads: more of them take the interpreter's lock from one another, and an inbox of small
messages takes longer. Calls that wait for a network, a pipe or a slow disk get more, up to forty. Which they are shows
by how many calls are begun, and by how busy the process is: `look` measures both.

Nothing is locked, as a signal handler may raise between any two steps (`concurrency.py`). So a step that is left out
may lead to a thread too many, or to a look too many, and not to a call that is never made. No thread keeps a process
from ending.
"""

from __future__ import annotations

import _thread
import itertools
import os
import queue
import time
from collections.abc import Callable

_MIN_THREADS = 4
_MAX_THREADS = 40

LOOK_SECONDS = 0.01
"""How often to look whether more threads are needed."""

_BUSY_SHARE = 0.75
"""The part of one processor that this process uses at least where more threads would only be in one another's way."""

_IDLE_SECONDS = 5.0
"""How long a thread waits for a call before it ends, if there are more than a few."""

Call = Callable[[], Callable[[], object]]
"""A call that raises nothing; the thread calls its result when it is free for the next call."""


class WorkerThreads:
    """Threads that are started as they are needed, for the whole process."""

    def __init__(self) -> None:
        self._threads = _Threads()

    def _own(self) -> _Threads:
        """Return the threads of this process: a fork copies none."""
        threads = self._threads
        if threads.process != os.getpid():
            threads = self._threads = _Threads()
        return threads

    def count(self) -> int:
        """Return how many threads there are."""
        return self._own().count()

    def submit(self, call: Call) -> None:
        """Have a thread call it; where no thread can be had, it is called here. The caller must also `look`."""
        self._own().submit(call)

    def look(self) -> bool:
        """Start another thread, if calls wait and it would be of use.

        To be called `LOOK_SECONDS` after `submit`, and again and again after these while it returns True: calls wait.
        """
        return self._own().look()


class _Threads:
    """Those of one process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        """An entry for each thread that may still be started."""
        for _ in range(_MAX_THREADS):
            self._permits.put(None)
        self._submitted = 0
        self._ends = itertools.count(1)
        self._ended = 0
        self._looked = time.monotonic()
        self._used = time.process_time()
        self._begun = 0
        """How many calls had been begun when somebody last looked,"""
        self._known = 0
        """and how many submitted."""

    def count(self) -> int:
        return _MAX_THREADS - self._permits.qsize()

    def submit(self, call: Call) -> None:
        count = self.count()
        # A thread that was used lately is faster than another one, so there are no more than are needed at once.
        if count < _MIN_THREADS and self._submitted - self._ended >= count and not self._start_thread() and not count:
            call()()
            return
        self._calls.put(call)
        self._submitted += 1

    def look(self) -> bool:
        waiting = self._calls.qsize()
        now = time.monotonic()
        # Several event loops may look, each in its turn.
        if (seconds := now - self._looked) >= LOOK_SECONDS:
            used, begun = time.process_time(), self._submitted - waiting
            is_stuck = begun - self._begun < max(self.count(), 1)
            # Not for a call that has just come, which a thread is about to take.
            has_waited = begun < self._known
            if has_waited and (is_stuck or used - self._used < _BUSY_SHARE * seconds):
                self._start_thread()
            self._looked, self._used, self._begun, self._known = now, used, begun, self._submitted
        return bool(waiting)

    def _start_thread(self) -> bool:
        """Start a thread. Return whether that could be done."""
        try:
            self._permits.get_nowait()
        except queue.Empty:
            return False
        try:
            _thread.start_new_thread(self._work, ())
        except RuntimeError:
            self._permits.put(None)
            return False
        except BaseException:
            # Whether it was started is not known: one too many does no harm.
            self._permits.put(None)
            raise
        return True

    def _work(self) -> None:
        try:
            while True:
                try:
                    call = self._calls.get(timeout=_IDLE_SECONDS)
                except queue.Empty:
                    if self.count() > _MIN_THREADS:
                        return
                    continue
                ended = call()
                del call
                # First, as the next call may follow at once.
                self._ended = next(self._ends)
                ended()
                del ended
        finally:
            self._permits.put(None)
