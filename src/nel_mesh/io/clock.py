"""Time, randomness and ids: they differ at every run, and so are passed in."""

from __future__ import annotations

import random
import time
import uuid
from datetime import UTC, datetime


class _Clock:
    def now(self) -> datetime:
        """Return the present time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the seconds from an arbitrary start; they never go back."""
        return time.monotonic()

    def chance(self) -> float:
        """Return a number from 0 to 1, to spread retries; it protects no secret."""
        return random.random()  # noqa: S311

    def unique(self) -> str:
        """Return an id never given before: from the operating system, so unique across threads and forks too."""
        return str(uuid.uuid4())


class Clock(_Clock):
    """The sync clock."""

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class AsyncClock(_Clock):
    """The async clock, under asyncio or trio."""

    async def sleep(self, seconds: float) -> None:
        """Wait; other tasks run meanwhile."""
        # Here, so that the blocking client needs no event loop's library.
        import anyio

        await anyio.sleep(seconds)
