"""Whole messages: content cut into chunks and sent so that it arrives once; chunks joined so that none is missed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

from nel_mesh.brokers.clock import AsyncClock
from nel_mesh.brokers.disk import READ_BLOCK, AsyncContentSource, AsyncDisk, Content
from nel_mesh.brokers.http import AsyncAnswer
from nel_mesh.errors import (
    ConnectionLost,
    IntegrityError,
    InvalidArgument,
    MeshError,
    NotFound,
    Outcome,
    OutcomeUnknown,
    UploadFinished,
)
from nel_mesh.models import MessageMetadata, Progress, Report, SendReceipt
from nel_mesh.protocol import answers, chunks, codec, endpoints, transfer, wire
from nel_mesh.protocol.chunks import ChunkSequence, Slice

from .mailbox import AsyncBody, AsyncMailboxOperations

_GZIP_SLACK = 100_000
"""What gzip may add to 100 MB that will not shrink; without it, a chunk of the largest size could outgrow the limit."""


class AsyncMessage:
    """A message under way from MESH: its metadata, and its content as a stream that ends only when it is whole.

    Made by `retrieve_message`. Every chunk is fetched, ungzipped where it was gzipped in transit, and checked. Whatever
    is wrong is raised by the read that meets it and by every later one: there is no end of file but the real one.
    """

    def __init__(self, mailbox: AsyncMailboxOperations, disk: AsyncDisk, message_id: str, answer: AsyncAnswer) -> None:
        self.metadata: MessageMetadata = answers.metadata("retrieve_message", message_id, answer.headers)
        """What the headers say; a `Report` if the message is one."""
        self.complete = False
        """Whether the content has been read to its end and found whole."""
        self._mailbox = mailbox
        self._disk = disk
        self._message_id = message_id
        self._answer = answer
        self._sequence = ChunkSequence()
        self._more = False
        self._decoder: codec.Decoder | None = None
        self._decoded: Iterator[bytes] = iter(())
        self._buffer = b""
        self._begun = False
        self._failure: MeshError | None = None

    async def read(self, size: int = -1) -> bytes:
        """Reads `size` bytes, fewer only at the end, b"" after it; without a size all the rest, into memory.

        Raises IntegrityError if content is missing or damaged, ConnectionFailed, ConnectionLost or a ResponseError if
        a further chunk cannot be fetched. The message is then still in the inbox: retrieve it again.
        """
        parts, missing = [], size
        while missing:
            block = self._buffer or await self._next()
            if not block:
                break
            part = block if missing < 0 else block[:missing]
            self._buffer = block[len(part) :]
            parts.append(part)
            missing = missing if missing < 0 else missing - len(part)
        return b"".join(parts)

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Gives the content in blocks of whatever size comes best, at most 256 KiB each. Raises as `read`."""
        if self._buffer:
            block, self._buffer = self._buffer, b""
            yield block
        while block := await self._next():
            yield block

    async def iter_lines(self) -> AsyncIterator[bytes]:
        """Gives the content a line at a time, each with its line feed if it has one. Raises as `read`."""
        parts: list[bytes] = []
        async for block in self.iter_bytes():
            # Not splitlines(): a carriage return alone ends no line of a binary file.
            first, *others = block.split(b"\n")
            parts.append(first)
            for other in others:
                yield b"".join(parts) + b"\n"
                parts = [other]
        if last := b"".join(parts):
            yield last

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The same as `iter_bytes`."""
        return self.iter_bytes()

    async def save(self, path: str | os.PathLike[str]) -> int:
        """Stores the whole content in a file and returns its length in bytes.

        The file is written under a temporary name beside `path`, checked, made durable (fsync) and only then named; a
        file of that name is replaced, a missing folder made. If anything fails, nothing is left behind.

        Raises as `read`, and StorageError if the disk will not have it.
        """
        if self._begun:
            raise InvalidArgument("save: some of the content has been read already; save it first")
        length = 0
        try:
            async with await self._disk.new_file(Path(path)) as file:
                async for block in self.iter_bytes():
                    await file.write(block)
                    length += len(block)
                await file.commit()
        except MeshError as error:
            error.message_id = self._message_id
            raise
        return length

    async def close(self) -> None:
        """Lets the connection go. Does not acknowledge: that is for whoever has the content safe."""
        if not self.complete and self._failure is None:
            self._fail(IntegrityError("the message was closed before it was read to its end"))
        await self._answer.close()

    async def _next(self) -> bytes:
        """The next block, b"" once all content has come and is whole."""
        self._begun = True
        if self.complete:
            return b""
        if self._failure is not None:
            raise self._failure
        try:
            block = await self._advance()
        except MeshError as error:
            raise self._fail(error) from error.__cause__
        except BaseException:
            # The stream cannot go on from here, and must not look as if it had ended.
            self._fail(IntegrityError("reading the message was interrupted"))
            raise
        self.complete = not block
        return block

    def _fail(self, error: MeshError) -> MeshError:
        error.operation = error.operation or "retrieve_message"
        error.message_id = self._message_id
        self._failure = error
        return error

    async def _advance(self) -> bytes:
        """The next block of this chunk or of the next one; b"" after the last chunk's end."""
        while True:
            decoder = self._decoder or self._begin_chunk()
            for block in self._decoded:
                return block
            try:
                raw = await self._answer.next_block()
            except ConnectionLost as error:
                raise IntegrityError(f"the body ended early: {error.reason}") from error
            if raw is not None:
                self._decoded = decoder.feed(raw)
                continue
            decoder.finish()
            await self._answer.close()
            if not self._more:
                return b""
            await self._fetch(self._sequence.received + 1)

    def _begin_chunk(self) -> codec.Decoder:
        if isinstance(self.metadata, Report):
            self._decoder = codec.decoder(None)
            return self._decoder
        self._more = self._sequence.accept(self._answer.status, self._answer.headers.get(wire.CHUNK_RANGE))
        decoder = codec.decoder(self._answer.headers.get(wire.CONTENT_ENCODING))
        if not decoder.knows_its_end and not self._answer.is_delimited:
            raise IntegrityError("the server did not say how long the body is, so a cut could not be told")
        self._decoder = decoder
        return decoder

    async def _fetch(self, chunk: int) -> None:
        try:
            self._answer = await self._mailbox.retrieve_chunk(self._message_id, chunk)
        except NotFound as error:
            raise IntegrityError(f"chunk {chunk} of {self._sequence.total} is missing", status=error.status) from error
        self._decoder = None


