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
import select
import selectors
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, TypeVar

_Value = TypeVar("_Value")

_LOOK_AGAIN_SECONDS = 0.25
_END_SECONDS = 10.0
_GATHER_SECONDS = 0.01
_TURNS = 2
"""Of the event loop: one for a coroutine, one for the tasks that it started."""


class _Selector(selectors.DefaultSelector):
    """Tells the event loop what has arrived: at once while a caller waits, else after more had a moment to come.

    While a message is being received in another thread, each look at what arrives takes the interpreter's lock from
    that thread, and one look at many responses takes hardly longer than one at a single response.
    """

    def __init__(self, callers: Mapping[object, None]) -> None:
        super().__init__()
        self._callers = callers
        self._calls = select.poll()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch one more. The first is the event loop's own socket, through which other threads wake it."""
        if not self.get_map():
            self._calls.register(fileobj, select.POLLIN)
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what has arrived, as the event loop asks for it."""
        found = super().select(timeout)
        if timeout == 0 or not found or self._callers:
            return found
        self._calls.poll(_GATHER_SECONDS * 1000)
        return super().select(0)


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
        self._has_begun = False
        self._begun: queue.SimpleQueue[None] = queue.SimpleQueue()
        running.loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        self._task = self._running.loop.create_task(self._run())
        self._running.loop.call_soon(self._take_turn, _TURNS)

    def _take_turn(self, left: int) -> None:
        # The loop calls what is ready in order: this comes after the coroutine's turn, and that of what it started.
        if left:
            self._running.loop.call_soon(self._take_turn, left - 1)
        else:
            self._has_begun = True
            self._begun.put(None)

    async def _run(self) -> None:
        try:
            self._values.append(await self._function(*self._arguments))
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error
        finally:
            self._done = True
            self._wake.put(None)

    def wait_begun(self) -> None:
        """Wait until it, and the tasks that it started, have done what they can without waiting for anything.

        Two threads that both run Python hold each other up. Where the event loop has a mebibyte to encrypt and the
        caller one to receive, one after the other is quicker than both at once. An exception that interrupts this
        cancels it.
        """
        self._wait(lambda: self._has_begun, self._begun)

    def result(self) -> _Value:
        """Wait for its end; return its value, or raise its error. An exception that interrupts this cancels it."""
        callers = self._running.callers
        try:
            if not self._done:
                callers[self] = None
                self._running.wake()
            self._wait(lambda: self._done, self._wake)
        finally:
            callers.pop(self, None)
        if not self._done:
            raise RuntimeError("the event loop has ended")
        if self._error is not None:
            raise self._error
        return self._values[0]

    def _wait(self, is_over: Callable[[], bool], wake: queue.SimpleQueue[None]) -> None:
        try:
            while not (is_over() or self._running.has_ended):
                with contextlib.suppress(queue.Empty):
                    wake.get(timeout=_LOOK_AGAIN_SECONDS)
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Let it end early; nobody waits for that."""
        if not self._done and not self._running.has_ended:
            self._running.loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class _Running:
    """An event loop and its thread."""

    def __init__(self) -> None:
        self.callers: dict[object, None] = {}
        """The calls whose results are waited for."""
        self.loop: asyncio.AbstractEventLoop
        if sys.platform == "win32":
            # There a process, such as a ProxyCommand, can be started only in a loop of another kind.
            self.loop = asyncio.new_event_loop()
        else:
            self.loop = asyncio.SelectorEventLoop(_Selector(self.callers))
        self.process_id = os.getpid()
        self.has_ended = False
        self.ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        """Have the event loop look at what has arrived, unless it has ended."""
        if not self.has_ended:
            self.loop.call_soon_threadsafe(lambda: None)


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
    running = _Running()
    loop = running.loop
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
