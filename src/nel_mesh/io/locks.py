"""Locks between processes, which die with their process."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import struct
import sys
import tempfile
from pathlib import Path

from nel_mesh.io.files import UNSUPPORTED, StrPath, open_in_folder, translate_storage_errors


class FileLock:
    """A lock between processes, and between users within one. It dies with its process.

    Where the file system has no such locks (some shares), the lock is the file itself, made only if absent; it holds
    this machine's name and the process id, so that one left behind by a process that has ended here is taken over.
    """

    def __init__(self, path: StrPath) -> None:
        self._path = os.fspath(path)
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False if somebody else has it. Raises StorageError if its file cannot be made."""
        with translate_storage_errors(os.path.dirname(self._path) or os.curdir):
            while True:
                flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
                descriptor = open_in_folder(self._path, flags, 0o600)
                is_ours = False
                try:
                    if not _lock(descriptor):
                        return False
                    # Its last owner may have removed the file between our opening and our locking it.
                    if is_ours := _is_same_file(self._path, descriptor):
                        self._descriptor = descriptor
                        return True
                except OSError as error:
                    if error.errno not in UNSUPPORTED:
                        raise
                    return self._acquire_by_name()
                finally:
                    if not is_ours:
                        os.close(descriptor)

    def _acquire_by_name(self) -> bool:
        owner = f"{socket.gethostname()} {os.getpid()}"
        name = f"{self._path}ed"
        for _ in range(2):
            try:
                self._descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                if not _is_left_behind(name):
                    return False
                _remove(name)
            else:
                _remove(self._path)
                self._path = name
                os.write(self._descriptor, owner.encode())
                return True
        return False

    def release(self) -> None:
        """Give the lock back, and remove its file; a file that cannot be removed is left, without a lock on it."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            # Windows removes no file that is open, and another process may have opened it since, to ask for the lock.
            if os.name == "nt":
                os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            if os.name != "nt":
                os.close(descriptor)


class KeyLock:
    """A lock on a key, as `FileLock` is one on a file. Those of many keys share one file, which stays.

    A file for each key would be made and removed for each message. For minutes ext4 gives the inodes of removed files
    to no new ones, and to make a file takes the longer the more there are of them (`recently_deleted` in
    fs/ext4/ialloc.c). Where there are no locks on parts of a file that belong to one opening of it (open file
    description locks, which Linux has), each key has a file.

    Args:
        path: the file.
        key: what is locked, of any length.
    """

    def __init__(self, path: StrPath, key: str) -> None:
        digest = hashlib.sha256(key.encode())
        self._path = os.fspath(path)
        self._offset = int.from_bytes(digest.digest()[:8], "big") >> 2
        self._descriptor: int | None = None
        self._alone = FileLock(f"{self._path}-{digest.hexdigest()[:32]}.lock")

    def acquire(self) -> bool:
        """Take the lock; False if somebody else has it. Raises StorageError if its file cannot be made."""
        with translate_storage_errors(os.path.dirname(self._path) or os.curdir):
            descriptor = self._open()
            try:
                is_taken = _lock_byte(descriptor, self._offset)
                if is_taken:
                    self._descriptor = descriptor
            finally:
                if self._descriptor is None:
                    os.close(descriptor)
        return self._alone.acquire() if is_taken is None else is_taken

    def _open(self) -> int:
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        try:
            # To open what is there takes no lock on the folder.
            return os.open(self._path, flags)
        except FileNotFoundError:
            return open_in_folder(self._path, flags | os.O_CREAT, 0o600)

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
        self._alone.release()


def _lock_byte(descriptor: int, offset: int) -> bool | None:
    """Lock a byte for this opening of a file; None where that cannot be done."""
    if sys.platform != "linux":
        return None
    import fcntl

    # struct flock: type, whence, start, length, and no process.
    request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return None
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


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


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def has_locks(folder: Path) -> bool:
    """Whether the file system of a folder has locks between processes (fcntl)."""
    if os.name == "nt":
        return True
    import fcntl

    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in UNSUPPORTED
    return True


def _is_left_behind(path: str) -> bool:
    """Whether the process that made a lock by name has ended; only one on this machine can be asked."""
    try:
        host, _, process = Path(path).read_text().partition(" ")
        if host != socket.gethostname() or not process.isdigit():
            return False
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _is_same_file(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
