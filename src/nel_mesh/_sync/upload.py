# Generated from _async/upload.py by tools/unasync.py: edit that file, then run `make generate`.
"""Send whole messages: do the steps that protocol/upload_*.py decide on, and tell it how each one ended."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from nel_mesh.destinations.base import Record
from nel_mesh.errors import MeshError, Outcome, OutcomeUnknown, SourceError, StorageError, add_context
from nel_mesh.io.clock import Clock
from nel_mesh.io.concurrency import BackgroundTasks, Task
from nel_mesh.io.content import Content, ContentSource, OpenContent, RemoteSource, Spool
from nel_mesh.io.transfers import TransferRecord, TransferRecords
from nel_mesh.models import SendProgress, SendReceipt, Tracking
from nel_mesh.protocol import gzip, responses, upload_events
from nel_mesh.protocol.chunks import Slice
from nel_mesh.protocol.upload_plan import MessageOptions, UploadPlan
from nel_mesh.protocol.upload_record import SendRecord, record_key, record_of_failure
from nel_mesh.protocol.upload_states import ADVANCES, OUTCOMES, STEPS, TRANSITIONS, Event, State, Step

from .mailbox import MailboxOperations

_RECENT_MESSAGE_IDS = 10_000
"""How many message ids of receipts are kept: no other send can have led to one of them."""

_OUTCOME_TEXTS = {
    Outcome.SENT: "the message was sent",
    Outcome.NOT_SENT: "the message was not sent",
    Outcome.UNKNOWN: "the message may have been sent",
}

_WITHOUT_RECEIPT = frozenset({State.NOT_SENT, State.UNKNOWN})
"""The ends of a send that raise."""


class _Stopped(Exception):
    """Carries an error that the caller's `progress` raised past everything that would take it for a failed request."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Sender:
    """Sends whole messages for one mailbox."""

    def __init__(
        self,
        mailbox: MailboxOperations,
        clock: Clock,
        *,
        chunk_bytes: int,
        spool_folder: Path | None,
    ) -> None:
        self.mailbox = mailbox
        self.clock = clock
        self.chunk_bytes = chunk_bytes
        self.spool_folder = spool_folder
        self.recent_message_ids: deque[str] = deque(maxlen=_RECENT_MESSAGE_IDS)

    def send(
        self,
        source: ContentSource,
        options: MessageOptions,
        *,
        local_id: str | None,
        progress: Callable[[SendProgress], object] | None,
        resume: str | os.PathLike[str] | Record | None = None,
    ) -> SendReceipt:
        """Send content in as many chunks as it needs; see `MeshClient.send_message` and `send_file`."""
        with self.mailbox.instrumentation.operation("send_message") as span:
            span.local_id, span.workflow_id = local_id, options.workflow_id
            receipt = _Upload(self, options, local_id, progress).run(source, resume)
            span.message_id, span.local_id = receipt.message_id, receipt.local_id
            span.bytes, span.chunks = receipt.bytes, receipt.chunks
        self.recent_message_ids.append(receipt.message_id)
        return receipt

    def find(self, local_id: str) -> Tracking | None:
        """Look up a message by its local id; see `MeshClient.resolve_send`."""
        found = self.mailbox.find_sent(local_id)
        if found is None:
            return None
        tracking, _ = found
        if not (tracking.delivered or tracking.failed):
            raise OutcomeUnknown(
                f"MESH knows the message, and its status is {tracking.status}",
                operation="resolve_send",
                outcome=Outcome.UNKNOWN,
                message_id=tracking.message_id,
                local_id=local_id,
            )
        return tracking


