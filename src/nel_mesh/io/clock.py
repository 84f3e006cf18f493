"""Time, chance and identity: what differs at every run, and so is passed in."""

from __future__ import annotations

import random
import time
import uuid
from datetime import UTC, datetime

import anyio


class _Clock:
    def now(self) -> datetime:
        """The present time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never set back."""
        return time.monotonic()

    def chance(self) -> float:
        """A number from 0 to 1, to spread retries; nothing secret hangs on it."""
        return random.random()  # noqa: S311

    def unique(self) -> str:
        """An id never given before: from the operating system's randomness, so also across threads and forks."""
        return str(uuid.uuid4())


class Clock(_Clock):
    """The sync clock."""

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


class AsyncClock(_Clock):
    """The async clock, under asyncio or trio."""

    async def sleep(self, seconds: float) -> None:
        """Waits; other tasks go on."""
        await anyio.sleep(seconds)
