"""Time, randomness and ids: they differ at every run, and so are passed in."""

from __future__ import annotations

import os
import random
import time
from datetime import UTC, datetime

_VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""The digit of an id that names its form, two bits of which are random."""


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
        """Return an id never given before: from the operating system, so unique across threads and forks too.

        It is a UUID of version 4 (RFC 9562, 5.4). `uuid.uuid4` takes three times as long, and a message needs several.
        """
        digits = os.urandom(16).hex()
        variant = _VARIANTS[digits[16]]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


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
