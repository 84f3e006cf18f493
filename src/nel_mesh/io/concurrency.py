"""Work on several things at once: threads in one variant, tasks in the other."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
import anyio.to_thread

from nel_mesh.errors import InvalidArgument

_T = TypeVar("_T")


class _Outcome(Generic[_T]):
    """What became of work that went on beside the caller's."""

    def __init__(self) -> None:
        self._values: list[_T] = []
        self._error: BaseException | None = None

    def value(self) -> _T | None:
        """What it has given; None if it gave nothing (yet)."""
        return self._values[0] if self._values else None

    def _get(self) -> _T:
        if self._error is not None:
            raise self._error
        return self._values[0]


class Pending(_Outcome[_T]):
    """Work that goes on in a thread."""

    def __init__(self, work: Callable[[], _T], stop: Callable[[], object] | None) -> None:
        super().__init__()
        self._work = work
        self._claim = threading.Lock()
        self._ended = threading.Event()
        self.stop = stop

    def forget(self) -> bool:
        """Sees to it that the work is not begun; False if it has been."""
        return self._claim.acquire(blocking=False)

    def run(self) -> None:
        """Does the work, unless it has been forgotten."""
        if not self._claim.acquire(blocking=False):
            return
        try:
            self._values.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error
        finally:
            self._ended.set()

    def is_done(self, within_seconds: float = 0) -> bool:
        """Whether it has come to its end, waiting for that up to so long."""
        return self._ended.wait(within_seconds)

    def result(self) -> _T:
        """Waits for its end, and gives what it gave, or raises what it raised."""
        self._ended.wait()
        return self._get()


class BackgroundTasks:
    """Work that goes on in threads while the caller does something else, up to the end of the `with` block."""

    def __init__(self) -> None:
        self._begun: list[Pending[Any]] = []

    def start(self, work: Callable[[], _T], stop: Callable[[], object] | None = None) -> Pending[_T]:
        """Starts work. At the end of the block it is waited for; or told to `stop`, if it can be, and left to that.

        Where no thread can be had, it is done at once; what can be stopped is for later, and then raises RuntimeError.
        """
        pending = Pending(work, stop)
        self._begun = [one for one in self._begun if not one.is_done()] + [pending]
        try:
            threading.Thread(target=copy_context().run, args=(pending.run,), name="nel-mesh", daemon=True).start()
        except RuntimeError:
            if stop is not None:
                raise
            pending.run()
        return pending

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pending in self._begun:
            if pending.stop is not None:
                if not pending.is_done():
                    pending.stop()
            elif not pending.forget():
                pending.is_done(_FOR_EVER)


_FOR_EVER = threading.TIMEOUT_MAX


class Crew:
    """Threads; what they do has a copy of the context (contextvars) of whoever asked for it."""

    def beside(self) -> BackgroundTasks:
        """For work that goes on beside the caller's."""
        return BackgroundTasks()

    def check(self, work: object) -> None:
        """Raises InvalidArgument for a callable of the other variant: what it gives would never be run."""
        if inspect.iscoroutinefunction(work):
            raise InvalidArgument("an async callable needs the AsyncMeshClient")

    def call(self, work: Callable[[_T], object], item: _T) -> None:
        """Calls what the caller gave us. Raises InvalidArgument if it turns out to be of the other variant."""
        result = work(item)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise InvalidArgument("an async callable needs the AsyncMeshClient")

    def work_through(self, items: Iterator[_T], work: Callable[[_T], object], *, hands: int) -> None:
        """Does `work` on each item, on up to `hands` at once; an item is taken only when a hand is free.

        Returns when all are done. What `work` raises ends the taking, and is raised when the others are done.
        """
        if hands == 1:
            for item in items:
                work(item)
            return
        free = threading.Semaphore(hands)
        failures: list[BaseException] = []

        def done(item: _T) -> None:
            try:
                work(item)
            except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
                failures.append(error)
            finally:
                free.release()

        with ThreadPoolExecutor(hands, thread_name_prefix="nel-mesh") as pool:
            while not failures:
                free.acquire()
                try:
                    item = next(items)
                except StopIteration:
                    break
                pool.submit(copy_context().run, done, item)
        if failures:
            raise failures[0]


class AsyncPending(_Outcome[_T]):
    """Work that goes on in a task."""

    def __init__(self, work: Callable[[], Awaitable[_T]]) -> None:
        super().__init__()
        self._work = work
        self._ended = anyio.Event()

    async def run(self) -> None:
        """As `Pending.run`; a cancellation is let through."""
        try:
            self._values.append(await self._work())
        except Exception as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._ended.set()

    async def is_done(self, within_seconds: float = 0) -> bool:
        """As `Pending.is_done`."""
        if within_seconds:
            with anyio.move_on_after(within_seconds):
                await self._ended.wait()
        return self._ended.is_set()

    async def result(self) -> _T:
        """As `Pending.result`."""
        await self._ended.wait()
        return self._get()


class AsyncBackgroundTasks:
    """As `BackgroundTasks`, in tasks; what is left of them at the end of the block is cancelled."""

    def __init__(self) -> None:
        self._group = anyio.create_task_group()

    def start(self, work: Callable[[], Awaitable[_T]], stop: Callable[[], object] | None = None) -> AsyncPending[_T]:
        """As `BackgroundTasks.start`; a task needs no `stop`."""
        pending = AsyncPending(work)
        self._group.start_soon(pending.run)
        return pending

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._group.cancel_scope.cancel()
        # The caller's own error is not the group's: it would come out of it wrapped.
        await self._group.__aexit__(None, None, None)


class AsyncCrew:
    """Tasks."""

    def beside(self) -> AsyncBackgroundTasks:
        """As `Crew.beside`."""
        return AsyncBackgroundTasks()

    def check(self, work: object) -> None:
        """Raises InvalidArgument for a callable of the other variant: there would be nothing to wait for."""
        if inspect.isfunction(work) and not inspect.iscoroutinefunction(work) and work.__name__ != "<lambda>":
            raise InvalidArgument("the AsyncMeshClient needs an async callable")

    async def call(self, work: Callable[[_T], Awaitable[object]], item: _T) -> None:
        """As `Crew.call`."""
        result: Any = work(item)
        if not inspect.isawaitable(result):
            raise InvalidArgument("the AsyncMeshClient needs an async callable")
        await result

    async def work_through(
        self, items: AsyncIterator[_T], work: Callable[[_T], Awaitable[object]], *, hands: int
    ) -> None:
        """As `Crew.work_through`."""
        if hands == 1:
            async for item in items:
                await work(item)
            return
        free = anyio.Semaphore(hands)
        failure: Exception | None = None

        async def done(item: _T) -> None:
            try:
                await work(item)
            finally:
                free.release()

        async with anyio.create_task_group() as group:
            while True:
                await free.acquire()
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    break
                except Exception as error:  # noqa: BLE001 - raised below, when what was begun has come to its end
                    failure = error
                    break
                group.start_soon(done, item)
        if failure is not None:
            raise failure


async def in_thread(work: Callable[[], _T]) -> _T:
    """Waits for work in a worker thread; to its end even when the task is cancelled, as a thread cannot be stopped.

    A caller that went away while it was under way would let go of a lock, or of a file, that is still being used.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return await anyio.to_thread.run_sync(work)  # trio waits of itself
    # anyio's shield holds back anyio's cancellation, but not asyncio's own (`asyncio.timeout`, `Task.cancel`).
    task = asyncio.ensure_future(anyio.to_thread.run_sync(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            # Nobody asks any more how it ended; asyncio would say so, as an error.
            task.exception()
        raise