class _Upload:
    """One send: its state, and the steps. It decides nothing; see protocol/upload_states.py."""

    def __init__(
        self,
        sender: Sender,
        options: MessageOptions,
        local_id: str | None,
        progress: Callable[[SendProgress], object] | None,
    ) -> None:
        self._sender = sender
        self._mailbox = sender.mailbox
        self._options = options
        self._callers_local_id = self._local_id = local_id
        self._progress = progress
        self._state = State.BEGINNING
        self._failure: MeshError | None = None
        self._look_up_failure: MeshError | None = None
        self._message_id: str | None = None
        self._bytes_in_doubt = 0
        """The length of the last request, which may have arrived."""
        self._file: Record | None = None
        """Where the record is kept, if it is."""
        self._saved: SendRecord | None = None
        """The record as it is there."""
        self._headers: Mapping[str, str]
        self._record: SendRecord
        self._plan: UploadPlan
        self._content: Content
        self._background: BackgroundTasks
        self._compressed: Task[Spool] | None = None
        """The next chunk, compressed while this one is sent."""

    def run(self, source: ContentSource, resume: str | os.PathLike[str] | Record | None) -> SendReceipt:
        """Send the content, or what the record says is left of it."""
        try:
            # Before a local id is generated and the content opened, so that a fault costs nothing.
            self._headers = self._options.headers(self._mailbox.mailbox_id, self._callers_local_id)
            if resume is None:
                return self._send(source)
            return self._send_with_record(source, resume)
        except _Stopped as stopped:
            raise stopped.error from None
        except MeshError:
            with add_context(
                operation="send_message",
                message_id=self._message_id,
                local_id=self._local_id,
                outcome=self._outcome_after(Event.LOCAL_FAILURE),
            ):
                raise
        except BaseException as interruption:
            # Cancelled, or Ctrl-C: the one who catches it may want to know what to ask MESH for.
            if self._local_id:
                said = _OUTCOME_TEXTS[self._outcome_after(Event.INTERRUPTED)]
                message = f", message id {self._message_id}" if self._message_id else ""
                interruption.add_note(f"send_message was interrupted; {said}: local id {self._local_id}{message}")
            raise
        finally:
            # Their tracebacks refer to this object.
            self._failure = self._look_up_failure = None

    def _outcome_after(self, event: Event) -> Outcome:
        return OUTCOMES[TRANSITIONS[self._state][event].state]

    def _send_with_record(self, source: ContentSource, resume: str | os.PathLike[str] | Record) -> SendReceipt:
        """Send under a record, so that whatever ends this process, the next one resumes."""
        self._state = State.READING_RECORD
        record, is_named = self._record_for(resume, source)
        self._file = record
        lock = record.lock()
        try:
            try:
                is_free = lock.acquire()
            except StorageError as error:
                if record.read() is not None:
                    raise
                self._send_without_record(error)
                is_free = True
            if not is_free:
                raise StorageError("resume: another process or thread is sending under this record")
            self._step()
            receipt = self._send(source)
            if not is_named:
                # Nobody can ask for this receipt again, so the next call is a new send.
                self._forget()
            return receipt
        finally:
            lock.release()

    def _record_for(self, resume: str | os.PathLike[str] | Record, source: ContentSource) -> tuple[Record, bool]:
        """Return the record to use, and whether the caller can ask by it for the receipt again."""
        if not isinstance(resume, (str, os.PathLike)):
            return resume, True
        if not Path(resume).is_dir():
            return TransferRecord(Path(resume)), True
        path = source.url if isinstance(source, RemoteSource) else ""
        if isinstance(source, os.PathLike):
            path = str(Path(source).absolute())
        key = record_key(self._options, mailbox_id=self._mailbox.mailbox_id, local_id=self._callers_local_id, path=path)
        return TransferRecords(Path(resume)).record(key), self._callers_local_id is not None

    def _send_without_record(self, error: StorageError) -> None:
        self._file = None
        self._mailbox.instrumentation.send_record_failed(None, "begin", error)

    def _send(self, source: ContentSource) -> SendReceipt:
        with OpenContent(source, self._sender.spool_folder) as content:
            self._content = content
            if self._saved is not None:
                self._check_record(self._saved)
            try:
                with BackgroundTasks() as self._background:
                    while self._state in STEPS:
                        self._step()
            finally:
                self._discard_compressed()
        return self._record.receipt()

    def _check_record(self, record: SendRecord) -> None:
        """Check that the record is of this send and this content, and plan the rest of it."""
        record.check(
            mailbox_id=self._mailbox.mailbox_id,
            arguments=self._options.digest(self._callers_local_id),
            stamp=self._content.stamp(),
        )
        self._plan = record.plan(self._options)
        if not record.sent:
            digest = ""
            for piece in self._plan.slices[: record.chunks_done]:
                digest = self._content.digest(piece.start, piece.length, digest)
            record.check_content(digest)

    def _step(self) -> None:
        """Do the step of this state, and enter the state that follows from how it ended."""
        match STEPS[self._state]:
            case Step.BEGIN:
                event = self._begin()
            case Step.READ_RECORD:
                event = self._read_record()
            case Step.SEND_CHUNK:
                event = self._send_chunk()
            case Step.LOOK_UP:
                event = self._look_up()
            case Step.TRACK:
                event = self._track()
            case Step.START_AGAIN:
                event = self._start_again()
        following = TRANSITIONS[self._state][event]
        self._state = following.state
        if self._state in _WITHOUT_RECEIPT:
            self._end_without_receipt(event)
            failure = self._failure or MeshError("it was interrupted")
            error = upload_events.error(following, failure)
            if error is failure:
                raise failure
            raise error from self._look_up_failure or failure
        if event is not Event.NO_RECORD:
            self._save()
        if event in ADVANCES:
            self._report_chunk(self._record.chunks_done)

    def _begin(self) -> Event:
        self._plan = UploadPlan.make(
            self._options,
            self._headers,
            mailbox_id=self._mailbox.mailbox_id,
            local_id=self._callers_local_id,
            unique=self._sender.clock.unique(),
            length=self._content.length,
            limit=self._sender.chunk_bytes,
        )
        self._local_id = self._plan.local_id
        self._record = SendRecord.begin(
            self._plan,
            arguments=self._plan.digest() if self._file is not None else "",
            modified_ns=self._content.stamp()[1],
            now=self._sender.clock.now(),
        )
        return upload_events.event_of_plan(self._plan)

    def _read_record(self) -> Event:
        written = self._file.read() if self._file is not None else None
        if self._file is not None and written is not None:
            self._record = self._saved = SendRecord.from_bytes(written, self._file.place)
            self._local_id, self._message_id = self._record.local_id, self._record.message_id
        return upload_events.event_of_record(self._saved)

    def _send_chunk(self) -> Event:
        record, plan = self._record, self._plan
        number = record.chunks_done + 1
        piece = plan.slices[number - 1]
        compressed: Content | None = None
        try:
            if record.not_sent:
                self._record = record = record.opened()
                self._save()
            compressed = self._next_compressed(number) if plan.compress else None
            is_recorded = self._file is not None and not plan.delivers(number)
            digesting = self._start_digest(number) if is_recorded else None
            start, length = (0, compressed.length) if compressed else (piece.start, piece.length)
            content, self._bytes_in_doubt = compressed or self._content, length
            response = self._mailbox.send(
                plan.request(number, self._message_id),
                lambda: _Body(content, start, length, partial(self._before_block, piece, length)),
                length,
                message_id=self._message_id,
            )
            self._message_id = upload_events.accepted_message_id(
                number, response.status, responses.message_id(response.body), self._message_id
            )
        except MeshError as failure:
            self._failure = failure
            return upload_events.event_of_failure(failure, delivers=plan.delivers(number))
        finally:
            if compressed:
                compressed.close()
        self._record = record.accepted(
            number,
            message_id=self._message_id,
            bytes_on_wire=length,
            digest=digesting.result() if digesting else "",
        )
        return upload_events.event_of_acceptance(number, len(plan.slices))

    def _look_up(self) -> Event:
        """Ask for the message by its local id, until MESH knows it or has had time to."""
        for delay in upload_events.LOOK_UP_DELAYS_IN_SECONDS:
            self._sender.clock.sleep(delay)
            try:
                found = self._mailbox.find_sent(self._record.local_id)
            except MeshError as error:
                self._look_up_failure = error
                self._failure = self._failure or error
                return Event.LOOK_UP_FAILED
            if found is not None:
                tracking, server_time = found
                elapsed = self._sender.clock.now() - self._record.began
                event = upload_events.event_of_look_up(
                    tracking,
                    self._plan,
                    began=server_time - elapsed if server_time else None,
                    recent_message_ids=self._sender.recent_message_ids,
                )
                return self._tracked(tracking, event)
        return Event.NOT_FOUND

    def _track(self) -> Event:
        try:
            tracking = self._mailbox.track_message(self._message_id or "")
        except MeshError:
            return Event.LOOK_UP_FAILED
        return self._tracked(tracking, upload_events.event_of_tracking(tracking))

    def _tracked(self, tracking: Tracking, event: Event) -> Event:
        if event in ADVANCES:
            self._message_id = tracking.message_id
            self._record = self._record.delivered(tracking.message_id, bytes_on_wire=self._bytes_in_doubt)
        elif event is Event.FAILED:
            self._failure = upload_events.failure_of(tracking)
        return event

    def _start_again(self) -> Event:
        self._discard_compressed()
        self._message_id = None
        self._record = self._record.started_again()
        return Event.STARTED_AGAIN

    def _save(self) -> None:
        """Write the record, if it has changed."""
        if self._file is None or self._record is self._saved:
            return
        try:
            self._file.write(self._record.to_bytes())
        except StorageError as error:
            if self._saved is None:
                # Nothing was sent yet. What was written of it must not be taken for a send that is under way.
                with contextlib.suppress(StorageError):
                    self._file.forget()
                self._send_without_record(error)
            elif self._state is State.SENT:
                # MESH can still be asked for the message, as the record says that it may have been sent.
                self._mailbox.instrumentation.send_record_failed(self._message_id, "complete", error)
            else:
                raise
        else:
            self._saved = self._record

    def _end_without_receipt(self, event: Event) -> None:
        """Note in the record what the next send under it need not find out again."""
        if self._state is not State.NOT_SENT or self._file is None or self._saved is None:
            return
        record = record_of_failure(self._saved, event)
        if record is None:
            self._forget()
        elif record != self._saved:
            # Without it the next attempt is slower, and as safe.
            with contextlib.suppress(StorageError):
                self._file.write(record.to_bytes())

    def _forget(self) -> None:
        if self._file is None:
            return
        try:
            self._file.forget()
        except StorageError as error:
            self._mailbox.instrumentation.send_record_failed(self._message_id, "remove", error)

    def _start_digest(self, number: int) -> Task[str]:
        return self._background.start(self._digest, self._plan.slices[number - 1], self._record.digest)

    def _digest(self, piece: Slice, before: str) -> str:
        return self._content.digest(piece.start, piece.length, before)

    def _next_compressed(self, number: int) -> Spool:
        """Return a chunk as it goes, and start to compress the one after it."""
        task, self._compressed = self._compressed, None
        compressed = task.result() if task else self._compress(number)
        if not self._plan.delivers(number):
            self._compressed = self._background.start(self._compress, number + 1)
        return compressed

    def _compress(self, number: int) -> Spool:
        piece = self._plan.slices[number - 1]
        compressed = Spool(self._sender.spool_folder)
        try:
            compressed.fill(gzip.compress(self._content.blocks(piece.start, piece.length)))
        except BaseException:
            compressed.close()
            raise
        return compressed

    def _discard_compressed(self) -> None:
        task, self._compressed = self._compressed, None
        if task is not None and (compressed := task.value()) is not None:
            compressed.close()

    def _before_block(self, piece: Slice, length: int, done: int, *, is_last: bool) -> None:
        self._report(piece.start + piece.length * done // length, piece.range.number)
        # Before the block without which MESH cannot have the request: then all of it was read from the same source.
        if is_last and self._content.stamp() != (self._record.content_bytes, self._record.modified_ns):
            raise SourceError("content: it was changed while it was being sent")

    def _report_chunk(self, number: int) -> None:
        piece = self._plan.slices[number - 1]
        self._report(piece.start + piece.length, number)

    def _report(self, bytes_done: int, number: int) -> None:
        if self._progress is None:
            return
        total = self._content.length
        progress = SendProgress(bytes_done=bytes_done, bytes_total=total, chunk=number, chunks=len(self._plan.slices))
        try:
            self._progress(progress)
        except Exception as error:
            if self._state is State.SENT:
                # To raise now would look as if MESH did not have the message.
                self._mailbox.instrumentation.progress_failed("send_message", error)
                return
            raise _Stopped(error) from error


class _Body:
    """The body of one request. Not a generator: one that is abandoned is finalised at an arbitrary time."""

    def __init__(self, content: Content, start: int, length: int, before_block: Callable[..., None]) -> None:
        self._content = content
        self._start = start
        self._length = length
        self._before_block = before_block
        self._done = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        size = min(OpenContent.SEND_BLOCK_BYTES, self._length - self._done)
        if not size:
            raise StopIteration
        start = self._start + self._done
        block = self._content.read_from_memory(start, size)
        if block is None:
            block = self._content.read(start, size)
        # Before the block goes: a callable that raises to stop the send stops it for certain.
        self._before_block(self._done, is_last=self._done + size == self._length)
        self._done += size
        return block
