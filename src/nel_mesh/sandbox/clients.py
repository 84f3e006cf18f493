"""Clients for a sandbox's mailboxes, in both variants, for tests: their waits take no time."""

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
    """Time for a client that never waits: what it would have slept has passed at once."""

    def __init__(self) -> None:
        self._slept = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._slept

    def sleep(self, seconds: float) -> None:
        self._slept += seconds


class AsyncHurriedClock(AsyncClock):
    """As `HurriedClock`; other tasks get their turn."""

    def __init__(self) -> None:
        self._slept = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._slept

    async def sleep(self, seconds: float) -> None:
        self._slept += seconds
        await anyio.lowlevel.checkpoint()


class ClientFactory:
    """Makes clients of a sandbox's mailboxes, and closes them at the end of its `with` block.

    A client's waits, before it tries again or asks for a message's state, take no time.
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
        """A client for a mailbox (the first if None); `settings` are further settings, as for `MeshSettings`.

        Raises KeyError for a mailbox that the sandbox does not have.
        """
        made = self._sandbox.settings(mailbox_id, **settings)
        return self._stack.enter_context(MeshClient(made, clock=HurriedClock()))


class AsyncClientFactory:
    """As `ClientFactory`; each client is opened and closed by an `async with` block, in the test's own event loop."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    # Not the client itself: one that is never closed could not be closed from outside of its event loop.
    @contextlib.asynccontextmanager
    async def __call__(
        self, mailbox_id: str | None = None, /, **settings: Unpack[SettingsKeywords]
    ) -> AsyncIterator[AsyncMeshClient]:
        """As `ClientFactory`'s."""
        made = self._sandbox.settings(mailbox_id, **settings)
        async with AsyncMeshClient(made, clock=AsyncHurriedClock()) as client:
            yield client
