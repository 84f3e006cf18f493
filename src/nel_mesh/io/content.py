"""Content to be sent, from anywhere.

It is read at random, since a chunk may have to be sent again, and its length must be known before the first chunk goes
(`Mex-Chunk-Range: 1:n`). What cannot do that, a pipe or an iterable, first waits in a spool: in memory while it is
small, then in a nameless temporary file.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import threading
from collections.abc import AsyncIterable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, Protocol, Self, TypeAlias, cast

from nel_mesh.errors import InvalidArgument, SourceError
from nel_mesh.io.async_concurrency import in_thread
from nel_mesh.io.files import translate_source_errors, translate_storage_errors

READ_BLOCK = 112 * 1024
"""How many bytes are read at a time."""

SPOOL_MEMORY = 4 * 1024 * 1024
"""A spool up to this length stays in memory."""


class Readable(Protocol):
    """Anything with a binary `read`; it may give fewer bytes than it was asked for."""

    def read(self, size: int, /) -> bytes | None: ...


ContentSource: TypeAlias = "bytes | bytearray | memoryview | str | os.PathLike[str] | Readable | Iterable[bytes]"
AsyncContentSource: TypeAlias = "ContentSource | AsyncIterable[bytes]"


class Content:
    """Bytes of known length that can be read at any place, any number of times, by several threads."""

    def __init__(self, length: int, *, in_memory: bool) -> None:
        self.length = length
        self.in_memory = in_memory

    def read(self, start: int, size: int) -> bytes:
        """Exactly `size` bytes from `start`. Raises SourceError if they cannot be had."""
        raise NotImplementedError

    def blocks(self, start: int, length: int) -> Iterator[bytes]:
        """The `length` bytes from `start`, a block at a time."""
        for position in range(start, start + length, READ_BLOCK):
            yield self.read(position, min(READ_BLOCK, start + length - position))

    def stamp(self) -> tuple[int, int]:
        """Its length now, and when it was last changed (0 if it has no such time): whether it is still the same."""
        return self.length, 0

    def close(self) -> None:
        """Lets go of what was opened here; never of the caller's file."""


class _Memory(Content):
    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        view = view.cast("B") if view.contiguous else memoryview(view.tobytes())
        super().__init__(view.nbytes, in_memory=True)
        self._view = view

    def read(self, start: int, size: int) -> bytes:
        return bytes(self._view[start : start + size])

    def close(self) -> None:
        self._view.release()


class _File(Content):
    """A seekable file, from `start` for `length` bytes; closed at the end only if it is ours."""

    def __init__(self, file: BinaryIO, start: int, length: int, *, ours: bool, in_memory: bool = False) -> None:
        super().__init__(length, in_memory=in_memory)
        self._file = file
        self._start = start
        self._ours = ours
        self._lock = threading.Lock()

    def read(self, start: int, size: int) -> bytes:
        with self._lock, translate_source_errors():
            self._file.seek(self._start + start)
            data = _read_full(self._file, size)
        if len(data) != size:
            raise SourceError("content: it became shorter while it was being sent")
        return data

    def close(self) -> None:
        if self._ours:
            self._file.close()


