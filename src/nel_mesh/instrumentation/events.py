"""What is told of the work while it is done: to the log, and to OpenTelemetry if the program uses it.

The names are those of OpenTelemetry's conventions for HTTP clients and for messaging, and `nhs_mesh.*` where they have
none. Nothing is told of a message but its ids, its workflow id and its size. Nothing that fails here fails the work.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypedDict, Unpack
from urllib.parse import urlsplit

from nel_mesh._version import __version__
from nel_mesh.errors import InvalidArgument, MeshError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

logger = logging.getLogger("nel_mesh")

Attributes: TypeAlias = dict[str, str | int]

_SEND, _RECEIVE, _PROCESS, _SETTLE = "send", "receive", "process", "settle"

_TYPES = {
    "send_message": _SEND,
    "retrieve_message": _RECEIVE,
    "receive_file": _RECEIVE,
    "receive_messages": _PROCESS,
    "acknowledge_message": _SETTLE,
}
"""What an operation is among messaging's; others are none."""

_DONE = {_SEND: "sent", _RECEIVE: "received", _PROCESS: "delivered", _SETTLE: "acknowledged"}

_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
_BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Of durations, as the conventions have them."""


class LogFields(TypedDict, total=False):
    """What a record of the log may say besides its text, each under its name with `mesh_` before it."""

    message_id: str | None
    linked_message_id: str | None
    local_id: str | None
    workflow_id: str | None
    bytes: int | None
    chunks: int | None
    attempt: int
    duration_in_seconds: float
    status: int | None
    event: str | None
    code: str | None
    error: str


class Instrumentation:
    """Tells what is done for one mailbox.

    Args:
        url: the server's.
        mailbox_id: the mailbox.
        monotonic: gives the seconds by which durations are measured.
    """

    def __init__(self, *, url: str, mailbox_id: str, monotonic: Callable[[], float]) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        self.mailbox_id = mailbox_id
        self.monotonic = monotonic
        self.server: Attributes = {
            "server.address": host,
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
        }
        # Not `netloc`, which may name a user.
        port = f":{parts.port}" if parts.port else ""
        self.base = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"

    def operation(self, name: str, *, message_id: str | None = None, current: bool = True) -> OperationSpan:
        """One operation on a message or a mailbox, for a `with` block; `current` is whether its span is, in the block.

        It must not be where others write the block: what it sets there could be unset elsewhere, or never.
        """
        return OperationSpan(self, name, message_id, current=current)

    def attempt(
        self, operation: str, method: str, template: str, number: int, length: int, message_id: str | None
    ) -> RequestSpan:
        """One HTTP request, from its beginning to the head of a long answer or the end of a short one.

        `template` is its path with names instead of what is said for them; `length` is that of its body.
        """
        if _opentelemetry() is None and not logger.isEnabledFor(logging.DEBUG):
            return RequestSpan()
        return TracedRequest(self, operation, method, template, number, length, message_id)

    def log_fields(
        self, operation: str, failure: BaseException | None = None, **facts: Unpack[LogFields]
    ) -> dict[str, object]:
        """The `extra` of a record of the log, with what may be said of a failure; a fact that is None is left out."""
        said = {"mesh_operation": operation, "mesh_mailbox_id": self.mailbox_id}
        known = {**_what_failed(failure), **facts}
        return {**said, **{f"mesh_{name}": value for name, value in known.items() if value is not None}}


class OperationSpan:
    """An operation under way. What becomes known of it is noted here, and told at its end.

    Attributes:
        message_id, local_id, workflow_id: the message's.
        bytes, chunks: of its content.
        done: whether a message was sent, received, delivered or acknowledged by it, if nothing is raised.
    """

    __slots__ = (
        "_began",
        "_current",
        "_instrumentation",
        "_name",
        "_span",
        "_token",
        "_type",
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
        self._type = _TYPES.get(name)
        self._current = current
        self._span: Span | None = None
        self._token: Any = None
        self.message_id = message_id
        self.local_id: str | None = None
        self.workflow_id: str | None = None
        self.bytes: int | None = None
        self.chunks: int | None = None
        self.done = True

    def __enter__(self) -> Self:
        if found := _opentelemetry():
            self._begin(found)
        self._began = self._instrumentation.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = self._instrumentation.monotonic() - self._began
        if isinstance(error, GeneratorExit):
            error, self.done = None, False  # whoever had a message has left the loop
        if isinstance(error, MeshError):
            self.message_id = self.message_id or error.message_id
            self.local_id = self.local_id or error.local_id
        self._log(seconds, error)
        if (span := self._span) is not None and (found := _opentelemetry()):
            with _harmless():
                if self._token is not None:
                    found.context.detach(self._token)
                self._measure(found, seconds, error)
                span.set_attributes(self._said(error))
                _end(found, span, error)

    def current(self) -> contextlib.AbstractContextManager[None]:
        """A `with` block in which what is told belongs to this."""
        found = _opentelemetry()
        return _NOTHING if self._span is None or found is None else found.within(self._span)

    def _log(self, seconds: float, error: BaseException | None) -> None:
        done = _DONE[self._type] if self._type and self.done and error is None else None
        level = logging.INFO if done else logging.DEBUG
        if not logger.isEnabledFor(level):
            return
        extra = self._instrumentation.log_fields(
            self._name,
            error,
            message_id=self.message_id,
            local_id=self.local_id,
            workflow_id=self.workflow_id,
            bytes=self.bytes,
            chunks=self.chunks,
            duration_in_seconds=round(seconds, 6),
        )
        if done:
            logger.log(level, "%s: message %s %s", self._name, self.message_id, done, extra=extra)
        else:
            how = f"failed ({type(error).__name__})" if error else "done"
            logger.log(level, "%s: %s in %.3f s", self._name, how, seconds, extra=extra)

    def _begin(self, found: _OpenTelemetry) -> None:
        kinds = found.trace.SpanKind
        attributes = {**self._labels(), "messaging.client.id": self._instrumentation.mailbox_id}
        if self._type is not None:
            attributes["messaging.operation.type"] = self._type
        if self.message_id is not None:
            attributes["messaging.message.id"] = self.message_id
        to = attributes.get("messaging.destination.name")
        with _harmless():
            self._span = found.tracer.start_span(
                f"{self._name} {to}" if to else self._name,
                kind=kinds.CONSUMER if self._type == _PROCESS else kinds.CLIENT,
                attributes=attributes,
            )
            if self._current:
                self._token = found.context.attach(found.trace.set_span_in_context(self._span))

    def _labels(self) -> Attributes:
        """What spans and metrics are told alike; few values, and no message's own."""
        labels: Attributes = {"messaging.system": "nhs_mesh", "messaging.operation.name": self._name}
        # Where a message is sent to is not told, as everywhere; where one comes from is our own mailbox.
        if self._type not in (None, _SEND):
            labels["messaging.destination.name"] = self._instrumentation.mailbox_id
        return labels | self._instrumentation.server

    def _said(self, error: BaseException | None) -> Attributes:
        facts = {
            "messaging.message.id": self.message_id,
            "messaging.message.body.size": self.bytes,
            "nhs_mesh.local_id": self.local_id,
            "nhs_mesh.workflow_id": self.workflow_id,
            "nhs_mesh.chunks": self.chunks,
            "nhs_mesh.outcome": error.outcome.value if isinstance(error, MeshError) and self._type == _SEND else None,
        }
        return {name: value for name, value in facts.items() if value is not None}

    def _measure(self, found: _OpenTelemetry, seconds: float, error: BaseException | None) -> None:
        if self._type is None:
            return
        labels = self._labels()
        if error is not None:
            labels["error.type"] = type(error).__name__
        if self._type == _PROCESS:
            found.process_duration.record(seconds, labels)
        else:
            found.operation_duration.record(seconds, labels | {"messaging.operation.type": self._type})
        if self._type == _SEND and not isinstance(error, InvalidArgument):
            found.sent.add(1, labels)
        elif self._type in (_RECEIVE, _PROCESS) and (self.done or error is not None):
            found.consumed.add(1, labels)


