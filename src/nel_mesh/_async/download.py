"""Messages from MESH: opened as streams, or downloaded into a destination so that a later process can resume.

The steps of a download follow `protocol/download.py`; this is the shell that carries them out.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar

from nel_mesh.blocks import Block
from nel_mesh.destinations.base import Destination
from nel_mesh.errors import ConnectionLost, IntegrityError, StorageError, add_context
from nel_mesh.instrumentation.spans import OperationSpan
from nel_mesh.io.async_concurrency import AsyncBackgroundTasks, AsyncTask, in_thread
from nel_mesh.io.clock import AsyncClock
from nel_mesh.models import MessageMetadata, ReceivedFile, ReceiveProgress, Report
from nel_mesh.protocol import checksum, endpoints, responses, retry, wire
from nel_mesh.protocol.chunks import ChunkSequence
from nel_mesh.protocol.download import DownloadRecord, NextStep, Partial, next_step
from nel_mesh.tracebacks import clear_locals

from .http import AsyncResponse
from .mailbox import AsyncMailboxOperations
from .message import AsyncMessage
from .prefetch import AsyncPrefetcher, ConnectionBudget
from .stream import AsyncChunk, AsyncFetchedContent, fetch_chunk, is_bare_report, verify

_Value = TypeVar("_Value")


class AsyncDownloader:
    """Downloads the messages of one mailbox.

    Args:
        mailbox: whose messages.
        clock: where time comes from.
        max_chunks: how many chunks of one message may be on their way at once.
        max_connections: how many connections there are for all messages.
        max_message_bytes: the longest content that is received.
        strict_checksums: whether a bare digest that differs is an error.
    """

    def __init__(
        self,
        mailbox: AsyncMailboxOperations,
        clock: AsyncClock,
        *,
        max_chunks: int,
        max_connections: int,
        max_message_bytes: int,
        strict_checksums: bool,
    ) -> None:
        self._mailbox = mailbox
        self._clock = clock
        self._max_chunks = max_chunks
        self._max_message_bytes = max_message_bytes
        self._strict = strict_checksums
        self._budget = ConnectionBudget(max_connections)

    @contextlib.asynccontextmanager
    async def retrieve(self, message_id: str, *, verify_checksum: bool) -> AsyncIterator[AsyncMessage]:
        """Open a message as a stream, as an operation of its own."""
        instrumentation = self._mailbox.instrumentation
        with instrumentation.operation("retrieve_message", message_id=message_id, current=False) as span:
            async with self.open(message_id, verify_checksum=verify_checksum, span=span) as message:
                try:
                    yield message
                finally:
                    span.done = message.complete

    @contextlib.asynccontextmanager
    async def open(self, message_id: str, *, verify_checksum: bool, span: OperationSpan) -> AsyncIterator[AsyncMessage]:
        """Open a message as a stream; leaving the block closes the connection and acknowledges nothing."""
        with span.current():
            response = await self._mailbox.retrieve_chunk(message_id, 1)
        try:
            metadata = responses.metadata("retrieve_message", message_id, response.headers)
            content = AsyncFetchedContent(
                self._mailbox,
                response,
                metadata,
                verify_checksum=verify_checksum,
                strict=self._strict,
                max_bytes=self._max_message_bytes,
                span=span,
            )
            message = AsyncMessage(metadata, content, has_content=not is_bare_report(metadata, response))
        except BaseException as error:
            clear_locals(error)  # headers
            await response.close()
            raise
        try:
            yield message
        finally:
            await message.close()

    @contextlib.asynccontextmanager
    async def open_download(self, message_id: str, destination: Destination) -> AsyncIterator[AsyncDownload | None]:
        """Open the download of a message, for this process alone; None if another one is downloading it.

        What has arrived stays, if the block ends before `AsyncDownload.forget`.
        """
        download = AsyncDownload(
            self._mailbox,
            self._clock,
            self._budget,
            endpoints.checked(message_id),
            destination,
            max_chunks=self._max_chunks,
            max_bytes=self._max_message_bytes,
            strict=self._strict,
        )
        try:
            await in_thread(download.begin)
            if not download.is_ours:
                yield None
                return
            with add_context(operation="receive_file", message_id=message_id), self._budget.message():
                yield download
        finally:
            await download.close()

    async def receive_file(
        self,
        message_id: str,
        destination: Destination,
        *,
        file_name: str | None,
        verify_checksum: bool,
        progress: Callable[[ReceiveProgress], object] | None,
    ) -> ReceivedFile:
        """Download a message into a destination."""
        with self._mailbox.instrumentation.operation("receive_file", message_id=message_id) as span:
            with add_context(operation="receive_file", message_id=message_id):
                async with self.open_download(message_id, destination) as download:
                    if download is None:
                        raise StorageError("another process or thread is receiving this message into this destination")
                    metadata, has_content = await download.metadata()
                    if isinstance(metadata, Report) and not has_content:
                        received = await download.receive_report(metadata)
                    else:
                        received = await download.receive(
                            file_name=file_name, verify_checksum=verify_checksum, progress=progress
                        )
                    await download.forget()
            span.bytes, span.workflow_id = received.bytes, received.metadata.workflow_id
            return received


class AsyncDownload:
    """One message on its way into a destination: content under a temporary name, and a record of what is durable."""

    def __init__(
        self,
        mailbox: AsyncMailboxOperations,
        clock: AsyncClock,
        budget: ConnectionBudget,
        message_id: str,
        destination: Destination,
        *,
        max_chunks: int,
        max_bytes: int,
        strict: bool,
    ) -> None:
        self._mailbox = mailbox
        self._clock = clock
        self._budget = budget
        self._message_id = message_id
        self._destination = destination
        self._max_chunks = max_chunks
        self._max_bytes = max_bytes
        self._strict = strict
        self._upload = destination.upload(message_id)
        self._record_file = destination.records.record(message_id)
        self._lock = self._record_file.lock()
        self.is_ours = False
        """Whether no other process or thread has it."""
        self._is_removed = False
        """Whether nothing of it is open any more."""
        self._unstarted: MessageMetadata | None = None
        """The message whose content is to be begun with the first call that needs it."""
        self._written: bytes | None = None
        """The record as it was when the download began."""
        self._first: AsyncResponse | None = None
        self._record: DownloadRecord | None = None
        self._metadata: MessageMetadata | None = None
        self._progress: Callable[[ReceiveProgress], object] | None = None

    def begin(self) -> None:
        """Take the lock if it is free, and look for a record. In one call, as each waits for a thread."""
        self.is_ours = self._lock.acquire()
        if self.is_ours:
            self._written = self._record_file.read()

    async def metadata(self) -> tuple[MessageMetadata, bool]:
        """Return what the message is, and whether it has content (reports have none).

        It is learnt with the first chunk, which `receive` then has already.
        """
        record = self._record = self._read_record()
        if record.chunks_done or record.name is not None:
            return await self._asked_metadata(), True
        response = self._first = await fetch_chunk(self._mailbox, self._message_id, 1, None)
        metadata = self._metadata = responses.metadata("receive_file", self._message_id, response.headers)
        if is_bare_report(metadata, response):
            # Its headers are all of it. A connection that is kept here could be the only one there is.
            await response.close()
            self._first = None
            return metadata, False
        return metadata, True

    async def _asked_metadata(self) -> MessageMetadata:
        """Return the metadata without the first chunk, by a request of its own, once."""
        if self._metadata is None:
            self._metadata = await self._mailbox.message_metadata(self._message_id)
        return self._metadata

    async def receive(
        self,
        *,
        file_name: str | None = None,
        verify_checksum: bool = True,
        progress: Callable[[ReceiveProgress], object] | None = None,
    ) -> ReceivedFile:
        """Fetch the chunks that are not here yet, verify the whole, and give it its name."""
        self._progress = progress
        record = self._record or self._read_record()
        metadata = await self._asked_metadata()
        step = await self._next_step(record, metadata)
        if record.name is not None and step in (NextStep.PUBLISHED, NextStep.PUBLISH):
            name = record.name if step is NextStep.PUBLISHED else await self._publish(record, metadata, record.name)
            verified = await self._verify_published(name, record, metadata)
            return self._received(name, metadata, record.length, verified=verified)
        if step is NextStep.RESUME:
            await in_thread(self._upload.truncate, record.length)
        else:
            record = DownloadRecord(message_id=self._message_id)
            if metadata.chunks > 1:
                # Prefetched chunks may be written before the first one.
                await in_thread(self._upload.start, metadata)
            else:
                self._unstarted = metadata
        record = await self._fetch(record, metadata, verify_checksum=verify_checksum)
        if not verify_checksum or checksum.recognise(metadata.checksum) is None:
            name = await in_thread(self._finish_and_name, record, self._destination.names(metadata, file_name))
            return self._received(name, metadata, record.length, verified=None)
        record = await in_thread(self._finish, record)
        try:
            verified, is_open = await self._verify(record, metadata, verify_checksum=verify_checksum)
        except IntegrityError:
            # Which chunk is damaged cannot be told, so the next attempt must not build on any of them.
            await self.forget()
            raise
        if is_open:
            record = record.replaced(is_checksum_open=True)
        name = await self._publish(record, metadata, file_name)
        if is_open:
            verified = await self._verify_published(name, record, metadata)
        return self._received(name, metadata, record.length, verified=verified)

    async def receive_report(self, report: Report) -> ReceivedFile:
        """Store what the headers of a report say, in JSON."""
        record = self._record or self._read_record()
        if record.name is not None:
            step = await self._next_step(record, report)
            if step is NextStep.PUBLISHED:
                return self._received(record.name, report, record.length, verified=None)
        fields = report.model_dump(mode="json", exclude_none=True)
        await in_thread(self._upload.start, report)
        await in_thread(self._upload.write, [json.dumps(fields, indent=2).encode(), b"\n"])
        checkpoint = await in_thread(self._upload.finish)
        record = DownloadRecord(message_id=self._message_id).at(checkpoint.length, checkpoint.state)
        name = await self._publish(record, report, None)
        return self._received(name, report, record.length, verified=None)

    async def forget(self) -> None:
        """Remove what is unfinished, and the record: the content has its name, or must be fetched again."""
        await in_thread(self.forget_here)

    def forget_here(self) -> None:
        """As `forget`, in this thread."""
        self._upload.remove()
        self._is_removed = True
        self._record_file.forget()

    def _started(self, function: Callable[..., _Value], *arguments: Any) -> _Value:
        """Call a function that needs the content begun. To begin it by itself would be one more wait for a thread."""
        metadata, self._unstarted = self._unstarted, None
        if metadata is not None:
            self._upload.start(metadata)
        return function(*arguments)

    async def close(self) -> None:
        """Let go of the lock, and of the connection by which the message was looked at; what has arrived stays."""
        try:
            if not self._is_removed:
                await in_thread(self._upload.close)
        finally:
            try:
                if self._first is not None:
                    await self._first.close()
            finally:
                self._lock.release()

    async def _next_step(self, record: DownloadRecord, metadata: MessageMetadata) -> NextStep:
        if not record.chunks_done and record.name is None:
            return NextStep.START
        length = await in_thread(self._upload.resume, record.state, metadata)
        named = record.name is not None and await in_thread(self._upload.is_published, record.name, record.length)
        return next_step(record, Partial.of(record, length, named=named))

    def _read_record(self) -> DownloadRecord:
        if self._written is None:
            return DownloadRecord(message_id=self._message_id)
        record = DownloadRecord.from_bytes(self._written, self._record_file.place)
        if record.message_id != self._message_id or (
            record.name is not None and not self._destination.is_name(record.name)
        ):
            raise StorageError(f"{self._record_file.place}: the record is not one that was written here; remove it")
        return record

    async def _write_record(self, record: DownloadRecord) -> None:
        await in_thread(self._record_file.write, record.to_bytes())

    async def _fetch(
        self, record: DownloadRecord, metadata: MessageMetadata, *, verify_checksum: bool
    ) -> DownloadRecord:
        """Fetch the chunks that are not here yet, several at once, and hash them as they arrive."""
        expected = checksum.recognise(metadata.checksum) if verify_checksum else None
        sequence = ChunkSequence(received=record.chunks_done, total=record.chunks)
        more = record.chunks is None or record.chunks_done < record.chunks
        ends: dict[int, DownloadRecord] = {}
        """The record at the end of each chunk that is not durable yet, by the length of the content up to there."""
        async with AsyncBackgroundTasks() as background:
            prefetcher = AsyncPrefetcher(
                self._mailbox,
                self._upload,
                background,
                self._budget,
                self._message_id,
                max_chunks=self._max_chunks,
            )
            hashing: AsyncTask[None] | None = None
            try:
                while more:
                    prefetched = await self._take_prefetched(sequence, record.length, prefetcher)
                    if prefetched is not None:
                        more, length = prefetched
                    else:
                        more, length = await self._fetch_chunk(sequence, record.length, prefetcher)
                    record = record.replaced(
                        chunks=sequence.total,
                        chunks_done=sequence.received,
                        length=record.length + length,
                    )
                    if more:
                        prefetcher.measure(length)
                        checkpoint = await in_thread(self._started, self._upload.checkpoint)
                        ends[record.length] = record
                        # The record may only say what is durable.
                        durable = ends.pop(checkpoint.length, None)
                        if durable is not None:
                            ends = {length: end for length, end in ends.items() if length > checkpoint.length}
                            await self._write_record(durable.at(checkpoint.length, checkpoint.state))
                        if expected is not None:
                            if hashing is not None:
                                await hashing.result()
                            hashing = await background.start(self._hash, expected.algorithm, record.length)
                if hashing is not None:
                    await hashing.result()
            finally:
                prefetcher.close()
        return record

    def _finish(self, record: DownloadRecord) -> DownloadRecord:
        """Make the end of the content durable."""
        try:
            finished = self._started(self._upload.finish)
        except IntegrityError:
            self.forget_here()
            raise
        if finished.length != record.length:
            self.forget_here()
            raise IntegrityError(f"{record.length:,} bytes arrived, and {finished.length:,} are stored")
        return record.at(finished.length, finished.state)

    def _finish_and_name(self, record: DownloadRecord, names: Iterable[str]) -> str:
        """Make content durable that has no checksum to be compared, and name it: one wait for a thread, not two."""
        return self._give_name(self._finish(record), names)

    async def _hash(self, algorithm: str, length: int) -> None:
        # An algorithm that this machine refuses is reported once, when the whole is verified.
        with contextlib.suppress(ValueError):
            await in_thread(self._upload.digest, algorithm, length)

    async def _take_prefetched(
        self, sequence: ChunkSequence, start: int, prefetcher: AsyncPrefetcher
    ) -> tuple[bool, int] | None:
        """Add the next chunk to the content, if it was prefetched; return whether there are more, and its length."""
        number, total = sequence.received + 1, sequence.total
        if total is None:
            return None
        await prefetcher.start(sequence.received, total, start)
        while await prefetcher.is_arriving(number):
            self._report_progress(start, sequence.received, total, prefetcher)
        chunk = await prefetcher.take(number, start)
        if chunk is None:
            # Chunks after this one may have been written to places that proved wrong.
            await in_thread(self._upload.truncate, start)
            return None
        try:
            self._check_length(start + chunk.buffer.length)
            if number < total:
                prefetcher.measure(chunk.buffer.length)
            await in_thread(self._upload.append, chunk.buffer)
            more = sequence.accept(chunk.status, chunk.chunk_range)
        except (IntegrityError, StorageError):
            # In its turn it may be right, and needs no room for a copy; if not, that is where it is reported.
            prefetcher.give_up()
            await in_thread(self._upload.truncate, start)
            return None
        finally:
            chunk.buffer.close()
        self._report_progress(start + chunk.buffer.length, number, total, prefetcher)
        return more, chunk.buffer.length

    async def _fetch_chunk(self, sequence: ChunkSequence, start: int, prefetcher: AsyncPrefetcher) -> tuple[bool, int]:
        """Fetch one chunk; again, from its beginning, if it breaks or arrives damaged.

        Return whether there are more chunks, and the length of this one.
        """
        for attempt in itertools.count(1):
            response, self._first = self._first, None
            metadata = self._metadata if response is not None else None
            if response is None:
                response = await fetch_chunk(self._mailbox, self._message_id, sequence.received + 1, sequence.total)
            try:
                metadata = metadata or responses.metadata("receive_file", self._message_id, response.headers)
                if is_bare_report(metadata, response):
                    return False, 0
                total = sequence.total or metadata.chunks
                await prefetcher.start(sequence.received + 1, total)
                length = await self._store(response, start, sequence.received, total, prefetcher)
                more = sequence.accept(response.status, response.headers.get(wire.CHUNK_RANGE))
            except IntegrityError as damage:
                lost = ConnectionLost(damage.reason)
                delay = retry.delay_before_retry(
                    self._mailbox.policy, lost, attempt=attempt, idempotent=True, jitter=self._clock.chance()
                )
                if delay is None:
                    raise
                await in_thread(self._started, self._upload.truncate, start)
                await response.close()
                await self._clock.sleep(delay)
            else:
                return more, length
            finally:
                await response.close()
        raise AssertionError("unreachable")  # pragma: no cover

    async def _store(
        self, response: AsyncResponse, start: int, before: int, total: int, prefetcher: AsyncPrefetcher
    ) -> int:
        """Write one chunk's content, after the `start` bytes of the `before` chunks out of `total`."""
        chunk = AsyncChunk(response, memory=prefetcher.memory)
        length = 0
        began = self._clock.monotonic()
        while (blocks := await chunk.next_blocks()) is not None:
            length += await in_thread(self._started, self._upload.write, self._bounded(blocks, start + length))
            await prefetcher.pace(before + 1, total, length, self._clock.monotonic() - began)
            self._report_progress(start + length, before + response.fraction_received, total, prefetcher)
        return length

    def _bounded(self, blocks: Iterable[Block], length: int) -> Iterator[Block]:
        """Pass blocks on, up to the longest content that is received."""
        for block in blocks:
            length += len(block)
            self._check_length(length)
            yield block

    def _check_length(self, length: int) -> None:
        if length > self._max_bytes:
            raise StorageError(
                f"the content is longer than {self._max_bytes:,} bytes (setting max_message_size_in_megabytes)"
            )

    def _report_progress(self, length: int, chunks: float, total: int, prefetcher: AsyncPrefetcher) -> None:
        """Report how far the download is: the content that is stored, and the chunks that wait for their turn."""
        if self._progress is None:
            return
        more_length, more_chunks = prefetcher.arrived()
        share = (chunks + more_chunks) / total
        self._progress(ReceiveProgress(message_id=self._message_id, bytes_done=length + more_length, share=share))

    async def _verify(
        self, record: DownloadRecord, metadata: MessageMetadata, *, verify_checksum: bool
    ) -> tuple[bool | None, bool]:
        """Compare the sender's checksum; return whether it is right, and whether that can only be told later."""
        expected = checksum.recognise(metadata.checksum)
        if expected is None or not verify_checksum:
            return None, False
        instrumentation = self._mailbox.instrumentation
        try:
            digest = await in_thread(self._upload.digest, expected.algorithm, record.length)
        except ValueError:
            instrumentation.checksum_not_verified(
                "receive_file", self._message_id, algorithm=expected.algorithm, differs=False
            )
            return None, False
        if digest is None:
            return None, True
        verified = verify(
            instrumentation, "receive_file", expected, digest, strict=self._strict, message_id=self._message_id
        )
        return verified, False

    async def _verify_published(self, name: str, record: DownloadRecord, metadata: MessageMetadata) -> bool | None:
        """Compare a checksum that could not be computed before the content had its name: it is read back."""
        if not record.is_checksum_open:
            return None
        try:
            verified, _ = await self._verify(record, metadata, verify_checksum=True)
        except IntegrityError:
            await in_thread(self._upload.withdraw, name)
            await self.forget()
            raise
        return verified

    async def _publish(self, record: DownloadRecord, metadata: MessageMetadata, file_name: str | None) -> str:
        """Give the content a name that is free. The record says which before the name is given."""
        return await in_thread(self._give_name, record, self._destination.names(metadata, file_name))

    def _give_name(self, record: DownloadRecord, names: Iterable[str]) -> str:
        for name in names:
            self._record_file.write(record.replaced(name=name).to_bytes())
            if self._upload.publish(name):
                return name
        raise StorageError(f"{self._destination.location(name)}: something else is there, and is not replaced")

    def _received(self, name: str, metadata: MessageMetadata, length: int, *, verified: bool | None) -> ReceivedFile:
        location = self._destination.location(name)
        return ReceivedFile(location=location, metadata=metadata, bytes=length, verified=verified)
