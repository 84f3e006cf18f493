"""The outgoing folder of the Java client: pairs of `.dat` and `.ctl`, moved to `SENT` or `FAILED` under their names.

The `.ctl` is the trigger: it is put there last. Reports about a pair go into the incoming folder as `.ctl` files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from nel_mesh import InvalidArgument, MeshError
from nel_mesh.agent import filing
from nel_mesh.agent.configuration import SendRoute
from nel_mesh.agent.java import control_file, folders
from nel_mesh.agent.java.control_file import ControlFile, StatusRecord
from nel_mesh.agent.locked import is_locked
from nel_mesh.agent.outgoing import OutgoingFile, Settled, stamp_of
from nel_mesh.io.files import make_folder, translate_storage_errors, write_file
from nel_mesh.ledger.messages import LedgerMessage

_PATIENCE_IN_SECONDS = 10.0
"""How long a control file may be without its data file, which ought to have come before it."""


class ControlFileLayout:
    """Pairs of `.dat` and `.ctl`.

    Args:
        route: the outgoing folder.
        mailbox_id: whose it is.
        now: returns the present time.
    """

    def __init__(self, route: SendRoute, mailbox_id: str, now: Callable[[], datetime]) -> None:
        self._route = route
        self._mailbox_id = mailbox_id
        self._now = now
        self._settled = Settled(route.settle_in_seconds)
        self._alone = Settled(max(_PATIENCE_IN_SECONDS, route.settle_in_seconds))

    def find(self, now: float) -> Iterator[OutgoingFile]:
        """Give each pair that is complete, and each control file that has waited in vain for its data."""
        pairs: dict[Path, str] = {}
        alone: dict[Path, str] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._route.folder) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            path = self._route.folder / name
            if name.startswith(".") or path.suffix.casefold() != ".ctl":
                continue
            stamp = stamp_of(path)
            data = folders.sibling(path, ".dat")
            if stamp is None:
                continue
            if data is None:
                alone[path] = stamp
            else:
                pairs[path] = f"{stamp} {stamp_of(data)}"
        for path in sorted(self._settled.look(pairs, now)):
            data = folders.sibling(path, ".dat")
            if data is not None and not is_locked(path) and not is_locked(data):
                yield self._message(path, data)
        for path in sorted(self._alone.look(alone, now)):
            fault = _no_data()
            yield OutgoingFile(path, alone[path], 0, {}, fault)

    def archive(self, message: LedgerMessage) -> str | None:
        """Move the pair to the archive; its control file gains MESH's id and how it ended."""
        data = Path(message.source or "")
        status = control_file.transferred(message.accepted_at or self._now())
        written = self._file(message, data, self._route.archive_folder, status, keep=self._route.keep_sent)
        control, is_new = written
        if is_new:
            if self._route.collect_report:
                self._report(message, control, control_file.collected(status.moment), "collect")
            if self._route.transfer_report:
                self._report(message, control, status, "transfer")
        return str(self._route.archive_folder / data.name) if self._route.keep_sent else None

    def refuse(self, message: LedgerMessage) -> str | None:
        """Move the pair to the folder of what failed, and report why."""
        data = Path(message.source or "")
        status = control_file.failed(
            self._now(),
            event=message.status_event,
            code=message.status_code,
            description=message.status_description or message.reason,
        )
        control, is_new = self._file(message, data, self._route.failed_folder, status, keep=True)
        if is_new:
            self._report(message, control, status, "failed")
        return str(self._route.failed_folder / data.name)

    def delay(self, message: LedgerMessage) -> None:
        """Report that an attempt failed and another follows, if that is wanted."""
        if self._route.delay_report:
            path = folders.sibling(Path(message.source or ""), ".ctl")
            status = StatusRecord(
                self._now(), "TRANSFER", is_success=True, code="05", description="Delayed; it will be tried again"
            )
            self._report(message, _read(path), status, f"delay-{message.attempts}")

    def _message(self, path: Path, data: Path) -> OutgoingFile:
        stamp = stamp_of(data) or ""
        with contextlib.suppress(OSError):
            length = data.stat().st_size
            try:
                control = control_file.parse(_content(path))
                options = control_file.send_options(control, mailbox_id=self._mailbox_id, length=length)
            except InvalidArgument as fault:
                return OutgoingFile(data, stamp, length, {}, fault)
            # The name of the file on this machine is not the recipient's business.
            return OutgoingFile(data, stamp, length, {**options, "file_name": ""})
        return OutgoingFile(data, stamp, 0, {}, _no_data())

    def _file(
        self, message: LedgerMessage, data: Path, folder: Path, status: StatusRecord, *, keep: bool
    ) -> tuple[ControlFile, bool]:
        """Move a pair, data first; return its control file, and whether it was still to be moved."""
        path = data if data.suffix.casefold() == ".ctl" else folders.sibling(data, ".ctl")
        if path is None:
            filing.move_into(data, folder, name=data.name, unique=message.local_id or str(message.id))
            return ControlFile({}), False
        control = _read(path)
        values = {"IsCompressed": "Y" if (message.options or {}).get("compress") else "N"}
        if message.message_id:
            values["DTSId"] = message.message_id
        control = control.with_status(status, **values)
        with translate_storage_errors(folder):
            if keep:
                make_folder(folder)
                if data != path:
                    filing.move_into(data, folder, name=data.name, unique=message.local_id or str(message.id))
                write_file(folder / path.name, control.render())
            else:
                data.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        return control, True

    def _report(self, message: LedgerMessage, control: ControlFile, status: StatusRecord, kind: str) -> None:
        """Write a report into the incoming folder, if there is one."""
        if self._route.reports is None:
            return
        name = f"{Path(message.source or '').stem}-{message.id}-{kind}.ctl"
        values = {"From_DTS": self._mailbox_id} if control.get("From_DTS") is None else {}
        content = control_file.report_of(dataclasses.replace(control), status, **values).render()
        with translate_storage_errors(self._route.reports):
            make_folder(self._route.reports)
            write_file(self._route.reports / name, content)


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(control_file.MAX_BYTES + 1)


def _read(path: Path | None) -> ControlFile:
    """Read a control file as far as it can be."""
    if path is not None:
        with contextlib.suppress(OSError, InvalidArgument):
            return control_file.parse(_content(path))
    return ControlFile({"Version": "1.0", "AddressType": "DTS"})


def _no_data() -> MeshError:
    return InvalidArgument(
        "the data file is missing; put the .dat there first, then the .ctl",
        event="COLLECT",
        code="02",
        description="Data file missing or inaccessible",
    )
