"""Content to be sent, from anywhere.

A chunk may have to be sent again, so content is read at random; and its length must be known before the first chunk
goes (`Mex-Chunk-Range: 1:n`). A pipe or an iterable offers neither. It is first copied into a spool: in memory while it
is small, then in a nameless temporary file.

A source belongs to the caller. A file object that was sent in vain is put back to where it was, so that it can be sent
again whole; a stream that was read in vain cannot be put back, and is refused the next time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tempfile
import threading
import warnings
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, Protocol, TypeAlias, cast

from nel_mesh.errors import InvalidArgument, SourceError
from nel_mesh.io.files import translate_source_errors, translate_storage_errors

READ_BLOCK_BYTES = 112 * 1024
"""How many bytes are read at a time."""

SPOOL_MEMORY_BYTES = 4 * 1024 * 1024
"""A spool up to this length stays in memory."""

_MAX_FILE_NAME_CHARACTERS = 255


class Readable(Protocol):
    """Anything with a binary `read`; it may return fewer bytes than it was asked for."""

    def read(self, size: int, /) -> bytes | None: ...


ContentSource: TypeAlias = (
    "bytes | bytearray | memoryview | str | os.PathLike[str] | Readable | Iterable[bytes] | RemoteSource"
)


class Content:
    """Bytes of known length that can be read at any place, any number of times, by several threads."""

    def __init__(self, length: int) -> None:
        self.length = length

    def read(self, start: int, size: int) -> bytes:
        """Read exactly `size` bytes from `start`. Raises SourceError if that cannot be done."""
        raise NotImplementedError

    def read_from_memory(self, start: int, size: int) -> bytes | None:
        """Read as `read` does if that does not wait for a disk; else return None."""
        return None

    def blocks(self, start: int, length: int) -> Iterator[bytes]:
        """Read `length` bytes from `start`, a block at a time."""
        for position in range(start, start + length, READ_BLOCK_BYTES):
            yield self.read(position, min(READ_BLOCK_BYTES, start + length - position))

    def digest(self, start: int, length: int, before: str) -> str:
        """Return a digest of the bytes whose digest is `before`, and of the `length` bytes after them."""
        digest = hashlib.blake2b(before.encode(), digest_size=32)
        for block in self.blocks(start, length):
            digest.update(block)
        return digest.hexdigest()

    def stamp(self) -> tuple[int, int]:
        """Return the present length and date (0 if there is none) of the source: a change shows that it changed."""
        return self.length, 0

    def close(self) -> None:
        """Close what was opened here; never the caller's file."""


class NothingThere(SourceError):
    """The store was asked, and has nothing of that name. A store that cannot be asked is another SourceError."""


class RemoteSource:
    """Content in a store; it is opened when it is sent.

    Args:
        url: where it is, without secrets.
        name: the last part of its path, which is what it is called in MESH unless the caller says otherwise.
    """

    def __init__(self, *, url: str, name: str) -> None:
        self.url = url
        self.name = name

    def open(self) -> Content:
        """Open it. Raises SourceError if that cannot be done."""
        raise NotImplementedError


class _Memory(Content):
    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        view = view.cast("B") if view.contiguous else memoryview(view.tobytes())
        super().__init__(view.nbytes)
        self._view = view

    def read(self, start: int, size: int) -> bytes:
        return bytes(self._view[start : start + size])

    def read_from_memory(self, start: int, size: int) -> bytes | None:
        return self.read(start, size)

    def close(self) -> None:
        self._view.release()


class _File(Content):
    """A file that was opened here, from its beginning."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        super().__init__(length)
        self._file = file
        self._start = 0
        self._lock = threading.Lock()

    def read(self, start: int, size: int) -> bytes:
        with self._lock, translate_source_errors():
            self._file.seek(self._start + start)
            data = _read_full(self._file, size)
        if len(data) != size:
            raise SourceError("content: it became shorter while it was being sent")
        return data

    def stamp(self) -> tuple[int, int]:
        with translate_source_errors():
            status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def close(self) -> None:
        self._file.close()


class _CallersFile(_File):
    """A file object of the caller, from where it stands to its end."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        super().__init__(file, length)
        self._start = start

    def stamp(self) -> tuple[int, int]:
        with self._lock, translate_source_errors():
            return _end_of(self._file) - self._start, 0

    def close(self) -> None:
        pass


