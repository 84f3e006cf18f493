"""The rules of a send: the plan of an upload, its record, and what each response means for the next step."""

################################################################
# Exactly once
################################################################
#
# Rule 1: every decision about a send is made in this file. As many as possible are rows of
# `TRANSITIONS`; what does not fit into a table (how an exception or a tracking becomes an event) is
# a function below it.
#
# Rule 2: no I/O and no clock. `_async/upload.py` does the step that `STEPS` gives for a state, says
# here as an event how that ended, and gets the next state. It knows how to read a file, to make a
# request and to write a record, and nothing of MESH.
#
#
# Theory
# ======
#
# MESH takes a message in one request, or in several chunks:
#
# - One request (MESH API, "Send message"): `POST .../outbox` creates the message and delivers it.
#   It is not idempotent; each repeat creates another message.
# - Several (MESH API, "Send chunked message"): `POST .../outbox` with `Mex-Chunk-Range: 1:n` begins
#   an upload and gives it a message id, `POST .../outbox/{message id}/{k}` adds a chunk, and the
#   message is delivered when chunk n arrives. An upload that is never finished is never delivered.
#
# So one request of each send delivers: the only one, or the last. All others may be lost, repeated
# or abandoned without harm, and the question of exactly once is what became of that one request:
#
# 1. It never arrived whole: no connection, a break before its last byte was handed over, or a
#    response that says that nothing was done (425, 429, 503). By its announced length MESH cannot
#    have it. The message is not sent.
#
# 2. It may have arrived whole, and its response is lost: a break, a time-out, a 500, 502 or 504
#    from a gateway, or a success without a message id. Then MESH has to be asked:
#
#    - the only request: its message id was in the lost response, so by local id (MESH API, "Track
#      outbox" by local id; deprecated, but there is no other way). A local id that the caller chose
#      may have been used before, so what is found must fit in recipient, workflow id, file name and
#      time. MESH is given half a minute to know its own message. Not found after that is still no
#      proof for this process, as its request may be under way inside MESH. It is for a later
#      process that goes on from a record, and that is the only case in which a single request is
#      repeated.
#    - the last chunk: it is repeated, as it has an address of its own, and meets 423 if it had
#      arrived. If that does not settle it, it is tracked by message id.
#
# 3. The process ends (a kill, a power cut) while it is open. The record on disk says how far the
#    send had come, and is always behind rather than ahead of MESH. A record that says that the
#    delivering request may have been made puts the next process where 2 has left this one.
#
# Each state has an outcome: what to say of the message if the send ends there by something that is
# not about MESH, such as a full disk (`LOCAL_FAILURE`) or Ctrl-C (`INTERRUPTED`). These two are
# events like the others.
#
#
# Implementation
# --------------
#
# `STEPS` has the step of each state, `EVENTS` the events in which a step can end, and `TRANSITIONS`
# the next state for each of them. tests/protocol/test_upload.py shows that no row is missing, and runs
# the table against a model of MESH that loses requests and responses, with kills between any two
# steps. tools/state_tables.py draws it in docs/sending.md.

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

from nel_mesh.errors import (
    Busy,
    ConnectionFailed,
    ConnectionLost,
    Gone,
    InvalidArgument,
    MeshError,
    NotFound,
    Outcome,
    OutcomeUnknown,
    Refused,
    ResponseError,
    SourceError,
    UploadFinished,
)
from nel_mesh.models import SendReceipt, Tracking
from nel_mesh.protocol import endpoints, responses, wire
from nel_mesh.protocol.chunks import MAX_REQUEST_BYTES, Slice, split
from nel_mesh.protocol.endpoints import Request
from nel_mesh.protocol.record import Record

LOOK_UP_DELAYS_IN_SECONDS: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0)
"""The waits before each look-up of a message by its local id. We assume that MESH knows its messages after 30 s."""

_GZIP_OVERHEAD_BYTES = 100_000
"""What gzip may add to 100 MB that does not shrink; a chunk of the largest size must not outgrow the limit."""

ACCEPTED: Final = 202
"""The status of a chunk that was accepted, by the MESH API."""

_CLOCK_GRAIN = timedelta(seconds=2)
"""MESH's timestamps and its `Date` may have whole seconds only; the two can round apart."""


