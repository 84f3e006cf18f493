# Generated from _async/inbox.py by tools/unasync.py: edit that file, then run `make generate`.
"""The receive loop: list, fetch, verify, store or handle, and only then acknowledge."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from nel_mesh.errors import IntegrityError, MeshError
from nel_mesh.instrumentation.events import OperationSpan
from nel_mesh.io.clock import Clock
from nel_mesh.io.concurrency import call_handler, check_handler, for_each
from nel_mesh.io.journal import Journal
from nel_mesh.models import FailedMessage, ReceiveProgress, ReceiveResult, Report
from nel_mesh.protocol.endpoints import DEFAULT_RESULTS

from .download import Receiver
from .mailbox import MailboxOperations
from .message import Message

JOURNAL_NAME = ".nel-mesh-journal"
"""The journal's file, in the folder that messages go to."""

Handler = Callable[[Message], object]
ReportHandler = Callable[[Report], object]


class _MessageIds:
    """The ids of an inbox. Not a generator: one that is abandoned halfway is cleaned up anywhen."""

    def __init__(self, mailbox: MailboxOperations, max_results: int, workflow_filter: str | None) -> None:
        self._mailbox = mailbox
        self._max_results = max_results
        self._workflow_filter = workflow_filter
        self._page: Iterator[str] = iter(())
        self._start: str | None = None
        self._starts: set[str | None] = set()
        self._seen: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            for message_id in self._page:
                if message_id not in self._seen:
                    self._seen.add(message_id)
                    return message_id
            # A server that names a page twice would have us go round in circles; the last page names none.
            if self._start in self._starts or (self._starts and self._start is None):
                raise StopIteration
            self._starts.add(self._start)
            page = self._mailbox.list_messages(
                max_results=self._max_results, continue_from=self._start, workflow_filter=self._workflow_filter
            )
            self._page, self._start = iter(page), page.continue_from


class Inbox:
    """Goes through one mailbox's inbox."""

    def __init__(self, mailbox: MailboxOperations, receiver: Receiver, clock: Clock) -> None:
        self._mailbox = mailbox
        self._receiver = receiver
        self._clock = clock

    def message_ids(self, *, max_results: int = DEFAULT_RESULTS, workflow_filter: str | None = None) -> Iterator[str]:
        """The id of every message, page after page, each once."""
        return _MessageIds(self._mailbox, max_results, workflow_filter)

    def collect(
        self,
        *,
        folder: Path | None,
        handler: Handler | None,
        on_report: ReportHandler | None,
        journal: Path | None,
        workflow_filter: str | None,
        limit: int | None,
        deadline_in_seconds: float | None,
        concurrency: int,
        stop: Callable[[], bool] | None,
        progress: Callable[[ReceiveProgress], object] | None,
    ) -> ReceiveResult:
        """Empties the inbox into a folder or a handler."""
        check_handler(handler)
        check_handler(on_report)
        if folder is not None and journal is None:
            journal = folder / JOURNAL_NAME
        book = Journal.open(journal)
        try:
            tally = _Tally()
            round_ = _Round(
                self._mailbox, self._receiver, self._clock, book, tally, folder, handler, on_report, progress
            )
            end = None if deadline_in_seconds is None else self._clock.monotonic() + deadline_in_seconds
            while True:
                due = self._due(tally, workflow_filter, limit, end, stop)
                with contextlib.closing(due) as ids:
                    for_each(ids, round_.take, max_workers=concurrency)
                # What was under way when the limit seemed to be reached may not have been delivered after all.
                if not tally.at_limit or limit is None or tally.used >= limit:
                    break
            round_.result.finished = tally.finished
            return round_.result
        finally:
            book.close()

    def _due(
        self,
        tally: _Tally,
        workflow_filter: str | None,
        limit: int | None,
        end: float | None,
        stop: Callable[[], bool] | None,
    ) -> Generator[str, None, None]:
        """Ids to receive, each once, until the inbox holds nothing new or it is time to stop."""
        tally.finished, tally.at_limit = True, False
        while True:
            before = len(tally.seen)
            for message_id in self.message_ids(workflow_filter=workflow_filter):
                if message_id in tally.seen:
                    continue
                late = end is not None and self._clock.monotonic() >= end
                tally.at_limit = limit is not None and tally.used >= limit
                if tally.at_limit or late or (stop is not None and stop()):
                    tally.finished = False
                    return
                tally.seen.add(message_id)
                tally.used += 1
                yield message_id
            if len(tally.seen) == before:
                return

    def messages(self, *, journal: Path | None, workflow_filter: str | None, limit: int | None) -> Iterator[Message]:
        """Messages one by one, for a loop's body; acknowledged when the body has read them whole and comes back."""
        book = Journal.open(journal)
        tally = _Tally()
        try:
            with contextlib.closing(self._due(tally, workflow_filter, limit, None, None)) as due:
                for message_id in due:
                    if book.has(self._mailbox.mailbox_id, message_id):
                        tally.used -= 1
                        self._acknowledge(message_id)
                        continue
                    with contextlib.ExitStack() as stack:
                        try:
                            opening = self._receiver.retrieve(message_id, verify_checksum=True)
                            message = stack.enter_context(opening)
                        except MeshError as error:
                            # Another process may have had it since it was listed; one bad message stops no other.
                            self._mailbox.instrumentation.message_failed("iter_messages", message_id, error)
                            tally.used -= 1
                            continue
                        yield message
                        # Not reached if the body raises or leaves the loop.
                        if not message.complete and isinstance(message.metadata, Report):
                            message.read()
                    if message.complete:
                        book.add(self._mailbox.mailbox_id, message_id, self._clock.now())
                        self._acknowledge(message_id)
        finally:
            book.close()

    def _acknowledge(self, message_id: str) -> None:
        """Acknowledges what the journal has; if that fails, the next time will do."""
        try:
            self._mailbox.acknowledge_message(message_id)
        except MeshError as error:
            self._mailbox.instrumentation.acknowledgement_failed("iter_messages", message_id, error)


