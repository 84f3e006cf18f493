"""The log: a record of the logger `nel_mesh` for each event, with what is known as `mesh_*` attributes."""

from __future__ import annotations

import logging
from typing import TypedDict, Unpack

from .events import (
    AcknowledgementFailed,
    ChecksumNotVerified,
    Event,
    Failure,
    MessageFailed,
    OperationFinished,
    PrefetchFailed,
    ProgressFailed,
    ReportReceived,
    RequestFinished,
    RetryScheduled,
    SendRecordFailed,
)

_logger = logging.getLogger("nel_mesh")

_LEVELS: dict[type[Event], int] = {
    OperationFinished: logging.INFO,
    RequestFinished: logging.DEBUG,
    RetryScheduled: logging.WARNING,
    ReportReceived: logging.WARNING,
    MessageFailed: logging.WARNING,
    AcknowledgementFailed: logging.WARNING,
    ChecksumNotVerified: logging.WARNING,
    PrefetchFailed: logging.DEBUG,
    SendRecordFailed: logging.WARNING,
    ProgressFailed: logging.ERROR,
}
"""The highest level of what is logged of an event; other events are not logged."""

_DONE = {
    "send_message": "sent",
    "retrieve_message": "received",
    "receive_file": "received",
    "receive_messages": "delivered",
    "acknowledge_message": "acknowledged",
}


class LogFields(TypedDict, total=False):
    """The attributes of a record, each with `mesh_` before its name; None is left out."""

    operation: str
    mailbox_id: str
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


class LogHook:
    """Writes events to the log."""

    def wants(self, kind: type[Event]) -> bool:
        return _logger.isEnabledFor(_LEVELS.get(kind, -1))

    def __call__(self, event: Event) -> None:
        match event:
            case OperationFinished():
                _log_operation(event)
            case RequestFinished():
                _log_request(event)
            case RetryScheduled():
                _log_retry(event)
            case ReportReceived():
                _log_report(event)
            case MessageFailed():
                _log_failed_message(event)
            case AcknowledgementFailed():
                _logger.warning(
                    "%s: message %s is not acknowledged yet (%s)",
                    event.operation,
                    event.message_id,
                    event.failure.error,
                    extra=_extra(event, event.failure, message_id=event.message_id),
                )
            case ChecksumNotVerified():
                _log_checksum(event)
            case PrefetchFailed():
                _logger.debug(
                    "%s: chunk %d could not be prefetched (%s)",
                    event.operation,
                    event.chunk,
                    event.failure.error,
                    extra=_extra(event, event.failure, message_id=event.message_id),
                )
            case SendRecordFailed():
                _log_record(event)
            case ProgressFailed():
                _log_progress(event)


def _log_operation(event: OperationFinished) -> None:
    done = _DONE.get(event.operation) if event.done else None
    level = logging.INFO if done else logging.DEBUG
    if not _logger.isEnabledFor(level):
        return
    extra = _extra(
        event,
        event.failure,
        message_id=event.message_id,
        local_id=event.local_id,
        workflow_id=event.workflow_id,
        bytes=event.bytes,
        chunks=event.chunks,
        duration_in_seconds=round(event.duration_in_seconds, 6),
    )
    if done:
        _logger.log(level, "%s: message %s %s", event.operation, event.message_id, done, extra=extra)
    else:
        how = f"failed ({event.failure.error})" if event.failure else "done"
        _logger.log(level, "%s: %s in %.3f s", event.operation, how, event.duration_in_seconds, extra=extra)


def _log_request(event: RequestFinished) -> None:
    _logger.debug(
        "%s: attempt %d: %s %s: %s in %.3f s",
        event.operation,
        event.attempt,
        event.method,
        event.url_template,
        event.status or (event.failure and event.failure.error),
        event.duration_in_seconds,
        extra=_extra(
            event,
            event.failure,
            message_id=event.message_id,
            attempt=event.attempt,
            bytes=event.bytes,
            duration_in_seconds=round(event.duration_in_seconds, 6),
            status=event.status,
        ),
    )


def _log_retry(event: RetryScheduled) -> None:
    _logger.warning(
        "%s: attempt %d of %d failed (%s, status %s); next in %.1f s",
        event.operation,
        event.attempt,
        event.max_attempts,
        event.failure.error,
        event.failure.status,
        event.delay_in_seconds,
        extra=_extra(event, event.failure, message_id=event.message_id, attempt=event.attempt),
    )


def _log_report(event: ReportReceived) -> None:
    _logger.warning(
        "%s: a report says that message %s failed: %s %s",
        event.operation,
        event.linked_message_id,
        event.event,
        event.code,
        extra=_extra(
            event,
            None,
            message_id=event.message_id,
            linked_message_id=event.linked_message_id,
            event=event.event,
            code=event.code,
        ),
    )


def _log_failed_message(event: MessageFailed) -> None:
    extra = _extra(event, event.failure, message_id=event.message_id)
    _logger.warning(
        "%s: message %s failed (%s)",
        event.operation,
        event.message_id,
        event.failure.error,
        extra=extra,
    )
    _logger.debug(
        "%s: message %s failed here:\n%s",
        event.operation,
        event.message_id,
        event.where,
        extra=extra,
    )


def _log_checksum(event: ChecksumNotVerified) -> None:
    if event.differs:
        text = (
            "%s: message %s: the content does not have the sender's checksum (%s); the sender did not "
            "name the algorithm, so the content is kept as not verified"
        )
    else:
        text = "%s: message %s: this machine refuses %s, so the sender's checksum is not compared"
    _logger.warning(
        text,
        event.operation,
        event.message_id,
        event.algorithm,
        extra=_extra(event, None, message_id=event.message_id),
    )


_RECORD_TEXTS = {
    "begin": "%s: no resume record can be kept (%s); a send that is interrupted starts again",
    "complete": "%s: the message was sent, but its resume record not completed (%s)",
    "remove": "%s: the resume record cannot be removed (%s); while it is there, the same send is not repeated",
}


def _log_record(event: SendRecordFailed) -> None:
    _logger.warning(
        _RECORD_TEXTS[event.step],
        event.operation,
        event.os_error or event.failure.error,
        extra=_extra(event, event.failure, message_id=event.message_id),
    )


def _log_progress(event: ProgressFailed) -> None:
    extra = _extra(event, event.failure)
    _logger.error(
        "%s: progress raised %s after the message was sent",
        event.operation,
        event.failure.error,
        extra=extra,
    )
    _logger.debug("%s: progress raised here:\n%s", event.operation, event.where, extra=extra)


def _extra(about: Event, failure: Failure | None, /, **fields: Unpack[LogFields]) -> dict[str, object]:
    known: LogFields = {"operation": about.operation, "mailbox_id": about.mailbox_id}
    if failure is not None:
        known["error"] = failure.error
        known["status"] = failure.status
        known["event"] = failure.event
        known["code"] = failure.code
    return {f"mesh_{name}": value for name, value in {**known, **fields}.items() if value is not None}
