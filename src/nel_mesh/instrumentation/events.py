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

import contextlib
import dataclasses
import errno
import itertools
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, ClassVar, Self, TypeAlias
from urllib.parse import urlsplit

from nel_mesh.errors import MeshError

_logger = logging.getLogger("nel_mesh")

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


class Instrumentation:
    """Makes the events of one mailbox and passes them to its hooks.

    Args:
        url: the server's.
        mailbox_id: the mailbox.
        monotonic: returns the seconds by which durations are measured.
        hooks: receive the events, in this order.
    """

    def __init__(self, *, url: str, mailbox_id: str, monotonic: Callable[[], float], hooks: Iterable[Hook]) -> None:
        parts = urlsplit(url)
        address = parts.hostname or ""
        # Not `netloc`, which may name a user.
        port = f":{parts.port}" if parts.port else ""
        host = f"[{address}]" if ":" in address else address
        self.server = Server(
            address=address,
            port=parts.port or (443 if parts.scheme == "https" else 80),
            url=f"{parts.scheme}://{host}{port}{parts.path}",
        )
        self.mailbox_id = mailbox_id
        self.monotonic = monotonic
        self.span_ids = itertools.count(1)
        self._hooks = [(getattr(hook, "wants", _wants_all), hook) for hook in hooks]
        self._failed: set[int] = set()

    def operation(self, name: str, *, message_id: str | None = None, current: bool = True) -> OperationSpan:
        """One operation on a message or a mailbox, as a `with` block.

        `current`: whether all that happens in the block belongs to it. Not where the block is the user's: it
        could then be left in another thread or task than it was entered in.
        """
        return OperationSpan(self, name, message_id, current=current)

    def attempt(
        self,
        operation: str,
        method: str,
        url_template: str,
        number: int,
        length: int,
        message_id: str | None,
    ) -> RequestSpan:
        """One HTTP request, as a `with` block: to the end of its response, or the head of a streamed one."""
        hooks = self.hooks_for(RequestFinished)
        if not hooks:
            return RequestSpan()
        fields = {
            "span_id": next(self.span_ids),
            "method": method,
            "url_template": url_template,
            "attempt": number,
            "bytes": length,
            "message_id": message_id,
        }
        return _ReportedRequestSpan(self, hooks, operation, fields)

    def retry_scheduled(
        self,
        operation: str,
        error: BaseException,
        *,
        attempt: int,
        max_attempts: int,
        delay_in_seconds: float,
        message_id: str | None,
    ) -> None:
        self._report(
            RetryScheduled,
            operation,
            message_id=message_id,
            attempt=attempt,
            max_attempts=max_attempts,
            delay_in_seconds=delay_in_seconds,
            failure=_failure(error),
        )

    def report_received(
        self,
        operation: str,
        *,
        message_id: str,
        linked_message_id: str | None,
        event: str | None,
        code: str | None,
    ) -> None:
        self._report(
            ReportReceived,
            operation,
            message_id=message_id,
            linked_message_id=linked_message_id,
            event=event,
            code=code,
        )

    def message_failed(self, operation: str, message_id: str, error: BaseException) -> None:
        self._report(
            MessageFailed,
            operation,
            message_id=message_id,
            failure=_failure(error),
            where=_where(error),
        )

    def acknowledgement_failed(self, operation: str, message_id: str, error: BaseException) -> None:
        self._report(AcknowledgementFailed, operation, message_id=message_id, failure=_failure(error))

    def checksum_not_verified(self, operation: str, message_id: str, *, algorithm: str, differs: bool) -> None:
        self._report(
            ChecksumNotVerified,
            operation,
            message_id=message_id,
            algorithm=algorithm,
            differs=differs,
        )

    def prefetch_failed(self, operation: str, message_id: str, *, chunk: int, error: BaseException) -> None:
        self._report(PrefetchFailed, operation, message_id=message_id, chunk=chunk, failure=_failure(error))

    def send_record_failed(self, message_id: str | None, step: str, error: BaseException) -> None:
        cause = error.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        self._report(
            SendRecordFailed,
            "send_message",
            message_id=message_id,
            step=step,
            os_error=None if number is None else errno.errorcode.get(number),
            failure=_failure(error),
        )

    def progress_failed(self, operation: str, error: BaseException) -> None:
        self._report(ProgressFailed, operation, failure=_failure(error), where=_where(error))

    def hooks_for(self, kind: type[Event]) -> list[Hook]:
        """The hooks that want events of this kind."""
        return [hook for wants, hook in self._hooks if wants(kind)]

    def emit(self, hooks: list[Hook], kind: type[Event], operation: str, **fields: Any) -> None:
        """Pass an event to hooks. No message is lost or sent twice because one of them raises."""
        event = kind(operation=operation, mailbox_id=self.mailbox_id, server=self.server, **fields)
        for hook in hooks:
            try:
                hook(event)
            except Exception as error:  # noqa: BLE001 - a hook is foreign code, and so is what it calls
                # A warning once, so that its author learns of it.
                level = logging.DEBUG if id(hook) in self._failed else logging.WARNING
                self._failed.add(id(hook))
                with contextlib.suppress(Exception):
                    _logger.log(level, "a hook for events failed (%s)", type(error).__name__)

    def _report(self, kind: type[Event], operation: str, **fields: Any) -> None:
        if hooks := self.hooks_for(kind):
            self.emit(hooks, kind, operation, **fields)


