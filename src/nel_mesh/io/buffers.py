"""Buffers: for chunks that arrive before their turn, and for whole messages that are handed to a loop."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from nel_mesh.blocks import Block
from nel_mesh.errors import StorageError
from nel_mesh.io.files import translate_storage_errors, write_all

_COPY_BLOCK_BYTES = 1024 * 1024
_MEMORY_BYTES = 4 * 1024 * 1024
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


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

    def write(self, blocks: Iterable[Block]) -> int:
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

    def write(self, blocks: Iterable[Block]) -> int:
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
