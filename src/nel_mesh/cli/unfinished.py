"""The transfer of a send, which the next run of the same command finds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nel_mesh.cli.session import Session, transfers_folder
from nel_mesh.cli.text import local_time, size

if TYPE_CHECKING:
    from nel_mesh import Transfer, TransferState


def transfer_of(
    session: Session, mailbox_id: str, file: Path, options: dict[str, Any], folder: Path | None, *, copies: int
) -> Transfer | None:
    """Return the transfer of this send, whether it was begun or not; None if no record can be kept.

    Args:
        session: warned if no record can be kept.
        mailbox_id: the sender.
        file: the file.
        options: what else the command was given.
        folder: where records are kept, if that was given.
        copies: how many times the same command has sent the file already.

    Raises OSError if `folder` was given and cannot be used.
    """
    from nel_mesh import Transfers

    what = json.dumps([mailbox_id, str(file.absolute()), options, copies], sort_keys=True)
    place = folder or transfers_folder()
    try:
        if place is None:
            raise FileNotFoundError(None, "you have no home folder")
        _try_to_write(place)
    except OSError as error:
        if folder is not None:
            raise
        # A send must not fail for want of a home folder; containers often have none.
        session.out.warn(
            f"{place or 'State folder'}: {error.strerror}. If this send is interrupted, it cannot resume; "
            "--transfers DIR names another folder."
        )
        return None
    return Transfers(place).transfer(hashlib.sha256(what.encode()).hexdigest()[:32])


def prepare(transfer: Transfer, file: Path, *, restart: bool) -> TransferState | None:
    """Forget a transfer that is to start again: on demand, or for new content of a file sent before.

    Returns how far an earlier run came, if this one resumes it.
    """
    state = _state(transfer)
    status = file.stat()
    is_other = state is not None and (state.bytes_total, state.modified_ns) != (status.st_size, status.st_mtime_ns)
    if restart or (state is not None and state.sent and is_other):
        transfer.forget()
        return None
    return state


def describe(state: TransferState) -> str:
    """Say how far an earlier run came."""
    if state.sent:
        when = local_time(state.began)
        return f"already sent by an earlier run ({when}), so not sent again; --restart sends it as a new message"
    return f"resuming an interrupted send{_progress(state, ' (', ')')}"


def explain(transfer: Transfer, error: BaseException) -> None:
    """Add to the error how to resume; forget a send of which MESH has nothing."""
    if not transfer.path.is_file():
        return
    state = _state(transfer)
    outcome = getattr(getattr(error, "outcome", None), "name", "")
    if outcome == "NOT_SENT" and state is not None and not state.bytes_done:
        transfer.forget()
        return
    if isinstance(error, KeyboardInterrupt):
        # The library's note is for those who have no record.
        error.__notes__ = []
    if outcome == "UNKNOWN":
        error.add_note("Run the same command again: it asks MESH whether the message has arrived before it sends.")
    else:
        error.add_note(f"{_progress(state, 'MESH has ', '. ')}Run the same command again to resume.")
    error.add_note("--restart sends it as a new message.")


def _progress(state: TransferState | None, before: str, after: str) -> str:
    if state is None or not state.bytes_done:
        return ""
    return f"{before}{size(state.bytes_done)} of {size(state.bytes_total)}{after}"


def _state(transfer: Transfer) -> TransferState | None:
    """Return how far it came; None for a record that cannot be read, which the send then reports."""
    from nel_mesh.errors import StorageError

    try:
        return transfer.state()
    except StorageError:
        return None


def _try_to_write(folder: Path) -> None:
    """Raise OSError if no record can be kept in the folder."""
    import tempfile

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()
