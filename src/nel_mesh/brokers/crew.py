"""Work on several things at once: threads in one colour, tasks in the other."""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import anyio

from nel_mesh.errors import InvalidArgument

_T = TypeVar("_T")


class Crew:
    """Threads."""

    def check(self, work: object) -> None:
        """Raises InvalidArgument for a callable of the other colour: what it gives would never be run."""
        if inspect.iscoroutinefunction(work):
            raise InvalidArgument("an async callable needs the AsyncMeshClient")

    def call(self, work: Callable[[_T], object], item: _T) -> None:
        """Calls what the caller gave us. Raises InvalidArgument if it turns out to be of the other colour."""
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
                pool.submit(done, item)
        if failures:
            raise failures[0]


class AsyncCrew:
    """Tasks."""

    def check(self, work: object) -> None:
        """Raises InvalidArgument for a callable of the other colour: there would be nothing to wait for."""
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
