"""The outgoing folder of the Java client: pairs of `.dat` and `.ctl`, moved to `SENT` or `FAILED` under their names.

The `.ctl` is the trigger: it is put there last. Reports about a pair go into the incoming folder as `.ctl` files. While
a pair is moved, its `.ctl` has a hidden name, and goes last: a run that was killed is continued, and a new pair of the
same name, which a program may put there meanwhile, is not touched.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from nel_mesh import CertificateError, InvalidArgument, MeshError, NotAuthorised, StorageError
from nel_mesh.agent import filing
from nel_mesh.agent.java import control_file, folders
from nel_mesh.agent.java.control_file import ControlFile, StatusRecord
from nel_mesh.agent.locked import is_locked
from nel_mesh.agent.outgoing import OutgoingFile, Settled, stamp_of
from nel_mesh.agent.tables import SendRoute
from nel_mesh.io.files import make_folder, sync_folder, translate_storage_errors
from nel_mesh.ledger.messages import LedgerMessage

_PATIENCE_IN_SECONDS = 10.0
"""How long a control file may be without its data file, which ought to have come before it."""

_CONTROL, _DATA = ".ctl", ".dat"


class ControlFileLayout:
    """Pairs of `.dat` and `.ctl`.

    Args:
        route: the outgoing folder.
        mailbox_id: whose it is.
        now: returns the present time.
        chunk_bytes: the longest content that is sent in one request.
    """

    def __init__(
        self,
        route: SendRoute,
        mailbox_id: str,
        now: Callable[[], datetime],
        *,
        chunk_bytes: int = control_file.MAX_UNCHUNKED_BYTES,
    ) -> None:
        self._route = route
        self._mailbox_id = mailbox_id
        self._now = now
        self._chunk_bytes = chunk_bytes
        self._settled = Settled(route.settle_in_seconds)
        self._alone = Settled(max(_PATIENCE_IN_SECONDS, route.settle_in_seconds))

    def find(self, now: float) -> Iterator[OutgoingFile]:
        """Give each pair that is complete, and each control file that has waited in vain for its data."""
        pairs: dict[Path, str] = {}
        alone: dict[Path, str] = {}
        for path in self._control_files():
            stamp = stamp_of(path)
            data = folders.sibling(path, _DATA)
            if stamp is None:
                continue
            if data is None:
                alone[path] = stamp
            else:
                pairs[path] = f"{stamp} {stamp_of(data)}"
        for path in sorted(self._settled.look(pairs, now)):
            data = folders.sibling(path, _DATA)
            if data is not None and not is_locked(path) and not is_locked(data):
                yield self._message(path, data)
        for path in sorted(self._alone.look(alone, now)):
            yield OutgoingFile(path, alone[path], 0, {}, _no_data())

    def archive(self, message: LedgerMessage) -> str | None:
        """Move the pair to the archive; its control file gains MESH's id and how it ended."""
        data, route = Path(message.source or ""), self._route
        taken = self._take(data, message)
        if taken is None:
            return _there(route.archive_folder / data.name)
        control = self._control_of(taken, message)
        status = control_file.transferred(message.accepted_at or message.updated_at)
        # Before the pair leaves: what a kill repeats has the same name and content.
        if route.collect_report:
            self._report(message, control, control_file.collected(status.moment), "collect")
        if route.transfer_report:
            self._report(message, control, status, "transfer")
        location = None
        if route.keep_sent:
            location = self._move(data, taken, route.archive_folder, message, status)
        with translate_storage_errors(route.folder):
            if stamp_of(data) == message.stamp:
                data.unlink()
            taken.unlink(missing_ok=True)
            sync_folder(route.folder)
        return location

    def refuse(self, message: LedgerMessage) -> str | None:
        """Move the pair to the folder of what failed, and report why."""
        path, folder = Path(message.source or ""), self._route.failed_folder
        taken = self._take(path, message)
        if taken is None:
            return _there(folder / path.name)
        status = control_file.failed(
            message.updated_at,
            event=message.status_event,
            code=message.status_code,
            description=message.status_description or message.reason,
        )
        self._report(message, self._control_of(taken, message), status, "failed")
        location = self._move(path, taken, folder, message, status)
        with translate_storage_errors(path.parent):
            taken.unlink(missing_ok=True)
            sync_folder(path.parent)
        return location

    def delay(self, message: LedgerMessage) -> None:
        """Report that an attempt failed and another follows, if that is wanted."""
        path = folders.sibling(Path(message.source or ""), _CONTROL)
        if self._route.delay_report and path is not None:
            status = StatusRecord(
                self._now(), "TRANSFER", is_success=True, code="05", description="Delayed; it will be tried again"
            )
            self._report(message, self._control_of(path, message), status, f"delay-{message.attempts}")

    def polled(self, error: MeshError | None) -> None:
        """Report how a look into the inbox ended, if that is wanted."""
        if not self._route.poll_report or self._route.reports is None:
            return
        if error is None:
            code, text = "00", "Poll success confirmation."
        else:
            code = "17" if isinstance(error, NotAuthorised) else "16" if isinstance(error, CertificateError) else "15"
            text = "The inbox could not be looked into; see the log"
        now = self._now()
        status = StatusRecord(now, "RECEIVE", is_success=error is None, code=code, description=text)
        control = control_file.of_options({"to": self._mailbox_id}, mailbox_id=self._mailbox_id)
        name = f"{self._mailbox_id}-{now:%Y%m%d%H%M%S%f}-poll{_CONTROL}"
        folders.write_control_file(self._route.reports / name, control_file.report_of(control, status).render())

    def _control_files(self) -> Iterator[Path]:
        """List the control files. The folder is made if it is missing, so that programs find it."""
        with contextlib.suppress(OSError):
            make_folder(self._route.folder)
            for name in os.listdir(self._route.folder):  # noqa: PTH208  names are all that is needed
                path = self._route.folder / name
                if not name.startswith(".") and path.suffix.casefold() == _CONTROL:
                    yield path

    def _message(self, path: Path, data: Path) -> OutgoingFile:
        stamp = stamp_of(data) or ""
        with contextlib.suppress(OSError):
            length = data.stat().st_size
            try:
                control = control_file.parse(_content(path))
                options = control_file.send_options(
                    control, mailbox_id=self._mailbox_id, length=length, chunk_bytes=self._chunk_bytes
                )
            except InvalidArgument as fault:
                return OutgoingFile(data, stamp, length, {}, fault)
            # The name of the file on this machine is not the recipient's business.
            return OutgoingFile(data, stamp, length, {**options, "file_name": ""})
        return OutgoingFile(data, stamp, 0, {}, _no_data())

    def _control_of(self, path: Path, message: LedgerMessage) -> ControlFile:
        """Read a control file; if that cannot be, say what the ledger knows of the message."""
        with contextlib.suppress(OSError, InvalidArgument):
            return control_file.parse(_content(path))
        return control_file.of_options(message.options or {}, mailbox_id=self._mailbox_id)

    def _take(self, path: Path, message: LedgerMessage) -> Path | None:
        """Hide the pair's control file while the pair is moved, and return it; None if it was moved already."""
        taken = path.with_name(f".{path.stem}{_CONTROL}.{message.id}")
        with translate_storage_errors(path.parent):
            if taken.exists():
                return taken
            if stamp_of(path) != message.stamp:
                return None
            control = path if path.suffix.casefold() == _CONTROL else folders.sibling(path, _CONTROL)
            if control is not None:
                control.rename(taken)
                sync_folder(path.parent)
            else:
                content = control_file.of_options(message.options or {}, mailbox_id=self._mailbox_id).render()
                folders.write_control_file(taken, content)
        return taken

    def _move(self, data: Path, taken: Path, folder: Path, message: LedgerMessage, status: StatusRecord) -> str:
        """Move a pair into a folder, data first, under one name that is free; return where its content is.

        Args:
            data: the `.dat`; or the `.ctl`, if there is no `.dat`.
            taken: the control file. It stays.
            folder: where to.
            message: the message.
            status: what the control file says there.
        """
        with translate_storage_errors(folder):
            content = _content(taken)
            # What is no control file stays as it is, to be looked at.
            with contextlib.suppress(InvalidArgument):
                content = _with_result(control_file.parse(content), message, status).render()
            is_here = stamp_of(data) == message.stamp
            for stem in (data.stem, f"{data.stem}.{message.id}"):
                target, moved = folder / f"{stem}{_CONTROL}", folder / f"{stem}{data.suffix}"
                is_written = target.exists() and target.read_bytes() == content
                if is_written or (not os.path.lexists(target) and (not is_here or _is_free_for(moved, data))):
                    break
            else:
                raise StorageError(f"{folder}: two pairs of that name are there already")
        if is_here and data.suffix.casefold() != _CONTROL:
            filing.move_into(data, folder, name=moved.name, unique=str(message.id))
        folders.write_control_file(target, content)
        return str(moved)

    def _report(self, message: LedgerMessage, control: ControlFile, status: StatusRecord, kind: str) -> None:
        """Write a report into the incoming folder, if there is one."""
        if self._route.reports is None:
            return
        name = f"{Path(message.source or '').stem}-{message.id}-{kind}{_CONTROL}"
        values = {} if message.message_id is None else {"DTSId": message.message_id}
        if control.get("From_DTS") is None:
            values["From_DTS"] = self._mailbox_id
        folders.write_control_file(
            self._route.reports / name, control_file.report_of(control, status, **values).render()
        )


def _with_result(control: ControlFile, message: LedgerMessage, status: StatusRecord) -> ControlFile:
    values = {"IsCompressed": "Y" if (message.options or {}).get("compress") else "N"}
    if message.message_id:
        values["DTSId"] = message.message_id
    return control.with_status(status, **values)


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(control_file.MAX_BYTES + 1)


def _is_free_for(target: Path, source: Path) -> bool:
    """Whether a name is free, or is a second one of the source: an earlier run was moving it there."""
    try:
        return os.path.samestat(os.lstat(target), os.lstat(source))
    except FileNotFoundError:
        return True


def _there(path: Path) -> str | None:
    return str(path) if path.exists() else None


def _no_data() -> MeshError:
    return InvalidArgument(
        "the data file is missing; put the .dat there first, then the .ctl",
        event="COLLECT",
        code="02",
        description="Data file missing or inaccessible",
    )
