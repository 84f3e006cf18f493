"""Work on several things at once, in tasks of asyncio or trio; see `concurrency.py`."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from nel_mesh.errors import InvalidArgument
from nel_mesh.io.worker_threads import LOOK_SECONDS, WorkerThreads

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")

GATHER_BYTES = 1024 * 1024
"""How much content is gathered for one call in a worker thread, which costs as much as to write 100 KiB."""


_workers = WorkerThreads()
_looking: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
"""The event loops that will look soon whether more threads are needed."""


async def in_thread(function: Callable[..., _Value], *arguments: Any) -> _Value:
    """Call a function in a worker thread, and wait for its end even when the task is cancelled.

    A thread cannot be stopped. A caller that went away meanwhile would let go of a lock, or of a file, that the
    thread is still using. So what a function opens belongs to an object that the caller has beforehand, and closes.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        # As below: the call is made even in a task that was cancelled before, and then the cancellation is raised.
        with anyio.CancelScope(shield=True):
            value = await anyio.to_thread.run_sync(partial(function, *arguments))
        await anyio.lowlevel.checkpoint_if_cancelled()
        return value
    call = _Call(loop, partial(copy_context().run, function, *arguments))
    if loop not in _looking:
        # In this order: interrupted in between, it looks once more than needed. So does `_look`.
        loop.call_later(LOOK_SECONDS, _look, loop)
        _looking.add(loop)
    try:
        _workers.submit(call.run)
        return await call.result()
    except BaseException:
        # Interrupted before its end: its caller may release a lock now, so it must not begin any more.
        call.is_abandoned = True
        raise


def _look(loop: asyncio.AbstractEventLoop) -> None:
    following = loop.call_later(LOOK_SECONDS, _look, loop)
    if not _workers.look():
        _looking.discard(loop)
        following.cancel()


class _Call(Generic[_Value]):
    """A call in a worker thread, for a task of asyncio."""

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[], _Value]) -> None:
        self._loop = loop
        self._function = function
        self._values: list[_Value] = []
        self._error: BaseException | None = None
        self._has_ended = False
        self._waiter: asyncio.Future[None] = loop.create_future()
        self.is_abandoned = False
        """Whether it must not begin."""

    def run(self) -> Callable[[], object]:
        """Make the call, in the worker thread; return what tells the event loop that it has ended."""
        try:
            if not self.is_abandoned:
                self._values.append(self._function())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error
        return self._tell

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has been closed
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._has_ended = True
        if not self._waiter.done():
            self._waiter.set_result(None)

    async def result(self) -> _Value:
        """Wait for the end of the call; return its value, or raise its error, or the cancellation that came first."""
        cancelled: asyncio.CancelledError | None = None
        while not self._has_ended:
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                self._waiter = self._loop.create_future()
        failure, self._error = cancelled or self._error, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure, cancelled  # which refer to this frame
        return self._values[0]


class AsyncTask(Generic[_Value]):
    """An async function that runs in a task of its own."""

    def __init__(self, function: Callable[[], Awaitable[_Value]]) -> None:
        self._function = function
        self._ended = anyio.Event()
        self._values: list[_Value] = []
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Run the function; let a cancellation through."""
        try:
            self._values.append(await self._function())
        except Exception as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._ended.set()

    async def is_done(self, within_seconds: float = 0) -> bool:
        """Whether it has ended; wait for that up to `within_seconds`."""
        if within_seconds:
            with anyio.move_on_after(within_seconds):
                await self._ended.wait()
        return self._ended.is_set()

    async def result(self) -> _Value:
        """Wait for the end of the task; return its value, or raise its error."""
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._values[0]

    def value(self) -> _Value | None:
        """Return the value, or None if there is none (yet)."""
        return self._values[0] if self._values else None


class AsyncBackgroundTasks:
    """Tasks that run beside the caller, up to the end of the `async with` block; then they are cancelled."""

    def __init__(self) -> None:
        self._group: TaskGroup | None = None
        """Made for the first task: most blocks start none, and a group takes a sixth of the time of a small message."""

    async def start(
        self,
        function: Callable[..., Awaitable[_Value]],
        *arguments: Any,
        stop: Callable[[], object] | None = None,
    ) -> AsyncTask[_Value]:
        """Start a task. `stop` is of no use here, as a task is cancelled.

        Not within a cancel scope that is entered inside the block, and left before its end.
        """
        if self._group is None:
            group = anyio.create_task_group()
            await group.__aenter__()
            self._group = group
        task = AsyncTask(partial(function, *arguments))
        self._group.start_soon(task.run)
        return task

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._group is None:
            return
        self._group.cancel_scope.cancel()
        # The caller's own error is not the group's: the group would raise it wrapped.
        await self._group.__aexit__(None, None, None)


async def async_for_each(
    items: AsyncIterator[_Item], work: Callable[[_Item], Awaitable[object]], *, max_workers: int
) -> None:
    """Call `work` with each item, up to `max_workers` calls at once; see `concurrency.for_each`."""
    if max_workers == 1:
        async for item in items:
            await work(item)
        return
    slots = anyio.Semaphore(max_workers)
    failure: Exception | None = None

    async def run(item: _Item) -> None:
        try:
            await work(item)
        finally:
            slots.release()

    async with anyio.create_task_group() as group:
        while True:
            await slots.acquire()
            try:
                item = await anext(items)
            except StopAsyncIteration:
                break
            except Exception as error:  # noqa: BLE001 - raised below, when the calls under way have returned
                failure = error
                break
            group.start_soon(run, item)
    if failure is not None:
        raise failure


def async_check_handler(handler: object) -> None:
    """Raise InvalidArgument for a function that is not async: there would be nothing to await."""
    if inspect.isfunction(handler) and not inspect.iscoroutinefunction(handler) and handler.__name__ != "<lambda>":
        raise InvalidArgument("the AsyncMeshClient needs an async callable")


async def async_call_handler(handler: Callable[[_Item], Awaitable[object]], item: _Item) -> None:
    """Call a handler that the user gave. Raises InvalidArgument if it turns out not to be async."""
    result: Any = handler(item)
    if not inspect.isawaitable(result):
        raise InvalidArgument("the AsyncMeshClient needs an async callable")
    await result
