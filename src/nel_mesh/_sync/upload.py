# Generated from _async/upload.py by tools/unasync.py: edit that file, then run `make generate`.
"""Whole messages on their way out: content cut into chunks, and sent so that it arrives once."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from nel_mesh.errors import (
    Gone,
    InvalidArgument,
    MeshError,
    NotFound,
    Outcome,
    OutcomeUnknown,
    SourceError,
    StorageError,
    UploadFinished,
)
from nel_mesh.io.clock import Clock
from nel_mesh.io.concurrency import BackgroundTasks, Task
from nel_mesh.io.content import Content, Contents, ContentSource
from nel_mesh.io.transfers import TransferRecord
from nel_mesh.models import SendProgress, SendReceipt, Tracking
from nel_mesh.protocol import chunks, endpoints, gzip, responses, upload, wire
from nel_mesh.protocol.chunks import Slice
from nel_mesh.protocol.download import SendRecord, arguments_digest

from .mailbox import Body, MailboxOperations

_REMEMBERED = 10_000
"""How many message ids of receipts are remembered: no other send can have led to one of them."""

_GZIP_SLACK = 100_000
"""What gzip may add to 100 MB that will not shrink; without it, a chunk of the largest size could outgrow the limit."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions:
    """What a caller may say of a message, but for its content and its local id; see `send_message`."""

    to: str
    workflow_id: str
    subject: str | None
    file_name: str | None
    checksum: str | None
    content_type: str | None
    encrypted: bool
    compressed: bool
    partner_id: str | None
    compress: bool
    progress: Callable[[SendProgress], object] | None

    def headers(self, sender: str, local_id: str) -> dict[str, str]:
        """The headers that say it. Raises InvalidArgument for what cannot be said."""
        return wire.message_headers(
            sender=sender,
            to=self.to,
            workflow_id=self.workflow_id,
            local_id=local_id,
            subject=self.subject,
            file_name=self.file_name,
            checksum=self.checksum,
            content_type=self.content_type,
            encrypted=self.encrypted,
            compressed=self.compressed,
            partner_id=self.partner_id,
        )


