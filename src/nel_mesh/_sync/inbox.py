# Generated from _async/inbox.py by tools/unasync.py: edit that file, then run `make generate`.
"""The receive loop: list the inbox page by page, and have each message delivered."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

from nel_mesh.destinations.base import Destination
from nel_mesh.destinations.handler import HandlerDestination
from nel_mesh.errors import MeshError
from nel_mesh.io.clock import Clock
from nel_mesh.io.concurrency import check_handler, for_each
from nel_mesh.io.journal import Journal
from nel_mesh.models import FailedMessage, ReceiveProgress, ReceiveResult
from nel_mesh.protocol.endpoints import DEFAULT_RESULTS

from .delivery import Deliverer, Delivery, DeliveryStatus, ReportHandler
from .download import Downloader
from .mailbox import MailboxOperations
from .message import Message

MAX_EMPTY_PAGES = 20
"""How many pages in a row may name nothing new, before a server is taken to repeat itself without end."""

Handler = Callable[[Message], object]


class _MessageIds:
    """The ids of an inbox, each once, page after page.

    Not a generator: an abandoned one is finalised at an arbitrary time.

    Args:
        mailbox: whose inbox.
        max_results: how many ids a page may have.
        workflow_filter: which workflow ids.
        is_over: asked before each page; True ends the iteration.
    """

    def __init__(
        self,
        mailbox: MailboxOperations,
        max_results: int,
        workflow_filter: str | None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._mailbox = mailbox
        self._max_results = max_results
        self._workflow_filter = workflow_filter
        self._is_over = is_over
        self._page: Iterator[str] = iter(())
        self._start: str | None = None
        self._starts: set[str | None] = set()
        self._seen: set[str] = set()
        self._empty_pages = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            for message_id in self._page:
                if message_id not in self._seen:
                    self._seen.add(message_id)
                    self._empty_pages = 0
                    return message_id
            # A server that names a page twice would have us go round in circles; the last page names none.
            is_last = self._start in self._starts or (self._starts and self._start is None)
            if is_last or self._empty_pages >= MAX_EMPTY_PAGES or self._is_over():
                raise StopIteration
            self._starts.add(self._start)
            page = self._mailbox.list_messages(
                max_results=self._max_results, continue_from=self._start, workflow_filter=self._workflow_filter
            )
            self._page, self._start = iter(page), page.continue_from
            self._empty_pages += 1


class _GivenIds:
    """Ids that the caller named, each once."""

    def __init__(self, message_ids: Iterable[str]) -> None:
        self._ids = iter(dict.fromkeys(message_ids))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for message_id in self._ids:
            return message_id
        raise StopIteration


class Inbox:
    """Goes through the inbox of one mailbox."""

    def __init__(
        self,
        mailbox: MailboxOperations,
        downloader: Downloader,
        clock: Clock,
        buffer_folder: Path | None,
    ) -> None:
        self._mailbox = mailbox
        self._downloader = downloader
        self._clock = clock
        self._buffer_folder = buffer_folder

    def message_ids(self, *, max_results: int = DEFAULT_RESULTS, workflow_filter: str | None = None) -> Iterator[str]:
        """Iterate over the id of every message, page after page, each once."""
        return _MessageIds(self._mailbox, max_results, workflow_filter)

    def receive(
        self,
        destination: Destination | HandlerDestination,
        *,
        message_ids: Iterable[str] | None,
        acknowledge: bool,
        on_report: ReportHandler | None,
        journal: Journal,
        workflow_filter: str | None,
        limit: int | None,
        deadline_in_seconds: float | None,
        concurrency: int,
        stop: Callable[[], bool] | None,
        progress: Callable[[ReceiveProgress], object] | None,
    ) -> ReceiveResult:
        """Deliver every message of the inbox, or those of the given ids."""
        if isinstance(destination, HandlerDestination):
            check_handler(destination.handler)
        check_handler(on_report)
        end = None if deadline_in_seconds is None else self._clock.monotonic() + deadline_in_seconds

        def is_over() -> bool:
            return (end is not None and self._clock.monotonic() >= end) or (stop is not None and stop())

        run = _InboxRun(limit, is_over)

        def deliver(message_id: str) -> None:
            run.note(deliverer.deliver(message_id, destination, progress=progress))

        try:
            journal.open()
            deliverer = Deliverer(
                self._mailbox,
                self._downloader,
                self._clock,
                journal,
                operation="receive_messages",
                on_report=on_report,
                acknowledge=acknowledge,
            )
            while True:
                run.begin()
                with contextlib.closing(self._pending_ids(run, message_ids, workflow_filter)) as ids:
                    try:
                        for_each(ids, deliver, max_workers=concurrency)
                    except MeshError as error:
                        # Who calls must be told of what was delivered before the inbox could not be listed further.
                        if not run.seen:
                            raise
                        run.result.error, run.result.finished = error, False
                        break
                if not run.may_continue:
                    break
            return run.result
        finally:
            journal.close()

    def messages(
        self, *, journal: Journal, workflow_filter: str | None, limit: int | None
    ) -> Generator[Message, None, None]:
        """Give messages one by one to the body of a loop, and acknowledge each when the body comes back."""
        run = _InboxRun(limit, lambda: False)
        try:
            journal.open()
            deliverer = Deliverer(self._mailbox, self._downloader, self._clock, journal, operation="iter_messages")
            with contextlib.closing(self._pending_ids(run, None, workflow_filter)) as ids:
                for message_id in ids:
                    handover = deliverer.begin(message_id, self._buffer_folder)
                    if handover is None:
                        run.used -= 1
                        continue
                    try:
                        yield handover.message
                        # Not reached if the body raises or leaves the loop.
                        handover.finish()
                    finally:
                        handover.close()
        finally:
            journal.close()

    def _pending_ids(
        self, run: _InboxRun, message_ids: Iterable[str] | None, workflow_filter: str | None
    ) -> Generator[str, None, None]:
        """Give ids to receive, each once, until the inbox holds nothing new or it is time to stop."""
        while True:
            before = len(run.seen)
            ids: Iterator[str]
            if message_ids is None:
                ids = _MessageIds(self._mailbox, DEFAULT_RESULTS, workflow_filter, run.is_over)
            else:
                ids = _GivenIds(message_ids)
            for message_id in ids:
                if message_id in run.seen:
                    continue
                if run.must_stop():
                    return
                run.seen.add(message_id)
                run.used += 1
                yield message_id
            if run.is_over():
                run.result.finished = False
                return
            if len(run.seen) == before:
                return


@dataclasses.dataclass
class _InboxRun:
    """One run through the inbox: what became of each message, and how many count towards the limit.

    A limit is of messages delivered, and of those under way: bad ones at the front must not starve the rest.
    """

    limit: int | None
    is_over: Callable[[], bool]
    used: int = 0
    seen: set[str] = dataclasses.field(default_factory=set)
    result: ReceiveResult = dataclasses.field(default_factory=ReceiveResult)
    at_limit: bool = False

    def begin(self) -> None:
        """Begin to list the inbox."""
        self.result.finished, self.at_limit = True, False

    def must_stop(self) -> bool:
        """Whether no further message is to be received, because of the limit, the deadline or the caller."""
        self.at_limit = self.limit is not None and self.used >= self.limit
        if self.at_limit or self.is_over():
            self.result.finished = False
            return True
        return False

    @property
    def may_continue(self) -> bool:
        """Whether a message that was under way when the limit seemed to be reached was not delivered after all."""
        return self.at_limit and self.limit is not None and self.used < self.limit

    def note(self, delivery: Delivery) -> None:
        """Put the result of a delivery into its list."""
        result, message_id = self.result, delivery.message_id
        if delivery.file is not None and delivery.status is DeliveryStatus.DELIVERED:
            result.files.append(delivery.file)
        if delivery.status is DeliveryStatus.LOCKED:
            result.locked.append(message_id)
        elif delivery.status is DeliveryStatus.GONE:
            result.gone.append(message_id)
        elif delivery.status is DeliveryStatus.FAILED:
            error = delivery.error or MeshError("it failed without an error")
            result.failed.append(FailedMessage(message_id=message_id, error=error))
        elif delivery.error is not None:
            result.unacknowledged.append(FailedMessage(message_id=message_id, error=delivery.error))
        elif delivery.status is DeliveryStatus.ALREADY_DELIVERED:
            result.already_delivered.append(message_id)
        elif delivery.report is not None:
            result.reports.append(delivery.report)
        else:
            result.delivered.append(message_id)
        if delivery.status is not DeliveryStatus.DELIVERED:
            self.used -= 1