class Spool(_File):
    """Blocks of any number, kept until they are sent: in memory while they are few, then in a nameless file."""

    def __init__(self, folder: Path | None) -> None:
        with translate_storage_errors(folder):
            file = tempfile.SpooledTemporaryFile(  # noqa: SIM115  closed by `close`
                max_size=SPOOL_MEMORY_BYTES, dir=str(folder) if folder else None
            )
        super().__init__(cast("BinaryIO", file), 0)
        self._folder = folder

    def write(self, block: bytes) -> None:
        """Add a block. Raises StorageError if there is no room for it, SourceError once it is closed."""
        with self._lock, translate_storage_errors(self._folder):
            if self._file.closed:
                raise SourceError("content: the send has ended")
            self._file.write(block)
            self.length += len(block)

    def fill(self, blocks: Iterable[bytes]) -> None:
        """Add blocks until there are no more."""
        for block in blocks:
            self.write(block)

    def read_from_memory(self, start: int, size: int) -> bytes | None:
        return self.read(start, size) if self.length <= SPOOL_MEMORY_BYTES else None

    def stamp(self) -> tuple[int, int]:
        return self.length, 0

    def close(self) -> None:
        with self._lock:
            super().close()


class _Claim:
    """The right to read an object of the caller, which one send at a time has.

    It ends with `release`, or with its owner: a send that was interrupted anywhere leaves no claim behind.
    """

    _claims: ClassVar[weakref.WeakValueDictionary[int, _Claim]] = weakref.WeakValueDictionary()
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, source: object) -> None:
        # Held, so that no other object gets its id meanwhile.
        self._source = source
        with self._guard:
            if self._claims.setdefault(id(source), self) is not self:
                raise InvalidArgument(
                    "content: this file object is being sent already; open the file once for each send"
                )

    def release(self) -> None:
        with self._guard:
            if self._claims.get(id(self._source)) is self:
                del self._claims[id(self._source)]


_spent: weakref.WeakSet[Any] = weakref.WeakSet()
"""Streams that a send has read from in vain."""


class ContentOpener:
    """Content that is open in a `with` block. Left by an exception, it puts the caller's source back to where it was.

    Args:
        source: the content.
        spool_folder: where a spool goes that is too long for memory; None for the system's temporary folder.
    """

    def __init__(self, source: Any, spool_folder: Path | None) -> None:
        self._source = source
        self._spool_folder = spool_folder
        self._content: Content | None = None
        self._claim: _Claim | None = None
        self._position: int | None = None
        self._read_through = False

    def _open_at_once(self) -> None:
        """Open what can be read at random and has a length; leave the rest.

        Raises InvalidArgument for what is no content, SourceError for what cannot be read.
        """
        source = self._source
        if isinstance(source, str):
            self._content = _Memory(_encoded(source))
        elif isinstance(source, (bytes, bytearray, memoryview)):
            self._content = _Memory(source)
        elif isinstance(source, RemoteSource):
            self._content = source.open()
        elif isinstance(source, os.PathLike):
            self._content = file_content(Path(source))
        elif isinstance(source, io.TextIOBase):
            raise InvalidArgument("content: the file is open as text; open it in binary mode ('rb')")
        elif callable(getattr(source, "read", None)):
            if getattr(source, "closed", False) is True:
                raise InvalidArgument("content: the file is closed")
            self._claim = _Claim(source)
            self._position, end = _extent_of(source)
            if self._position is not None and end is not None:
                self._content = _CallersFile(source, self._position, max(0, end - self._position))
        elif not isinstance(source, (Iterable, AsyncIterable)):
            raise InvalidArgument(
                f"content: expected bytes, text, a path, a binary file or an iterable of bytes, "
                f"not {type(source).__name__}"
            )
        if self._content is None and _can_be_spent(source) and source in _spent:
            raise InvalidArgument(
                "content: a send that failed has read from this stream; open it again, "
                "or the message would lack its beginning"
            )

    def _blocks(self) -> Generator[bytes, None, None]:
        """Read through what can be read only once."""
        source = self._source
        self._read_through = True
        if isinstance(source, os.PathLike):
            with translate_source_errors():
                pipe = Path(source).open("rb", buffering=0)  # noqa: SIM115  closed below
            with pipe:
                yield from _blocks_of(pipe)
        elif self._claim is not None:
            yield from _blocks_of(source)
        elif isinstance(source, AsyncIterable):
            raise InvalidArgument("content: an async iterable needs the AsyncMeshClient")
        else:
            for block in source:
                yield checked_block(block)

    def _spool(self) -> Spool:
        self._content = spool = Spool(self._spool_folder)
        return spool

    def _close(self, *, failed: bool) -> None:
        if self._claim is not None or self._read_through:
            self._leave_source(failed=failed)
        if self._content is not None:
            self._content.close()
        if self._claim is not None:
            self._claim.release()

    def _leave_source(self, *, failed: bool) -> None:
        """Leave the caller's object where it was, or, if all of it was sent, where a reader would have left it."""
        position = self._position
        if position is not None and not failed and self._content is not None and not self._read_through:
            position += self._content.length
        if position is not None and (failed or not self._read_through):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self._source.seek(position)
                return
        if failed and self._read_through and _can_be_spent(self._source):
            _spent.add(self._source)