# States, steps and events


class State(enum.Enum):
    """Where a send is; the value is what the documentation calls it."""

    BEGINNING = "nothing sent yet"
    READING_RECORD = "a record may exist"
    ONLY = "the only request"
    FIRST = "first chunk"
    MIDDLE = "middle chunk"
    LAST = "last chunk"
    RESUMED_MIDDLE = "middle chunk, resumed"
    RESUMED_LAST = "last chunk, may have been sent before"
    LOOKING_UP = "after a lost response"
    LOOKING_UP_EARLIER = "after an interruption"
    TRACKING = "after a lost response to the last chunk"
    FORGOTTEN = "MESH has forgotten the upload"
    SENT = "sent"
    NOT_SENT = "not sent"
    UNKNOWN = "unknown"


class Step(enum.Enum):
    """What to do in a state."""

    BEGIN = "begin"
    READ_RECORD = "read the record"
    SEND_CHUNK = "send the next request"
    LOOK_UP = "look up by local id"
    TRACK = "track by message id"
    START_AGAIN = "start again at chunk 1"


class Event(enum.Enum):
    """How a step ended."""

    ONE_REQUEST = "the content fits into one request"
    SEVERAL_CHUNKS = "the content takes several chunks"

    NO_RECORD = "there is no record"
    RECORD_SENT = "the record says: sent"
    RECORD_NOT_SENT = "one request; the record says: not sent"
    RECORD_OPEN = "one request; the record does not say"
    RECORD_NO_CHUNK = "the record has no chunk"
    RECORD_SOME_CHUNKS = "the record has some chunks"
    RECORD_ALL_BUT_LAST = "the record has all chunks but the last"

    ACCEPTED_MORE_LEFT = "accepted, several chunks left"
    ACCEPTED_ONE_LEFT = "accepted, one chunk left"
    ACCEPTED_ALL = "accepted, nothing left"
    REFUSED = "refused"
    NOT_RECEIVED = "lost before it was complete"
    LOST = "lost after it was complete"
    FORGOTTEN = "404 or 410"
    ALREADY_COMPLETE = "423: MESH has all chunks"

    FOUND = "found"
    FOUND_OTHER = "found, but perhaps another message"
    NOT_FOUND = "not found"
    DELIVERED = "MESH has the whole message"
    NOT_DELIVERED = "MESH does not say that it has the whole message"
    FAILED = "MESH took the message, and then failed it"
    LOOK_UP_FAILED = "asking failed"

    STARTED_AGAIN = "the record is reset"

    LOCAL_FAILURE = "a failure on this machine (source, disk)"
    INTERRUPTED = "interrupted (Ctrl-C, cancelled)"


STEPS: Final[Mapping[State, Step]] = {
    State.BEGINNING: Step.BEGIN,
    State.READING_RECORD: Step.READ_RECORD,
    State.ONLY: Step.SEND_CHUNK,
    State.FIRST: Step.SEND_CHUNK,
    State.MIDDLE: Step.SEND_CHUNK,
    State.LAST: Step.SEND_CHUNK,
    State.RESUMED_MIDDLE: Step.SEND_CHUNK,
    State.RESUMED_LAST: Step.SEND_CHUNK,
    State.LOOKING_UP: Step.LOOK_UP,
    State.LOOKING_UP_EARLIER: Step.LOOK_UP,
    State.TRACKING: Step.TRACK,
    State.FORGOTTEN: Step.START_AGAIN,
}
"""The step of each state. A state without one is an end."""

OUTCOMES: Final[Mapping[State, Outcome]] = {
    State.SENT: Outcome.SENT,
    State.NOT_SENT: Outcome.NOT_SENT,
    State.UNKNOWN: Outcome.UNKNOWN,
}
"""The states in which a send ends, and what to say of the message there."""

