"""OpenTelemetry: spans and metrics, if the program uses it.

The names are those of OpenTelemetry's conventions for HTTP clients and for messaging, and `nhs_mesh.*` where
these have none. OpenTelemetry is used once the program has imported it, and is never imported for its own
sake: other programs pay for neither.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from nel_mesh._version import __version__

from .events import (
    Event,
    Failure,
    OperationEntered,
    OperationFinished,
    OperationLeft,
    OperationStarted,
    RequestFinished,
    RequestStarted,
    Server,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_logger = logging.getLogger("nel_mesh")

Attributes: TypeAlias = dict[str, str | int]

_SEND, _RECEIVE, _PROCESS, _SETTLE = "send", "receive", "process", "settle"

_TYPES = {
    "send_message": _SEND,
    "retrieve_message": _RECEIVE,
    "receive_file": _RECEIVE,
    "receive_messages": _PROCESS,
    "acknowledge_message": _SETTLE,
}
"""The type of an operation in the conventions for messaging; other operations have none."""

_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
_BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Of the buckets of durations in seconds, as in the conventions."""

_EVENTS = {
    OperationStarted,
    OperationEntered,
    OperationLeft,
    OperationFinished,
    RequestStarted,
    RequestFinished,
}


class OpenTelemetryHook:
    """Makes spans and metrics of events."""

    def __init__(self) -> None:
        self._spans: dict[int, Span] = {}
        self._tokens: dict[int, list[Any]] = {}

    def wants(self, kind: type[Event]) -> bool:
        return kind in _EVENTS and _opentelemetry() is not None

    def __call__(self, event: Event) -> None:
        if (api := _opentelemetry()) is None:
            return
        match event:
            case OperationStarted():
                self._start_operation(api, event)
            case OperationEntered():
                self._attach(api, event.span_id)
            case OperationLeft():
                self._detach(api, event.span_id)
            case OperationFinished():
                self._finish_operation(api, event)
            case RequestStarted():
                self._start_request(api, event)
            case RequestFinished():
                self._finish_request(api, event)

    def _start_operation(self, api: _OpenTelemetry, event: OperationStarted) -> None:
        kind = _TYPES.get(event.operation)
        attributes = {**_operation_labels(event), "messaging.client.id": event.mailbox_id}
        if kind is not None:
            attributes["messaging.operation.type"] = kind
        if event.message_id is not None:
            attributes["messaging.message.id"] = event.message_id
        to = attributes.get("messaging.destination.name")
        kinds = api.trace.SpanKind
        self._spans[event.span_id] = api.tracer.start_span(
            f"{event.operation} {to}" if to else event.operation,
            kind=kinds.CONSUMER if kind == _PROCESS else kinds.CLIENT,
            attributes=attributes,
        )
        if event.current:
            self._attach(api, event.span_id)

    def _attach(self, api: _OpenTelemetry, span_id: int) -> None:
        if (span := self._spans.get(span_id)) is not None:
            token = api.context.attach(api.trace.set_span_in_context(span))
            self._tokens.setdefault(span_id, []).append(token)

    def _detach(self, api: _OpenTelemetry, span_id: int) -> None:
        if tokens := self._tokens.get(span_id):
            api.context.detach(tokens.pop())
        if not tokens:
            self._tokens.pop(span_id, None)

    def _finish_operation(self, api: _OpenTelemetry, event: OperationFinished) -> None:
        self._detach(api, event.span_id)
        if (span := self._spans.pop(event.span_id, None)) is None:
            return
        _measure(api, event)
        known = {
            "messaging.message.id": event.message_id,
            "messaging.message.body.size": event.bytes,
            "nhs_mesh.local_id": event.local_id,
            "nhs_mesh.workflow_id": event.workflow_id,
            "nhs_mesh.chunks": event.chunks,
            "nhs_mesh.outcome": event.outcome if _TYPES.get(event.operation) == _SEND else None,
        }
        span.set_attributes({name: value for name, value in known.items() if value is not None})
        _end(api, span, event.failure)

    def _start_request(self, api: _OpenTelemetry, event: RequestStarted) -> None:
        attributes = {
            **_request_labels(event),
            "url.full": event.server.url + _redacted(event.url_template),
            "network.protocol.version": "1.1",
        }
        if event.attempt > 1:
            attributes["http.request.resend_count"] = event.attempt - 1
        if event.bytes:
            attributes["http.request.body.size"] = event.bytes
        self._spans[event.span_id] = api.tracer.start_span(
            f"{event.method} {event.url_template}",
            kind=api.trace.SpanKind.CLIENT,
            attributes=attributes,
        )

    def _finish_request(self, api: _OpenTelemetry, event: RequestFinished) -> None:
        if (span := self._spans.pop(event.span_id, None)) is None:
            return
        labels = {**_request_labels(event), "network.protocol.version": "1.1"}
        if event.status is not None:
            labels["http.response.status_code"] = event.status
            span.set_attribute("http.response.status_code", event.status)
        if event.failure is not None:
            labels["error.type"] = event.failure.error
        api.request_duration.record(event.duration_in_seconds, labels)
        _end(api, span, event.failure)


