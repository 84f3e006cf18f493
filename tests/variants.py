"""Both variants of the client behind one face, so that each test is written once and run against all three.

The async client really runs: in its own event loop, under asyncio or trio, in a thread of its own.
"""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from nel_mesh import AsyncMeshClient, AsyncMessage, MeshClient, MeshSettings
from nel_mesh.instrumentation import Hook
from nel_mesh.io.clock import AsyncClock, Clock
from secrecy import LISTENER, PASSWORD

VARIANTS = ("sync", "asyncio", "trio")


class _Recorded:
    """A clock whose waits take no time and are written down; chance is always at its most.

    Attributes:
        step: how many seconds pass each time that it is asked how many have, so that all seems slow, or takes no time;
            None: as many as do.
    """

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.step: float | None = None
        self._passed = 0.0

    def monotonic(self) -> float:
        if self.step is None:
            return time.monotonic()
        self._passed += self.step
        return self._passed

    def chance(self) -> float:
        return 1.0


class TestClock(_Recorded, Clock):
    __test__ = False

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


class AsyncTestClock(_Recorded, AsyncClock):
    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


class FixedNow:
    """A moment for tests of pure functions."""

    value = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Face:
    """Calls an async object's methods as if they were sync ones."""

    def __init__(self, portal: BlockingPortal, target: Any) -> None:
        self._portal = portal
        self._target = target

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **keywords: Any) -> Any:
            async def run() -> Any:
                result = attribute(*args, **keywords)
                return await result if inspect.isawaitable(result) else result

            result = self._portal.call(run)
            if hasattr(result, "__aenter__"):
                return self._entered(result)
            if hasattr(result, "__anext__"):
                return self._iterated(result)
            return result

        return call

    def __iter__(self) -> Iterator[Any]:
        return self._iterated(self._target.__aiter__())

    @contextlib.contextmanager
    def _entered(self, manager: Any) -> Iterator[Any]:
        with self._portal.wrap_async_context_manager(manager) as value:
            yield Face(self._portal, value)

    def _iterated(self, iterator: AsyncIterator[Any]) -> Iterator[Any]:
        async def step() -> tuple[bool, Any]:
            try:
                return True, await anext(iterator)
            except StopAsyncIteration:
                return False, None

        while True:
            more, item = self._portal.call(step)
            if not more:
                return
            yield Face(self._portal, item) if isinstance(item, AsyncMessage) else item


class Connector:
    """Makes clients of one variant, and closes them."""

    def __init__(self, variant: str, stack: contextlib.ExitStack) -> None:
        self.variant = variant
        self._stack = stack
        self._portal = None if variant == "sync" else stack.enter_context(start_blocking_portal(variant))

    def __call__(self, settings: MeshSettings, *, real_time: bool = False, hooks: Iterable[Hook] = ()) -> Any:
        """A client; its waits take no time, unless asked for. Its events are searched for private data."""
        hooks = [LISTENER.receive, *hooks]
        if self._portal is None:
            clock = Clock() if real_time else TestClock()
            client = self._stack.enter_context(MeshClient(settings, clock=clock, hooks=hooks))
            self.clock: Any = clock
            return client
        async_clock = AsyncClock() if real_time else AsyncTestClock()
        self.clock = async_clock

        async def make() -> AsyncMeshClient:
            return AsyncMeshClient(settings, clock=async_clock, hooks=hooks)

        async_client = self._portal.call(make)
        self._stack.callback(self._portal.call, async_client.close)
        return Face(self._portal, async_client)


def settings_for(url: str, **keywords: Any) -> MeshSettings:
    """Settings for a server without TLS, by the sandboxes' conventions."""
    usual = {"mailbox_id": "X26ABC1", "password": PASSWORD, "shared_key": "TestKey", "url": url}
    return MeshSettings(**{**usual, **keywords})