EVENTS: Final[Mapping[Step, tuple[Event, ...]]] = {
    Step.BEGIN: (Event.ONE_REQUEST, Event.SEVERAL_CHUNKS),
    Step.READ_RECORD: (
        Event.NO_RECORD,
        Event.RECORD_SENT,
        Event.RECORD_NOT_SENT,
        Event.RECORD_OPEN,
        Event.RECORD_NO_CHUNK,
        Event.RECORD_SOME_CHUNKS,
        Event.RECORD_ALL_BUT_LAST,
    ),
    Step.SEND_CHUNK: (
        Event.ACCEPTED_MORE_LEFT,
        Event.ACCEPTED_ONE_LEFT,
        Event.ACCEPTED_ALL,
        Event.REFUSED,
        Event.NOT_RECEIVED,
        Event.LOST,
        Event.FORGOTTEN,
        Event.ALREADY_COMPLETE,
    ),
    Step.LOOK_UP: (Event.FOUND, Event.FOUND_OTHER, Event.NOT_FOUND, Event.FAILED, Event.LOOK_UP_FAILED),
    Step.TRACK: (Event.DELIVERED, Event.NOT_DELIVERED, Event.FAILED, Event.LOOK_UP_FAILED),
    Step.START_AGAIN: (Event.STARTED_AGAIN,),
}
"""The events in which each step can end, besides `ANY_TIME`."""

ADVANCES: Final = frozenset(
    {Event.ACCEPTED_MORE_LEFT, Event.ACCEPTED_ONE_LEFT, Event.ACCEPTED_ALL, Event.FOUND, Event.DELIVERED}
)
"""The events after which MESH is known to have more of the message."""

ANY_TIME: Final = (Event.LOCAL_FAILURE, Event.INTERRUPTED)
"""The events that can come in every state."""


@dataclasses.dataclass(frozen=True, slots=True)
class Next:
    """The next state, and why the outcome is unknown, if it is and that is not plain from the failure itself."""

    state: State
    reason: str = ""


_SENT = Next(State.SENT)
_NOT_SENT = Next(State.NOT_SENT)
_UNKNOWN = Next(State.UNKNOWN)
_TRACK = Next(State.TRACKING)
_SEVERAL = "MESH says that it has all chunks, before they were sent"
_OTHER = "it may have arrived; what MESH has under its local id may be another message"
_NOT_ASKED = "it may have arrived, and asking for it by its local id failed too"
_NOT_KNOWN = "it may have arrived, and MESH does not know it by its local id (yet)"
_NOT_TRACKED = "the last chunk may have arrived, and tracking does not say that it has"

