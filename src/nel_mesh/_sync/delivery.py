# Generated from _async/delivery.py by tools/unasync.py: edit that file, then run `make generate`.
"""The delivery of one message: the only place where a message is stored, recorded and acknowledged.

In this order, so that nothing is lost and nothing is delivered twice:

1. Claim the message, so that no other process or thread delivers it at the same time.
2. Known already? Then an earlier run delivered it, and only its acknowledgement is open.
3. Fetch and verify; store it durably, or have the handler return.
4. Record it in the journal, durably.
5. Acknowledge it, so that MESH deletes it.

A kill between 3 and 4 leaves a file under its final name and the record of its download; the next run finds both. A
handler cannot be asked, so it is called again. A kill between 4 and 5 leaves an acknowledgement to be made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import traceback
from collections.abc import Callable
from pathlib import Path

from nel_mesh.destinations.base import Destination
from nel_mesh.destinations.handler import HandlerDestination
from nel_mesh.errors import Gone, HandlerError, IntegrityError, MeshError, NotFound, StorageError, add_context
from nel_mesh.instrumentation.spans import OperationSpan
from nel_mesh.io.buffers import MessageBuffer
from nel_mesh.io.clock import Clock
from nel_mesh.io.concurrency import GATHER_BYTES, call_handler
from nel_mesh.io.journal import Claim, Journal, JournalEntry
from nel_mesh.models import MessageMetadata, ReceivedFile, ReceiveProgress, Report
from nel_mesh.protocol import endpoints

from .download import Download, Downloader
from .mailbox import MailboxOperations
from .message import Message
from .stream import BufferedContent

_KEPT_CHARACTERS = 2000
"""How much is kept of the text, and of the traceback, of an error of a handler."""

ReportHandler = Callable[[Report], object]


class DeliveryStatus(enum.Enum):
    """How the delivery of a message ended."""

    DELIVERED = "delivered"
    """Stored or handled, and in the journal."""
    ALREADY_DELIVERED = "already delivered"
    """An earlier run had delivered it."""
    LOCKED = "locked"
    """Another process or thread is delivering it."""
    GONE = "gone"
    """It is no longer in the inbox: another worker took it, or it expired."""
    FAILED = "failed"
    """It could not be fetched, verified, stored or handled. It is still in the inbox."""


@dataclasses.dataclass(kw_only=True)
class Delivery:
    """The result of a delivery.

    Attributes:
        message_id: the message.
        status: how it ended.
        acknowledged: whether MESH was told, so that the message has left the inbox.
        file: where its content is, if it was stored now.
        report: the report, if it is one.
        error: why it failed or is gone; or, for a delivered message, why it could not be acknowledged.
    """

    message_id: str
    status: DeliveryStatus = DeliveryStatus.FAILED
    acknowledged: bool = False
    file: ReceivedFile | None = None
    report: Report | None = None
    error: MeshError | None = None


class _MessageClaim:
    """The right to deliver one message, and whether it was delivered before.

    An object beforehand, so that a task that is cancelled while a thread takes the claim can release it.
    """

    def __init__(self, journal: Journal, mailbox_id: str, message_id: str) -> None:
        self._journal = journal
        self._mailbox_id = mailbox_id
        self._message_id = message_id
        self._claim: Claim | None = None
        self.is_known = False

    @property
    def is_held(self) -> bool:
        """Whether the claim is ours."""
        return self._claim is not None

    def acquire(self) -> None:
        """Take the claim if it is free, and look the message up: a worker that had the claim has recorded it by now."""
        self._claim = self._journal.claim(self._mailbox_id, self._message_id)
        if self._claim is not None:
            self.is_known = self._journal.find(self._mailbox_id, self._message_id) is not None

    def release(self) -> None:
        """Let others deliver the message."""
        if self._claim is not None:
            self._claim.release()


class Deliverer:
    """Delivers the messages of one mailbox to one destination.

    Args:
        mailbox: whose messages.
        downloader: how they are fetched.
        clock: where time comes from.
        journal: what remembers them.
        operation: the public method that this is for.
        on_report: called with each report.
        acknowledge: whether messages are acknowledged.
    """

    def __init__(
        self,
        mailbox: MailboxOperations,
        downloader: Downloader,
        clock: Clock,
        journal: Journal,
        *,
        operation: str,
        on_report: ReportHandler | None = None,
        acknowledge: bool = True,
    ) -> None:
        self._mailbox = mailbox
        self._downloader = downloader
        self._clock = clock
        self._journal = journal
        self._operation = operation
        self._on_report = on_report
        self._acknowledges = acknowledge

    def deliver(
        self,
        message_id: str,
        destination: Destination | HandlerDestination,
        *,
        progress: Callable[[ReceiveProgress], object] | None = None,
    ) -> Delivery:
        """Deliver one message. Never raises an error of the message's, or of a handler's: it is in the result."""
        delivery = Delivery(message_id=message_id)
        try:
            with self._mailbox.instrumentation.operation(self._operation, message_id=message_id) as span:
                span.done = False
                with add_context(message_id=message_id):
                    self._claimed(delivery, destination, span, progress)
                span.done = delivery.status is DeliveryStatus.DELIVERED
        except Exception as error:  # noqa: BLE001 - a handler's own errors too; the message stays in the inbox
            self._note(delivery, error)
        else:
            if delivery.error is not None:
                self._note(delivery, delivery.error)
        return delivery

    def _claimed(
        self,
        delivery: Delivery,
        destination: Destination | HandlerDestination,
        span: OperationSpan,
        progress: Callable[[ReceiveProgress], object] | None,
    ) -> None:
        claim = self._claim(delivery.message_id)
        try:
            claim.acquire()
            if not claim.is_held:
                delivery.status = DeliveryStatus.LOCKED
            elif not isinstance(destination, HandlerDestination):
                self._store(delivery, destination, span, progress, is_known=claim.is_known)
            elif claim.is_known:
                self._acknowledge_again(delivery)
            else:
                self._hand_over(delivery, destination, span)
        finally:
            claim.release()

    def begin(self, message_id: str, buffer_folder: Path | None) -> Handover | None:
        """Fetch and verify a message whole, to be handed to the body of a loop; None if there is nothing to hand out.

        The message waits in a buffer, so a damaged one is logged and passed over before the body sees it.
        """
        delivery = Delivery(message_id=message_id)
        handover: Handover | None = None
        buffer = MessageBuffer(buffer_folder)
        claim: _MessageClaim | None = None
        try:
            with add_context(operation="retrieve_message", message_id=message_id):
                claim = self._claim(message_id)
                claim.acquire()
                if not claim.is_held:
                    return None
                if claim.is_known:
                    self._acknowledge_again(delivery)
                    if delivery.error is not None:
                        self._log(delivery, delivery.error)
                    return None
                with self._downloader.retrieve(message_id, verify_checksum=True) as message:
                    self._fill(buffer, message)
            content = BufferedContent(buffer, verified=message.verified)
            fetched = Message(message.metadata, content, has_content=message.has_content)
            handover = Handover(self, delivery, fetched, buffer, claim)
        except MeshError as error:
            self._note(delivery, error)
            return None
        finally:
            if handover is None:
                buffer.close()
                if claim is not None:
                    claim.release()
        return handover

    def finish(self, delivery: Delivery, metadata: MessageMetadata, length: int | None) -> None:
        """Record a message that the body of a loop has read, and acknowledge it."""
        with add_context(message_id=delivery.message_id):
            self._record(delivery, metadata, None, length)
            self._acknowledge(delivery)
        if delivery.error is not None:
            self._log(delivery, delivery.error)

    def _fill(self, buffer: MessageBuffer, message: Message) -> None:
        blocks: list[bytes] = []
        length = 0
        for block in message.iter_bytes():
            blocks.append(block)
            length += len(block)
            if length >= GATHER_BYTES:
                buffer.write(blocks)
                blocks, length = [], 0
        buffer.write(blocks)
        buffer.rewind()

    def _claim(self, message_id: str) -> _MessageClaim:
        return _MessageClaim(self._journal, self._mailbox.mailbox_id, endpoints.checked(message_id))

    def _store(
        self,
        delivery: Delivery,
        destination: Destination,
        span: OperationSpan,
        progress: Callable[[ReceiveProgress], object] | None,
        *,
        is_known: bool,
    ) -> None:
        with self._downloader.open_download(delivery.message_id, destination) as download:
            if download is None:
                delivery.status = DeliveryStatus.LOCKED
                return
            if is_known:
                self._forget(download)
                self._acknowledge_again(delivery)
                return
            metadata, has_content = download.metadata()
            span.workflow_id = metadata.workflow_id
            if isinstance(metadata, Report):
                self._report(delivery, metadata)
            stored: ReceivedFile | None = None
            if has_content:
                stored = delivery.file = download.receive(progress=progress)
                span.bytes = stored.bytes
            elif isinstance(metadata, Report) and self._on_report is None:
                stored = download.receive_report(metadata)
            self._record(delivery, metadata, stored, None, download)
            self._acknowledge(delivery)

    def _forget(self, download: Download) -> None:
        """Remove what is left of a download that the journal has. It is of no use, and to keep it does no harm."""
        with contextlib.suppress(StorageError):
            download.forget()

    def _hand_over(self, delivery: Delivery, destination: HandlerDestination, span: OperationSpan) -> None:
        with self._downloader.open(delivery.message_id, verify_checksum=True, span=span) as message:
            metadata = message.metadata
            if isinstance(metadata, Report):
                self._report(delivery, metadata)
            if message.has_content:
                call_handler(destination.handler, message)
                if not message.complete:
                    raise IntegrityError(
                        "the handler returned before it had read the message to its end", operation=self._operation
                    )
        self._record(delivery, metadata, None, span.bytes)
        self._acknowledge(delivery)

    def _report(self, delivery: Delivery, report: Report) -> None:
        delivery.report = report
        self._mailbox.instrumentation.report_received(
            self._operation,
            message_id=report.message_id,
            linked_message_id=report.linked_message_id,
            event=report.status_event,
            code=report.status_code,
        )
        if self._on_report is not None:
            call_handler(self._on_report, report)

    def _record(
        self,
        delivery: Delivery,
        metadata: MessageMetadata,
        file: ReceivedFile | None,
        length: int | None,
        download: Download | None = None,
    ) -> None:
        """Note in the journal that a message is delivered, and then remove what is left of its download."""
        entry = JournalEntry(
            mailbox_id=self._mailbox.mailbox_id,
            message_id=delivery.message_id,
            delivered_at=self._clock.now(),
            location=file.location if file is not None else None,
            bytes=file.bytes if file is not None else length,
            message_type=metadata.message_type,
            sender=metadata.sender,
            workflow_id=metadata.workflow_id,
            metadata=metadata,
        )
        self._add(delivery, entry, download)

    def _add(self, delivery: Delivery, entry: JournalEntry, download: Download | None) -> None:
        self._journal.add(entry)
        delivery.status = DeliveryStatus.DELIVERED
        if download is not None:
            # As in `_forget`; in the same call, as each waits for a thread.
            with contextlib.suppress(StorageError):
                download.forget_here()

    def _acknowledge_again(self, delivery: Delivery) -> None:
        """Acknowledge a message that an earlier run delivered."""
        delivery.status = DeliveryStatus.ALREADY_DELIVERED
        self._acknowledge(delivery)

    def _acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge a message that is in the journal. If that fails, the next run does it."""
        if not self._acknowledges:
            return
        try:
            self._mailbox.acknowledge_message(delivery.message_id)
        except (NotFound, Gone):
            # It has left the inbox, as it was to.
            delivery.acknowledged = True
        except MeshError as error:
            delivery.error = error
        else:
            delivery.acknowledged = True

    def _note(self, delivery: Delivery, error: Exception) -> None:
        """Keep an error in the result, and log it."""
        if isinstance(error, (NotFound, Gone)) and delivery.status is DeliveryStatus.FAILED:
            delivery.status = DeliveryStatus.GONE
        self._log(delivery, error)
        if not isinstance(error, MeshError):
            error = _handler_error(error, self._operation, delivery.message_id)
        # Frames and causes keep alive what a handler has read.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        delivery.error = error

    def _log(self, delivery: Delivery, error: Exception) -> None:
        instrumentation = self._mailbox.instrumentation
        if delivery.status in (DeliveryStatus.DELIVERED, DeliveryStatus.ALREADY_DELIVERED):
            instrumentation.acknowledgement_failed(self._operation, delivery.message_id, error)
        elif delivery.status is not DeliveryStatus.GONE:
            instrumentation.message_failed(self._operation, delivery.message_id, error)


