"""Sync and async clients for tests: their delays take no time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

import anyio.lowlevel

from nel_mesh._async.client import AsyncMeshClient
from nel_mesh._sync.client import MeshClient
from nel_mesh.io.clock import AsyncClock, Clock

if TYPE_CHECKING:
    from nel_mesh.sandbox.server import Sandbox
    from nel_mesh.settings import SettingsKeywords


class HurriedClock(Clock):
    """A clock for a client in a test: a sleep takes no time, and moves the clock forward."""

    def __init__(self) -> None:
        self._slept = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._slept

    def sleep(self, seconds: float) -> None:
        self._slept += seconds


class AsyncHurriedClock(AsyncClock):
    """`HurriedClock` for the async client; a sleep lets other tasks run."""

    def __init__(self) -> None:
        self._slept = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._slept

    async def sleep(self, seconds: float) -> None:
        self._slept += seconds
        await anyio.lowlevel.checkpoint()


class ClientFactory:
    """Make clients of a sandbox's mailboxes, and close them at the end of the `with` block.

    The delays of a client, before a retry or between look-ups, take no time.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(self, mailbox_id: str | None = None, /, **settings: Unpack[SettingsKeywords]) -> MeshClient:
        """Make a client for a mailbox (the first if None); `settings` are further settings, as for `MeshSettings`.

        Raises KeyError for a mailbox that the sandbox does not have.
        """
        made = self._sandbox.settings(mailbox_id, **settings)
        return self._stack.enter_context(MeshClient(made, clock=HurriedClock()))


class AsyncClientFactory:
    """`ClientFactory` for async clients. An `async with` block opens and closes each one, in the test's event loop."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    # Not the client itself: it cannot be closed from outside its event loop.
    @contextlib.asynccontextmanager
    async def __call__(
        self, mailbox_id: str | None = None, /, **settings: Unpack[SettingsKeywords]
    ) -> AsyncIterator[AsyncMeshClient]:
        """Make a client, as `ClientFactory` does."""
        made = self._sandbox.settings(mailbox_id, **settings)
        async with AsyncMeshClient(made, clock=AsyncHurriedClock()) as client:
            yield client
