# Generated from _async/message.py by tools/unasync.py: edit that file, then run `make generate`.
"""A message from MESH as a stream that ends only when it is whole."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Protocol

from nel_mesh.errors import IntegrityError, InvalidArgument, MeshError, add_context
from nel_mesh.io.files import NewFile, translate_storage_errors
from nel_mesh.io.sequential import SequentialFile
from nel_mesh.models import MessageMetadata
from nel_mesh.tracebacks import without_locals


class MessageContent(Protocol):
    """Where a message's content comes from."""

    verified: bool | None

    def next_block(self) -> bytes:
        """Return the next block; b"" once all content has come and is whole."""

    def close(self) -> None:
        """Let go of it."""


class _Repeated:
    """An iterator over what a method returns, until it returns nothing.

    Not a generator: an abandoned one is finalised at an arbitrary time.
    """

    def __init__(self, method: Callable[[], bytes]) -> None:
        self._method = method

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        item = self._method()
        if not item:
            raise StopIteration
        return item


class Message(SequentialFile):
    """A message from MESH: its metadata, and its content as a stream that ends only when it is whole.

    `retrieve_message`, `iter_messages` and handlers give it. Every chunk is fetched, decompressed where it was gzipped
    in transit, and checked. An error is raised by the read that meets it and by every later one: there is no end of
    file but the real one.

    It has the methods of a binary file that is read from its beginning to its end.
    """

    def __init__(self, metadata: MessageMetadata, content: MessageContent, *, has_content: bool = True) -> None:
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
        self._closed = False
        self._failure: MeshError | None = None

    @property
    def verified(self) -> bool | None:
        """Whether the content has the sender's checksum; None before the end, or if it was not compared."""
        return self._content.verified

    @without_locals
    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes, fewer only at the end, b"" after it; without a size all the rest, into memory.

        Raises IntegrityError if content is missing or damaged, ConnectionFailed, ConnectionLost or a ResponseError if
        a further chunk cannot be fetched. The message is then still in the inbox: retrieve it again.
        """
        parts = []
        missing = -1 if size is None else size
        while missing and self._fill():
            part = self._take(missing)
            parts.append(part)
            missing = missing if missing < 0 else missing - len(part)
        return b"".join(parts)

    def read1(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, as many as are at hand, or else wait for some; b"" at the end. Raises as `read`."""
        return self._take(size) if size and self._fill() else b""

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read into a buffer; return how many bytes, 0 at the end. Raises as `read`."""
        view = memoryview(buffer).cast("B")
        part = self.read1(len(view))
        view[: len(part)] = part
        return len(part)

    def readline(self) -> bytes:
        """Read a line with its line feed, b"" at the end. Raises as `read`."""
        if not self._fill():
            return b""
        # Not splitlines(): a carriage return alone ends no line of a binary file.
        end = self._buffer.find(b"\n", self._position) + 1
        return self._take(end - self._position) if end else self._long_line()

    def iter_bytes(self) -> Iterator[bytes]:
        """Iterate over the content in blocks of any size, at most 1 MiB each. Raises as `read`."""
        return _Repeated(self._read_block)

    def iter_lines(self) -> Iterator[bytes]:
        """Iterate over the lines of the content, each with its line feed if it has one. Raises as `read`."""
        return _Repeated(self.readline)

    def __iter__(self) -> Iterator[bytes]:
        """Iterate as `iter_bytes`."""
        return self.iter_bytes()

    @without_locals
    def save(self, path: str | os.PathLike[str]) -> int:
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
                file.open()
                for block in self.iter_bytes():
                    file.write(block)
                    length += len(block)
                file.commit()
            finally:
                # Not in a thread: it must happen even when the task is being cancelled, and takes no time.
                file.discard()
        return length

    @without_locals
    def write_to(self, stream: BinaryIO) -> int:
        """Write the whole content to a binary stream, and return its length in bytes.

        The message is whole only once this has returned: if it raises, drop what has been written. The stream is
        neither flushed, synced nor closed; to make a durable file, use `save`.

        Args:
            stream: anything with a binary `write`, such as an open file or `sys.stdout.buffer`. It may block.

        Raises:
            StorageError: the stream did not take it. Otherwise as `read`.
        """
        length = 0
        with add_context(operation="retrieve_message", message_id=self.metadata.message_id):
            for block in self.iter_bytes():
                _write(stream, block)
                length += len(block)
        return length

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Let the connection go. This does not acknowledge the message."""
        self._closed = True
        if not self.complete and self._failure is None:
            self._fail("the message was closed before it was read to its end")
        self._content.close()

    def drain(self) -> None:
        """Read what is left, and drop it."""
        while self._read_block():
            pass

    @without_locals
    def _long_line(self) -> bytes:
        """Read a line that goes beyond the buffer."""
        parts = []
        end = 0
        while not end and self._fill():
            end = self._buffer.find(b"\n", self._position) + 1
            parts.append(self._take(end - self._position if end else -1))
        return b"".join(parts)

    def _read_block(self) -> bytes:
        return self._take(-1) if self._fill() else b""

    def _fill(self) -> bool:
        """Have content to take; False at the end."""
        if self._position >= len(self._buffer):
            self._buffer, self._position = self._next(), 0
        return bool(self._buffer)

    def _take(self, size: int) -> bytes:
        end = len(self._buffer) if size < 0 else self._position + size
        part = self._buffer[self._position : end] if self._position or end < len(self._buffer) else self._buffer
        self._position += len(part)
        return part

    @without_locals
    def _next(self) -> bytes:
        """Return the next block, b"" once all content has come and is whole."""
        self._begun = True
        if self.complete:
            return b""
        if self._failure is not None:
            raise self._failure
        try:
            with add_context(operation="retrieve_message", message_id=self.metadata.message_id):
                block = self._content.next_block()
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


class Retrieval:
    """A message that is opened by a `with` block, and closed at the end of the block."""

    def __init__(self, opened: AbstractContextManager[Message]) -> None:
        self._opened = opened

    def __enter__(self) -> Message:
        return self._opened.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._opened.__exit__(kind, error, trace)

    def __getattr__(self, name: str) -> NoReturn:
        if hasattr(Message, name) or name == "metadata":
            raise TypeError(
                f"retrieve_message: open the message in a with block, and call {name} of what the block is given"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _write(stream: Any, block: bytes) -> None:
    """Write a block to a stream of the caller's."""
    view = memoryview(block)
    try:
        with translate_storage_errors():
            while view:
                written = stream.write(view)
                if written is None and isinstance(stream, io.RawIOBase):
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                # Some streams take all of it, and return nothing.
                view = view[len(view) if written is None else written :]
    except TypeError as error:
        raise InvalidArgument("stream: expected a binary stream, such as sys.stdout.buffer") from error