class OpenContent(ContentOpener):
    """Content that is open in a `with` block; see `ContentOpener`."""

    SEND_BLOCK_BYTES = READ_BLOCK_BYTES
    """How many bytes are read and given to the network at a time."""

    def __enter__(self) -> Content:
        try:
            self._open_at_once()
            if self._content is None:
                self._spool().fill(self._blocks())
        except BaseException:
            self._close(failed=True)
            raise
        return cast("Content", self._content)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(failed=error is not None)


def _encoded(text: str) -> bytes:
    if len(text) <= _MAX_FILE_NAME_CHARACTERS and "\n" not in text and _is_file(text):
        warnings.warn(
            "send_message: the content is a text that is also the name of a file here, and the text is sent; "
            "to send the file, pass a Path, or call send_file",
            stacklevel=2,
        )
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Not chained: it holds all of the content.
        raise InvalidArgument("content: the text has a character that UTF-8 does not (a lone surrogate)") from None


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def file_content(path: Path) -> Content | None:
    """Open a file by its path; None for a pipe or a terminal, where to open it may wait."""
    with translate_source_errors():
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise SourceError("content: the path is a folder; name a file")
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            return None
        file = path.open("rb", buffering=0)
    try:
        with translate_source_errors():
            return _File(cast("BinaryIO", file), file.seek(0, os.SEEK_END))
    except BaseException:
        file.close()
        raise


def _extent_of(file: Any) -> tuple[int | None, int | None]:
    """Return where a file object stands, and its end, as far as it can be told and put back."""
    try:
        if not file.seekable():
            return None, None
        start = file.tell()
    except (AttributeError, OSError, ValueError):
        return None, None
    try:
        end = _end_of(file)
        file.seek(start)
    except (AttributeError, OSError, ValueError):
        # Some files say that they can seek and then cannot seek to the end (gzip.open): they are read through.
        return start, None
    return start, end


def _end_of(file: Any) -> int:
    end = file.seek(0, os.SEEK_END)
    return end if isinstance(end, int) else int(file.tell())


def _can_be_spent(source: Any) -> bool:
    """Whether what a send has read of it is missing the next time; a list gives its items each time."""
    if not (hasattr(source, "read") or isinstance(source, (Iterator, AsyncIterator))):
        return False
    try:
        weakref.ref(source)
        hash(source)
    except TypeError:
        return False
    return True


def _blocks_of(file: Any) -> Iterator[bytes]:
    while True:
        with translate_source_errors():
            block = file.read(READ_BLOCK_BYTES)
        if block is None:
            raise SourceError("content: the stream has nothing at present (it is non-blocking); use a blocking one")
        if not isinstance(block, (bytes, bytearray, memoryview)):
            raise InvalidArgument("content: the stream gives text; open it in binary mode ('rb')")
        if not block:
            return
        yield bytes(block)


def checked_block(block: Any) -> bytes:
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
