"""Crash-safe files: durable folders, and files that get their name last."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from nel_mesh.blocks import Block
from nel_mesh.errors import SourceError, StorageError

StrPath = str | os.PathLike[str]
"""A path. Where many are made for each message they are texts: to make a `Path` takes several times as long."""

UNSUPPORTED = frozenset(
    getattr(errno, name) for name in ("EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOLCK") if hasattr(errno, name)
)
"""Errors by which a share or mount says that it cannot do a thing at all."""


@contextlib.contextmanager
def translate_source_errors() -> Iterator[None]:
    """Translate errors raised while content is read into SourceError."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"content: it cannot be read: {error.strerror or type(error).__name__}") from error


class translate_storage_errors:  # noqa: N801  as contextlib.suppress
    """A `with` block that translates errors raised while something is stored into StorageError.

    A class, as a message passes through a dozen of them: a generator would take three times as long.

    Args:
        place: named by the error: a path that says nothing of a patient, such as a folder, or a name that the user or
            this package has chosen.
    """

    __slots__ = ("_place",)

    def __init__(self, place: StrPath | None = None) -> None:
        self._place = place

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, (OSError, ValueError)):
            return
        # A ValueError is of a null byte in a path.
        reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else error
        where = f"{self._place}: " if self._place is not None else ""
        raise StorageError(f"{where}it cannot be stored here: {reason}") from error


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it, and make their names as durable as what will be in them.

    `mode` is for the folders that are made here; the umask applies.
    """
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(mode, exist_ok=True)
        sync_folder(made.parent)


def open_in_folder(path: StrPath, flags: int, mode: int) -> int:
    """Make and open a file; its folder is made when there is none."""
    try:
        return os.open(path, flags, mode)
    except FileNotFoundError:
        make_folder(Path(path).parent)
        return os.open(path, flags, mode)


class SharedSync:
    """A sync that several threads ask for: one that began after a thread asked will do for that thread as well.

    Args:
        sync: makes durable what was done before it is called.
    """

    def __init__(self, sync: Callable[[], object]) -> None:
        self._sync = sync
        self._lock = threading.Lock()
        self._begun = 0
        self._completed = 0

    def sync(self) -> None:
        """Return once a sync has completed that began after this call."""
        needed = self._begun + 1
        with self._lock:
            if self._completed < needed:
                self._begun += 1
                self._sync()
                self._completed = self._begun


_folder_syncs: weakref.WeakValueDictionary[str, SharedSync] = weakref.WeakValueDictionary()


def sync_folder(folder: StrPath) -> None:
    """Make the names in a folder durable, where the file system can do that; threads that wait share one sync.

    Windows cannot open a folder, and keeps names without being asked; some shares answer EINVAL.
    """
    if os.name != "nt":
        name = str(folder)
        shared = _folder_syncs.get(name) or _folder_syncs.setdefault(name, SharedSync(partial(_sync_folder, name)))
        shared.sync()


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def is_open_to_others(path: Path) -> bool:
    """Whether anybody but its owner may read or change a file; False on Windows, where the mode does not say so."""
    if os.name == "nt":
        return False
    try:
        return bool(path.stat().st_mode & 0o077)
    except (OSError, ValueError):
        return False


def write_file(path: StrPath, content: bytes, *, replace: bool = True) -> bool:
    """Write a whole file, durably, for its owner only; False if `replace` is False and there is one of that name.

    Raises StorageError when it cannot be stored.
    """
    with NewFile(path, replace=replace) as file:
        file.write(content)
        return file.commit()


def write_all(file: BinaryIO | FileIO, block: Block) -> None:
    """Write the whole block to a file without a buffer."""
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


class NewFile:
    """A file under a temporary name beside its destination; `commit` makes it durable and names it, in that order.

    Leaving its `with` block without `commit` removes it. A process that is killed leaves the temporary file behind, a
    hidden `.*.part`. Only its owner may read the file. Raises StorageError when it cannot be stored.

    Args:
        path: the destination.
        replace: whether a file of that name is replaced.
    """

    def __init__(self, path: StrPath, *, replace: bool = True) -> None:
        self._path = os.fspath(path)
        self._folder = os.path.dirname(self._path) or os.curdir
        self._replace = replace
        self._temporary = os.path.join(self._folder, f".{secrets.token_hex(8)}.part")
        self._file: FileIO | None = None
        self._has_name = False
        self._discarded = False
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make the temporary file, and the folders above it."""
        with self._lock, translate_storage_errors(self._folder):
            # An async caller may have gone away while this was under way in its thread.
            if self._discarded:
                return
            if os.path.isdir(self._path):
                raise StorageError("path: it is a folder; name a file in it")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            self._file = FileIO(open_in_folder(self._temporary, flags, 0o600), "w")

    def write(self, block: bytes) -> None:
        """Write the whole block."""
        with translate_storage_errors(self._folder):
            write_all(self._opened(), block)

    def commit(self) -> bool:
        """Make the content durable, then the name; False if there is a file of that name that must stay."""
        with translate_storage_errors(self._folder):
            os.fsync(self._opened().fileno())
            self._opened().close()
            if self._replace:
                os.replace(self._temporary, self._path)
            elif not _rename_if_free(self._temporary, self._path):
                return False
            self._has_name = True
            sync_folder(self._folder)
        return True

    def discard(self) -> None:
        """Remove what has not been committed."""
        with self._lock, contextlib.suppress(OSError):
            self._discarded = True
            if self._file is not None:
                self._file.close()
            # Also if it was interrupted (Ctrl-C) between the file's making and its being known here.
            if not self._has_name:
                os.unlink(self._temporary)

    def _opened(self) -> FileIO:
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


def _rename_if_free(temporary: str, path: str) -> bool:
    try:
        # Unlike a rename, a link never replaces a file that somebody else made meanwhile.
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        # No hard links here (FAT, some shares).
        if os.path.lexists(path):
            return False
        os.rename(temporary, path)
    else:
        os.unlink(temporary)
    return True