class RequestSpan:
    """An HTTP request under way, which nobody wants to hear of.

    Attributes:
        status: what it was answered; noted here.
    """

    __slots__ = ("status",)

    def __init__(self) -> None:
        self.status: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class TracedRequest(RequestSpan):
    """One that is told of."""

    __slots__ = (
        "_began",
        "_instrumentation",
        "_length",
        "_message_id",
        "_method",
        "_number",
        "_operation",
        "_span",
        "_template",
    )

    def __init__(
        self,
        instrumentation: Instrumentation,
        operation: str,
        method: str,
        template: str,
        number: int,
        length: int,
        message_id: str | None,
    ) -> None:
        super().__init__()
        self._instrumentation = instrumentation
        self._operation = operation
        self._method = method
        self._template = template
        self._number = number
        self._length = length
        self._message_id = message_id
        self._span: Span | None = None

    def __enter__(self) -> Self:
        if found := _opentelemetry():
            with _harmless():
                self._begin(found)
        self._began = self._instrumentation.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = self._instrumentation.monotonic() - self._began
        if logger.isEnabledFor(logging.DEBUG):
            self._log(seconds, error)
        if (span := self._span) is not None and (found := _opentelemetry()):
            with _harmless():
                labels = {**self._labels(), "network.protocol.version": "1.1"}
                if self.status is not None:
                    labels["http.response.status_code"] = self.status
                    span.set_attribute("http.response.status_code", self.status)
                if error is not None:
                    labels["error.type"] = type(error).__name__
                found.request_duration.record(seconds, labels)
                _end(found, span, error)

    def _log(self, seconds: float, error: BaseException | None) -> None:
        logger.debug(
            "%s: attempt %d: %s %s: %s in %.3f s",
            self._operation,
            self._number,
            self._method,
            self._template,
            self.status or type(error).__name__,
            seconds,
            extra=self._instrumentation.log_fields(
                self._operation,
                error,
                message_id=self._message_id,
                attempt=self._number,
                bytes=self._length,
                duration_in_seconds=round(seconds, 6),
                status=self.status,
            ),
        )

    def _begin(self, found: _OpenTelemetry) -> None:
        attributes = {
            **self._labels(),
            "url.full": self._instrumentation.base + _redacted(self._template),
            "network.protocol.version": "1.1",
        }
        if self._number > 1:
            attributes["http.request.resend_count"] = self._number - 1
        if self._length:
            attributes["http.request.body.size"] = self._length
        self._span = found.tracer.start_span(
            f"{self._method} {self._template}", kind=found.trace.SpanKind.CLIENT, attributes=attributes
        )

    def _labels(self) -> Attributes:
        return {"http.request.method": self._method, "url.template": self._template, **self._instrumentation.server}


