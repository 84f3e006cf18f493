"""A file that is still arriving, and buffers for chunks that arrive before their turn.

Two orders make it trustworthy: content is durable before a record speaks of it, and before it has its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from nel_mesh.errors import StorageError
from nel_mesh.io.files import FileLock, make_folder, sync_folder, translate_storage_errors, write_all

_DIGEST_BLOCK_BYTES = 1024 * 1024
_COPY_BLOCK_BYTES = 1024 * 1024
_MEMORY_BYTES = 4 * 1024 * 1024
_NAMES_LOCK_INTERVAL_SECONDS = 0.002
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


class PartialFile:
    """A file whose content is still arriving, under a temporary name beside its destination.

    Args:
        path: the temporary name.
        mode: the permissions of the file.
    """

    def __init__(self, path: Path, *, mode: int = 0o600) -> None:
        self._path = path
        self._folder = path.parent
        self._mode = mode
        self._file: FileIO | None = None
        self._digest: hashlib._Hash | None = None
        self._digested = 0

    def create(self) -> None:
        """Begin an empty file. One that is there is removed, not emptied: it may have its final name too."""
        self.close()
        self._digest = None
        with translate_storage_errors(self._folder):
            make_folder(self._folder)
            self._path.unlink(missing_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | getattr(os, "O_BINARY", 0)
            self._file = FileIO(os.open(self._path, flags, self._mode), "r+")

    def open(self) -> int | None:
        """Open the file that an earlier process left, and return its length; None if there is none.

        A symbolic link, or anything else that is no file, is refused: the folder may be one that others write to.
        """
        with translate_storage_errors(self._folder):
            try:
                descriptor = os.open(self._path, os.O_RDWR | _NO_FOLLOW | getattr(os, "O_BINARY", 0))
            except FileNotFoundError:
                return None
            self._file = FileIO(descriptor, "r+")
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StorageError(f"{self._path}: it is not a file; remove it")
            return self._file.seek(0, os.SEEK_END)

    def length(self) -> int:
        """Return how many bytes have arrived."""
        with translate_storage_errors(self._folder):
            return self._opened().seek(0, os.SEEK_END)

    def truncate(self, length: int) -> None:
        """Drop what came after the first `length` bytes, and continue from there."""
        with translate_storage_errors(self._folder):
            self._opened().truncate(length)
            self._opened().seek(length)

    def write(self, blocks: Iterable[bytes]) -> int:
        """Write blocks, each whole, as they are made; return how many bytes that is."""
        length = 0
        file = self._opened()
        for block in blocks:
            with translate_storage_errors(self._folder):
                write_all(file, block)
            length += len(block)
        return length

    def buffer(self, position: int | None, limit: int) -> PrefetchBuffer:
        """Return a buffer for a chunk that will probably begin at `position`; None if that is not known.

        To copy each chunk from a file of its own costs a quarter of the time of receiving in memory, so one whose place
        can be foretold is written there.
        """
        if position is None:
            return PrefetchBuffer(self._folder, limit)
        return PlacedBuffer(self._path, position, limit)

    def append(self, buffer: PrefetchBuffer) -> None:
        """Write what is in a buffer."""
        with translate_storage_errors(self._folder):
            buffer.copy_to(self._opened())

    def sync(self) -> None:
        """Make what was written durable, and its temporary name."""
        with translate_storage_errors(self._folder):
            os.fsync(self._opened().fileno())
            sync_folder(self._folder)

    def digest(self, algorithm: str, length: int) -> str:
        """Return the checksum of the first `length` bytes, in hex.

        It continues where the last call ended, if need be in another thread than the one that writes. Raises
        ValueError for an algorithm that this machine refuses (MD5 in FIPS mode).
        """
        if self._digest is None:
            self._digest, self._digested = hashlib.new(algorithm, usedforsecurity=False), 0
        with translate_storage_errors(self._folder), self._path.open("rb", buffering=0) as file:
            file.seek(self._digested)
            while self._digested < length and (block := file.read(min(_DIGEST_BLOCK_BYTES, length - self._digested))):
                self._digest.update(block)
                self._digested += len(block)
        return self._digest.hexdigest()

    def is_published(self, name: str) -> bool:
        """Whether the file of that name is this one; if so, its name is made durable before anybody relies on it."""
        with translate_storage_errors(self._folder):
            try:
                is_same = os.path.samestat(os.lstat(self._folder / name), os.fstat(self._opened().fileno()))
            except FileNotFoundError:
                return False
            if is_same:
                sync_folder(self._folder)
            return is_same

    def publish(self, name: str) -> bool:
        """Give the content its name in place of the temporary one, durably; False if there is a file of that name.

        Afterwards there is no partial file: that tells a later process that this one came so far.
        """
        with translate_storage_errors(self._folder):
            try:
                os.link(self._path, self._folder / name)
            except FileExistsError:
                # On NFS a link can have been made although the answer said otherwise.
                if not self.is_published(name):
                    return False
            except OSError:
                if not self.is_published(name):
                    return self._rename(name)
            # Before the temporary name goes, the final one must be there to stay.
            sync_folder(self._folder)
            # Windows removes no file that is open.
            self.close()
            self._path.unlink()
            sync_folder(self._folder)
        return True

    def _rename(self, name: str) -> bool:
        """Name the file where there are no hard links (FAT, some shares): a look and a rename, under a lock."""
        path = self._folder / name
        lock = FileLock(self._folder / ".nel-mesh-names.lock")
        while not lock.acquire():
            time.sleep(_NAMES_LOCK_INTERVAL_SECONDS)
        try:
            if os.path.lexists(path):
                return False
            self.close()
            self._path.rename(path)
            sync_folder(self._folder)
        finally:
            lock.release()
        return True

    def remove(self) -> None:
        """Close the file and remove its temporary name."""
        self.close()
        with translate_storage_errors(self._folder):
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; what has arrived stays."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> FileIO:
        if self._file is None:
            raise StorageError("the partial file has not been opened")
        return self._file


class PrefetchBuffer:
    """The content of one chunk that arrives before its turn, in a nameless file: nothing is left behind.

    Once it is closed nothing more is written to it, by any thread.

    Args:
        folder: where the file is; best on the file system of the destination, so that the kernel can copy it.
        limit: how many bytes it takes.
    """

    def __init__(self, folder: Path | None, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._guard = threading.Lock()
        self._closed = False
        self._file: BinaryIO | None = None
        self.length = 0
        """How many bytes have arrived."""

    def write(self, blocks: Iterable[bytes]) -> int:
        """Write blocks as they are made. Raises StorageError for more than the limit, and once it is closed."""
        written = 0
        for block in blocks:
            # The lock is held for one block at a time, as `close` waits for it.
            with self._guard, translate_storage_errors(self._folder):
                if self._closed or self.length + len(block) > self._limit:
                    raise StorageError(f"no more than {self._limit:,} bytes may wait here")
                write_all(self._opened(), block)
                self.length += len(block)
            written += len(block)
        return written

    def fits(self, position: int) -> bool:
        """Whether the content may begin at that position."""
        return True

    def copy_to(self, target: FileIO) -> None:
        """Copy the content to where the target stands; within the kernel, where that can be."""
        source = self._opened()
        source.seek(0)
        copied = 0
        if hasattr(os, "copy_file_range"):
            with contextlib.suppress(OSError):
                while copied < self.length:
                    count = os.copy_file_range(source.fileno(), target.fileno(), self.length - copied)
                    if not count:
                        break
                    copied += count
        source.seek(copied)
        while copied < self.length and (block := source.read(_COPY_BLOCK_BYTES)):
            write_all(target, block)
            copied += len(block)

    def close(self) -> None:
        """Drop the content."""
        with self._guard:
            self._closed = True
            if self._file is not None:
                self._file.close()

    def _opened(self) -> BinaryIO:
        if self._file is None:
            # Where a file needs a name it has this one, for a moment, or while it is open (Windows).
            self._file = tempfile.TemporaryFile(dir=self._folder, prefix=".", suffix=".part", buffering=0)  # noqa: SIM115
        return self._file


class PlacedBuffer(PrefetchBuffer):
    """The content of a chunk, at the place in the partial file where it will probably belong.

    Args:
        path: the partial file.
        position: the place.
        limit: how long the chunk is thought to be, so that it cannot reach into the next one's place.
    """

    def __init__(self, path: Path, position: int, limit: int) -> None:
        super().__init__(path.parent, limit)
        self._path = path
        self._position = position

    def fits(self, position: int) -> bool:
        """Whether the content is at that position."""
        return position == self._position

    def copy_to(self, target: FileIO) -> None:
        """Continue after the content, which is there already."""
        target.seek(self._position + self.length)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            descriptor = os.open(self._path, os.O_RDWR | _NO_FOLLOW | getattr(os, "O_BINARY", 0))
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
            self._file.seek(self._position)
        return self._file


class MessageBuffer:
    """The whole content of one message: in memory while it is small, then in a nameless file.

    Args:
        folder: where the file is; None for the system's temporary folder.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None

    def write(self, blocks: Iterable[bytes]) -> int:
        """Write blocks as they are made; return how many bytes that is."""
        length = 0
        with translate_storage_errors(self._folder):
            if self._file is None:
                self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115  closed by `close`
                    max_size=_MEMORY_BYTES, dir=str(self._folder) if self._folder else None
                )
        for block in blocks:
            with translate_storage_errors(self._folder):
                self._file.write(block)
            length += len(block)
        return length

    def rewind(self) -> None:
        """Go to the beginning, to be read."""
        if self._file is not None:
            self._file.seek(0)

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; b"" at the end."""
        with translate_storage_errors(self._folder):
            return self._file.read(size) if self._file is not None else b""

    def close(self) -> None:
        """Drop the content."""
        if self._file is not None:
            self._file.close()