class AsyncTransfers:
    """Sends and retrieves whole messages for one mailbox."""

    def __init__(
        self, mailbox: AsyncMailboxOperations, disk: AsyncDisk, clock: AsyncClock, *, chunk_bytes: int
    ) -> None:
        self._mailbox = mailbox
        self._disk = disk
        self._clock = clock
        self._chunk_bytes = chunk_bytes

    @contextlib.asynccontextmanager
    async def retrieve_message(self, message_id: str) -> AsyncIterator[AsyncMessage]:
        """Opens a message; leaving the block closes the connection and acknowledges nothing."""
        answer = await self._mailbox.retrieve_chunk(message_id, 1)
        try:
            message = AsyncMessage(self._mailbox, self._disk, message_id, answer)
        except BaseException:
            await answer.close()
            raise
        try:
            yield message
        finally:
            await message.close()

    async def send_message(
        self,
        source: AsyncContentSource,
        *,
        to: str,
        workflow_id: str,
        subject: str | None,
        local_id: str | None,
        file_name: str | None,
        checksum: str | None,
        content_type: str | None,
        encrypted: bool,
        compressed: bool,
        partner_id: str | None,
        compress: bool,
        progress: Callable[[Progress], object] | None,
    ) -> SendReceipt:
        """Sends content in as many chunks as it needs. A failure carries the message id, once there is one."""
        made_here = not local_id
        local_id = local_id or self._clock.unique()
        send = _Send(self._mailbox, self._disk, self._clock, progress, local_id=local_id, made_here=made_here)
        try:
            headers = wire.message_headers(
                sender=self._mailbox.mailbox_id,
                to=to,
                workflow_id=workflow_id,
                local_id=local_id,
                subject=subject,
                file_name=file_name,
                checksum=checksum,
                content_type=content_type,
                encrypted=encrypted,
                compressed=compressed,
                partner_id=partner_id,
            )
            content = await self._disk.open_content(source)
            try:
                slices = chunks.split(content.length, self._slice_bytes(compress))
                return await send.run(content, slices, headers, compress=compress)
            finally:
                content.close()
        except MeshError as error:
            error.operation = "send_message"
            error.local_id = local_id
            error.message_id = error.message_id or send.message_id
            if not isinstance(error, OutcomeUnknown):
                error.outcome = Outcome.NOT_SENT
            raise

    def _slice_bytes(self, compress: bool) -> int:
        return min(self._chunk_bytes, chunks.MAX_REQUEST_BYTES - _GZIP_SLACK * compress)


class _AsyncBlocks:
    """The body of one request. Not a generator: one that is abandoned halfway is cleaned up anywhen."""

    def __init__(
        self, disk: AsyncDisk, content: Content, start: int, length: int, report: Callable[[int], None]
    ) -> None:
        self._disk = disk
        self._content = content
        self._start = start
        self._length = length
        self._report = report
        self._done = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        size = min(READ_BLOCK, self._length - self._done)
        if not size:
            raise StopAsyncIteration
        block = await self._disk.read(self._content, self._start + self._done, size)
        # Told before the block goes: a callable that raises to stop the send stops it for certain.
        self._report(self._done)
        self._done += size
        return block


