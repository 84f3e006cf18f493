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
import tempfile
import threading
from collections.abc import Callable, Iterable
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from nel_mesh.errors import StorageError
from nel_mesh.io.async_concurrency import in_thread
from nel_mesh.io.files import make_folder, sync_folder, translate_storage_errors

_DIGEST_BLOCK = 1024 * 1024
_COPY_BLOCK = 1024 * 1024

_Opened = TypeVar("_Opened", bound="Part | Ahead | None")


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
        with self._lock, translate_storage_errors():
            # An async caller may have gone away while this was under way in its thread.
            if self._discarded:
                return
            if self._path.is_dir():
                raise StorageError("path: it is a folder; name a file in it")
            make_folder(self._path.parent)
            self._file = self._temporary.open("xb", buffering=0)

    def write(self, block: bytes) -> None:
        """Writes the whole block."""
        with translate_storage_errors():
            _write(self._opened(), block)

    def commit(self) -> None:
        """Makes the content durable, then the name."""
        with translate_storage_errors():
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
            # Also if it was interrupted (Ctrl-C) between the file's making and its being known here.
            self._temporary.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise StorageError("the file has not been opened")
        return self._file

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.discard()
            raise
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
        with translate_storage_errors():
            make_folder(self._path.parent)
            while True:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    if not _lock(descriptor):
                        return False
                    if _is_still(self._path, descriptor):
                        self._descriptor = descriptor
                        return True
                    # Its last owner removed the file between our opening and our locking it.
                finally:
                    if self._descriptor is None:
                        os.close(descriptor)

    def release(self) -> None:
        """Gives the lock back, and removes its file."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            if os.name == "nt":
                os.close(descriptor)
                # Another process may have opened it since, to ask for the lock.
                with contextlib.suppress(PermissionError):
                    self._path.unlink(missing_ok=True)
            else:
                self._path.unlink(missing_ok=True)
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
        with translate_storage_errors():
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
        with translate_storage_errors():
            for path in paths:
                path.unlink(missing_ok=True)

    def part(self, path: Path, *, fresh: bool) -> Part | None:
        """Opens the file in which content arrives, or makes a fresh one; None if there is none to go on with."""
        return Part(path, fresh=fresh) if fresh or path.exists() else None


class Part:
    """A file whose content is still arriving, under a temporary name beside its destination."""

    WORTH_WRITING = 1
    """How many bytes on the wire are worth a write."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self.path = path
        with translate_storage_errors():
            make_folder(path.parent)
            if fresh:
                # Never cut to nothing: it may be the same file as one that has its final name.
                path.unlink(missing_ok=True)
            flags = os.O_CREAT | os.O_EXCL if fresh else 0
            descriptor = os.open(path, os.O_RDWR | flags | getattr(os, "O_BINARY", 0), 0o666)
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
        self._digest: hashlib._Hash | None = None
        self._digested = 0

    def length(self) -> int:
        """How many bytes have arrived."""
        with translate_storage_errors():
            return self._file.seek(0, os.SEEK_END)

    def cut(self, length: int) -> None:
        """Drops what came after the first `length` bytes, and goes on from there."""
        with translate_storage_errors():
            self._file.truncate(length)
            self._file.seek(length)

    def write(self, blocks: Iterable[bytes]) -> int:
        """Writes blocks, each whole, as they are made; how many bytes that is."""
        length = 0
        for block in blocks:
            with translate_storage_errors():
                _write(self._file, block)
            length += len(block)
        return length

    def append(self, ahead: Ahead) -> None:
        """Goes on with what came before its turn, and fits here."""
        with translate_storage_errors():
            ahead.move_to(self._file)

    def holding(self, limit: int) -> PrefetchBuffer:
        """Makes room for content whose place is not known yet."""
        return PrefetchBuffer(self.path.parent, limit)

    def window(self, start: int, limit: int) -> Window:
        """Makes room for content that will probably belong there."""
        return Window(self.path, start, limit)

    def sync(self) -> None:
        """Makes what was written durable, and its temporary name."""
        with translate_storage_errors():
            os.fsync(self._file.fileno())
            sync_folder(self.path.parent)

    def digest(self, algorithm: str, length: int) -> str:
        """The checksum of the first `length` bytes, in hex.

        Goes on from where the last call came to; from another thread than the one that writes, if need be.
        """
        if self._digest is None:
            self._digest, self._digested = hashlib.new(algorithm), 0
        with translate_storage_errors(), self.path.open("rb", buffering=0) as file:
            file.seek(self._digested)
            while self._digested < length and (block := file.read(min(_DIGEST_BLOCK, length - self._digested))):
                self._digest.update(block)
                self._digested += len(block)
        return self._digest.hexdigest()

    def is_named(self, path: Path) -> bool:
        """Whether the file of that name is this one."""
        with translate_storage_errors():
            try:
                return os.path.samestat(path.stat(), os.fstat(self._file.fileno()))
            except FileNotFoundError:
                return False

    def place(self, path: Path) -> bool:
        """Gives the content its name instead of the temporary one, durably; False if there is a file of that name.

        Afterwards there is no part: that is how an interrupted process is told that it had come so far.
        """
        with translate_storage_errors():
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
                # Windows removes no file that is open.
                self._file.close()
                self.path.unlink()
            sync_folder(path.parent)
        return True

    def close(self) -> None:
        """Closes it; what has arrived stays."""
        self._file.close()


