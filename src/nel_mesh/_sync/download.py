# Generated from _async/download.py by tools/unasync.py: edit that file, then run `make generate`.
"""Messages into files, so that whatever ends this process, the next one goes on from there."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from nel_mesh.errors import ConnectionLost, IntegrityError, MeshError, StorageError
from nel_mesh.instrumentation.events import OperationSpan
from nel_mesh.io.clock import Clock
from nel_mesh.io.concurrency import BackgroundTasks, Task
from nel_mesh.io.partial import Disk, Part
from nel_mesh.models import MessageMetadata, ReceivedFile, ReceiveProgress, Report
from nel_mesh.protocol import checksum, endpoints, filenames, responses, retry, wire
from nel_mesh.protocol.chunks import ChunkSequence
from nel_mesh.protocol.download import ReceiveRecord

from .http import Response
from .mailbox import MailboxOperations
from .message import Chunk, Message, fetch_chunk, is_bare_report
from .prefetch import ConnectionBudget, Prefetcher


class Receiver:
    """Receives whole messages for one mailbox, as streams or as files."""

    def __init__(
        self,
        mailbox: MailboxOperations,
        disk: Disk,
        clock: Clock,
        policy: retry.RetryPolicy,
        *,
        chunks_at_once: int,
        max_connections: int,
    ) -> None:
        self._mailbox = mailbox
        self._disk = disk
        self._clock = clock
        self._policy = policy
        self._chunks_at_once = chunks_at_once
        self._spare = ConnectionBudget(max_connections)

    @contextlib.contextmanager
    def retrieve(self, message_id: str, *, verify_checksum: bool) -> Iterator[Message]:
        """Opens a message as a stream, and tells of it as an operation of its own."""
        with self._mailbox.instrumentation.operation("retrieve_message", message_id=message_id, current=False) as span:
            with self.open(message_id, verify_checksum=verify_checksum, within=span) as message:
                try:
                    yield message
                finally:
                    span.done = message.complete

    @contextlib.contextmanager
    def open(self, message_id: str, *, verify_checksum: bool, within: OperationSpan) -> Iterator[Message]:
        """Opens a message as a stream; leaving the block closes the connection and acknowledges nothing."""
        with within.current():
            answer = self._mailbox.retrieve_chunk(message_id, 1)
        try:
            message = Message(
                self._mailbox, self._disk, message_id, answer, verify_checksum=verify_checksum, within=within
            )
        except BaseException:
            answer.close()
            raise
        try:
            yield message
        finally:
            message.close()

    @contextlib.contextmanager
    def arriving(self, message_id: str, folder: Path) -> Iterator[Download | None]:
        """The message's place in a folder, for this process alone; None if another one is at it.

        What has arrived stays, if the block ends before `Download.clear`.
        """
        endpoints.message_metadata(self._mailbox.mailbox_id, message_id)  # refuses an id that is none
        lock = self._disk.lock(folder / f".{message_id}.lock")
        if lock is None:
            yield None
            return
        arrival = Download(
            self._mailbox,
            self._disk,
            self._clock,
            self._policy,
            self._spare,
            message_id,
            folder,
            chunks_at_once=self._chunks_at_once,
        )
        try:
            with self._spare.message():
                yield arrival
        except MeshError as error:
            error.operation = "receive_file"
            error.message_id = message_id
            raise
        finally:
            try:
                arrival.release()
            finally:
                lock.release()

    def receive_file(
        self,
        message_id: str,
        folder: Path,
        *,
        file_name: str | None,
        verify_checksum: bool,
        progress: Callable[[ReceiveProgress], object] | None,
    ) -> ReceivedFile:
        """Receives a message into a folder."""
        with self._mailbox.instrumentation.operation("receive_file", message_id=message_id) as span:
            with self.arriving(message_id, folder) as arrival:
                if arrival is None:
                    raise StorageError(
                        "another process or thread is receiving this message into this folder",
                        operation="receive_file",
                        message_id=message_id,
                    )
                received = arrival.receive(file_name=file_name, verify_checksum=verify_checksum, progress=progress)
                arrival.clear()
            span.bytes, span.workflow_id = received.bytes, received.metadata.workflow_id
            return received


class Download:
    """One message on its way into a folder: content under a temporary name, and a record of how much has come."""

    def __init__(
        self,
        mailbox: MailboxOperations,
        disk: Disk,
        clock: Clock,
        policy: retry.RetryPolicy,
        spare: ConnectionBudget,
        message_id: str,
        folder: Path,
        *,
        chunks_at_once: int,
    ) -> None:
        self._mailbox = mailbox
        self._disk = disk
        self._clock = clock
        self._policy = policy
        self._spare = spare
        self._chunks_at_once = chunks_at_once
        self._message_id = message_id
        self._folder = folder
        self._part_path = folder / f".{message_id}.part"
        self._record_path = folder / f".{message_id}.json"
        self._part: Part | None = None
        self._first: Response | None = None
        self._record: ReceiveRecord | None = None
        self._progress: Callable[[ReceiveProgress], object] | None = None

    def metadata(self) -> MessageMetadata:
        """What the message is. It is learnt with its first chunk, which `receive` then has already."""
        record = self._record = self._read_record()
        if record.chunks_done or record.name is not None:
            return self._mailbox.message_metadata(self._message_id)
        self._first = fetch_chunk(self._mailbox, self._message_id, 1, None)
        metadata = responses.metadata("receive_file", self._message_id, self._first.headers)
        if isinstance(metadata, Report):
            # Its headers are all of it. A connection that is kept here could be the only one there is.
            self._first.close()
            self._first = None
        return metadata

    def receive(
        self,
        *,
        file_name: str | None = None,
        verify_checksum: bool = True,
        progress: Callable[[ReceiveProgress], object] | None = None,
    ) -> ReceivedFile:
        """Fetches the chunks that are not here yet, checks the whole, and gives the file its name."""
        self._progress = progress
        record = self._record or self._read_record()
        if record.name is not None:
            metadata = self._mailbox.message_metadata(self._message_id)
            named = self._finish_naming(record, record.name)
            if named is not None:
                return self._received(named, metadata, record.length, verified=None)
            record = ReceiveRecord(message_id=self._message_id)
        part = self._open_part(record)
        if record.chunks_done:
            if part.length() < record.length:
                # The record says that some of it is here, and it is not.
                record = ReceiveRecord(message_id=self._message_id)
            part.cut(record.length)
        metadata, record = self._fetch(part, record, verify_checksum=verify_checksum)
        part.sync()
        try:
            verified = self._verify(part, record, metadata, verify_checksum=verify_checksum)
        except IntegrityError:
            # Which chunk it is cannot be told, so the next attempt must not build on any of them.
            self.clear()
            raise
        name = self._place(part, record, filenames.safe_name(file_name or metadata.file_name, self._message_id))
        return self._received(name, metadata, record.length, verified=verified)

    def receive_report(self, report: Report) -> ReceivedFile:
        """Stores a report, which has no content, as what its headers say, in JSON."""
        record = self._read_record()
        if record.name is not None:
            named = self._finish_naming(record, record.name)
            if named is not None:
                return self._received(named, report, record.length, verified=None)
        part = self._fresh_part()
        fields = report.model_dump(mode="json", exclude_none=True)
        part.write([json.dumps(fields, indent=2).encode(), b"\n"])
        part.sync()
        record = ReceiveRecord(message_id=self._message_id, length=part.length())
        name = self._place(part, record, f"report-{self._message_id}.json")
        return self._received(name, report, record.length, verified=None)

    def _finish_naming(self, record: ReceiveRecord, name: str) -> str | None:
        """The file's name, for content that was complete and checked when the last process ended; None if it is not.

        Where there is no part any more, it had its name: whoever waits for such files may have moved it on since.
        """
        part = self._part = self._disk.part(self._part_path, fresh=False)
        if part is None or part.is_named(self._folder / name):
            return name
        return self._place(part, record, name) if part.length() == record.length else None

    def _open_part(self, record: ReceiveRecord) -> Part:
        if record.chunks_done:
            self._part = self._disk.part(self._part_path, fresh=False)
            if self._part is not None:
                return self._part
        return self._fresh_part()

    def _fresh_part(self) -> Part:
        self.close()
        part = self._part = self._disk.part(self._part_path, fresh=True)
        if part is None:  # pragma: no cover - a fresh one is always made
            raise AssertionError
        return part

    def clear(self) -> None:
        """Removes part and record: the file has its name, and whoever had to know of it does."""
        self.close()
        self._disk.remove(self._part_path, self._record_path)

    def release(self) -> None:
        """Lets go of the connection by which the message was looked at, and closes."""
        try:
            self.close()
        finally:
            if self._first is not None:
                self._first.close()

    def close(self) -> None:
        """Closes the part; what has arrived stays."""
        if self._part is not None:
            self._part.close()

    def _read_record(self) -> ReceiveRecord:
        written = self._disk.read_record(self._record_path)
        if written is None:
            return ReceiveRecord(message_id=self._message_id)
        return ReceiveRecord.from_bytes(written)

    def _note(self, record: ReceiveRecord, **changes: object) -> ReceiveRecord:
        record = record.model_copy(update=changes) if changes else record
        self._disk.write_record(self._record_path, record.to_bytes())
        return record

    def _fetch(
        self, part: Part, record: ReceiveRecord, *, verify_checksum: bool
    ) -> tuple[MessageMetadata, ReceiveRecord]:
        """Fetches the chunks that are not here yet, several at once, and hashes them as they come."""
        metadata: MessageMetadata | None = None
        if record.chunks_done:
            metadata = self._mailbox.message_metadata(self._message_id)
        sequence = ChunkSequence(received=record.chunks_done, total=record.chunks)
        more = record.chunks is None or record.chunks_done < record.chunks
        with BackgroundTasks() as background:
            lanes = Prefetcher(
                self._mailbox, part, background, self._spare, self._message_id, at_once=self._chunks_at_once
            )
            hashing: Task[str] | None = None
            try:
                while more:
                    early = self._take_early(part, sequence, record.length, lanes)
                    if early is None:
                        found, more, length = self._fetch_chunk(part, sequence, record.length, lanes)
                        metadata = metadata or found
                    else:
                        more, length = early
                    record = record.model_copy(
                        update={
                            "chunks": sequence.total,
                            "chunks_done": sequence.received,
                            "length": record.length + length,
                        }
                    )
                    if more:
                        lanes.measure(length)
                        # The record may only say what is durable.
                        part.sync()
                        self._note(record)
                    expected = checksum.recognise(metadata.checksum) if metadata and verify_checksum else None
                    if more and expected is not None:
                        if hashing is not None:
                            hashing.result()
                        hashing = background.start(partial(part.digest, expected.algorithm, record.length))
                if hashing is not None:
                    hashing.result()
            finally:
                lanes.close()
        if metadata is None:
            metadata = self._mailbox.message_metadata(self._message_id)
        return metadata, record

    def _take_early(
        self, part: Part, sequence: ChunkSequence, start: int, lanes: Prefetcher
    ) -> tuple[bool, int] | None:
        """Takes the next chunk, if it came before its turn. Gives whether there are more, and its length."""
        number, total = sequence.received + 1, sequence.total
        if total is None:
            return None
        lanes.open(sequence.received, total, start)
        while lanes.is_coming(number):
            self._tell(start, sequence.received, total, lanes)
        early = lanes.take(number, start)
        if early is not None:
            length = early.content.length
            try:
                if number < total:
                    lanes.measure(length)
                part.append(early.content)
                more = sequence.accept(early.status, early.chunk_range)
            except (IntegrityError, StorageError):
                # In its turn it may be right, and needs no room for a copy; if not, that is where it is said.
                lanes.give_up()
            else:
                self._tell(start + length, number, total, lanes)
                return more, length
            finally:
                early.content.close()
        # What others have written after it, in places that proved wrong, is not to be taken for content.
        part.cut(start)
        return None

    def _fetch_chunk(
        self, part: Part, sequence: ChunkSequence, start: int, lanes: Prefetcher
    ) -> tuple[MessageMetadata, bool, int]:
        """Fetches one chunk; again, from its beginning, if it breaks or comes damaged. Gives its length."""
        for attempt in itertools.count(1):
            answer, self._first = self._first, None
            if answer is None:
                answer = fetch_chunk(self._mailbox, self._message_id, sequence.received + 1, sequence.total)
            try:
                metadata = responses.metadata("receive_file", self._message_id, answer.headers)
                if is_bare_report(metadata, answer):
                    return metadata, False, 0
                total = sequence.total or metadata.chunks
                lanes.open(sequence.received + 1, total)
                length = self._store(part, answer, start, sequence.received, total, lanes)
                more = sequence.accept(answer.status, answer.headers.get(wire.CHUNK_RANGE))
            except IntegrityError as damage:
                lost = ConnectionLost(damage.reason)
                delay = retry.delay_before_retry(
                    self._policy, lost, attempt=attempt, idempotent=True, jitter=self._clock.chance()
                )
                if delay is None:
                    raise
                part.cut(start)
                answer.close()
                self._clock.sleep(delay)
            else:
                return metadata, more, length
            finally:
                answer.close()
        raise AssertionError("unreachable")  # pragma: no cover

    def _store(self, part: Part, answer: Response, start: int, before: int, total: int, lanes: Prefetcher) -> int:
        """Writes one chunk's content to the part, after the `start` bytes of the `before` chunks out of `total`."""
        chunk = Chunk(answer)
        length = 0
        began = self._clock.monotonic()
        while (blocks := chunk.next_blocks(Part.WORTH_WRITING)) is not None:
            length += part.write(blocks)
            lanes.pace(before + 1, total, length, self._clock.monotonic() - began)
            self._tell(start + length, before + answer.share, total, lanes)
        return length

    def _tell(self, length: int, chunks: float, total: int, lanes: Prefetcher) -> None:
        """Tells how far it is: what is in the file, and what has come before its turn."""
        if self._progress is None:
            return
        more_length, more_chunks = lanes.arrived()
        share = (chunks + more_chunks) / total
        self._progress(ReceiveProgress(message_id=self._message_id, bytes_done=length + more_length, share=share))

    def _verify(
        self, part: Part, record: ReceiveRecord, metadata: MessageMetadata, *, verify_checksum: bool
    ) -> str | None:
        if part.length() != record.length:
            raise IntegrityError(f"{record.length:,} bytes arrived, and the file holds another number")
        expected = checksum.recognise(metadata.checksum)
        if expected is None or not verify_checksum:
            return None
        if part.digest(expected.algorithm, record.length) != expected.digest:
            raise IntegrityError(f"the content does not have the sender's checksum ({expected.algorithm})")
        return expected.algorithm

    def _place(self, part: Part, record: ReceiveRecord, wish: str) -> str:
        """Gives the file a name that no other file has. The record says which before the name is there."""
        for attempt in itertools.count():
            name = wish if attempt == 0 else filenames.unique_name(wish, self._message_id, attempt)
            record = self._note(record, name=name)
            if part.place(self._folder / name):
                return name
        raise AssertionError("unreachable")  # pragma: no cover

    def _received(self, name: str, metadata: MessageMetadata, length: int, *, verified: str | None) -> ReceivedFile:
        return ReceivedFile(path=self._folder / name, metadata=metadata, bytes=length, verified=verified)