class _Send:
    """One message on its way out."""

    def __init__(
        self,
        mailbox: AsyncMailboxOperations,
        disk: AsyncDisk,
        clock: AsyncClock,
        progress: Callable[[Progress], object] | None,
        *,
        local_id: str,
        made_here: bool,
    ) -> None:
        self.message_id: str | None = None
        self._mailbox = mailbox
        self._disk = disk
        self._clock = clock
        self._progress = progress
        self._local_id = local_id
        self._made_here = made_here
        self._began = clock.monotonic()

    async def run(
        self, content: Content, slices: list[Slice], headers: dict[str, str], *, compress: bool
    ) -> SendReceipt:
        bytes_on_wire = 0
        for piece in slices:
            packed: Content | None = None
            try:
                if compress:
                    packed = await self._disk.spool(codec.compress(content.blocks(piece.start, piece.length)))
                start, length = (0, packed.length) if packed else (piece.start, piece.length)
                body = self._body(packed or content, start, length, piece, content.length)
                if piece.range.number == 1:
                    self.message_id = await self._send_first(body, length, piece, headers, compress)
                else:
                    await self._send_further(body, length, piece, headers, compress)
                bytes_on_wire += length
            finally:
                if packed:
                    packed.close()
            self._report(piece.start + piece.length, piece, content.length)
        if self.message_id is None:  # pragma: no cover - there is always a first chunk
            raise AssertionError
        return SendReceipt(
            message_id=self.message_id,
            local_id=self._local_id,
            chunks=len(slices),
            bytes=content.length,
            bytes_on_wire=bytes_on_wire,
        )

    async def _send_first(
        self, body: AsyncBody, length: int, piece: Slice, headers: dict[str, str], gzipped: bool
    ) -> str:
        request = endpoints.send_message(self._mailbox.mailbox_id, headers, piece.range, gzipped=gzipped)
        try:
            answer = await self._mailbox.send(request, body, length)
        except MeshError as failure:
            if failure.may_have_acted and piece.range.total == 1:
                return await self._find_by_local_id(headers[wire.WORKFLOW_ID], failure)
            raise
        message_id = answers.message_id(answer.body)
        if message_id is not None:
            return message_id
        unreadable = answers.unreadable(request.operation, status=answer.status)
        if piece.range.total > 1:
            raise unreadable
        return await self._find_by_local_id(headers[wire.WORKFLOW_ID], unreadable)

    async def _find_by_local_id(self, workflow_id: str, failure: MeshError) -> str:
        """The id of the message, if it has arrived although the answer was lost."""
        why = "it may have arrived, and MESH does not know it by its local id (yet)"
        try:
            found = await self._mailbox.find_sent(self._local_id)
        except MeshError:
            found = None
            why = "it may have arrived, and asking for it by its local id failed too"
        if found is not None:
            tracking, server_time = found
            elapsed = timedelta(seconds=self._clock.monotonic() - self._began)
            if transfer.is_same_send(
                tracking,
                local_id=self._local_id,
                workflow_id=workflow_id,
                made_here=self._made_here,
                began=server_time - elapsed if server_time else None,
            ):
                return tracking.message_id
            why = "it may have arrived; what MESH has under its local id may be another message"
        raise self._unknown(failure, why) from failure

    async def _send_further(
        self, body: AsyncBody, length: int, piece: Slice, headers: dict[str, str], gzipped: bool
    ) -> None:
        message_id = self.message_id or ""
        request = endpoints.send_chunk(
            self._mailbox.mailbox_id,
            message_id,
            piece.range,
            content_type=headers[wire.CONTENT_TYPE],
            gzipped=gzipped,
        )
        try:
            await self._mailbox.send(request, body, length)
        except MeshError as failure:
            is_last = piece.range.number == piece.range.total
            if not is_last or not (failure.may_have_acted or isinstance(failure, UploadFinished)):
                raise
            try:
                delivered = transfer.is_delivered(await self._mailbox.track_message(message_id))
            except MeshError:
                delivered = False
            if not delivered:
                why = "the last chunk may have arrived, and tracking does not say that it has"
                raise self._unknown(failure, why) from failure

    def _unknown(self, failure: MeshError, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{why} ({failure.reason})",
            outcome=Outcome.UNKNOWN,
            status=failure.status,
            event=failure.event,
            code=failure.code,
            description=failure.description,
        )

    def _body(self, content: Content, start: int, length: int, piece: Slice, total: int) -> AsyncBody:
        def report(done: int) -> None:
            self._report(piece.start + piece.length * done // length, piece, total)

        return lambda: _AsyncBlocks(self._disk, content, start, length, report)

    def _report(self, bytes_done: int, piece: Slice, total: int) -> None:
        if self._progress is not None:
            self._progress(
                Progress(
                    bytes_done=bytes_done,
                    bytes_total=total,
                    chunk=piece.range.number,
                    chunks=piece.range.total,
                )
            )