class _Stopped(Exception):
    """Carries what the caller's `progress` raised past everything that would take it for a failure of the network."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Sender:
    """Sends whole messages for one mailbox."""

    def __init__(
        self,
        mailbox: MailboxOperations,
        contents: Contents,
        clock: Clock,
        *,
        chunk_bytes: int,
    ) -> None:
        self._mailbox = mailbox
        self._contents = contents
        self._clock = clock
        self._chunk_bytes = chunk_bytes
        self._given: deque[str] = deque(maxlen=_REMEMBERED)

    def send(
        self,
        source: ContentSource,
        options: SendOptions,
        *,
        local_id: str | None,
        resume: str | os.PathLike[str] | None = None,
    ) -> SendReceipt:
        """Sends content in as many chunks as it needs. A failure carries the message id, once there is one."""
        with self._mailbox.instrumentation.operation("send_message") as span:
            span.local_id, span.workflow_id = local_id, options.workflow_id
            receipt = self._send(source, options, local_id, resume)
            span.message_id, span.local_id = receipt.message_id, receipt.local_id
            span.bytes, span.chunks = receipt.bytes, receipt.chunks
        self._given.append(receipt.message_id)
        return receipt

    def _send(
        self,
        source: ContentSource,
        options: SendOptions,
        local_id: str | None,
        resume: str | os.PathLike[str] | None,
    ) -> SendReceipt:
        send = _Send(self._mailbox, self._contents, self._clock, options, self._given)
        try:
            # Before the local id is made and the content opened, so that a fault costs nothing.
            options.headers(self._mailbox.mailbox_id, local_id or "x")
            content = self._contents.open(source)
            try:
                if resume is None:
                    receipt = send.run(content, self._new_record(content, options, local_id, kept=False))
                else:
                    receipt = self._resume(send, content, options, local_id, Path(resume), source)
            finally:
                content.close()
        except _Stopped as stopped:
            raise stopped.error from None
        except MeshError as error:
            error.operation = "send_message"
            error.local_id = send.local_id or local_id
            error.message_id = error.message_id or send.message_id
            if not isinstance(error, OutcomeUnknown):
                error.outcome = send.outcome
            raise
        except BaseException as interruption:
            # Cancelled, or Ctrl-C: whoever catches it may want to know what to ask MESH for.
            if send.local_id:
                interruption.add_note(
                    f"send_message was interrupted; the message may have been sent: local id {send.local_id}"
                    + (f", message id {send.message_id}" if send.message_id else "")
                )
            raise
        return receipt

    def find(self, local_id: str) -> Tracking | None:
        """What has become of the message of this local id; None if MESH knows none."""
        found = self._mailbox.find_sent(local_id)
        if found is None:
            return None
        tracking, _ = found
        if tracking.status not in upload.SETTLED:
            raise OutcomeUnknown(
                f"MESH knows the message, and its status is {tracking.status}",
                operation="resolve_send",
                outcome=Outcome.UNKNOWN,
                message_id=tracking.message_id,
                local_id=local_id,
            )
        return tracking

    def _new_record(
        self, content: Content, options: SendOptions, local_id: str | None, *, kept: bool = True
    ) -> SendRecord:
        # Splitting is what refuses empty and oversized content; nothing has been sent before it.
        limit = min(self._chunk_bytes, chunks.MAX_REQUEST_BYTES - _GZIP_SLACK * options.compress)
        chunks.split(content.length, limit)
        made = local_id or self._clock.unique()
        return SendRecord(
            mailbox_id=self._mailbox.mailbox_id,
            local_id=made,
            local_id_generated=not local_id,
            arguments=_arguments(options, local_id) if kept else "",
            content_bytes=content.length,
            modified_ns=content.stamp()[1],
            chunk_bytes=limit,
            began=self._clock.now(),
        )

    def _resume(
        self,
        send: _Send,
        content: Content,
        options: SendOptions,
        local_id: str | None,
        resume: Path,
        source: ContentSource,
    ) -> SendReceipt:
        """Sends under a record, so that whatever ends this process, the next one goes on from there."""
        keyed = resume.is_dir()
        path = TransferRecord(resume / self._record_name(source, options, local_id) if keyed else resume)
        lock = path.lock()
        # Until the record says otherwise, whoever wrote it may have sent all of it.
        send.outcome = Outcome.UNKNOWN
        try:
            if not lock.acquire():
                raise StorageError("resume: another process or thread is sending under this record")
            written = path.read()
            if written is None:
                send.outcome = Outcome.NOT_SENT
                record = self._new_record(content, options, local_id)
                path.write(record.to_bytes())
                receipt = send.run(content, record, path)
            else:
                record = SendRecord.from_bytes(written)
                send.take_over(record)
                self._check_record(record, content, options, local_id)
                receipt = send.go_on(content, record, path)
        except MeshError as error:
            send.note_failure(error, path)
            raise
        else:
            if keyed and not local_id:
                # Nothing names this send, so nobody can ask for its receipt again: the next call is a new one.
                path.forget()
            return receipt
        finally:
            lock.release()

    def _check_record(self, record: SendRecord, content: Content, options: SendOptions, local_id: str | None) -> None:
        cure = "; to send it as a new message, remove the record"
        if record.mailbox_id != self._mailbox.mailbox_id:
            raise InvalidArgument(f"resume: the record is of another mailbox{cure}")
        if record.arguments != _arguments(options, local_id):
            raise InvalidArgument(f"resume: the record is of a send with other arguments{cure}")
        if (record.content_bytes, record.modified_ns) != content.stamp():
            raise SourceError(f"content: it has changed since this send began{cure}")

    def _record_name(self, source: ContentSource, options: SendOptions, local_id: str | None) -> str:
        key = local_id or f"{Path(source).absolute() if isinstance(source, os.PathLike) else ''}"
        what = {"mailbox": self._mailbox.mailbox_id, "key": key, "what": _arguments(options, local_id)}
        digest = arguments_digest(what, compress=options.compress)
        return f"send-{digest[:32]}.json"


class _Blocks:
    """The body of one request. Not a generator: one that is abandoned halfway is cleaned up anywhen."""

    def __init__(
        self,
        contents: Contents,
        content: Content,
        start: int,
        length: int,
        before_block: Callable[[int, bool], None],
    ) -> None:
        self._contents = contents
        self._content = content
        self._start = start
        self._length = length
        self._before_block = before_block
        self._done = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        size = min(Contents.SEND_BLOCK, self._length - self._done)
        if not size:
            raise StopIteration
        block = self._contents.read(self._content, self._start + self._done, size)
        # Told before the block goes: a callable that raises to stop the send stops it for certain.
        self._before_block(self._done, self._done + size == self._length)
        self._done += size
        return block


class _Send:
    """One message on its way out."""

    def __init__(
        self,
        mailbox: MailboxOperations,
        contents: Contents,
        clock: Clock,
        options: SendOptions,
        given: deque[str],
    ) -> None:
        self._given = given
        self.message_id: str | None = None
        self.local_id: str | None = None
        self.outcome = Outcome.NOT_SENT
        """What to say of the message if anything fails from here on."""
        self._number = 0
        self._record: SendRecord | None = None
        self._mailbox = mailbox
        self._contents = contents
        self._clock = clock
        self._options = options

    def take_over(self, record: SendRecord) -> None:
        """Takes note of what an earlier process has done, as far as it could still write it down."""
        self.local_id, self.message_id = record.local_id, record.message_id
        total = len(chunks.split(record.content_bytes, record.chunk_bytes))
        if record.sent:
            self.outcome = Outcome.SENT
        else:
            # The request that delivers may have been made, and its answer not been noted.
            is_open = record.chunks_done == total - 1 and not record.not_sent
            self.outcome = Outcome.UNKNOWN if is_open else Outcome.NOT_SENT

    def go_on(self, content: Content, record: SendRecord, path: TransferRecord) -> SendReceipt:
        """Continues after an interruption, from what the record says."""
        slices = chunks.split(record.content_bytes, record.chunk_bytes)
        if record.sent:
            return _receipt(record, slices)
        if record.not_sent:
            record = self._note(path, record, not_sent=False)
        elif len(slices) == 1:
            # Whether the only request arrived before the interruption is not known here; MESH may know.
            found = self._settle(record)
            if found is not None:
                return _receipt(self._note(path, record, sent=True, message_id=found), slices)
            self.outcome = Outcome.NOT_SENT
        digest = ""
        for piece in slices[: record.chunks_done]:
            digest = self._contents.digest(content, piece.start, piece.length, digest)
        if digest != record.digest:
            raise SourceError("content: it has changed since this send began; to send it anew, remove the record")
        try:
            return self.run(content, record, path)
        except (NotFound, Gone):
            if not 1 < self._number < len(slices):
                raise
            # MESH has forgotten the upload; as it was never finished it will never be delivered, so begin anew.
            self.message_id = None
            record = self._note(path, record, message_id=None, chunks_done=0, bytes_on_wire=0, digest="")
            return self.run(content, record, path)

    def run(self, content: Content, record: SendRecord, path: TransferRecord | None = None) -> SendReceipt:
        """Sends the chunks that the record does not have yet; while one goes, the next is compressed."""
        self._record = record
        self.local_id = record.local_id
        headers = self._options.headers(record.mailbox_id, record.local_id)
        slices = chunks.split(record.content_bytes, record.chunk_bytes)
        left = slices[record.chunks_done :]
        pending: Task[Content] | None = None
        try:
            with BackgroundTasks() as background:
                for piece, next_piece in zip(left, [*left[1:], None], strict=False):
                    self._number = piece.range.number
                    packed: Content | None = None
                    try:
                        packed = self._packed(content, piece, pending)
                        pending = None
                        if self._options.compress and next_piece is not None:
                            pending = background.start(partial(self._pack, content, next_piece))
                        digest = partial(self._contents.digest, content, piece.start, piece.length, record.digest)
                        digesting = background.start(digest) if path else None
                        start, length = (0, packed.length) if packed else (piece.start, piece.length)
                        body = self._body(packed or content, start, length, piece, content, record)
                        self._send_chunk(body, length, piece, headers, record)
                    finally:
                        if packed:
                            packed.close()
                    if piece is slices[-1]:
                        self.outcome = Outcome.SENT
                    record = self._note(
                        path,
                        record,
                        message_id=self.message_id,
                        chunks_done=piece.range.number,
                        bytes_on_wire=record.bytes_on_wire + length,
                        sent=piece is slices[-1],
                        digest=digesting.result() if digesting else "",
                    )
                    self._report(piece.start + piece.length, piece, content.length)
        finally:
            if pending is not None and (unsent := pending.value()) is not None:
                unsent.close()
        return _receipt(record, slices)

    def _packed(self, content: Content, piece: Slice, pending: Task[Content] | None) -> Content | None:
        """The chunk as it goes, if it is to be compressed; it may have been, beside the last one's sending."""
        if not self._options.compress:
            return None
        return pending.result() if pending else self._pack(content, piece)

    def _pack(self, content: Content, piece: Slice) -> Content:
        return self._contents.spool(gzip.compress(content.blocks(piece.start, piece.length)))

    def note_failure(self, error: MeshError, path: TransferRecord) -> None:
        """Notes that a single request was not sent, where that is certain: the next attempt need not ask for it."""
        record = self._record
        if record is None or self.outcome is not Outcome.NOT_SENT or isinstance(error, OutcomeUnknown):
            return
        if record.content_bytes <= record.chunk_bytes:
            # Without the note the next attempt is slower, and as safe.
            with contextlib.suppress(StorageError):
                self._note(path, record, not_sent=True)

    def _note(self, path: TransferRecord | None, record: SendRecord, **changes: object) -> SendRecord:
        record = self._record = record.model_copy(update=changes)
        if path is not None:
            path.write(record.to_bytes())
        return record

    def _send_chunk(self, body: Body, length: int, piece: Slice, headers: dict[str, str], record: SendRecord) -> None:
        if piece.range.number == 1:
            self.message_id = self._send_first(body, length, piece, headers, record)
        else:
            self._send_further(body, length, piece, headers)

    def _send_first(self, body: Body, length: int, piece: Slice, headers: dict[str, str], record: SendRecord) -> str:
        gzipped = self._options.compress
        request = endpoints.send_message(self._mailbox.mailbox_id, headers, piece.range, gzipped=gzipped)
        try:
            answer = self._mailbox.send(request, body, length)
        except MeshError as failure:
            if failure.may_have_acted and piece.range.total == 1:
                return self._find_or_unknown(record, failure)
            raise
        message_id = responses.message_id(answer.body)
        if message_id is not None:
            return message_id
        unreadable = responses.unexpected_response(request.operation, status=answer.status)
        if piece.range.total > 1:
            raise unreadable
        return self._find_or_unknown(record, unreadable)

    def _find_or_unknown(self, record: SendRecord, failure: MeshError) -> str:
        found = self._settle(record, failure)
        if found is None:
            raise _unknown(failure, "it may have arrived, and MESH does not know it by its local id (yet)") from failure
        return found

    def _settle(self, record: SendRecord, failure: MeshError | None = None) -> str | None:
        """The id of the message, if it has arrived although its answer was lost; None if MESH knows of none.

        MESH is given a while to know it. Raises OutcomeUnknown if asking fails, or finds what may be another message.
        """
        for delay in upload.SETTLING_DELAYS_IN_SECONDS:
            self._clock.sleep(delay)
            try:
                found = self._mailbox.find_sent(record.local_id)
            except MeshError as error:
                why = "it may have arrived, and asking for it by its local id failed too"
                raise _unknown(failure or error, why) from error
            if found is None:
                continue
            tracking, server_time = found
            if (
                upload.is_same_send(
                    tracking,
                    local_id=record.local_id,
                    workflow_id=self._options.workflow_id,
                    to=self._options.to,
                    file_name=self._options.file_name,
                    local_id_generated=record.local_id_generated,
                    began=server_time - (self._clock.now() - record.began) if server_time else None,
                )
                and tracking.message_id not in self._given
            ):
                return tracking.message_id
            why = "it may have arrived; what MESH has under its local id may be another message"
            raise _unknown(failure or MeshError("it was interrupted"), why) from failure
        return None

    def _send_further(self, body: Body, length: int, piece: Slice, headers: dict[str, str]) -> None:
        message_id = self.message_id or ""
        request = endpoints.send_chunk(
            self._mailbox.mailbox_id,
            message_id,
            piece.range,
            content_type=headers[wire.CONTENT_TYPE],
            gzipped=self._options.compress,
        )
        try:
            self._mailbox.send(request, body, length, message_id=message_id)
        except MeshError as failure:
            is_last = piece.range.number == piece.range.total
            if isinstance(failure, UploadFinished) and not is_last:
                raise _unknown(failure, "MESH says that it has all chunks, before they were sent") from failure
            was_open = self.outcome is Outcome.UNKNOWN
            if not is_last or not (was_open or failure.may_have_acted or isinstance(failure, UploadFinished)):
                raise
            try:
                delivered = upload.is_delivered(self._mailbox.track_message(message_id))
            except MeshError:
                delivered = False
            if not delivered:
                why = "the last chunk may have arrived, and tracking does not say that it has"
                raise _unknown(failure, why) from failure

    def _body(
        self, content: Content, start: int, length: int, piece: Slice, source: Content, record: SendRecord
    ) -> Body:
        def before_block(done: int, is_last: bool) -> None:
            self._report(piece.start + piece.length * done // length, piece, source.length)
            # Before the block without which MESH cannot have the request: then all of it was read from the same source.
            if is_last and source.stamp() != (record.content_bytes, record.modified_ns):
                raise SourceError("content: it was changed while it was being sent")

        return lambda: _Blocks(self._contents, content, start, length, before_block)

    def _report(self, bytes_done: int, piece: Slice, total: int) -> None:
        if self._options.progress is None:
            return
        progress = SendProgress(
            bytes_done=bytes_done, bytes_total=total, chunk=piece.range.number, chunks=piece.range.total
        )
        try:
            self._options.progress(progress)
        except Exception as error:
            if bytes_done == total:
                # MESH has the message; to raise now would look as if it had not.
                self._mailbox.instrumentation.progress_failed("send_message", error)
                return
            raise _Stopped(error) from error


def _arguments(options: SendOptions, local_id: str | None) -> str:
    return arguments_digest(options.headers("", local_id or "made"), compress=options.compress)


def _receipt(record: SendRecord, slices: list[Slice]) -> SendReceipt:
    return SendReceipt(
        message_id=record.message_id or "",
        local_id=record.local_id,
        chunks=len(slices),
        bytes=record.content_bytes,
        bytes_on_wire=record.bytes_on_wire,
    )


def _unknown(failure: MeshError, why: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{why} ({failure.reason})",
        outcome=Outcome.UNKNOWN,
        status=failure.status,
        event=failure.event,
        code=failure.code,
        description=failure.description,
    )
