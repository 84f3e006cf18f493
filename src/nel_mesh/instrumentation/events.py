"""Events of client operations, and the hooks that receive them.

A client makes an event when an operation or a request begins or ends, when a retry is due, and when a
message fails. It passes each event to its hooks: to the log (`logs.py`), to OpenTelemetry
(`opentelemetry.py`), and to those that the program gives (`MeshClient(..., hooks=[...])`).

- An event holds ids, sizes, durations and kinds of failure. It never holds a subject, a file name, a
  recipient, content, or the text of an error.
- Its texts are printable and of bounded length, whatever a server sent.
- An event is made only if a hook wants it.
- A hook that raises does not fail the operation.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import datetime
from typing import ClassVar, TypeAlias

from nel_mesh.errors import MeshError

_MAX_TEXT_CHARACTERS = 300

_HIDDEN = re.compile(r"[^ -~]|(?<![A-Za-z0-9])(\d{10}|\d{3}([ _-])\d{3}\2\d{4})(?![A-Za-z0-9])")
"""Text of a server that is not shown: control characters, other than ASCII, and NHS numbers (10 digits)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The MESH server of a client: `address`, `port`, and `url` without a user."""

    address: str
    port: int
    url: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The kind of an error, and MESH's codes for it.

    Attributes:
        error: the name of the error's class.
        status: the HTTP status.
        event, code: as MESH gives them. Codes are ambiguous alone.
    """

    error: str
    status: int | None = None
    event: str | None = None
    code: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base of all events.

    Attributes:
        operation: the name of the client's method, such as `send_message`.
        mailbox_id: the client's mailbox.
        server: the MESH server.
    """

    operation: str
    mailbox_id: str
    server: Server

    _FROM_SERVER: ClassVar[tuple[str, ...]] = (
        "message_id",
        "linked_message_id",
        "local_id",
        "workflow_id",
        "event",
        "code",
    )

    def __post_init__(self) -> None:
        for name in self._FROM_SERVER:
            text = getattr(self, name, None)
            if text is not None:
                object.__setattr__(self, name, _printable(text))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperationStarted(Event):
    """An operation begins.

    Attributes:
        span_id: the same in all events of this operation.
        message_id: the message, if it is known by now.
        current: whether what follows in this thread or task belongs to the operation, until it ends.
    """

    span_id: int
    message_id: str | None
    current: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperationEntered(Event):
    """From here to `OperationLeft`, what follows in this thread or task belongs to the operation `span_id`."""

    span_id: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperationLeft(Event):
    """The end of an `OperationEntered`."""

    span_id: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperationFinished(Event):
    """An operation has ended.

    Attributes:
        span_id: that of its OperationStarted.
        message_id, local_id, workflow_id: of the message, as far as known.
        bytes, chunks: of its content.
        done: whether a message was sent, received, delivered or acknowledged by this operation.
        duration_in_seconds: of the whole operation.
        failure: None if it succeeded.
        outcome: if it failed, what happened to the message: the value of an `Outcome`.
    """

    span_id: int
    message_id: str | None
    local_id: str | None
    workflow_id: str | None
    bytes: int | None
    chunks: int | None
    done: bool
    duration_in_seconds: float
    failure: Failure | None
    outcome: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestStarted(Event):
    """An HTTP request begins: one attempt.

    Attributes:
        span_id: the same in both events of this request.
        method: of HTTP.
        url_template: the path, with names in place of ids.
        attempt: from 1.
        bytes: the length of its body.
        message_id: the message, if the request is about one.
    """

    span_id: int
    method: str
    url_template: str
    attempt: int
    bytes: int
    message_id: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestFinished(Event):
    """A request has its response, or has failed. The content of a message may still be to be read.

    Attributes:
        span_id, method, url_template, attempt, bytes, message_id: those of its RequestStarted.
        status: of the response; None if there was none.
        server_time: the server's clock, by its `Date`, to the second; None if it said none.
        duration_in_seconds: of this attempt.
        failure: None if it succeeded.
    """

    span_id: int
    method: str
    url_template: str
    attempt: int
    bytes: int
    message_id: str | None
    status: int | None
    server_time: datetime | None
    duration_in_seconds: float
    failure: Failure | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(Event):
    """An attempt failed, and the next one follows after a delay.

    Attributes:
        message_id: the message, if the request is about one.
        attempt, max_attempts: the attempt that failed, and how many there may be.
        delay_in_seconds: until the next one.
        failure: why it failed.
    """

    message_id: str | None
    attempt: int
    max_attempts: int
    delay_in_seconds: float
    failure: Failure


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReportReceived(Event):
    """A report: MESH could not deliver a message that this mailbox sent.

    Attributes:
        message_id: the report's own.
        linked_message_id: that of the message that was not delivered.
        event, code: why.
    """

    message_id: str
    linked_message_id: str | None
    event: str | None
    code: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MessageFailed(Event):
    """A message could not be received, or its handler raised. It is still in the inbox.

    Attributes:
        message_id: the message.
        failure: why.
        where: the traceback, without the error's text.
    """

    message_id: str
    failure: Failure
    where: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgementFailed(Event):
    """A message was delivered but is not acknowledged yet; the next run acknowledges it."""

    message_id: str
    failure: Failure


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChecksumNotVerified(Event):
    """A message is complete, but its content is not verified by the sender's checksum.

    Attributes:
        message_id: the message.
        algorithm: of the checksum.
        differs: True if the content has another checksum, while the sender did not name the algorithm; False
            if this machine refuses the algorithm (FIPS), so that nothing was compared.
    """

    message_id: str
    algorithm: str
    differs: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchFailed(Event):
    """A chunk could not be fetched before its turn; it is fetched again in its turn.

    Attributes:
        message_id, chunk: the message, and the number of the chunk.
        failure: why it failed.
    """

    message_id: str
    chunk: int
    failure: Failure


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SendRecordFailed(Event):
    """The record of a send (`resume`) could not be written or removed. The send goes on all the same.

    Attributes:
        message_id: the message, once it is sent.
        step: `begin` (the send cannot resume if it is interrupted), `complete` or `remove`.
        os_error: the name of the operating system's error, such as `ENOSPC`; None if there was none.
        failure: why it failed.
    """

    message_id: str | None
    step: str
    os_error: str | None
    failure: Failure


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProgressFailed(Event):
    """The caller's `progress` raised when MESH had the message already, so the send did not fail.

    Attributes:
        failure: the kind of its error.
        where: the traceback, without the error's text.
    """

    failure: Failure
    where: str


Hook: TypeAlias = Callable[[Event], object]
"""A callable that receives events, in the thread or task that they are made in. It must return soon.

It may have a method `wants(kind: type[Event]) -> bool`: events that no hook wants are not made.
"""


def failure_of(error: BaseException) -> Failure:
    """Return the kind of an error, without its text: a handler's may hold a patient's data."""
    kind = type(error).__name__
    if not isinstance(error, MeshError):
        return Failure(error=kind)
    return Failure(error=kind, status=error.status, event=_printable(error.event), code=_printable(error.code))


def _printable(text: object) -> str | None:
    """The text, if it is short, printable ASCII and without an NHS number; otherwise only its length."""
    if text is None:
        return None
    if not isinstance(text, str):
        return f"(hidden: {type(text).__name__})"  # an argument that the operation refuses
    if len(text) > _MAX_TEXT_CHARACTERS or _HIDDEN.search(text):
        return f"(hidden: {len(text)} characters)"
    return text
