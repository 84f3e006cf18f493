"""Operations and requests in progress, and the events that are made of them for the hooks (`events.py`)."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from nel_mesh.errors import MeshError
from nel_mesh.instrumentation.events import (
    AcknowledgementFailed,
    ChecksumNotVerified,
    Event,
    Hook,
    MessageFailed,
    OperationEntered,
    OperationFinished,
    OperationLeft,
    OperationStarted,
    PrefetchFailed,
    ProgressFailed,
    ReportReceived,
    RequestFinished,
    RequestStarted,
    RetryScheduled,
    SendRecordFailed,
    Server,
    failure_of,
)

_logger = logging.getLogger("nel_mesh")


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
            failure=failure_of(error),
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
            failure=failure_of(error),
            where=_where(error),
        )

    def acknowledgement_failed(self, operation: str, message_id: str, error: BaseException) -> None:
        self._report(AcknowledgementFailed, operation, message_id=message_id, failure=failure_of(error))

    def checksum_not_verified(self, operation: str, message_id: str, *, algorithm: str, differs: bool) -> None:
        self._report(
            ChecksumNotVerified,
            operation,
            message_id=message_id,
            algorithm=algorithm,
            differs=differs,
        )

    def prefetch_failed(self, operation: str, message_id: str, *, chunk: int, error: BaseException) -> None:
        self._report(PrefetchFailed, operation, message_id=message_id, chunk=chunk, failure=failure_of(error))

    def send_record_failed(self, message_id: str | None, step: str, error: BaseException) -> None:
        cause = error.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        self._report(
            SendRecordFailed,
            "send_message",
            message_id=message_id,
            step=step,
            os_error=None if number is None else errno.errorcode.get(number),
            failure=failure_of(error),
        )

    def progress_failed(self, operation: str, error: BaseException) -> None:
        self._report(ProgressFailed, operation, failure=failure_of(error), where=_where(error))

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
            failure=None if error is None else failure_of(error),
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
            failure=None if error is None else failure_of(error),
        )


def _wants_all(kind: type[Event]) -> bool:
    return True


def _where(error: BaseException) -> str:
    """Where an error was raised: files, lines, functions and source, but neither its text nor locals."""
    return "".join(traceback.format_tb(error.__traceback__))