TRANSITIONS: Final[Mapping[State, Mapping[Event, Next]]] = {
    # No request was made yet, so whatever goes wrong, nothing was sent.
    State.BEGINNING: {
        Event.ONE_REQUEST: Next(State.ONLY),
        Event.SEVERAL_CHUNKS: Next(State.FIRST),
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _NOT_SENT,
    },
    # Until the record says otherwise, an earlier process may have sent all of it.
    State.READING_RECORD: {
        Event.NO_RECORD: Next(State.BEGINNING),
        Event.RECORD_SENT: _SENT,
        Event.RECORD_NOT_SENT: Next(State.ONLY),
        Event.RECORD_OPEN: Next(State.LOOKING_UP_EARLIER),
        Event.RECORD_NO_CHUNK: Next(State.FIRST),
        Event.RECORD_SOME_CHUNKS: Next(State.RESUMED_MIDDLE),
        Event.RECORD_ALL_BUT_LAST: Next(State.RESUMED_LAST),
        Event.LOCAL_FAILURE: _UNKNOWN,
        Event.INTERRUPTED: _UNKNOWN,
    },
    # The only request delivers, and is not idempotent: after it may have acted, it is never
    # repeated from here. A local failure comes before its last block was handed over (the source is
    # checked before that block).
    State.ONLY: {
        Event.ACCEPTED_ALL: _SENT,
        Event.REFUSED: _NOT_SENT,
        Event.NOT_RECEIVED: _NOT_SENT,
        Event.LOST: Next(State.LOOKING_UP),
        Event.FORGOTTEN: _NOT_SENT,
        Event.ALREADY_COMPLETE: _NOT_SENT,
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _UNKNOWN,
    },
    # The first chunk of several delivers nothing; a lost one leaves an upload behind that is never
    # finished.
    State.FIRST: {
        Event.ACCEPTED_MORE_LEFT: Next(State.MIDDLE),
        Event.ACCEPTED_ONE_LEFT: Next(State.LAST),
        Event.REFUSED: _NOT_SENT,
        Event.NOT_RECEIVED: _NOT_SENT,
        Event.LOST: _NOT_SENT,
        Event.FORGOTTEN: _NOT_SENT,
        Event.ALREADY_COMPLETE: _NOT_SENT,
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _NOT_SENT,
    },
    # Nor does a middle one. MESH must not say of an upload in the middle that it is complete.
    State.MIDDLE: {
        Event.ACCEPTED_MORE_LEFT: Next(State.MIDDLE),
        Event.ACCEPTED_ONE_LEFT: Next(State.LAST),
        Event.REFUSED: _NOT_SENT,
        Event.NOT_RECEIVED: _NOT_SENT,
        Event.LOST: _NOT_SENT,
        Event.FORGOTTEN: _NOT_SENT,
        Event.ALREADY_COMPLETE: Next(State.UNKNOWN, _SEVERAL),
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _NOT_SENT,
    },
    # An upload that an earlier process began may be too old for MESH. It was never finished, so a
    # new one is harmless.
    State.RESUMED_MIDDLE: {
        Event.ACCEPTED_MORE_LEFT: Next(State.RESUMED_MIDDLE),
        Event.ACCEPTED_ONE_LEFT: Next(State.LAST),
        Event.REFUSED: _NOT_SENT,
        Event.NOT_RECEIVED: _NOT_SENT,
        Event.LOST: _NOT_SENT,
        Event.FORGOTTEN: Next(State.FORGOTTEN),
        Event.ALREADY_COMPLETE: Next(State.UNKNOWN, _SEVERAL),
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _NOT_SENT,
    },
    # The last chunk delivers. Its repeats meet 423 once it has arrived.
    State.LAST: {
        Event.ACCEPTED_ALL: _SENT,
        Event.REFUSED: _NOT_SENT,
        Event.NOT_RECEIVED: _NOT_SENT,
        Event.LOST: _TRACK,
        Event.FORGOTTEN: _NOT_SENT,
        Event.ALREADY_COMPLETE: _TRACK,
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _UNKNOWN,
    },
    # An earlier process may have sent it. Whatever MESH says to the repeat, tracking decides: an
    # upload that was finished, collected and acknowledged may be unknown (404) or gone (410) as
    # well.
    State.RESUMED_LAST: {
        Event.ACCEPTED_ALL: _SENT,
        Event.REFUSED: _TRACK,
        Event.NOT_RECEIVED: _TRACK,
        Event.LOST: _TRACK,
        Event.FORGOTTEN: _TRACK,
        Event.ALREADY_COMPLETE: _TRACK,
        Event.LOCAL_FAILURE: _UNKNOWN,
        Event.INTERRUPTED: _UNKNOWN,
    },
    State.LOOKING_UP: {
        Event.FOUND: _SENT,
        Event.FOUND_OTHER: Next(State.UNKNOWN, _OTHER),
        Event.NOT_FOUND: Next(State.UNKNOWN, _NOT_KNOWN),
        Event.FAILED: _NOT_SENT,
        Event.LOOK_UP_FAILED: Next(State.UNKNOWN, _NOT_ASKED),
        Event.LOCAL_FAILURE: _UNKNOWN,
        Event.INTERRUPTED: _UNKNOWN,
    },
    # The process that made the request has ended, so nothing of it is under way any more.
    State.LOOKING_UP_EARLIER: {
        Event.FOUND: _SENT,
        Event.FOUND_OTHER: Next(State.UNKNOWN, _OTHER),
        Event.NOT_FOUND: Next(State.ONLY),
        Event.FAILED: _NOT_SENT,
        Event.LOOK_UP_FAILED: Next(State.UNKNOWN, _NOT_ASKED),
        Event.LOCAL_FAILURE: _UNKNOWN,
        Event.INTERRUPTED: _UNKNOWN,
    },
    State.TRACKING: {
        Event.DELIVERED: _SENT,
        Event.NOT_DELIVERED: Next(State.UNKNOWN, _NOT_TRACKED),
        Event.FAILED: _NOT_SENT,
        Event.LOOK_UP_FAILED: Next(State.UNKNOWN, _NOT_TRACKED),
        Event.LOCAL_FAILURE: _UNKNOWN,
        Event.INTERRUPTED: _UNKNOWN,
    },
    # The record must be reset before chunk 1 goes: with the old message id it would lead the next
    # process here again, and then to a second message.
    State.FORGOTTEN: {
        Event.STARTED_AGAIN: Next(State.FIRST),
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _NOT_SENT,
    },
    # Only what came after can fail: the record, or the comparison of an old record with new
    # arguments.
    State.SENT: {Event.LOCAL_FAILURE: _SENT, Event.INTERRUPTED: _SENT},
    State.NOT_SENT: {Event.LOCAL_FAILURE: _NOT_SENT, Event.INTERRUPTED: _NOT_SENT},
    State.UNKNOWN: {Event.LOCAL_FAILURE: _UNKNOWN, Event.INTERRUPTED: _UNKNOWN},
}
"""The next state for each state and event."""


