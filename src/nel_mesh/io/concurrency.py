"""Work on several things at once, in threads.

`async_concurrency.py` has the same names for tasks; the generator of the blocking client maps one to the other.

An exception from a signal handler (Ctrl-C) can come between any two steps of the main thread. `threading.Condition`
and what is built on it (Event, Semaphore, Future, ThreadPoolExecutor) acquire their lock in Python code, and may then
keep it for ever, so that a later call hangs. `Thread.start` waits for an Event too. So here are only locks, queues and
threads that are written in C, and a wait for a task looks again every quarter of a second.
"""

from __future__ import annotations

import _thread
import inspect
import queue
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from nel_mesh.errors import InvalidArgument

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")

GATHER_BYTES = 0
"""No content is gathered: to write each block as it comes needs no other thread, and the least memory."""

_LOOK_AGAIN_SECONDS = 0.25


class Task(Generic[_Value]):
    """A function that runs in a thread of its own.

    Attributes:
        stop: what tells the function to end early; None if it cannot be told.
    """

    def __init__(self, function: Callable[[], _Value], stop: Callable[[], object] | None) -> None:
        self._function = function
        self._started = threading.Lock()
        self._running = threading.Lock()
        self._running.acquire()
        self._values: list[_Value] = []
        self._error: BaseException | None = None
        self._done = False
        self.stop = stop

    def run(self) -> None:
        """Run the function, unless the task was cancelled before."""
        if not self.cancel():
            return
        try:
            self._values.append(self._function())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error
        finally:
            self._done = True
            self._running.release()

    def cancel(self) -> bool:
        """Keep the task from starting; False if it has started."""
        return self._started.acquire(blocking=False)

    def is_done(self, within_seconds: float = 0) -> bool:
        """Whether it has ended; wait for that up to `within_seconds`."""
        # The lock only wakes a waiter up. An interrupted waiter may keep it; the flag is what counts.
        if not self._done and self._running.acquire(timeout=within_seconds):
            self._running.release()
        return self._done

    def result(self) -> _Value:
        """Wait for the end of the task; return its value, or raise its error."""
        while not self.is_done(_LOOK_AGAIN_SECONDS):
            pass
        if self._error is not None:
            raise self._error
        return self._values[0]

    def value(self) -> _Value | None:
        """Return the value, or None if there is none (yet)."""
        return self._values[0] if self._values else None


class BackgroundTasks:
    """Tasks that run beside the caller, up to the end of the `with` block.

    At the end of the block a task that has a `stop` is told to stop and is left to end by itself; one that has not
    started is cancelled; the others are waited for.
    """

    def __init__(self) -> None:
        self._tasks: list[Task[Any]] = []

    def start(
        self, function: Callable[..., _Value], *arguments: Any, stop: Callable[[], object] | None = None
    ) -> Task[_Value]:
        """Start a task. Its function runs in a copy of the caller's context (contextvars).

        Where no thread can be had, the function is called at once; one that has a `stop` is for later, so then
        RuntimeError is raised.
        """
        task = Task(lambda: function(*arguments), stop)
        self._tasks = [other for other in self._tasks if not other.is_done()] + [task]
        try:
            # Not threading.Thread: its `start` waits for an Event.
            _thread.start_new_thread(copy_context().run, (task.run,))
        except RuntimeError:
            if stop is not None:
                raise
            task.run()
        return task

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            if task.stop is not None:
                if not task.is_done():
                    task.stop()
            elif not task.cancel():
                while not task.is_done(_LOOK_AGAIN_SECONDS):
                    pass


def for_each(items: Iterator[_Item], work: Callable[[_Item], object], *, max_workers: int) -> None:
    """Call `work` with each item, in up to `max_workers` threads at once.

    An item is taken, in the caller's thread, only when a worker is free for it. Returns when all calls have returned.
    The first error that `work` raises ends the taking, and is raised when the other calls have returned.
    """
    if max_workers == 1:
        for item in items:
            work(item)
        return
    finished: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run(item: _Item) -> None:
        error: BaseException | None = None
        try:
            work(item)
        except BaseException as raised:  # noqa: BLE001 - raised again below, in the caller's thread
            error = raised
        finished.put(error)

    running = 0
    failure: BaseException | None = None
    # A thread for each item, and none that waits for the next one: an interruption could leave it waiting for ever.
    with BackgroundTasks() as background:
        while failure is None:
            if running == max_workers:
                failure = finished.get()
                running -= 1
                continue
            try:
                item = next(items)
            except StopIteration:
                break
            background.start(run, item)
            running += 1
        while running:
            failure = finished.get() or failure
            running -= 1
    if failure is not None:
        raise failure


def check_handler(handler: object) -> None:
    """Raise InvalidArgument for an async callable: nothing would ever await it."""
    if inspect.iscoroutinefunction(handler):
        raise InvalidArgument("an async callable needs the AsyncMeshClient")


def call_handler(handler: Callable[[_Item], object], item: _Item) -> None:
    """Call a handler that the user gave. Raises InvalidArgument if it turns out to be async."""
    result = handler(item)
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise InvalidArgument("an async callable needs the AsyncMeshClient")
