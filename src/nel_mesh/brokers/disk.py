"""Content to be sent and files that arrive: reading from anywhere, waiting on disk, writing so that it lasts.

Content is read at random, since a chunk may have to be sent again, and its length must be known before the first
chunk goes (`Mex-Chunk-Range: 1:n`). What cannot do that, a pipe or an iterable, first waits in a spool: in memory
while it is small, then in a nameless temporary file.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import tempfile
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self, TypeAlias, TypeVar, cast

import anyio.to_thread

from nel_mesh.errors import InvalidArgument, SourceError, StorageError

READ_BLOCK = 256 * 1024
"""How many bytes are read and handed on at a time."""

SPOOL_MEMORY = 4 * 1024 * 1024
"""A spool up to this length stays in memory."""


class Readable(Protocol):
    """Anything with a binary `read`; it may give fewer bytes than it was asked for."""

    def read(self, size: int, /) -> bytes | None: ...


ContentSource: TypeAlias = "bytes | bytearray | memoryview | str | os.PathLike[str] | Readable | Iterable[bytes]"
AsyncContentSource: TypeAlias = "ContentSource | AsyncIterable[bytes]"

_T = TypeVar("_T")


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

    def close(self) -> None:
        """Lets go of what was opened here; never of the caller's file."""


class _Memory(Content):
    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
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
        with self._lock, _as_source_error():
            self._file.seek(self._start + start)
            data = _read_full(self._file, size)
        if len(data) != size:
            raise SourceError("content: it became shorter while it was being sent")
        return data

    def close(self) -> None:
        if self._ours:
            self._file.close()


class Disk:
    """The sync disk."""

    def __init__(self, spool_directory: Path | None = None) -> None:
        self._spool_directory = spool_directory

    def open_content(self, source: Any) -> Content:
        """Makes any form of content readable at random, spooling what is not; the caller's file stays open.

        Raises InvalidArgument for what is no content, SourceError for what cannot be read, StorageError for a spool
        that cannot be written.
        """
        if isinstance(source, str):
            return _Memory(source.encode())
        if isinstance(source, (bytes, bytearray, memoryview)):
            return _Memory(source)
        if isinstance(source, os.PathLike):
            return _open_path(Path(source))
        if isinstance(source, io.TextIOBase):
            raise InvalidArgument("content: the file is open as text; open it in binary mode ('rb')")
        if callable(getattr(source, "read", None)):
            rest = _rest_of(source)
            return rest if rest is not None else self.spool(_blocks_of(source))
        if isinstance(source, Iterable):
            return self.spool(_checked(source))
        raise InvalidArgument(
            f"content: expected bytes, text, a path, a binary file or an iterable of bytes, not {type(source).__name__}"
        )

    def spool(self, blocks: Iterable[bytes]) -> Content:
        """Keeps blocks of any number until they are sent. Raises StorageError if there is no room for them."""
        with _Spool(self._spool_directory) as spool:
            for block in blocks:
                spool.write(block)
            return spool.content()

    def read(self, content: Content, start: int, size: int) -> bytes:
        """Reads `size` bytes of content from `start`."""
        return content.read(start, size)

    def new_file(self, path: Path) -> NewFile:
        """Begins a file that gets its name only when it is complete."""
        return NewFile(path)


class NewFile:
    """A file under a temporary name beside its destination; `commit` makes it durable and names it, in that order.

    Leaving its `with` block without `commit` removes it. Raises StorageError when the disk will not have it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{secrets.token_hex(8)}.part")
        with _as_storage_error():
            if path.is_dir():
                raise StorageError("path: it is a folder; name a file in it")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self._temporary.open("xb", buffering=0)

    def write(self, block: bytes) -> None:
        """Writes the whole block."""
        with _as_storage_error():
            view = memoryview(block)
            while view:
                view = view[self._file.write(view) :]

    def commit(self) -> None:
        """Makes the content durable, then the name."""
        with _as_storage_error():
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self._path)
            _sync_folder(self._path.parent)

    def discard(self) -> None:
        """Removes what has not been committed."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class AsyncDisk:
    """The async disk: the sync one in worker threads, so that the event loop never waits for it."""

    def __init__(self, spool_directory: Path | None = None) -> None:
        self._spool_directory = spool_directory
        self._disk = Disk(spool_directory)

    async def open_content(self, source: Any) -> Content:
        """As `Disk.open_content`; takes an async iterable of bytes too."""
        if isinstance(source, AsyncIterable):
            with _Spool(self._spool_directory) as spool:
                async for block in source:
                    await anyio.to_thread.run_sync(spool.write, _checked_block(block))
                return spool.content()
        return await _in_thread(lambda: self._disk.open_content(source))

    async def spool(self, blocks: Iterable[bytes]) -> Content:
        """As `Disk.spool`; the blocks are made in a worker thread."""
        return await _in_thread(lambda: self._disk.spool(blocks))

    async def read(self, content: Content, start: int, size: int) -> bytes:
        """As `Disk.read`."""
        if content.in_memory:
            return content.read(start, size)
        return await _in_thread(lambda: content.read(start, size))

    async def new_file(self, path: Path) -> AsyncNewFile:
        """As `Disk.new_file`."""
        return AsyncNewFile(await _in_thread(lambda: NewFile(path)))


class AsyncNewFile:
    """As `NewFile`, for `async with`."""

    def __init__(self, file: NewFile) -> None:
        self._file = file

    async def write(self, block: bytes) -> None:
        """Writes the whole block."""
        await _in_thread(lambda: self._file.write(block))

    async def commit(self) -> None:
        """Makes the content durable, then the name."""
        await _in_thread(self._file.commit)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not in a thread: it must happen even when the task is being cancelled, and takes no time.
        self._file.discard()


class _Spool:
    """Collects blocks; a nameless file once they are many, so that nothing stays behind, whatever happens."""

    def __init__(self, folder: Path | None) -> None:
        with _as_storage_error():
            self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY, dir=str(folder) if folder else None)  # noqa: SIM115
        self._length = 0
        self._taken = False

    def write(self, block: bytes) -> None:
        with _as_storage_error():
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


async def _in_thread(work: Callable[[], _T]) -> _T:
    return await anyio.to_thread.run_sync(work)


def _open_path(path: Path) -> Content:
    with _as_source_error():
        if path.is_dir():
            raise SourceError("content: the path is a folder; name a file")
        file = path.open("rb", buffering=0)
    try:
        with _as_source_error():
            seekable = file.seekable()
            length = file.seek(0, os.SEEK_END) if seekable else 0
    except BaseException:
        file.close()
        raise
    if not seekable:
        with file:
            return Disk().spool(_blocks_of(file))
    return _File(cast("BinaryIO", file), 0, length, ours=True)


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
    return _File(file, start, max(0, end - start), ours=False)


def _blocks_of(file: Any) -> Iterator[bytes]:
    while True:
        with _as_source_error():
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
    data = file.read(size)
    if data is not None and len(data) == size:
        return data
    parts = [data or b""]
    missing = size - len(parts[0])
    while missing and (data := file.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def _sync_folder(folder: Path) -> None:
    # Windows cannot open a folder, and keeps names without being asked.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _as_source_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(f"content: it cannot be read: {error.strerror or type(error).__name__}") from error


@contextlib.contextmanager
def _as_storage_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"it cannot be stored here: {error.strerror or type(error).__name__}") from error
