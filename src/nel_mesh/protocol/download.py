"""What must be known of a transfer to go on with it after anything: as values, and as the text of their records."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, Self

from nel_mesh.protocol.record import Record


@dataclasses.dataclass(frozen=True, kw_only=True)
class DownloadRecord(Record):
    """A message on its way to a destination.

    Attributes:
        message_id: the message.
        chunks: how many chunks it has, once that is known.
        chunks_done: how many of them are durable at the destination.
        length: how many bytes of content those are.
        name: the final name, from the moment at which the content is complete, verified and durable; the record is
            written before the name is given, so that after a kill it can be told whether it was.
        state: what the destination needs to continue after them, in the types of JSON.
        is_checksum_open: the sender's checksum is to be compared once the content has its name.
    """

    message_id: str
    chunks: int | None = None
    chunks_done: int = 0
    length: int = 0
    name: str | None = None
    state: dict[str, Any] | None = None
    is_checksum_open: bool = False

    def at(self, length: int, state: Mapping[str, Any] | None) -> Self:
        """Return the record with what the destination says of the content."""
        return self.replaced(length=length, state=dict(state) if state else None)


class Partial(enum.Enum):
    """What is found of the content that a record speaks of."""

    MISSING = "missing"
    SHORT = "shorter than the record says"
    EXACT = "as long as the record says"
    LONG = "longer than the record says"
    NAMED = "has its final name"

    @classmethod
    def of(cls, record: DownloadRecord, length: int | None, *, named: bool = False) -> Partial:
        """Compare what is there, `length` bytes or None for nothing, with the record."""
        if named:
            return cls.NAMED
        if length is None:
            return cls.MISSING
        if length == record.length:
            return cls.EXACT
        return cls.SHORT if length < record.length else cls.LONG


class NextStep(enum.Enum):
    """How to continue a download."""

    START = "fetch from chunk 1"
    RESUME = "drop what came after the record, fetch the next chunk"
    PUBLISH = "give it its final name"
    PUBLISHED = "nothing is left to do"


NEXT_STEPS: Mapping[tuple[bool, Partial], NextStep] = {
    # Some chunks are durable. More than the record says may be there, from a chunk that was not finished.
    (False, Partial.MISSING): NextStep.START,
    (False, Partial.SHORT): NextStep.START,
    (False, Partial.EXACT): NextStep.RESUME,
    (False, Partial.LONG): NextStep.RESUME,
    (False, Partial.NAMED): NextStep.START,
    # All of it was verified, and the final name chosen.
    (True, Partial.MISSING): NextStep.START,
    (True, Partial.SHORT): NextStep.START,
    (True, Partial.EXACT): NextStep.PUBLISH,
    (True, Partial.LONG): NextStep.START,
    (True, Partial.NAMED): NextStep.PUBLISHED,
}
"""The state table of a download: (is the content verified, what is found of it) -> how to continue."""


def next_step(record: DownloadRecord, partial: Partial) -> NextStep:
    """Say how to continue a download after whatever interrupted it."""
    verified = record.name is not None
    if not verified and not record.chunks_done:
        return NextStep.START
    return NEXT_STEPS[verified, partial]
