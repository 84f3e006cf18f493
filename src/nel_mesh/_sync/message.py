# Generated from _async/message.py by tools/unasync.py: edit that file, then run `make generate`.
"""A message from MESH as a stream that ends only when it is whole."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from nel_mesh.errors import (
    ConnectionLost,
    IntegrityError,
    InvalidArgument,
    MeshError,
    NotFound,
    StorageError,
    add_context,
)
from nel_mesh.instrumentation.events import Instrumentation, OperationSpan
from nel_mesh.io.files import NewFile
from nel_mesh.io.partial import MessageBuffer
from nel_mesh.models import MessageMetadata, Report
from nel_mesh.protocol import checksum, gzip, wire
from nel_mesh.protocol.checksum import Checksum
from nel_mesh.protocol.chunks import ChunkSequence
from nel_mesh.tracebacks import without_locals

from .http import Response
from .mailbox import MailboxOperations

WRITE_BYTES = 1024 * 1024
"""How many bytes on the wire are gathered for one write: to wait for a thread costs as much as to write 100 KiB."""

_READ_BYTES = 1024 * 1024


class Chunk:
    """The content of one chunk, decompressed where it was gzipped in transit, and checked to its end."""

    def __init__(self, response: Response, *, coded: bool = True) -> None:
        self._response = response
        self._decoder = gzip.decoder(response.headers.get(wire.CONTENT_ENCODING) if coded else None)
        self._decoded: Iterator[bytes] = iter(())
        # Not even gzip tells that no further member was to follow.
        if not response.is_delimited:
            raise IntegrityError("the server did not say how long the body is, so a cut could not be told")

    def next_block(self) -> bytes | None:
        """Return the next block of content, None at the chunk's verified end. Raises IntegrityError for damage."""
        while True:
            for block in self._decoded:
                return block
            blocks = self.next_blocks()
            if blocks is None:
                return None
            self._decoded = blocks

    def next_blocks(self, at_least: int = 1) -> Iterator[bytes] | None:
        """Return the blocks of content that the next bytes on the wire become; they are made as they are taken.

        `at_least` is how many bytes on the wire to wait for, if there are as many. None at the chunk's verified end.
        It, or the blocks, raise IntegrityError if the chunk is damaged.
        """
        parts: list[bytes] = []
        length = 0
        while length < at_least:
            try:
                raw = self._response.next_block()
            except ConnectionLost as error:
                raise IntegrityError(f"the body ended early: {error.reason}") from error
            if raw is None:
                break
            parts.append(raw)
            length += len(raw)
        if not parts:
            self._decoder.finish()
            self._response.close()
            return None
        return itertools.chain.from_iterable(map(self._decoder.feed, parts))


def is_bare_report(metadata: MessageMetadata, response: Response) -> bool:
    """Whether it is a report as MESH sends them: without content, whatever coding and chunks (1:0) it names."""
    return isinstance(metadata, Report) and response.headers.get("content-length", "0") == "0"


def fetch_chunk(mailbox: MailboxOperations, message_id: str, number: int, total: int | None) -> Response:
    """Fetch a chunk. Raises IntegrityError if MESH has the message, and does not have the chunk."""
    try:
        return mailbox.retrieve_chunk(message_id, number)
    except NotFound as error:
        if number == 1:
            raise
        of = f" of {total}" if total else ""
        raise IntegrityError(f"chunk {number}{of} is missing", status=error.status) from error


def verify(
    instrumentation: Instrumentation,
    operation: str,
    expected: Checksum,
    digest: str,
    *,
    strict: bool,
    message_id: str,
) -> bool:
    """Compare a digest with the sender's checksum; return whether they are the same.

    A difference is an IntegrityError where the sender named the algorithm, or if `strict`; otherwise a warning.
    """
    if digest == expected.digest:
        return True
    if expected.is_named or strict:
        raise IntegrityError(f"the content does not have the sender's checksum ({expected.algorithm})")
    instrumentation.checksum_not_verified(operation, message_id, algorithm=expected.algorithm, differs=True)
    return False


class MessageContent(Protocol):
    """Where a message's content comes from."""

    verified: bool | None

    def next_block(self) -> bytes:
        """Return the next block; b"" once all content has come and is whole."""

    def close(self) -> None:
        """Let go of it."""


