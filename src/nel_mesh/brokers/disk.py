"""Files that arrive, and the small records that let a transfer go on after anything.

Three orders make a file trustworthy: its content is durable before its name; a record is durable before what it says
is relied on; and a lock dies with its process.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

import anyio.to_thread

from nel_mesh.brokers.os_errors import as_storage_error
from nel_mesh.errors import StorageError

_T = TypeVar("_T")


class NewFile:
    """A file under a temporary name beside its destination; `commit` makes it durable and names it, in that order.

    Leaving its `with` block without `commit` removes it. Raises StorageError when the disk will not have it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.parent / f".{secrets.token_hex(8)}.part"
        self._file: BinaryIO | None = None
        self._discarded = False
        self._lock = threading.Lock()

    def open(self) -> None:
        """Makes the temporary file, and the folders above it."""
        with self._lock, as_storage_error():
            # An async caller may have gone away while this was under way in its thread.
            if self._discarded:
                return
            if self._path.is_dir():
                raise StorageError("path: it is a folder; name a file in it")
            _make_folder(self._path.parent)
            self._file = self._temporary.open("xb", buffering=0)

    def write(self, block: bytes) -> None:
        """Writes the whole block."""
        with as_storage_error():
            _write(self._opened(), block)

    def commit(self) -> None:
        """Makes the content durable, then the name."""
        with as_storage_error():
            os.fsync(self._opened().fileno())
            self._opened().close()
            self._temporary.replace(self._path)
            _sync_folder(self._path.parent)

    def discard(self) -> None:
        """Removes what has not been committed."""
        with self._lock, contextlib.suppress(OSError):
            self._discarded = True
            if self._file is not None:
                self._file.close()
                self._temporary.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise StorageError("the file has not been opened")
        return self._file

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


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
        try:
            await _in_thread(self._file.open)
        except BaseException:
            self._file.discard()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not in a thread: it must happen even when the task is being cancelled, and takes no time.
        self._file.discard()


class FileLock:
    """Keeps other processes, and other users of this one, from the same work. It dies with its process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Takes the lock; False if somebody else has it. Raises StorageError if the file cannot be made."""
        with as_storage_error():
            _make_folder(self._path.parent)
            while True:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
                if not _lock(descriptor):
                    os.close(descriptor)
                    return False
                if _is_still(self._path, descriptor):
                    self._descriptor = descriptor
                    return True
                # Its last owner removed the file between our opening and our locking it.
                os.close(descriptor)

    def release(self) -> None:
        """Gives the lock back, and removes its file."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            if os.name == "nt":
                os.close(descriptor)
            self._path.unlink(missing_ok=True)
            if os.name != "nt":
                os.close(descriptor)


class Disk:
    """The sync disk."""

    def new_file(self, path: Path) -> NewFile:
        """Begins a file that gets its name only when it is complete."""
        return NewFile(path)

    def is_folder(self, path: Path) -> bool:
        """Whether there is a folder of that name."""
        return path.is_dir()

    def lock(self, path: Path) -> FileLock | None:
        """Takes the lock of that name; None if somebody else has it."""
        lock = FileLock(path)
        return lock if lock.acquire() else None

    def read_record(self, path: Path) -> bytes | None:
        """A record's content; None if there is none."""
        with as_storage_error():
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def write_record(self, path: Path, content: bytes) -> None:
        """Replaces a record: after any interruption it is the old one or the new one, whole."""
        with NewFile(path) as file:
            file.write(content)
            file.commit()

    def remove(self, *paths: Path) -> None:
        """Removes files, if they are there."""
        with as_storage_error():
            for path in paths:
                path.unlink(missing_ok=True)

    def part(self, path: Path) -> Part:
        """Opens the file in which content arrives."""
        return Part(path)


