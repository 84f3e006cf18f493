"""What must be known of a transfer to go on with it after anything: as values, and as the text of their records."""

from __future__ import annotations

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


class ReceiveRecord(_Record):
    """A file that is arriving.

    Attributes:
        message_id: whose content it is.
        chunks: how many chunks there are, once that is known.
        chunks_done: how many are in the file, durably.
        length: how many bytes they are.
        name: the name that the file gets; None before its content is complete, checked and durable.
    """

    message_id: str
    chunks: int | None = None
    chunks_done: int = 0
    length: int = 0
    name: str | None = None


def arguments_digest(headers: Mapping[str, str], *, compress: bool) -> str:
    """A digest of what a send was asked to be."""
    text = json.dumps([sorted(headers.items()), compress])
    return hashlib.sha256(text.encode()).hexdigest()
