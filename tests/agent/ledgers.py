"""A ledger in a folder, with a clock that can be moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nel_mesh.io.clock import Clock


class MovableClock(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 26, 12, tzinfo=UTC)
        self.count = 0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return (self.time - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()

    def chance(self) -> float:
        return 1.0

    def unique(self) -> str:
        self.count += 1
        return f"unique-{self.count}"

    def advance(self, **by: float) -> None:
        self.time += timedelta(**by)
