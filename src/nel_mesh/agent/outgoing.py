"""Outgoing folders: which files are complete, what message each is, and where it goes afterwards.

A folder is looked at again and again, as changes on a network share are not notified. A file is taken when its size
and time have not changed for a while, nobody holds a lock on it, and its name does not say that it is unfinished.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from nel_mesh import InvalidArgument, MeshError, Report
from nel_mesh.agent import filing
from nel_mesh.agent.locked import is_locked
from nel_mesh.agent.tables import SendRoute
from nel_mesh.agent.templates import NameTemplate
from nel_mesh.ledger.messages import LedgerMessage

_UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".writing", "~")
"""Endings by which programs say that a file is not complete."""

_SIDECAR = ".json"
_MAX_SIDECAR_BYTES = 64_000
_SIDECAR_KEYS = frozenset(
    {
        "to",
        "workflow_id",
        "subject",
        "local_id",
        "file_name",
        "partner_id",
        "content_type",
        "checksum",
        "encrypted",
        "compressed",
        "compress",
    }
)
_OF_RECEIVED = frozenset(Report.model_fields) - _SIDECAR_KEYS
"""What else the sidecar of a received message has. To send such a file on, with its sidecar, is no mistake: these say
nothing of the new message, and `recipient`, which was this site, is not where it goes."""


@dataclasses.dataclass(frozen=True, slots=True)
class OutgoingFile:
    """A complete file of an outgoing folder, and the message that it is.

    Attributes:
        path: the file.
        stamp: what tells it from another file of the same name: size, time and inode.
        length: its size in bytes.
        options: the arguments of `send_file`.
        fault: why it cannot be sent, with MESH's event and code if there is one for it; None if it can be sent.
    """

    path: Path = dataclasses.field(repr=False)
    stamp: str
    length: int
    options: dict[str, Any] = dataclasses.field(repr=False)
    fault: MeshError | None = None


class Layout(Protocol):
    """How messages lie in an outgoing folder."""

    def find(self, now: float) -> Iterator[OutgoingFile]:
        """Give each file that is complete and not locked, at a time of the monotonic clock."""

    def archive(self, message: LedgerMessage) -> str | None:
        """Move the files of a message that MESH has; return where its content is, None if it was not kept.

        An earlier run may have been killed at it, and a new file may have the name by now, which stays.
        """

    def refuse(self, message: LedgerMessage) -> str | None:
        """Move the files of a message that cannot be sent, with the reason beside them; return where they are."""

    def delay(self, message: LedgerMessage) -> None:
        """Take note that an attempt failed, and that another follows."""

    def polled(self, error: MeshError | None) -> None:
        """Take note of how a look into the inbox ended."""


def has_files(folder: Path) -> bool:
    """Whether there is any file in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return any(entry.is_file(follow_symlinks=False) for entry in entries)
    return False


def stamp_of(path: Path) -> str | None:
    """Return the stamp of a file; None if it is not there, or is no file."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return _stamp(status) if stat.S_ISREG(status.st_mode) else None


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"


class Settled:
    """Knows which files have not changed for a while.

    Args:
        seconds: for how long.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[Path, tuple[str, float]] = {}

    def look(self, files: dict[Path, str], now: float) -> Iterator[Path]:
        """Take note of the files and their stamps, and give those that have settled."""
        self._seen = {
            path: before if (before := self._seen.get(path)) and before[0] == stamp else (stamp, now)
            for path, stamp in files.items()
        }
        for path, (_, since) in self._seen.items():
            if now - since >= self._seconds:
                yield path


