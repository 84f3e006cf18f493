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
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from nel_mesh.brokers.system import as_storage_error, in_thread, make_folder, sync_folder
from nel_mesh.errors import StorageError


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
            make_folder(self._path.parent)
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
            sync_folder(self._path.parent)

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
        await in_thread(lambda: self._file.write(block))

    async def commit(self) -> None:
        """Makes the content durable, then the name."""
        await in_thread(self._file.commit)

    async def __aenter__(self) -> Self:
        try:
            await in_thread(self._file.open)
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
            make_folder(self._path.parent)
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

    def part(self, path: Path, *, fresh: bool) -> Part | None:
        """Opens the file in which content arrives, or makes a fresh one; None if there is none to go on with."""
        return Part(path, fresh=fresh) if fresh or path.exists() else None


class Part:
    """A file whose content is still arriving, under a temporary name beside its destination."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self.path = path
        with as_storage_error():
            make_folder(path.parent)
            if fresh:
                # Never cut to nothing: it may be the same file as one that has its final name.
                path.unlink(missing_ok=True)
            flags = os.O_CREAT | os.O_EXCL if fresh else 0
            descriptor = os.open(path, os.O_RDWR | flags | getattr(os, "O_BINARY", 0), 0o666)
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
            sync_folder(self.path.parent)

    def digest(self, algorithm: str) -> str:
        """The content's checksum, in hex."""
        with as_storage_error():
            self._file.seek(0)
            return hashlib.file_digest(self._file, algorithm).hexdigest()

    def is_named(self, path: Path) -> bool:
        """Whether the file of that name is this one."""
        with as_storage_error():
            try:
                return os.path.samestat(path.stat(), os.fstat(self._file.fileno()))
            except FileNotFoundError:
                return False

    def place(self, path: Path) -> bool:
        """Gives the content its name instead of the temporary one, durably; False if there is a file of that name.

        Afterwards there is no part: that is how an interrupted process is told that it had come so far.
        """
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
            else:
                # Before the temporary name goes, the final one must be there to stay.
                sync_folder(path.parent)
                self.path.unlink()
            sync_folder(path.parent)
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
        return await in_thread(lambda: self._disk.is_folder(path))

    async def lock(self, path: Path) -> FileLock | None:
        """As `Disk.lock`."""
        lock = FileLock(path)
        try:
            return lock if await in_thread(lock.acquire) else None
        except BaseException:
            # Cancelled meanwhile: nobody else would ever give it back.
            lock.release()
            raise

    async def read_record(self, path: Path) -> bytes | None:
        """As `Disk.read_record`."""
        return await in_thread(lambda: self._disk.read_record(path))

    async def write_record(self, path: Path, content: bytes) -> None:
        """As `Disk.write_record`."""
        await in_thread(lambda: self._disk.write_record(path, content))

    async def remove(self, *paths: Path) -> None:
        """As `Disk.remove`."""
        await in_thread(lambda: self._disk.remove(*paths))

    async def part(self, path: Path, *, fresh: bool) -> AsyncPart | None:
        """As `Disk.part`."""
        part = await in_thread(lambda: self._disk.part(path, fresh=fresh))
        return AsyncPart(part) if part else None


class AsyncPart:
    """As `Part`."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self.path = part.path

    async def length(self) -> int:
        """As `Part.length`."""
        return await in_thread(self._part.length)

    async def cut(self, length: int) -> None:
        """As `Part.cut`."""
        await in_thread(lambda: self._part.cut(length))

    async def write(self, block: bytes) -> None:
        """As `Part.write`."""
        await in_thread(lambda: self._part.write(block))

    async def sync(self) -> None:
        """As `Part.sync`."""
        await in_thread(self._part.sync)

    async def digest(self, algorithm: str) -> str:
        """As `Part.digest`."""
        return await in_thread(lambda: self._part.digest(algorithm))

    async def is_named(self, path: Path) -> bool:
        """As `Part.is_named`."""
        return await in_thread(lambda: self._part.is_named(path))

    async def place(self, path: Path) -> bool:
        """As `Part.place`."""
        return await in_thread(lambda: self._part.place(path))

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


def _write(file: BinaryIO | FileIO, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]