class _CallersFile(_File):
    """The caller's file, from where it stands to its end; for one send at a time, as there is one position in it."""

    _busy: ClassVar[dict[int, BinaryIO]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        super().__init__(file, start, length, ours=False)

    @classmethod
    def claim(cls, file: BinaryIO) -> None:
        """Keeps other sends from the file. Raises InvalidArgument if one has it already."""
        with cls._guard:
            if id(file) in cls._busy:
                raise InvalidArgument(
                    "content: this file object is being sent already; open the file once for each send"
                )
            cls._busy[id(file)] = file

    @classmethod
    def unclaim(cls, file: BinaryIO) -> None:
        """Lets other sends have it."""
        with cls._guard:
            cls._busy.pop(id(file), None)

    def stamp(self) -> tuple[int, int]:
        with self._lock, translate_source_errors():
            end = self._file.seek(0, os.SEEK_END)
        return (end if isinstance(end, int) else self._file.tell()) - self._start, 0

    def close(self) -> None:
        self.unclaim(self._file)


class _Path(_File):
    """A file that was opened here by its path."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        super().__init__(file, 0, length, ours=True)

    def stamp(self) -> tuple[int, int]:
        with translate_source_errors():
            status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


class Contents:
    """Opens content, and spools it; sync."""

    SEND_BLOCK = READ_BLOCK
    """How many bytes are read and handed to the network at a time."""

    def __init__(self, spool_directory: Path | None = None) -> None:
        self._spool_directory = spool_directory

    def open(self, source: Any) -> Content:
        """Makes any form of content readable at random, spooling what is not; the caller's file stays open.

        Raises InvalidArgument for what is no content, SourceError for what cannot be read, StorageError for a spool
        that cannot be written.
        """
        if isinstance(source, str):
            try:
                return _Memory(source.encode())
            except UnicodeEncodeError:
                # Not chained: it holds all of the content.
                raise InvalidArgument(
                    "content: the text has a character that UTF-8 does not (a lone surrogate)"
                ) from None
        if isinstance(source, (bytes, bytearray, memoryview)):
            return _Memory(source)
        if isinstance(source, os.PathLike):
            return self._open_path(Path(source))
        if isinstance(source, io.TextIOBase):
            raise InvalidArgument("content: the file is open as text; open it in binary mode ('rb')")
        if callable(getattr(source, "read", None)):
            if getattr(source, "closed", False) is True:
                raise InvalidArgument("content: the file is closed")
            _CallersFile.claim(source)
            rest = None
            try:
                rest = _rest_of(source)
                return rest if rest is not None else self.spool(_blocks_of(source))
            finally:
                if rest is None:
                    _CallersFile.unclaim(source)
        if isinstance(source, Iterable):
            return self.spool(_checked(source))
        raise InvalidArgument(
            f"content: expected bytes, text, a path, a binary file or an iterable of bytes, not {type(source).__name__}"
        )

    def _open_path(self, path: Path) -> Content:
        with translate_source_errors():
            if path.is_dir():
                raise SourceError("content: the path is a folder; name a file")
            file = path.open("rb", buffering=0)
        try:
            with translate_source_errors():
                seekable = file.seekable()
                length = file.seek(0, os.SEEK_END) if seekable else 0
        except BaseException:
            file.close()
            raise
        if not seekable:
            with file:
                return self.spool(_blocks_of(file))
        return _Path(cast("BinaryIO", file), length)

    def spool(self, blocks: Iterable[bytes]) -> Content:
        """Keeps blocks of any number until they are sent. Raises StorageError if there is no room for them."""
        with _Spool(self._spool_directory) as spool:
            for block in blocks:
                spool.write(block)
            return spool.content()

    def read(self, content: Content, start: int, size: int) -> bytes:
        """Reads `size` bytes of content from `start`."""
        return content.read(start, size)

    def digest(self, content: Content, start: int, length: int, before: str) -> str:
        """A digest of what `before` is the digest of, and of the bytes after it: tells whether content is the same."""
        digest = hashlib.blake2b(before.encode(), digest_size=32)
        for block in content.blocks(start, length):
            digest.update(block)
        return digest.hexdigest()


class AsyncContents:
    """Opens content, and spools it, in worker threads, so that the event loop never waits for a disk."""

    SEND_BLOCK = 1024 * 1024
    """As `Contents.SEND_BLOCK`; to wait for a thread costs as much as to read some hundred KiB."""

    def __init__(self, spool_directory: Path | None = None) -> None:
        self._spool_directory = spool_directory
        self._contents = Contents(spool_directory)

    async def open(self, source: Any) -> Content:
        """As `Contents.open`; takes an async iterable of bytes too."""
        if isinstance(source, AsyncIterable):
            with _Spool(self._spool_directory) as spool:
                async for block in source:
                    await in_thread(partial(spool.write, _checked_block(block)))
                return spool.content()
        if isinstance(source, (bytes, bytearray, memoryview, str)):
            return self._contents.open(source)
        return await in_thread(lambda: self._contents.open(source))

    async def spool(self, blocks: Iterable[bytes]) -> Content:
        """As `Contents.spool`; the blocks are made in a worker thread."""
        made: list[Content] = []
        try:
            await in_thread(lambda: made.append(self._contents.spool(blocks)))
        except BaseException:
            # Cancelled meanwhile: nobody else will close it.
            for content in made:
                content.close()
            raise
        return made[0]

    async def read(self, content: Content, start: int, size: int) -> bytes:
        """As `Contents.read`."""
        if content.in_memory:
            return content.read(start, size)
        return await in_thread(lambda: content.read(start, size))

    async def digest(self, content: Content, start: int, length: int, before: str) -> str:
        """As `Contents.digest`."""
        return await in_thread(lambda: self._contents.digest(content, start, length, before))


class _Spool:
    """Collects blocks; a nameless file once they are many, so that nothing stays behind, whatever happens."""

    def __init__(self, folder: Path | None) -> None:
        with translate_storage_errors():
            self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY, dir=str(folder) if folder else None)  # noqa: SIM115
        self._length = 0
        self._taken = False

    def write(self, block: bytes) -> None:
        with translate_storage_errors():
            self._file.write(block)
        self._length += len(block)

    def content(self) -> Content:
        self._taken = True
        return _File(cast("BinaryIO", self._file), 0, self._length, ours=True, in_memory=self._length <= SPOOL_MEMORY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._taken:
            self._file.close()


def _rest_of(file: Any) -> Content | None:
    """The caller's file from where it stands to its end, if it can seek both ways; else None."""
    try:
        if not file.seekable():
            return None
        start = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(start)
    except (AttributeError, OSError, ValueError):
        # Some files say that they can seek and then cannot seek to the end (gzip.open): read them through.
        return None
    if not isinstance(end, int):
        end = file.seek(0, os.SEEK_END) or file.tell()
        file.seek(start)
    return _CallersFile(file, start, max(0, end - start))


def _blocks_of(file: Any) -> Iterator[bytes]:
    while True:
        with translate_source_errors():
            block = file.read(READ_BLOCK)
        if block is None:
            raise SourceError("content: the stream has nothing at present (it is non-blocking); use a blocking one")
        if not isinstance(block, (bytes, bytearray, memoryview)):
            raise InvalidArgument("content: the stream gives text; open it in binary mode ('rb')")
        if not block:
            return
        yield bytes(block)


def _checked(blocks: Iterable[Any]) -> Iterator[bytes]:
    for block in blocks:
        yield _checked_block(block)


def _checked_block(block: Any) -> bytes:
    if isinstance(block, (bytes, bytearray, memoryview)):
        return bytes(block)
    raise InvalidArgument(f"content: the iterable gives {type(block).__name__}; it must give bytes")


def _read_full(file: BinaryIO, size: int) -> bytes:
    data: Any = file.read(size)
    if isinstance(data, str):
        raise InvalidArgument("content: the file gives text; open it in binary mode ('rb')")
    parts: list[bytes] = [data or b""]
    missing = size - len(parts[0])
    while missing and (data := file.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)