@dataclasses.dataclass
class _Tally:
    """How many messages count towards a limit: those delivered, and those under way."""

    used: int = 0
    seen: set[str] = dataclasses.field(default_factory=set)
    at_limit: bool = False
    finished: bool = True


class _Round:
    """One going through the inbox: what to do with each message, and what became of it."""

    def __init__(
        self,
        mailbox: MailboxOperations,
        receiver: Receiver,
        clock: Clock,
        book: Journal,
        tally: _Tally,
        folder: Path | None,
        handler: Handler | None,
        on_report: ReportHandler | None,
        progress: Callable[[ReceiveProgress], object] | None,
    ) -> None:
        self._progress = progress
        self.result = ReceiveResult()
        self._mailbox = mailbox
        self._receiver = receiver
        self._clock = clock
        self._book = book
        self._tally = tally
        self._folder = folder
        self._handler = handler
        self._on_report = on_report

    def take(self, message_id: str) -> None:
        """Receives one message; what goes wrong with it is noted, and never stops the others."""
        counts = False
        try:
            with self._mailbox.instrumentation.operation("receive_messages", message_id=message_id) as span:
                if self._folder is not None:
                    counts = span.done = self._store(message_id, self._folder, span)
                else:
                    counts = span.done = self._hand_over(message_id, span)
        except Exception as error:  # noqa: BLE001 - a handler's own errors too; the message stays in the inbox
            self._mailbox.instrumentation.message_failed("receive_messages", message_id, error)
            self.result.failed.append(FailedMessage(message_id=message_id, error=error))
        if not counts:
            # A limit is of messages delivered: bad ones at the front must not starve the rest.
            self._tally.used -= 1

    def _store(self, message_id: str, folder: Path, span: OperationSpan) -> bool:
        """Stores one message; whether it was delivered by this."""
        with self._receiver.arriving(message_id, folder) as arrival:
            if arrival is None:
                self.result.locked.append(message_id)
                return False
            # Not before it is ours: another process may have had it until a moment ago.
            if self._book.has(self._mailbox.mailbox_id, message_id):
                arrival.clear()
                self._repeat(message_id)
                return False
            metadata = arrival.metadata()
            if isinstance(metadata, Report):
                if self._on_report is None:
                    arrival.receive_report(metadata)
                self._report(metadata)
            else:
                received = arrival.receive(progress=self._progress)
                span.bytes, span.workflow_id = received.bytes, metadata.workflow_id
                self.result.files.append(received)
                self.result.delivered.append(message_id)
            self._book.add(self._mailbox.mailbox_id, message_id, self._clock.now())
            arrival.clear()
            self._mailbox.acknowledge_message(message_id)
        return True

    def _repeat(self, message_id: str) -> None:
        """Acknowledges what was delivered before."""
        self._mailbox.acknowledge_message(message_id)
        self.result.already_delivered.append(message_id)

    def _hand_over(self, message_id: str, span: OperationSpan) -> bool:
        """Runs the handler on one message; whether it was delivered by this."""
        if self._book.has(self._mailbox.mailbox_id, message_id):
            self._repeat(message_id)
            return False
        with self._receiver.open(message_id, verify_checksum=True, within=span) as message:
            if isinstance(message.metadata, Report):
                self._report(message.metadata)
            elif self._handler is not None:
                call_handler(self._handler, message)
                if not message.complete:
                    raise IntegrityError(
                        "the handler came back without having read the message to its end",
                        operation="receive_messages",
                        message_id=message_id,
                    )
        self._book.add(self._mailbox.mailbox_id, message_id, self._clock.now())
        self._mailbox.acknowledge_message(message_id)
        if not isinstance(message.metadata, Report):
            self.result.delivered.append(message_id)
        return True

    def _report(self, report: Report) -> None:
        self._mailbox.instrumentation.report_received(
            "receive_messages",
            message_id=report.message_id,
            linked_message_id=report.linked_message_id,
            event=report.status_event,
            code=report.status_code,
        )
        if self._on_report is not None:
            call_handler(self._on_report, report)
        self.result.reports.append(report)
