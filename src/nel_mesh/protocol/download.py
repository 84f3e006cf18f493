"""What must be known of a transfer to go on with it after anything: as values, and as the text of their records."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from nel_mesh.errors import StorageError


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1

    def to_bytes(self) -> bytes:
        """The record's text."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Reads a record. Raises StorageError for what is none, as it must not be taken for a fresh start."""
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            raise StorageError(
                f"the file is no record of a transfer that this version can read ({cls.__name__}); "
                "if it is in the way of a new transfer, remove it"
            ) from None


class SendRecord(_Record):
    """A send that is under way, or done.

    Attributes:
        mailbox_id: who sends.
        local_id: by which MESH can be asked for it.
        local_id_generated: whether the local id was made for this send, and so is unique.
        arguments: a digest of everything that chunk 1 says, so that the record holds no patient data.
        content_bytes, modified_ns: what the source was when it began.
        chunk_bytes: where it is cut.
        began: when.
        message_id: once chunk 1 of several has arrived, or the message has.
        chunks_done: how many chunks have arrived for certain.
        bytes_on_wire: their length after compression.
        digest: of the content that they hold.
        sent: whether MESH has all of it.
        not_sent: whether it is one request, and the last attempt at it failed for certain.
    """

    mailbox_id: str
    local_id: str
    local_id_generated: bool
    arguments: str
    content_bytes: int
    modified_ns: int
    chunk_bytes: int
    began: datetime
    message_id: str | None = None
    chunks_done: int = 0
    bytes_on_wire: int = 0
    digest: str = ""
    sent: bool = False
    not_sent: bool = False


class DownloadRecord(_Record):
    """A message on its way to a destination.

    Attributes:
        message_id: the message.
        chunks: how many chunks it has, once that is known.
        chunks_done: how many of them are durable at the destination.
        length: how many bytes of content those are.
        name: the final name, from the moment at which the content is complete, verified and durable; the record is
            written before the name is given, so that after a kill it can be told whether it was.
    """

    message_id: str
    chunks: int | None = None
    chunks_done: int = 0
    length: int = 0
    name: str | None = None


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
        if length is None:
            return cls.MISSING
        if named:
            return cls.NAMED
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
    # All of it was verified, and the final name chosen. The partial file goes last: where there is none the name had
    # been given, and whoever waits for such files may have moved it on since.
    (True, Partial.MISSING): NextStep.PUBLISHED,
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


def arguments_digest(headers: Mapping[str, str], *, compress: bool) -> str:
    """A digest of what a send was asked to be."""
    text = json.dumps([sorted(headers.items()), compress])
    return hashlib.sha256(text.encode()).hexdigest()