class Ahead:
    """Content that comes before its turn, up to a limit. Once it is closed nothing more is written, by any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._guard = threading.Lock()
        self._closed = False
        self._file: BinaryIO
        self.length = 0
        """How many bytes have come."""

    def write(self, blocks: Iterable[bytes]) -> int:
        """As `Part.write`. Raises StorageError for more than its limit, and once it is closed."""
        written = 0
        with translate_storage_errors():
            for block in blocks:
                # Not for all of them: whoever closes it waits, and in the async variant the event loop with it.
                with self._guard:
                    if self._closed or self.length + len(block) > self._limit:
                        raise StorageError(f"no more than {self._limit:,} bytes may wait here")
                    _write(self._file, block)
                    self.length += len(block)
                written += len(block)
        return written

    def fits(self, position: int) -> bool:
        """Whether it may go to that place."""
        raise NotImplementedError

    def move_to(self, target: FileIO) -> None:
        """Puts its content where the target stands."""
        raise NotImplementedError

    def close(self) -> None:
        """Lets it go."""
        with self._guard:
            self._closed = True
            self._file.close()


class PrefetchBuffer(Ahead):
    """Content whose place is not known yet, in a nameless file: nothing stays behind, whatever happens."""

    def __init__(self, folder: Path, limit: int) -> None:
        super().__init__(limit)
        with translate_storage_errors():
            # Where a file cannot be without a name it has this one, for a moment, or while it is open (Windows).
            self._file = tempfile.TemporaryFile(dir=folder, prefix=".", suffix=".part", buffering=0)  # noqa: SIM115

    def fits(self, position: int) -> bool:
        """Anywhere."""
        return True

    def move_to(self, target: FileIO) -> None:
        """Copies it; within the kernel, where that can be."""
        self._file.seek(0)
        copied = 0
        if hasattr(os, "copy_file_range"):
            with contextlib.suppress(OSError):
                while copied < self.length:
                    count = os.copy_file_range(self._file.fileno(), target.fileno(), self.length - copied)
                    if not count:
                        break
                    copied += count
        self._file.seek(copied)
        while copied < self.length and (block := self._file.read(_COPY_BLOCK)):
            _write(target, block)
            copied += len(block)


class Window(Ahead):
    """Content at the place in the part where it will probably belong."""

    def __init__(self, path: Path, start: int, limit: int) -> None:
        super().__init__(limit)
        self._start = start
        with translate_storage_errors():
            self._file = path.open("r+b", buffering=0)
        try:
            with translate_storage_errors():
                self._file.seek(start)
        except BaseException:
            self._file.close()
            raise

    def fits(self, position: int) -> bool:
        """Only where it is."""
        return position == self._start

    def move_to(self, target: FileIO) -> None:
        """It is there already."""
        target.seek(self._start + self.length)


class AsyncAhead:
    """As `Ahead`."""

    def __init__(self, ahead: Ahead) -> None:
        self.ahead = ahead

    @property
    def length(self) -> int:
        """As `Ahead.length`."""
        return self.ahead.length

    def fits(self, position: int) -> bool:
        """As `Ahead.fits`."""
        return self.ahead.fits(position)

    async def write(self, blocks: Iterable[bytes]) -> int:
        """As `Ahead.write`; the blocks are made in the worker thread too."""
        return await in_thread(lambda: self.ahead.write(blocks))

    def close(self) -> None:
        """As `Ahead.close`; at once, since a task that is being cancelled could not wait."""
        self.ahead.close()


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
        part = await _made(lambda: self._disk.part(path, fresh=fresh))
        return AsyncPart(part) if part else None


class AsyncPart:
    """As `Part`."""

    WORTH_WRITING = 1024 * 1024
    """As `Part.WORTH_WRITING`; to wait for a thread costs as much as to write some hundred KiB."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self.path = part.path

    async def length(self) -> int:
        """As `Part.length`."""
        return await in_thread(self._part.length)

    async def cut(self, length: int) -> None:
        """As `Part.cut`."""
        await in_thread(lambda: self._part.cut(length))

    async def write(self, blocks: Iterable[bytes]) -> int:
        """As `Part.write`; the blocks are made in the worker thread too."""
        return await in_thread(lambda: self._part.write(blocks))

    async def append(self, ahead: AsyncAhead) -> None:
        """As `Part.append`."""
        await in_thread(lambda: self._part.append(ahead.ahead))

    async def holding(self, limit: int) -> AsyncAhead:
        """As `Part.holding`."""
        return AsyncAhead(await _made(lambda: self._part.holding(limit)))

    async def window(self, start: int, limit: int) -> AsyncAhead:
        """As `Part.window`."""
        return AsyncAhead(await _made(lambda: self._part.window(start, limit)))

    async def sync(self) -> None:
        """As `Part.sync`."""
        await in_thread(self._part.sync)

    async def digest(self, algorithm: str, length: int) -> str:
        """As `Part.digest`."""
        return await in_thread(lambda: self._part.digest(algorithm, length))

    async def is_named(self, path: Path) -> bool:
        """As `Part.is_named`."""
        return await in_thread(lambda: self._part.is_named(path))

    async def place(self, path: Path) -> bool:
        """As `Part.place`."""
        return await in_thread(lambda: self._part.place(path))

    def close(self) -> None:
        """As `Part.close`; at once, since a task that is being cancelled could not wait."""
        self._part.close()


async def _made(make: Callable[[], _Opened]) -> _Opened:
    """Opens something in a worker thread."""
    made: list[_Opened] = []
    try:
        await in_thread(lambda: made.append(make()))
    except BaseException:
        # Cancelled meanwhile: nobody else will close it.
        for one in made:
            if one is not None:
                one.close()
        raise
    return made[0]


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