class FetchedContent:
    """Content as it comes from MESH, chunk after chunk, checked to its end."""

    def __init__(
        self,
        mailbox: MailboxOperations,
        response: Response,
        metadata: MessageMetadata,
        *,
        verify_checksum: bool,
        strict: bool,
        max_bytes: int,
        span: OperationSpan,
    ) -> None:
        self.verified: bool | None = None
        self._mailbox = mailbox
        self._response = response
        self._metadata = metadata
        self._message_id = metadata.message_id
        self._strict = strict
        self._max_bytes = max_bytes
        self._span = span
        self._sequence = ChunkSequence()
        self._more = False
        self._chunk: Chunk | None = None
        self._expected = checksum.recognise(metadata.checksum) if verify_checksum else None
        self._digest = self._new_digest()
        span.bytes, span.workflow_id = 0, metadata.workflow_id

    def next_block(self) -> bytes:
        """Return the next block of this chunk or of the next one; b"" after the last chunk's end."""
        while True:
            if self._chunk is None:
                self._more = self._open(self._sequence.received + 1)
            elif (block := self._chunk.next_block()) is not None:
                length = self._span.bytes = (self._span.bytes or 0) + len(block)
                if length > self._max_bytes:
                    raise StorageError(
                        f"the content is longer than {self._max_bytes:,} bytes (setting max_message_size_in_megabytes)"
                    )
                if self._digest is not None:
                    self._digest.update(block)
                return block
            elif self._more:
                self._chunk = None
            else:
                if self._expected is not None and self._digest is not None:
                    digest = self._digest.hexdigest()
                    self.verified = verify(
                        self._mailbox.instrumentation,
                        "retrieve_message",
                        self._expected,
                        digest,
                        strict=self._strict,
                        message_id=self._message_id,
                    )
                return b""

    def close(self) -> None:
        """Let the connection go."""
        self._response.close()

    def _new_digest(self) -> hashlib._Hash | None:
        """Return the hash object for the checksum; None without one, or if this machine refuses it (FIPS)."""
        if self._expected is None:
            return None
        algorithm = self._expected.algorithm
        try:
            return hashlib.new(algorithm, usedforsecurity=False)
        except ValueError:
            self._mailbox.instrumentation.checksum_not_verified(
                "retrieve_message", self._message_id, algorithm=algorithm, differs=False
            )
            return None

    def _open(self, number: int) -> bool:
        if number > 1:
            with self._span.current():
                self._response = fetch_chunk(self._mailbox, self._message_id, number, self._sequence.total)
        elif is_bare_report(self._metadata, self._response):
            self._chunk = Chunk(self._response, coded=False)
            return False
        more = self._sequence.accept(self._response.status, self._response.headers.get(wire.CHUNK_RANGE))
        self._chunk = Chunk(self._response)
        return more


class BufferedContent:
    """Content that has been fetched and verified, out of a buffer."""

    def __init__(self, buffer: MessageBuffer, *, verified: bool | None) -> None:
        self.verified = verified
        self._buffer = buffer

    def next_block(self) -> bytes:
        """Return the next block; b"" at the end."""
        return self._buffer.read(_READ_BYTES)

    def close(self) -> None:
        """Drop the content."""
        self._buffer.close()


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


class Message:
    """A message from MESH: its metadata, and its content as a stream that ends only when it is whole.

    `retrieve_message`, `iter_messages` and handlers give it. Every chunk is fetched, decompressed where it was gzipped
    in transit, and checked. An error is raised by the read that meets it and by every later one: there is no end of
    file but the real one.
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

    def close(self) -> None:
        """Let the connection go. This does not acknowledge the message."""
        if not self.complete and self._failure is None:
            self._fail(IntegrityError("the message was closed before it was read to its end"))
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
            block = self._content.next_block()
        except MeshError as error:
            raise self._fail(error) from error.__cause__
        except BaseException:
            # The stream cannot continue from here, and must not look as if it had ended.
            self._fail(IntegrityError("reading the message was interrupted"))
            raise
        self.complete = not block
        return block

    def _fail(self, error: MeshError) -> MeshError:
        error.operation = error.operation or "retrieve_message"
        error.message_id = error.message_id or self.metadata.message_id
        self._failure = error
        return error
