"""A message from MESH as a stream that ends only when it is whole."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

from nel_mesh.errors import IntegrityError, InvalidArgument, MeshError, add_context
from nel_mesh.io.async_concurrency import in_thread
from nel_mesh.io.files import NewFile
from nel_mesh.models import MessageMetadata
from nel_mesh.tracebacks import without_locals


class AsyncMessageContent(Protocol):
    """Where a message's content comes from."""

    verified: bool | None

    async def next_block(self) -> bytes:
        """Return the next block; b"" once all content has come and is whole."""

    async def close(self) -> None:
        """Let go of it."""


class _AsyncRepeated:
    """An iterator over what a method returns, until it returns nothing.

    Not a generator: an abandoned one is finalised at an arbitrary time.
    """

    def __init__(self, method: Callable[[], Awaitable[bytes]]) -> None:
        self._method = method

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        item = await self._method()
        if not item:
            raise StopAsyncIteration
        return item


class AsyncMessage:
    """A message from MESH: its metadata, and its content as a stream that ends only when it is whole.

    `retrieve_message`, `iter_messages` and handlers give it. Every chunk is fetched, decompressed where it was gzipped
    in transit, and checked. An error is raised by the read that meets it and by every later one: there is no end of
    file but the real one.
    """

    def __init__(self, metadata: MessageMetadata, content: AsyncMessageContent, *, has_content: bool = True) -> None:
        self.metadata = metadata
        """The message's headers; a `Report` if it is one."""
        self.has_content = has_content
        """Whether there is any content to be read; MESH's reports have none."""
        self.complete = False
        """Whether the content has been read to its end and found whole."""
        self._content = content
        self._buffer = b""
        self._position = 0
        self._begun = False
        self._failure: MeshError | None = None

    @property
    def verified(self) -> bool | None:
        """Whether the content has the sender's checksum; None before the end, or if it was not compared."""
        return self._content.verified

    @without_locals
    async def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes, fewer only at the end, b"" after it; without a size all the rest, into memory.

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
        """Read a line with its line feed, b"" at the end. Raises as `read`."""
        if not await self._fill():
            return b""
        # Not splitlines(): a carriage return alone ends no line of a binary file.
        end = self._buffer.find(b"\n", self._position) + 1
        return self._take(end - self._position) if end else await self._long_line()

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """Iterate over the content in blocks of any size, at most 1 MiB each. Raises as `read`."""
        return _AsyncRepeated(self._read_block)

    def iter_lines(self) -> AsyncIterator[bytes]:
        """Iterate over the lines of the content, each with its line feed if it has one. Raises as `read`."""
        return _AsyncRepeated(self.readline)

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate as `iter_bytes`."""
        return self.iter_bytes()

    @without_locals
    async def save(self, path: str | os.PathLike[str]) -> int:
        """Store the whole content in a file and return its length in bytes.

        The file is written under a temporary name beside `path`, checked, made durable (fsync) and only then named; a
        file of that name is replaced, a missing folder made. Only its owner may read it (mode 0600). If anything fails,
        nothing is left behind; a process that is killed leaves the temporary file, a hidden `.*.part`.

        Raises as `read`, and StorageError if it cannot be stored.
        """
        if self._begun:
            raise InvalidArgument("save: some of the content has been read already; save it first")
        length = 0
        file = NewFile(Path(path))
        with add_context(message_id=self.metadata.message_id):
            try:
                await in_thread(file.open)
                async for block in self.iter_bytes():
                    await in_thread(file.write, block)
                    length += len(block)
                await in_thread(file.commit)
            finally:
                # Not in a thread: it must happen even when the task is being cancelled, and takes no time.
                file.discard()
        return length

    async def close(self) -> None:
        """Let the connection go. This does not acknowledge the message."""
        if not self.complete and self._failure is None:
            self._fail("the message was closed before it was read to its end")
        await self._content.close()

    async def drain(self) -> None:
        """Read what is left, and drop it."""
        while await self._read_block():
            pass

    @without_locals
    async def _long_line(self) -> bytes:
        """Read a line that goes beyond the buffer."""
        parts = []
        end = 0
        while not end and await self._fill():
            end = self._buffer.find(b"\n", self._position) + 1
            parts.append(self._take(end - self._position if end else -1))
        return b"".join(parts)

    async def _read_block(self) -> bytes:
        return self._take(-1) if await self._fill() else b""

    async def _fill(self) -> bool:
        """Have content to take; False at the end."""
        if self._position >= len(self._buffer):
            self._buffer, self._position = await self._next(), 0
        return bool(self._buffer)

    def _take(self, size: int) -> bytes:
        end = len(self._buffer) if size < 0 else self._position + size
        part = self._buffer[self._position : end] if self._position or end < len(self._buffer) else self._buffer
        self._position += len(part)
        return part

    @without_locals
    async def _next(self) -> bytes:
        """Return the next block, b"" once all content has come and is whole."""
        self._begun = True
        if self.complete:
            return b""
        if self._failure is not None:
            raise self._failure
        try:
            with add_context(operation="retrieve_message", message_id=self.metadata.message_id):
                block = await self._content.next_block()
        except MeshError as error:
            self._failure = error
            raise
        except BaseException:
            # The stream cannot continue from here, and must not look as if it had ended.
            self._fail("reading the message was interrupted")
            raise
        self.complete = not block
        return block

    def _fail(self, reason: str) -> None:
        """Have every later read fail."""
        self._failure = IntegrityError(reason, operation="retrieve_message", message_id=self.metadata.message_id)
