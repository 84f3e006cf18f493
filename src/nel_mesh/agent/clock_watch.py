"""How far this machine's clock is from MESH's: beyond two hours MESH refuses every request.

It is learnt from the responses that come anyway: an event of the client has the server's `Date`.
"""

from __future__ import annotations

from datetime import timedelta

from nel_mesh.instrumentation import Event, RequestFinished
from nel_mesh.io.clock import Clock
from nel_mesh.ledger.attention import CLOCK_AGREES, CLOCK_DIFFERS
from nel_mesh.ledger.ledger import Ledger

ALARM_AFTER = timedelta(minutes=5)
"""A difference that no network makes, and from which a person has to be told."""


class ClockWatch:
    """A hook of every client of the agent.

    Args:
        clock: this machine's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_told = False
        self.skew_in_seconds: float | None = None
        """How far this machine is ahead; below zero it is behind, and None if no server has said its time."""

    def wants(self, kind: type[Event]) -> bool:
        """Whether it wants events of this kind."""
        return kind is RequestFinished

    def __call__(self, event: Event) -> None:
        """Take note of the server's time."""
        if isinstance(event, RequestFinished) and event.server_time is not None:
            self.skew_in_seconds = (self._clock.now() - event.server_time).total_seconds()

    def tell(self, ledger: Ledger) -> None:
        """Note in the ledger that the clocks have begun to differ, or agree again."""
        if self.skew_in_seconds is None:
            return
        differs = abs(self.skew_in_seconds) > ALARM_AFTER.total_seconds()
        if differs and not self._is_told:
            ledger.note(CLOCK_DIFFERS, seconds=round(self.skew_in_seconds))
        elif self._is_told and not differs:
            ledger.note(CLOCK_AGREES)
        self._is_told = differs