_NOTHING: contextlib.nullcontext[None] = contextlib.nullcontext()


def _what_failed(error: BaseException | None) -> LogFields:
    """What a record of the log says of an error: its kind, and MESH's words for it. Not its text, which may be data."""
    if error is None:
        return {}
    if not isinstance(error, MeshError):
        return {"error": type(error).__name__}
    return {"error": type(error).__name__, "status": error.status, "event": error.event, "code": error.code}


@functools.cache
def _redacted(template: str) -> str:
    """A path that says nothing; the conventions want a URL, and this word."""
    return re.sub(r"\{\w+\}", "REDACTED", template)


def _end(found: _OpenTelemetry, span: Span, error: BaseException | None) -> None:
    # Neither the error's text nor its traceback: a handler's may hold a patient's data.
    if error is not None:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(found.trace.StatusCode.ERROR)
    span.end()


@contextlib.contextmanager
def _harmless() -> Iterator[None]:
    """A message is not lost, nor sent twice, because nobody could be told of it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever the program has given OpenTelemetry to call
        logger.debug("OpenTelemetry failed (%s)", type(error).__name__)


class _OpenTelemetry:
    """What of OpenTelemetry is used. Its API is late-binding: it may be configured after this is made."""

    def __init__(self) -> None:
        from opentelemetry import context, metrics, trace

        self.context = context
        self.trace = trace
        self.tracer = trace.get_tracer("nel_mesh", __version__, schema_url=_SCHEMA)
        meter = metrics.get_meter("nel_mesh", __version__, schema_url=_SCHEMA)
        in_seconds = functools.partial(
            meter.create_histogram, unit="s", explicit_bucket_boundaries_advisory=list(_BOUNDARIES)
        )
        self.request_duration = in_seconds(
            "http.client.request.duration", description="Duration of HTTP client requests."
        )
        self.operation_duration = in_seconds(
            "messaging.client.operation.duration",
            description="Duration of messaging operation initiated by a producer or consumer client.",
        )
        self.process_duration = in_seconds(
            "messaging.process.duration", description="Duration of processing operation."
        )
        self.sent = meter.create_counter(
            "messaging.client.sent.messages",
            unit="{message}",
            description="Number of messages producer attempted to send to the broker.",
        )
        self.consumed = meter.create_counter(
            "messaging.client.consumed.messages",
            unit="{message}",
            description="Number of messages that were delivered to the application.",
        )

    @contextlib.contextmanager
    def within(self, span: Span) -> Iterator[None]:
        """Makes a span the current one."""
        token = self.context.attach(self.trace.set_span_in_context(span))
        try:
            yield
        finally:
            self.context.detach(token)


_found: _OpenTelemetry | None = None
_usable = True


def _opentelemetry() -> _OpenTelemetry | None:
    """OpenTelemetry, once the program has imported it; to configure it it must. It is not imported for its own sake."""
    global _found, _usable
    if _found is None and _usable and "opentelemetry.trace" in sys.modules:
        try:
            _found = _OpenTelemetry()
        except (ImportError, AttributeError, TypeError):
            _usable = False
            logger.warning("no telemetry: it needs opentelemetry-api 1.30 or later")
    return _found
