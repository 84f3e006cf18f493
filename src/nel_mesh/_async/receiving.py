"""Messages into files, so that whatever ends this process, the next one goes on from there."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from nel_mesh.brokers.clock import AsyncClock
from nel_mesh.brokers.disk import AsyncDisk, AsyncPart
from nel_mesh.errors import ConnectionLost, IntegrityError, MeshError, StorageError
from nel_mesh.models import Arriving, MessageMetadata, ReceivedFile, Report
from nel_mesh.protocol import answers, checksum, endpoints, naming, retry, wire
from nel_mesh.protocol.chunks import ChunkSequence
from nel_mesh.protocol.records import ReceiveRecord

from .http import AsyncAnswer
from .mailbox import AsyncMailboxOperations
from .message import AsyncChunk, AsyncMessage, fetch_chunk, is_bare_report


class AsyncReceiver:
    """Receives whole messages for one mailbox, as streams or as files."""

    def __init__(
        self,
        mailbox: AsyncMailboxOperations,
        disk: AsyncDisk,
        clock: AsyncClock,
        policy: retry.RetryPolicy,
    ) -> None:
        self._mailbox = mailbox
        self._disk = disk
        self._clock = clock
        self._policy = policy

    @contextlib.asynccontextmanager
    async def open(self, message_id: str, *, verify_checksum: bool) -> AsyncIterator[AsyncMessage]:
        """Opens a message as a stream; leaving the block closes the connection and acknowledges nothing."""
        answer = await self._mailbox.retrieve_chunk(message_id, 1)
        try:
            message = AsyncMessage(self._mailbox, self._disk, message_id, answer, verify_checksum=verify_checksum)
        except BaseException:
            await answer.close()
            raise
        try:
            yield message
        finally:
            await message.close()

    @contextlib.asynccontextmanager
    async def arriving(self, message_id: str, folder: Path) -> AsyncIterator[AsyncArrival | None]:
        """The message's place in a folder, for this process alone; None if another one is at it.

        What has arrived stays, if the block ends before `AsyncArrival.clear`.
        """
        endpoints.message_metadata(self._mailbox.mailbox_id, message_id)  # refuses an id that is none
        lock = await self._disk.lock(folder / f".{message_id}.lock")
        if lock is None:
            yield None
            return
        arrival = AsyncArrival(self._mailbox, self._disk, self._clock, self._policy, message_id, folder)
        try:
            yield arrival
        except MeshError as error:
            error.operation = "receive_file"
            error.message_id = message_id
            raise
        finally:
            arrival.close()
            lock.release()

    async def receive_file(
        self,
        message_id: str,
        folder: Path,
        *,
        file_name: str | None,
        verify_checksum: bool,
        progress: Callable[[Arriving], object] | None,
    ) -> ReceivedFile:
        """Receives a message into a folder."""
        async with self.arriving(message_id, folder) as arrival:
            if arrival is None:
                raise StorageError(
                    "another process or thread is receiving this message into this folder",
                    operation="receive_file",
                    message_id=message_id,
                )
            received = await arrival.receive(file_name=file_name, verify_checksum=verify_checksum, progress=progress)
            await arrival.clear()
            return received


class AsyncArrival:
    """One message on its way into a folder: content under a temporary name, and a record of how much has come."""

    def __init__(
        self,
        mailbox: AsyncMailboxOperations,
        disk: AsyncDisk,
        clock: AsyncClock,
        policy: retry.RetryPolicy,
        message_id: str,
        folder: Path,
    ) -> None:
        self._mailbox = mailbox
        self._disk = disk
        self._clock = clock
        self._policy = policy
        self._message_id = message_id
        self._folder = folder
        self._part_path = folder / f".{message_id}.part"
        self._record_path = folder / f".{message_id}.json"
        self._part: AsyncPart | None = None
        self._progress: Callable[[Arriving], object] | None = None

    async def receive(
        self,
        *,
        file_name: str | None = None,
        verify_checksum: bool = True,
        progress: Callable[[Arriving], object] | None = None,
    ) -> ReceivedFile:
        """Fetches the chunks that are not here yet, checks the whole, and gives the file its name."""
        self._progress = progress
        record = await self._read_record()
        if record.name is not None:
            metadata = await self._mailbox.message_metadata(self._message_id)
            named = await self._finish_naming(record, record.name)
            if named is not None:
                return self._received(named, metadata, record.length, verified=None)
            record = ReceiveRecord(message_id=self._message_id)
        part = await self._open_part(record)
        if await part.length() < record.length:
            # The record says that some of it is here, and it is not.
            record = ReceiveRecord(message_id=self._message_id)
        await part.cut(record.length)
        metadata, record = await self._fetch(part, record)
        await part.sync()
        try:
            verified = await self._verify(part, record, metadata, verify_checksum=verify_checksum)
        except IntegrityError:
            # Which chunk it is cannot be told, so the next attempt must not build on any of them.
            await self.clear()
            raise
        name = await self._place(part, record, naming.safe_name(file_name or metadata.file_name, self._message_id))
        return self._received(name, metadata, record.length, verified=verified)

    async def receive_report(self, report: Report) -> ReceivedFile:
        """Stores a report, which has no content, as what its headers say, in JSON."""
        record = await self._read_record()
        if record.name is not None:
            named = await self._finish_naming(record, record.name)
            if named is not None:
                return self._received(named, report, record.length, verified=None)
        part = await self._fresh_part()
        fields = report.model_dump(mode="json", exclude_none=True)
        await part.write(json.dumps(fields, indent=2).encode() + b"\n")
        await part.sync()
        record = ReceiveRecord(message_id=self._message_id, length=await part.length())
        name = await self._place(part, record, f"report-{self._message_id}.json")
        return self._received(name, report, record.length, verified=None)

    async def _finish_naming(self, record: ReceiveRecord, name: str) -> str | None:
        """The file's name, for content that was complete and checked when the last process ended; None if it is not.

        Where there is no part any more, it had its name: whoever waits for such files may have moved it on since.
        """
        part = self._part = await self._disk.part(self._part_path, fresh=False)
        if part is None or await part.is_named(self._folder / name):
            return name
        return await self._place(part, record, name) if await part.length() == record.length else None

    async def _open_part(self, record: ReceiveRecord) -> AsyncPart:
        if record.chunks_done:
            self._part = await self._disk.part(self._part_path, fresh=False)
            if self._part is not None:
                return self._part
        return await self._fresh_part()

    async def _fresh_part(self) -> AsyncPart:
        self.close()
        part = self._part = await self._disk.part(self._part_path, fresh=True)
        if part is None:  # pragma: no cover - a fresh one is always made
            raise AssertionError
        return part

    async def clear(self) -> None:
        """Removes part and record: the file has its name, and whoever had to know of it does."""
        self.close()
        await self._disk.remove(self._part_path, self._record_path)

    def close(self) -> None:
        """Closes the part; what has arrived stays."""
        if self._part is not None:
            self._part.close()

    async def _read_record(self) -> ReceiveRecord:
        written = await self._disk.read_record(self._record_path)
        if written is None:
            return ReceiveRecord(message_id=self._message_id)
        return ReceiveRecord.from_bytes(written)

    async def _note(self, record: ReceiveRecord, **changes: object) -> ReceiveRecord:
        record = record.model_copy(update=changes)
        await self._disk.write_record(self._record_path, record.to_bytes())
        return record

    async def _fetch(self, part: AsyncPart, record: ReceiveRecord) -> tuple[MessageMetadata, ReceiveRecord]:
        metadata: MessageMetadata | None = None
        if record.chunks_done:
            metadata = await self._mailbox.message_metadata(self._message_id)
        sequence = ChunkSequence(received=record.chunks_done, total=record.chunks)
        more = record.chunks is None or record.chunks_done < record.chunks
        while more:
            found, more, length = await self._fetch_chunk(part, sequence, record.length)
            metadata = metadata or found
            if more:
                # The record may only say what is durable.
                await part.sync()
                record = await self._note(
                    record, chunks=sequence.total, chunks_done=sequence.received, length=record.length + length
                )
            else:
                record = record.model_copy(update={"length": record.length + length})
        if metadata is None:
            metadata = await self._mailbox.message_metadata(self._message_id)
        return metadata, record

    async def _fetch_chunk(
        self, part: AsyncPart, sequence: ChunkSequence, start: int
    ) -> tuple[MessageMetadata, bool, int]:
        """Fetches one chunk; again, from its beginning, if it breaks or comes damaged. Gives its length."""
        for attempt in itertools.count(1):
            answer = await fetch_chunk(self._mailbox, self._message_id, sequence.received + 1, sequence.total)
            try:
                metadata = answers.metadata("receive_file", self._message_id, answer.headers)
                if is_bare_report(metadata, answer):
                    return metadata, False, 0
                length = await self._store(part, answer, start, sequence.received, sequence.total or metadata.chunks)
                more = sequence.accept(answer.status, answer.headers.get(wire.CHUNK_RANGE))
            except IntegrityError as damage:
                lost = ConnectionLost(damage.reason)
                delay = retry.delay_before_retry(
                    self._policy, lost, attempt=attempt, repeatable=True, chance=self._clock.chance()
                )
                if delay is None:
                    raise
                await part.cut(start)
                await self._clock.sleep(delay)
            else:
                return metadata, more, length
            finally:
                await answer.close()
        raise AssertionError("unreachable")  # pragma: no cover

    async def _store(self, part: AsyncPart, answer: AsyncAnswer, start: int, before: int, total: int) -> int:
        """Writes one chunk's content to the part, after the `start` bytes of the `before` chunks out of `total`."""
        chunk = AsyncChunk(answer)
        length = 0
        while (block := await chunk.next_block()) is not None:
            await part.write(block)
            length += len(block)
            if self._progress is not None:
                share = (before + answer.share) / total
                self._progress(Arriving(message_id=self._message_id, bytes_done=start + length, share=share))
        return length

    async def _verify(
        self, part: AsyncPart, record: ReceiveRecord, metadata: MessageMetadata, *, verify_checksum: bool
    ) -> str | None:
        if await part.length() != record.length:
            raise IntegrityError(f"{record.length:,} bytes arrived, and the file holds another number")
        expected = checksum.recognise(metadata.checksum)
        if expected is None or not verify_checksum:
            return None
        if await part.digest(expected.algorithm) != expected.digest:
            raise IntegrityError(f"the content does not have the sender's checksum ({expected.algorithm})")
        return expected.algorithm

    async def _place(self, part: AsyncPart, record: ReceiveRecord, wish: str) -> str:
        """Gives the file a name that no other file has. The record says which before the name is there."""
        for attempt in itertools.count():
            name = wish if attempt == 0 else naming.another_name(wish, self._message_id, attempt)
            record = await self._note(record, name=name)
            if await part.place(self._folder / name):
                return name
        raise AssertionError("unreachable")  # pragma: no cover

    def _received(self, name: str, metadata: MessageMetadata, length: int, *, verified: str | None) -> ReceivedFile:
        return ReceivedFile(path=self._folder / name, metadata=metadata, bytes=length, verified=verified)