# The plan


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MessageOptions:
    """What the caller says of a message, except its content and its local id; see `send_message`."""

    to: str = dataclasses.field(repr=False)
    workflow_id: str
    subject: str | None = dataclasses.field(default=None, repr=False)
    file_name: str | None = dataclasses.field(default=None, repr=False)
    checksum: str | None = None
    content_type: str | None = None
    encrypted: bool = False
    compressed: bool = False
    partner_id: str | None = dataclasses.field(default=None, repr=False)
    compress: bool = False

    def headers(self, sender: str, local_id: str | None) -> dict[str, str]:
        """Return the headers of chunk 1; without a local id, those of any message that says the same.

        Raises InvalidArgument for what cannot be said in a header.
        """
        return wire.message_headers(
            sender=sender,
            to=self.to,
            workflow_id=self.workflow_id,
            local_id=local_id,
            subject=self.subject,
            file_name=self.file_name,
            checksum=self.checksum,
            content_type=self.content_type,
            encrypted=self.encrypted,
            compressed=self.compressed,
            partner_id=self.partner_id,
        )

    def digest(self, local_id: str | None) -> str:
        """Return a digest of what the caller said; `local_id` is theirs, and None if one is generated."""
        return _arguments_digest(self.headers("", local_id), local_id_generated=not local_id, compress=self.compress)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UploadPlan:
    """All that is decided about an upload before its first request.

    Attributes:
        mailbox_id: the sender.
        local_id: the id by which MESH can be asked for the message.
        local_id_generated: whether it was generated for this send, and so is unique.
        headers: the headers of chunk 1.
        compress: whether each chunk is gzipped in transit.
        content_bytes: the length of the content.
        chunk_bytes: the length of each chunk but the last.
        slices: the chunks.
    """

    mailbox_id: str
    local_id: str
    local_id_generated: bool
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    compress: bool
    content_bytes: int
    chunk_bytes: int
    slices: tuple[Slice, ...] = dataclasses.field(repr=False)

    @classmethod
    def make(
        cls,
        options: MessageOptions,
        headers: Mapping[str, str],
        *,
        mailbox_id: str,
        local_id: str | None,
        unique: str,
        length: int,
        limit: int,
    ) -> UploadPlan:
        """Plan a new upload.

        Args:
            options: what the caller says of the message.
            headers: what `options.headers` returned for it.
            mailbox_id: the sender.
            local_id: the caller's id of the message, if they gave one.
            unique: the id to use if not.
            length: the length of the content.
            limit: the longest chunk.

        Raises InvalidArgument for what MESH would not take: empty or too long content.
        """
        chunk_bytes = min(limit, MAX_REQUEST_BYTES - _GZIP_OVERHEAD_BYTES * options.compress)
        return cls._planned(options, headers, mailbox_id, local_id or unique, not local_id, length, chunk_bytes)

    @classmethod
    def resumed(cls, options: MessageOptions, record: SendRecord) -> UploadPlan:
        """Plan the rest of an upload as it was begun, whatever the settings are now."""
        return cls._planned(
            options,
            options.headers(record.mailbox_id, record.local_id),
            record.mailbox_id,
            record.local_id,
            record.local_id_generated,
            record.content_bytes,
            record.chunk_bytes,
        )

    @classmethod
    def _planned(
        cls,
        options: MessageOptions,
        headers: Mapping[str, str],
        mailbox_id: str,
        local_id: str,
        generated: bool,
        length: int,
        chunk_bytes: int,
    ) -> UploadPlan:
        return cls(
            mailbox_id=mailbox_id,
            local_id=local_id,
            local_id_generated=generated,
            headers={**headers, wire.LOCAL_ID: local_id},
            compress=options.compress,
            content_bytes=length,
            chunk_bytes=chunk_bytes,
            slices=tuple(split(length, chunk_bytes)),
        )

    def digest(self) -> str:
        """Return the digest of what the caller said, as `MessageOptions.digest` does."""
        return _arguments_digest(self.headers, local_id_generated=self.local_id_generated, compress=self.compress)

    def delivers(self, number: int) -> bool:
        """Whether MESH delivers the message when it has this chunk."""
        return number == len(self.slices)

    def request(self, number: int, message_id: str | None) -> Request:
        """Return the request for a chunk; `message_id` is that of the upload, from the second chunk on."""
        piece = self.slices[number - 1]
        if number == 1:
            return endpoints.send_message(self.mailbox_id, self.headers, piece.range, gzipped=self.compress)
        return endpoints.send_chunk(
            self.mailbox_id,
            message_id or "",
            piece.range,
            content_type=self.headers[wire.CONTENT_TYPE],
            gzipped=self.compress,
        )


