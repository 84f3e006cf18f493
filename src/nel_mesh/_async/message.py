"""A message under way from MESH, as a stream that ends only when it is whole."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from nel_mesh.errors import ConnectionLost, IntegrityError, InvalidArgument, MeshError, NotFound
from nel_mesh.instrumentation.events import OperationSpan
from nel_mesh.io.partial import AsyncDisk
from nel_mesh.models import MessageMetadata, Report
from nel_mesh.protocol import checksum, gzip, responses, wire
from nel_mesh.protocol.chunks import ChunkSequence

from .http import AsyncResponse
from .mailbox import AsyncMailboxOperations


class AsyncChunk:
    """The content of one chunk, ungzipped where it was gzipped in transit, and checked to its end."""

    def __init__(self, answer: AsyncResponse, *, coded: bool = True) -> None:
        self._answer = answer
        self._decoder = gzip.decoder(answer.headers.get(wire.CONTENT_ENCODING) if coded else None)
        self._decoded: Iterator[bytes] = iter(())
        # Not even gzip tells that no further member was to follow.
        if not answer.is_delimited:
            raise IntegrityError("the server did not say how long the body is, so a cut could not be told")

    async def next_block(self) -> bytes | None:
        """The next block of content; None at the chunk's verified end. Raises IntegrityError if it is damaged."""
        while True:
            for block in self._decoded:
                return block
            blocks = await self.next_blocks()
            if blocks is None:
                return None
            self._decoded = blocks

    async def next_blocks(self, at_least: int = 1) -> Iterator[bytes] | None:
        """Those blocks of content that come of the next bytes on the wire; they are made as they are taken.

        `at_least` is how many bytes on the wire to wait for, if there are as many. None at the chunk's verified end.
        It, or they, raise IntegrityError if the chunk is damaged.
        """
        parts: list[bytes] = []
        length = 0
        while length < at_least:
            try:
                raw = await self._answer.next_block()
            except ConnectionLost as error:
                raise IntegrityError(f"the body ended early: {error.reason}") from error
            if raw is None:
                break
            parts.append(raw)
            length += len(raw)
        if not parts:
            self._decoder.finish()
            await self._answer.close()
            return None
        return itertools.chain.from_iterable(map(self._decoder.feed, parts))


def is_bare_report(metadata: MessageMetadata, answer: AsyncResponse) -> bool:
    """Whether it is a report as MESH sends them: without content, whatever coding and chunks (1:0) it names."""
    return isinstance(metadata, Report) and answer.headers.get("content-length", "0") == "0"


async def fetch_chunk(
    mailbox: AsyncMailboxOperations, message_id: str, number: int, total: int | None
) -> AsyncResponse:
    """The answer with a chunk. Raises IntegrityError if MESH has the message, and does not have it."""
    try:
        return await mailbox.retrieve_chunk(message_id, number)
    except NotFound as error:
        if number == 1:
            raise
        of = f" of {total}" if total else ""
        raise IntegrityError(f"chunk {number}{of} is missing", status=error.status) from error


class _AsyncEach:
    """What a method gives, until it gives nothing. Not a generator: one that is abandoned is cleaned up anywhen."""

    def __init__(self, give: Callable[[], Awaitable[bytes]]) -> None:
        self._give = give

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        item = await self._give()
        if not item:
            raise StopAsyncIteration
        return item


class AsyncMessage:
    """A message under way from MESH: its metadata, and its content as a stream that ends only when it is whole.

    Made by `retrieve_message`. Every chunk is fetched, ungzipped where it was gzipped in transit, and checked. Whatever
    is wrong is raised by the read that meets it and by every later one: there is no end of file but the real one.
    """

    def __init__(
        self,
        mailbox: AsyncMailboxOperations,
        disk: AsyncDisk,
        message_id: str,
        answer: AsyncResponse,
        *,
        verify_checksum: bool,
        within: OperationSpan,
    ) -> None:
        self.metadata: MessageMetadata = responses.metadata("retrieve_message", message_id, answer.headers)
        """What the headers say; a `Report` if the message is one."""
        self.complete = False
        """Whether the content has been read to its end and found whole."""
        self._mailbox = mailbox
        self._disk = disk
        self._message_id = message_id
        self._answer = answer
        self._within = within
        within.bytes, within.workflow_id = 0, self.metadata.workflow_id
        self._sequence = ChunkSequence()
        self._more = False
        self._chunk: AsyncChunk | None = None
        self._buffer = b""
        self._position = 0
        self._begun = False
        expected = checksum.recognise(self.metadata.checksum) if verify_checksum else None
        self._expected = expected
        self._digest = hashlib.new(expected.algorithm) if expected else None
        self._failure: MeshError | None = None

    async def read(self, size: int | None = -1) -> bytes:
        """Reads `size` bytes, fewer only at the end, b"" after it; without a size all the rest, into memory.

        Raises IntegrityError if content is missing or damaged, ConnectionFailed, ConnectionLost or a ResponseError if
        a further chunk cannot be fetched. The message is then still in the inbox: retrieve it again.
        """
        parts = []
        missing = -1 if size is None else size
        while missing and await self._fill():
            part = self._take(missing)
            parts.append(part)
            missing = missing if missing < 0 else missing - len(part)
        return b"".join(parts)

    async def readline(self) -> bytes:
        """Reads a line with its line feed, b"" at the end. Raises as `read`."""
        parts = []
        # Not splitlines(): a carriage return alone ends no line of a binary file.
        while await self._fill():
            end = self._buffer.find(b"\n", self._position) + 1
            parts.append(self._take(end - self._position if end else -1))
            if end:
                break
        return b"".join(parts)

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """Gives the content in blocks of whatever size comes best, at most 112 KiB each. Raises as `read`."""
        return _AsyncEach(self._read_block)

    def iter_lines(self) -> AsyncIterator[bytes]:
        """Gives the content a line at a time, each with its line feed if it has one. Raises as `read`."""
        return _AsyncEach(self.readline)

    async def _read_block(self) -> bytes:
        return self._take(-1) if await self._fill() else b""

    async def _fill(self) -> bool:
        """Sees to it that there is content to take; False at the end."""
        if self._position >= len(self._buffer):
            self._buffer, self._position = await self._next(), 0
        return bool(self._buffer)

    def _take(self, size: int) -> bytes:
        end = len(self._buffer) if size < 0 else self._position + size
        part = self._buffer[self._position : end] if self._position or end < len(self._buffer) else self._buffer
        self._position += len(part)
        return part

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
            async with self._disk.new_file(Path(path)) as file:
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
            if self._chunk is None:
                self._more = await self._open(self._sequence.received + 1)
            elif (block := await self._chunk.next_block()) is not None:
                self._within.bytes = (self._within.bytes or 0) + len(block)
                if self._digest is not None:
                    self._digest.update(block)
                return block
            elif self._more:
                self._chunk = None
            else:
                self._compare()
                return b""

    def _compare(self) -> None:
        if self._expected and self._digest and self._digest.hexdigest() != self._expected.digest:
            raise IntegrityError(f"the content does not have the sender's checksum ({self._expected.algorithm})")

    async def _open(self, number: int) -> bool:
        if number > 1:
            with self._within.current():
                self._answer = await fetch_chunk(self._mailbox, self._message_id, number, self._sequence.total)
        elif is_bare_report(self.metadata, self._answer):
            self._chunk = AsyncChunk(self._answer, coded=False)
            return False
        more = self._sequence.accept(self._answer.status, self._answer.headers.get(wire.CHUNK_RANGE))
        self._chunk = AsyncChunk(self._answer)
        return more