def _handler_error(error: Exception, operation: str, message_id: str) -> HandlerError:
    kind = type(error).__name__
    kept = HandlerError(f"{kind} was raised by the handler", operation=operation, message_id=message_id)
    kept.kind = kind
    kept.where = "".join(traceback.format_tb(error.__traceback__))[-_KEPT_CHARACTERS:]
    with contextlib.suppress(Exception):  # whatever its __str__ does
        kept.text = str(error)[:_KEPT_CHARACTERS]
    return kept


class Handover:
    """A message that the body of a loop has, until it comes back for the next one."""

    def __init__(
        self,
        deliverer: Deliverer,
        delivery: Delivery,
        message: Message,
        buffer: MessageBuffer,
        claim: _MessageClaim,
    ) -> None:
        self._deliverer = deliverer
        self._delivery = delivery
        self._buffer = buffer
        self._claim = claim
        self.message = message

    def finish(self) -> bool:
        """Record and acknowledge the message, if it was read to its end (a report: in any case)."""
        if not self.message.complete and isinstance(self.message.metadata, Report):
            self.message.drain()
        if self.message.complete:
            self._deliverer.finish(self._delivery, self.message.metadata, None)
        return self.message.complete

    def close(self) -> None:
        """Let go of the message."""
        self._buffer.close()
        self._claim.release()