def _arguments_digest(headers: Mapping[str, str], *, local_id_generated: bool, compress: bool) -> str:
    """Return a digest of what the caller said, without what was added to it."""
    added = {wire.FROM, wire.LOCAL_ID} if local_id_generated else {wire.FROM}
    said = sorted((name, value) for name, value in headers.items() if name not in added)
    return hashlib.sha256(json.dumps([said, compress]).encode()).hexdigest()


# The record


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
        return self.model_copy(
            update={
                "message_id": message_id,
                "chunks_done": number,
                "bytes_on_wire": self.bytes_on_wire + bytes_on_wire,
                "digest": digest,
                "sent": number == self.chunks,
            }
        )

    def delivered(self, message_id: str, *, bytes_on_wire: int) -> SendRecord:
        """Return the record of a message that MESH turned out to have, with its last chunk."""
        return self.accepted(self.chunks, message_id=message_id, bytes_on_wire=bytes_on_wire, digest="")

    def opened(self) -> SendRecord:
        """Return the record from which the only request may be made: from then on it may have been sent."""
        return self.model_copy(update={"not_sent": False})

    def failed(self) -> SendRecord:
        """Return the record of a single request that certainly failed: the next attempt need not ask for it."""
        return self.model_copy(update={"not_sent": True})

    def started_again(self) -> SendRecord:
        """Return the record of an upload that begins again at chunk 1."""
        return self.model_copy(update={"message_id": None, "chunks_done": 0, "bytes_on_wire": 0, "digest": ""})

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


# Events


def event_of_plan(plan: UploadPlan) -> Event:
    """Return how `Step.BEGIN` ended."""
    return Event.ONE_REQUEST if len(plan.slices) == 1 else Event.SEVERAL_CHUNKS


def event_of_record(record: SendRecord | None) -> Event:
    """Return how `Step.READ_RECORD` ended."""
    if record is None:
        return Event.NO_RECORD
    if record.sent:
        return Event.RECORD_SENT
    total = record.chunks
    if total == 1:
        return Event.RECORD_NOT_SENT if record.not_sent else Event.RECORD_OPEN
    if record.chunks_done == 0:
        return Event.RECORD_NO_CHUNK
    return Event.RECORD_ALL_BUT_LAST if record.chunks_done == total - 1 else Event.RECORD_SOME_CHUNKS


def event_of_acceptance(number: int, total: int) -> Event:
    """Return how `Step.SEND_CHUNK` ended when MESH accepted chunk `number` of `total`."""
    left = total - number
    if left == 0:
        return Event.ACCEPTED_ALL
    return Event.ACCEPTED_ONE_LEFT if left == 1 else Event.ACCEPTED_MORE_LEFT


