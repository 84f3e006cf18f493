"""The record of a send: what a later process has to know to resume it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from datetime import datetime

from nel_mesh.errors import InvalidArgument, SourceError
from nel_mesh.models import SendReceipt
from nel_mesh.protocol.record import Record
from nel_mesh.protocol.upload_plan import MessageOptions, UploadPlan
from nel_mesh.protocol.upload_states import Event


@dataclasses.dataclass(frozen=True, kw_only=True)
class SendRecord(Record):
    """How far a send has come; on disk it is never ahead of MESH.

    Attributes:
        mailbox_id: the sender.
        local_id: the id by which MESH can be asked for the message.
        local_id_generated: whether it was generated for this send, and so is unique.
        arguments: a digest of what the caller said, as the record must not hold patient data.
        content_bytes, modified_ns: the length and date of the source when the send began.
        chunk_bytes: the length of each chunk but the last.
        began: when.
        message_id: MESH's id, once chunk 1 of several was accepted, or the message.
        chunks_done: how many chunks were accepted.
        bytes_on_wire: their length after compression.
        digest: a digest of their content.
        sent: whether MESH has the whole message.
        not_sent: whether it takes one request, and the last attempt certainly failed.
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

    @classmethod
    def begin(cls, plan: UploadPlan, *, arguments: str, modified_ns: int, now: datetime) -> SendRecord:
        """Return the record of an upload of which nothing was sent."""
        return cls(
            mailbox_id=plan.mailbox_id,
            local_id=plan.local_id,
            local_id_generated=plan.local_id_generated,
            arguments=arguments,
            content_bytes=plan.content_bytes,
            modified_ns=modified_ns,
            chunk_bytes=plan.chunk_bytes,
            began=now,
        )

    def plan(self, options: MessageOptions) -> UploadPlan:
        """Plan the rest of the upload as it was begun, whatever the settings are now."""
        return UploadPlan.with_chunk_bytes(
            options,
            options.headers(self.mailbox_id, self.local_id),
            mailbox_id=self.mailbox_id,
            local_id=self.local_id,
            local_id_generated=self.local_id_generated,
            length=self.content_bytes,
            chunk_bytes=self.chunk_bytes,
        )

    @property
    def chunks(self) -> int:
        """The number of chunks."""
        return -(-self.content_bytes // self.chunk_bytes)

    @property
    def bytes_done(self) -> int:
        """How much of the content was accepted."""
        return min(self.chunks_done * self.chunk_bytes, self.content_bytes)

    def accepted(self, number: int, *, message_id: str, bytes_on_wire: int, digest: str) -> SendRecord:
        """Return the record after another chunk was accepted."""
        return self.replaced(
            message_id=message_id,
            chunks_done=number,
            bytes_on_wire=self.bytes_on_wire + bytes_on_wire,
            digest=digest,
            sent=number == self.chunks,
        )

    def delivered(self, message_id: str, *, bytes_on_wire: int) -> SendRecord:
        """Return the record of a message that MESH turned out to have, with its last chunk."""
        return self.accepted(self.chunks, message_id=message_id, bytes_on_wire=bytes_on_wire, digest="")

    def opened(self) -> SendRecord:
        """Return the record from which the only request may be made: from then on it may have been sent."""
        return self.replaced(not_sent=False)

    def failed(self) -> SendRecord:
        """Return the record of a single request that certainly failed: the next attempt need not ask for it."""
        return self.replaced(not_sent=True)

    def started_again(self) -> SendRecord:
        """Return the record of an upload that begins again at chunk 1."""
        return self.replaced(message_id=None, chunks_done=0, bytes_on_wire=0, digest="")

    def check(self, *, mailbox_id: str, arguments: str, stamp: tuple[int, int]) -> None:
        """Raise InvalidArgument or SourceError unless the record is of this very send.

        Args:
            mailbox_id: the sender.
            arguments: the digest of what the caller says.
            stamp: the length and date of the source.
        """
        cure = "; to send it as a new message, remove the record"
        if self.mailbox_id != mailbox_id:
            raise InvalidArgument(f"resume: the record is of another mailbox{cure}")
        if self.arguments != arguments:
            raise InvalidArgument(f"resume: the record is of a send with other arguments{cure}")
        if (self.content_bytes, self.modified_ns) != stamp:
            raise SourceError(f"content: it has changed since this send began{cure}")

    def check_content(self, digest: str) -> None:
        """Raise SourceError unless the content that was sent already has this digest."""
        if digest != self.digest:
            raise SourceError(
                "content: it has changed since this send began; to send it as a new message, remove the record"
            )

    def receipt(self) -> SendReceipt:
        """Return the receipt of a message that was sent."""
        return SendReceipt(
            message_id=self.message_id or "",
            local_id=self.local_id,
            chunks=self.chunks,
            bytes=self.content_bytes,
            bytes_on_wire=self.bytes_on_wire,
        )


def record_of_failure(record: SendRecord, event: Event) -> SendRecord | None:
    """Return the record with which a send ends that was certainly not sent; None if it is to be forgotten."""
    if event is Event.FAILED:
        # MESH will not deliver that message, so a further attempt is a new one.
        return None
    return record.failed() if record.chunks == 1 else record


def record_key(options: MessageOptions, *, mailbox_id: str, local_id: str | None, path: str) -> str:
    """Return the name of a send in a folder of records: by the caller's local id, or else by the path of its file."""
    text = json.dumps([mailbox_id, local_id or path, options.digest(local_id)])
    return f"send-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
