"""Move files out of an outgoing folder: never replace one, never lose one, and be harmless when done twice."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from nel_mesh.io.files import make_folder, sync_folder, translate_storage_errors, write_file


def move_into(source: Path, folder: Path, *, name: str, unique: str) -> Path | None:
    """Move a file into a folder, durably, and return where it is; None if there is no such file.

    Args:
        source: the file.
        folder: the folder; made if need be.
        name: what it is called there, if that name is free.
        unique: is put into the name if it is not.

    Raises:
        StorageError: it could not be moved; it is still where it was.
    """
    with translate_storage_errors(folder):
        make_folder(folder)
        for attempt in (name, _with(name, unique)):
            target = folder / attempt
            try:
                _link(source, target)
            except FileNotFoundError:
                return target if _is_moved(source, target) else None
            except FileExistsError:
                if not _is_same(source, target):
                    continue
            sync_folder(folder)
            source.unlink(missing_ok=True)
            sync_folder(source.parent)
            return target
        raise FileExistsError(None, "two files of that name are there already")


def explain(folder: Path, name: str, text: str) -> None:
    """Write `NAME.error.txt`, in place of an older one: why the file was not sent, and what to do."""
    with translate_storage_errors(folder):
        make_folder(folder)
        write_file(folder / f"{name}.error.txt", text.encode())


def remove_older(folder: Path, oldest: float) -> int:
    """Remove the files of a folder that were last changed, or moved there, before a time; return how many."""
    count = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                if max(status.st_mtime, status.st_ctime) < oldest:
                    Path(entry.path).unlink(missing_ok=True)
                    count += 1
    return count


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, only if that is free; on another disk or without links, a copy of it."""
    try:
        os.link(source, target, follow_symlinks=False)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        if not source.exists():
            raise FileNotFoundError(source) from None
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.part")
    with source.open("rb") as content, partial.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    shutil.copystat(source, partial)
    if target.exists():
        if _is_equal(source, target):
            partial.unlink()
            return
        partial.unlink()
        raise FileExistsError(target)
    partial.rename(target)


def _is_same(source: Path, target: Path) -> bool:
    """Whether both are one file: an earlier process moved it, and was killed before it removed the old name."""
    try:
        return os.path.samestat(os.lstat(source), os.lstat(target))
    except OSError:
        return False


def _is_equal(source: Path, target: Path) -> bool:
    ours, theirs = source.stat(), target.stat()
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def _is_moved(source: Path, target: Path) -> bool:
    return not source.exists() and target.exists()


def _with(name: str, unique: str) -> str:
    stem, dot, suffix = name.partition(".")
    return f"{stem}.{unique}{dot}{suffix}" if stem else f"{name}.{unique}"