def accepted_message_id(number: int, status: int, message_id: str | None, upload_id: str | None) -> str:
    """Return the message id of a chunk that MESH has accepted.

    A proxy can put a page of its own in place of the response, so a success counts if it has a message id; for a later
    chunk, whose message id is known, the status of the MESH API is enough.

    Args:
        number: the chunk.
        status: the status, 2xx. MESH API: 202.
        message_id: the message id in the response.
        upload_id: the message id of the upload, from the second chunk on.

    Raises ServerError for anything else: MESH may have the chunk.
    """
    if number == 1 and message_id is not None:
        return message_id
    if number > 1 and upload_id is not None and (status == ACCEPTED or message_id == upload_id):
        return upload_id
    unexpected = responses.unexpected_response("send_message", status=status)
    unexpected.may_have_acted = True
    raise unexpected


def event_of_failure(failure: MeshError, *, delivers: bool) -> Event:
    """Return how `Step.SEND_CHUNK` ended when it raised, after all attempts; `delivers` says of which request."""
    if isinstance(failure, UploadFinished):
        return Event.ALREADY_COMPLETE
    if failure.may_have_acted and delivers:
        return Event.LOST
    if isinstance(failure, (NotFound, Gone)):
        return Event.FORGOTTEN
    if failure.may_have_acted:
        return Event.LOST
    if isinstance(failure, (ConnectionFailed, ConnectionLost, Busy)):
        return Event.NOT_RECEIVED
    return Event.REFUSED if isinstance(failure, ResponseError) else Event.LOCAL_FAILURE


def event_of_look_up(
    tracking: Tracking, plan: UploadPlan, *, began: datetime | None, recent_message_ids: Collection[str]
) -> Event:
    """Return how `Step.LOOK_UP` ended when MESH knows a message by the local id.

    A local id that the caller chose may have been used before. Then only a message that was uploaded after this send
    began can be this one: to take an older message for it would lose this one without a word.

    Args:
        tracking: what was found.
        plan: the upload.
        began: when this send began, by the server's clock; None if that is not known.
        recent_message_ids: ids that other sends of this client have led to.
    """
    if tracking.message_id in recent_message_ids or not _is_same(tracking, plan, began):
        return Event.FOUND_OTHER
    if tracking.failed:
        return Event.FAILED
    return Event.FOUND if tracking.delivered else Event.FOUND_OTHER


def _is_same(tracking: Tracking, plan: UploadPlan, began: datetime | None) -> bool:
    if tracking.local_id not in (None, plan.local_id):
        return False
    if tracking.workflow_id not in (None, plan.headers[wire.WORKFLOW_ID]):
        return False
    if plan.local_id_generated:
        return True
    to = plan.headers[wire.TO].upper()
    # MESH itself finds the mailbox for a recipient that is a patient's GP practice.
    if not to.startswith("GPPROVIDER") and (tracking.recipient or to).upper() != to:
        return False
    file_name = plan.headers.get(wire.FILE_NAME)
    if file_name and tracking.file_name not in (None, file_name):
        return False
    if began is None or tracking.upload_timestamp is None:
        return False
    return tracking.upload_timestamp >= began - _CLOCK_GRAIN


def event_of_tracking(tracking: Tracking) -> Event:
    """Return how `Step.TRACK` ended when MESH answered."""
    if tracking.failed:
        return Event.FAILED
    return Event.DELIVERED if tracking.delivered else Event.NOT_DELIVERED


# What to raise


def failure_of(tracking: Tracking) -> Refused:
    """Return the failure of a message that MESH took and then failed; it will not be delivered."""
    return Refused(
        f"MESH took the message, and then failed it (status {tracking.status})",
        event=wire.printable(tracking.status_event),
        code=wire.printable(tracking.status_code),
        description=wire.printable(tracking.status_description),
        message_id=tracking.message_id,
    )


def error(end: Next, failure: MeshError) -> MeshError:
    """Return the error with which a send ends that has no receipt: the failure, or OutcomeUnknown with its reason."""
    if not end.reason:
        return failure
    return OutcomeUnknown(
        f"{end.reason} ({failure.reason})",
        outcome=Outcome.UNKNOWN,
        status=failure.status,
        event=failure.event,
        code=failure.code,
        description=failure.description,
    )