class Part:
    """A file whose content is still arriving, under a temporary name beside its destination."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with as_storage_error():
            _make_folder(path.parent)
            self.is_new = not path.exists()
            """Whether there was no such file before."""
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            self._file = os.fdopen(descriptor, "r+b", buffering=0)

    def length(self) -> int:
        """How many bytes have arrived."""
        with as_storage_error():
            return self._file.seek(0, os.SEEK_END)

    def cut(self, length: int) -> None:
        """Drops what came after the first `length` bytes, and goes on from there."""
        with as_storage_error():
            self._file.truncate(length)
            self._file.seek(length)

    def write(self, block: bytes) -> None:
        """Writes the whole block."""
        with as_storage_error():
            _write(self._file, block)

    def sync(self) -> None:
        """Makes what was written durable, and its temporary name."""
        with as_storage_error():
            os.fsync(self._file.fileno())
            _sync_folder(self.path.parent)

    def digest(self, algorithm: str) -> str:
        """The content's checksum, in hex."""
        with as_storage_error():
            self._file.seek(0)
            return hashlib.file_digest(self._file, algorithm).hexdigest()

    def is_placed(self, path: Path) -> bool:
        """Whether this content has that name already, or had it, and somebody has moved it on since."""
        if self.is_new:
            # What was to get the name is no longer under its temporary one.
            return True
        with as_storage_error():
            if os.fstat(self._file.fileno()).st_nlink > 1:
                return True
            try:
                return os.path.samestat(path.stat(), os.fstat(self._file.fileno()))
            except FileNotFoundError:
                return False

    def place(self, path: Path) -> bool:
        """Gives the content its name as well, durably; False if there is a file of that name."""
        with as_storage_error():
            try:
                os.link(self.path, path)
            except FileExistsError:
                return False
            except OSError:
                # No hard links here (FAT, some shares). Then a name is looked for, and taken, in two steps.
                if path.exists():
                    return False
                self._file.close()
                self.path.rename(path)
            _sync_folder(path.parent)
        return True

    def close(self) -> None:
        """Closes it; what has arrived stays."""
        self._file.close()


class AsyncDisk:
    """The async disk: the sync one in worker threads, so that the event loop never waits for it."""

    def __init__(self) -> None:
        self._disk = Disk()

    def new_file(self, path: Path) -> AsyncNewFile:
        """As `Disk.new_file`."""
        return AsyncNewFile(NewFile(path))

    async def is_folder(self, path: Path) -> bool:
        """As `Disk.is_folder`."""
        return await _in_thread(lambda: self._disk.is_folder(path))

    async def lock(self, path: Path) -> FileLock | None:
        """As `Disk.lock`."""
        return await _in_thread(lambda: self._disk.lock(path))

    async def read_record(self, path: Path) -> bytes | None:
        """As `Disk.read_record`."""
        return await _in_thread(lambda: self._disk.read_record(path))

    async def write_record(self, path: Path, content: bytes) -> None:
        """As `Disk.write_record`."""
        await _in_thread(lambda: self._disk.write_record(path, content))

    async def remove(self, *paths: Path) -> None:
        """As `Disk.remove`."""
        await _in_thread(lambda: self._disk.remove(*paths))

    async def part(self, path: Path) -> AsyncPart:
        """As `Disk.part`."""
        return AsyncPart(await _in_thread(lambda: Part(path)))


class AsyncPart:
    """As `Part`."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self.path = part.path

    async def length(self) -> int:
        """As `Part.length`."""
        return await _in_thread(self._part.length)

    async def cut(self, length: int) -> None:
        """As `Part.cut`."""
        await _in_thread(lambda: self._part.cut(length))

    async def write(self, block: bytes) -> None:
        """As `Part.write`."""
        await _in_thread(lambda: self._part.write(block))

    async def sync(self) -> None:
        """As `Part.sync`."""
        await _in_thread(self._part.sync)

    async def digest(self, algorithm: str) -> str:
        """As `Part.digest`."""
        return await _in_thread(lambda: self._part.digest(algorithm))

    async def is_placed(self, path: Path) -> bool:
        """As `Part.is_placed`."""
        return await _in_thread(lambda: self._part.is_placed(path))

    async def place(self, path: Path) -> bool:
        """As `Part.place`."""
        return await _in_thread(lambda: self._part.place(path))

    def close(self) -> None:
        """As `Part.close`; at once, since a task that is being cancelled could not wait."""
        self._part.close()


def _lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":  # pragma: no cover - not run here
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


async def _in_thread(work: Callable[[], _T]) -> _T:
    return await anyio.to_thread.run_sync(work)


def _write(file: BinaryIO | FileIO, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it, and makes their names as durable as what will be in them."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    # Windows cannot open a folder, and keeps names without being asked.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