class FileLayout:
    """Each file is a message. The recipient and the rest are in the route, the name, or a sidecar beside the file.

    Args:
        route: the outgoing folder.
    """

    def __init__(self, route: SendRoute) -> None:
        self._route = route
        self._template = NameTemplate(route.name) if route.name else None
        self._settled = Settled(route.settle_in_seconds)
        self._has_sidecars = route.layout == "sidecar"

    def find(self, now: float) -> Iterator[OutgoingFile]:
        """Give each file that is complete and not locked."""
        files: dict[Path, str] = {}
        lengths: dict[Path, int] = {}
        # The scan is not kept open: while files are sent, others are moved.
        with contextlib.suppress(FileNotFoundError), os.scandir(self._route.folder) as entries:
            for entry in entries:
                name = entry.name.casefold()
                if name.startswith((".", "~")) or name.endswith(_UNFINISHED):
                    continue
                with contextlib.suppress(OSError):
                    if entry.is_file(follow_symlinks=False):
                        # On Windows the entry's own numbers are older, and without an inode.
                        status = os.lstat(entry.path) if os.name == "nt" else entry.stat(follow_symlinks=False)
                        files[Path(entry.path)] = _stamp(status)
                        lengths[Path(entry.path)] = status.st_size
        for path in sorted(self._settled.look(files, now)):
            if self._has_sidecars and (path.name.endswith(_SIDECAR) or _sidecar(path) not in files):
                continue
            if not is_locked(path):
                yield self._message(path, files[path], lengths[path])

    def archive(self, message: LedgerMessage) -> str | None:
        """Move the file, and its sidecar, into the archive."""
        return self._move(message, self._route.archive_folder)

    def refuse(self, message: LedgerMessage) -> str | None:
        """Move the file, and its sidecar, into the folder of what failed, with the reason beside it."""
        path = Path(message.source or "")
        if self._is_another(message):
            return message.archived_as
        text = f"{path.name} was not sent.\n\nWhy: {message.reason}\n\n"
        text += "What to do: correct the cause, then move the file into the outgoing folder again.\n"
        filing.explain(self._route.failed_folder, path.name, text)
        return self._move(message, self._route.failed_folder)

    def delay(self, message: LedgerMessage) -> None:
        """Do nothing: the ledger says so."""

    def polled(self, error: MeshError | None) -> None:
        """Do nothing: the ledger says so."""

    def _move(self, message: LedgerMessage, folder: Path) -> str | None:
        if self._is_another(message):
            return message.archived_as
        path, unique = Path(message.source or ""), str(message.id)
        if self._has_sidecars:
            filing.move_into(_sidecar(path), folder, name=_sidecar(path).name, unique=unique)
        moved = filing.move_into(path, folder, name=path.name, unique=unique)
        return str(moved) if moved is not None else None

    def _is_another(self, message: LedgerMessage) -> bool:
        """Whether a new file has the name by now: an earlier run has moved the message's own."""
        return stamp_of(Path(message.source or "")) not in (message.stamp, None)

    def _message(self, path: Path, stamp: str, length: int) -> OutgoingFile:
        try:
            options = self._options(path)
        except InvalidArgument as error:
            return OutgoingFile(path, stamp, length, {}, error)
        if length == 0:
            fault = InvalidArgument("it is empty, and MESH takes no empty message")
            return OutgoingFile(path, stamp, length, options, fault)
        for needed in ("to", "workflow_id"):
            if not options.get(needed):
                return OutgoingFile(path, stamp, length, options, InvalidArgument(f"nothing says its {needed}"))
        return OutgoingFile(path, stamp, length, options)

    def _options(self, path: Path) -> dict[str, Any]:
        route = self._route
        options: dict[str, Any] = {
            "to": route.to,
            "workflow_id": route.workflow_id,
            "subject": route.subject,
            "partner_id": route.partner_id,
            "content_type": route.content_type,
            "compress": route.compress,
            "file_name": path.name,
        }
        if self._template is not None:
            said = self._template.match(path.name)
            if said is None:
                raise InvalidArgument(f"its name does not follow the template {route.name}")
            options |= said
        if self._has_sidecars:
            options |= _read_sidecar(_sidecar(path))
        return {name: value for name, value in options.items() if value not in (None, "")}


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}{_SIDECAR}")


def _read_sidecar(path: Path) -> dict[str, Any]:
    """Read what a sidecar says of its message. It is somebody else's file: bounded, and only names that are known."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_SIDECAR_BYTES + 1)
    except OSError as error:
        raise InvalidArgument(f"its sidecar cannot be read: {error.strerror}") from None
    if len(content) > _MAX_SIDECAR_BYTES:
        raise InvalidArgument(f"its sidecar is longer than {_MAX_SIDECAR_BYTES} bytes")
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidArgument("its sidecar is not JSON") from None
    if not isinstance(said, dict):
        raise InvalidArgument("its sidecar must hold one JSON object")
    if unknown := sorted(set(said) - _SIDECAR_KEYS - _OF_RECEIVED):
        known = ", ".join(sorted(_SIDECAR_KEYS))
        raise InvalidArgument(f"its sidecar has {len(unknown)} unknown names; known are {known}")
    options = {name: value for name, value in said.items() if name in _SIDECAR_KEYS}
    for name, value in options.items():
        is_flag = name in ("encrypted", "compressed", "compress")
        if not isinstance(value, bool if is_flag else str):
            raise InvalidArgument(f"in its sidecar, {name} must be {'true or false' if is_flag else 'a text'}")
    return options
