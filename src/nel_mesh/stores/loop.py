"""An event loop in a thread of its own, for a library that has only coroutines.

The methods are called from any thread: from the main one by the blocking client, from worker threads by the async one.
`io/concurrency.py` says why nothing here waits in Python code that holds a lock: an exception from a signal handler
must not let a later call hang. A waiter therefore looks at a flag, and a queue written in C only wakes it.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

_Value = TypeVar("_Value")

_LOOK_AGAIN_SECONDS = 0.25
_END_SECONDS = 10.0


class Call(Generic[_Value]):
    """A coroutine that runs in the event loop."""

    def __init__(self, running: _Running, function: Callable[..., Coroutine[Any, Any, _Value]], *arguments: Any):
        self._running = running
        self._function = function
        self._arguments = arguments
        self._task: asyncio.Task[None] | None = None
        self._values: list[_Value] = []
        self._error: BaseException | None = None
        self._done = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        running.loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        self._task = self._running.loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            self._values.append(await self._function(*self._arguments))
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error
        finally:
            self._done = True
            self._wake.put(None)

    def result(self) -> _Value:
        """Wait for its end; return its value, or raise its error. An exception that interrupts this cancels it."""
        try:
            while not (self._done or self._running.has_ended):
                with contextlib.suppress(queue.Empty):
                    self._wake.get(timeout=_LOOK_AGAIN_SECONDS)
        except BaseException:
            self.cancel()
            raise
        if not self._done:
            raise RuntimeError("the event loop has ended")
        if self._error is not None:
            raise self._error
        return self._values[0]

    def cancel(self) -> None:
        """Let it end early; nobody waits for that."""
        if not self._done and not self._running.has_ended:
            self._running.loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class _Running:
    """An event loop and its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.process_id = os.getpid()
        self.has_ended = False
        self.ended: queue.SimpleQueue[None] = queue.SimpleQueue()


class LoopThread:
    """An event loop in a thread, from the first call on. After a fork the child makes its own."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: _Running | None = None

    def start(self, function: Callable[..., Coroutine[Any, Any, _Value]], *arguments: Any) -> Call[_Value]:
        """Start a coroutine, and do not wait for it."""
        return Call(self._loop(), function, *arguments)

    def call(self, function: Callable[..., Coroutine[Any, Any, _Value]], *arguments: Any) -> _Value:
        """Run a coroutine to its end."""
        return self.start(function, *arguments).result()

    @property
    def is_running(self) -> bool:
        """Whether this process has the event loop."""
        return self._running is not None and self._running.process_id == os.getpid()

    def close(self) -> None:
        """End the event loop, with all that still runs in it."""
        if self._running is None or not self.is_running:
            return
        running, self._running = self._running, None
        running.loop.call_soon_threadsafe(running.loop.stop)
        try:
            running.ended.get(timeout=_END_SECONDS)
        except queue.Empty:
            return

    def _loop(self) -> _Running:
        with self._guard:
            if self._running is None or not self.is_running:
                started: queue.SimpleQueue[_Running] = queue.SimpleQueue()
                # Not threading.Thread: its `start` waits for an Event.
                _thread.start_new_thread(_run, (started,))
                self._running = started.get()
            return self._running


def _run(started: queue.SimpleQueue[_Running]) -> None:
    loop = asyncio.new_event_loop()
    running = _Running(loop)
    started.put(running)
    try:
        loop.run_forever()
        for task in (left := asyncio.all_tasks(loop)):
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_END_SECONDS))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        running.has_ended = True
        loop.close()
        running.ended.put(None)