def _operation_labels(event: OperationStarted | OperationFinished) -> Attributes:
    """The attributes that spans and metrics share: few values, and no message's own."""
    labels: Attributes = {
        "messaging.system": "nhs_mesh",
        "messaging.operation.name": event.operation,
    }
    # The recipient of a message is private; what is received is in our own mailbox.
    if _TYPES.get(event.operation) not in (None, _SEND):
        labels["messaging.destination.name"] = event.mailbox_id
    return labels | _server_labels(event.server)


def _request_labels(event: RequestStarted | RequestFinished) -> Attributes:
    return {
        "http.request.method": event.method,
        "url.template": event.url_template,
        **_server_labels(event.server),
    }


def _server_labels(server: Server) -> Attributes:
    return {"server.address": server.address, "server.port": server.port}


def _measure(api: _OpenTelemetry, event: OperationFinished) -> None:
    kind = _TYPES.get(event.operation)
    if kind is None:
        return
    labels = _operation_labels(event)
    failure = event.failure
    if failure is not None:
        labels["error.type"] = failure.error
    if kind == _PROCESS:
        api.process_duration.record(event.duration_in_seconds, labels)
    else:
        api.operation_duration.record(event.duration_in_seconds, labels | {"messaging.operation.type": kind})
    # An argument that cannot be sent was not sent.
    if kind == _SEND and not (failure and failure.error == "InvalidArgument"):
        api.sent.add(1, labels)
    elif kind in (_RECEIVE, _PROCESS) and (event.done or failure is not None):
        api.consumed.add(1, labels)


@functools.cache
def _redacted(template: str) -> str:
    """A path without ids; the conventions ask for a URL, and for this word."""
    return re.sub(r"\{\w+\}", "REDACTED", template)


def _end(api: _OpenTelemetry, span: Span, failure: Failure | None) -> None:
    # Neither the error's text nor its traceback: a handler's may hold a patient's data.
    if failure is not None:
        span.set_attribute("error.type", failure.error)
        span.set_status(api.trace.StatusCode.ERROR)
    span.end()


class _OpenTelemetry:
    """The part of OpenTelemetry's API that is used; it may be configured after this is made."""

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


_api: _OpenTelemetry | None = None
_usable = True


def _opentelemetry() -> _OpenTelemetry | None:
    """OpenTelemetry's API, if the program has imported it and it is recent enough."""
    global _api, _usable
    if _api is None and _usable and "opentelemetry.trace" in sys.modules:
        try:
            _api = _OpenTelemetry()
        except (ImportError, AttributeError, TypeError):
            _usable = False
            _logger.warning("no telemetry: it needs opentelemetry-api 1.30 or later")
    return _api