class OperationSpan:
    """An operation in progress. Its users set what they learn; the hooks are told at its end.

    Attributes:
        message_id, local_id, workflow_id: of the message.
        bytes, chunks: of its content.
        done: whether a message was sent, received, delivered or acknowledged by it, if nothing is raised.
    """

    __slots__ = (
        "_began",
        "_current",
        "_hooks",
        "_instrumentation",
        "_name",
        "_span_id",
        "bytes",
        "chunks",
        "done",
        "local_id",
        "message_id",
        "workflow_id",
    )

    def __init__(self, instrumentation: Instrumentation, name: str, message_id: str | None, *, current: bool) -> None:
        self._instrumentation = instrumentation
        self._name = name
        self._current = current
        self._hooks = instrumentation.hooks_for(OperationFinished)
        self.message_id = message_id
        self.local_id: str | None = None
        self.workflow_id: str | None = None
        self.bytes: int | None = None
        self.chunks: int | None = None
        self.done = True

    def __enter__(self) -> Self:
        if self._hooks:
            self._span_id = next(self._instrumentation.span_ids)
            self._emit(OperationStarted, message_id=self.message_id, current=self._current)
            self._began = self._instrumentation.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._hooks:
            return
        seconds = self._instrumentation.monotonic() - self._began
        if isinstance(error, GeneratorExit):
            error, self.done = None, False  # the user left the loop in which the message was given
        if isinstance(error, MeshError):
            self.message_id = self.message_id or error.message_id
            self.local_id = self.local_id or error.local_id
        self._emit(
            OperationFinished,
            message_id=self.message_id,
            local_id=self.local_id,
            workflow_id=self.workflow_id,
            bytes=self.bytes,
            chunks=self.chunks,
            done=self.done and error is None,
            duration_in_seconds=seconds,
            failure=None if error is None else _failure(error),
            outcome=error.outcome.value if isinstance(error, MeshError) else None,
        )

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """A `with` block in which all that happens belongs to this operation."""
        self._emit(OperationEntered)
        try:
            yield
        finally:
            self._emit(OperationLeft)

    def _emit(self, kind: type[Event], **fields: Any) -> None:
        if self._hooks:
            self._instrumentation.emit(self._hooks, kind, self._name, span_id=self._span_id, **fields)


class RequestSpan:
    """An HTTP request in progress, of which no hook wants to know.

    Attributes:
        status: of the response; set by the sender of the request.
        server_time: the server's, by the response; likewise, if a hook wants to know.
        is_reported: whether one does.
    """

    __slots__ = ("server_time", "status")

    is_reported = False

    def __init__(self) -> None:
        self.status: int | None = None
        self.server_time: datetime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class _ReportedRequestSpan(RequestSpan):
    """An HTTP request in progress, with hooks."""

    __slots__ = ("_began", "_fields", "_hooks", "_instrumentation", "_operation")

    is_reported = True

    def __init__(
        self,
        instrumentation: Instrumentation,
        hooks: list[Hook],
        operation: str,
        fields: dict[str, Any],
    ) -> None:
        super().__init__()
        self._instrumentation = instrumentation
        self._hooks = hooks
        self._operation = operation
        self._fields = fields

    def __enter__(self) -> Self:
        self._instrumentation.emit(self._hooks, RequestStarted, self._operation, **self._fields)
        self._began = self._instrumentation.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._instrumentation.emit(
            self._hooks,
            RequestFinished,
            self._operation,
            **self._fields,
            status=self.status,
            server_time=self.server_time,
            duration_in_seconds=self._instrumentation.monotonic() - self._began,
            failure=None if error is None else _failure(error),
        )


def _wants_all(kind: type[Event]) -> bool:
    return True


def _failure(error: BaseException) -> Failure:
    """Leave out the error's text: a handler's may hold a patient's data."""
    kind = type(error).__name__
    if not isinstance(error, MeshError):
        return Failure(error=kind)
    return Failure(
        error=kind,
        status=error.status,
        event=_printable(error.event),
        code=_printable(error.code),
    )


def _printable(text: object) -> str | None:
    """The text, if it is short, printable ASCII and without an NHS number; otherwise only its length."""
    if text is None:
        return None
    if not isinstance(text, str):
        return f"(hidden: {type(text).__name__})"  # an argument that the operation refuses
    if len(text) > _MAX_TEXT_CHARACTERS or _HIDDEN.search(text):
        return f"(hidden: {len(text)} characters)"
    return text


def _where(error: BaseException) -> str:
    """Where an error was raised: files, lines, functions and source, but neither its text nor locals."""
    return "".join(traceback.format_tb(error.__traceback__))
