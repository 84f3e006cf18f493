"""Locks between processes, which die with their process."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tempfile
from pathlib import Path

from nel_mesh.io.files import UNSUPPORTED, open_in_folder, translate_storage_errors


class FileLock:
    """A lock between processes, and between users within one. It dies with its process.

    Where the file system has no such locks (some shares), the lock is the file itself, made only if absent; it holds
    this machine's name and the process id, so that one left behind by a process that has ended here is taken over.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False if somebody else has it. Raises StorageError if its file cannot be made."""
        with translate_storage_errors(self._path.parent):
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
        name = self._path.with_name(f"{self._path.name}ed")
        for _ in range(2):
            try:
                self._descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                if not _is_left_behind(name):
                    return False
                name.unlink(missing_ok=True)
            else:
                self._path.unlink(missing_ok=True)
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
                self._path.unlink(missing_ok=True)
            if os.name != "nt":
                os.close(descriptor)


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


def _is_left_behind(path: Path) -> bool:
    """Whether the process that made a lock by name has ended; only one on this machine can be asked."""
    try:
        host, _, process = path.read_text().partition(" ")
        if host != socket.gethostname() or not process.isdigit():
            return False
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
