"""The record of a send, which the next run of the same command finds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nel_mesh.cli.output import local_time, size
from nel_mesh.cli.session import Session, transfers_folder

if TYPE_CHECKING:
    from nel_mesh.protocol.upload import SendRecord


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """A record that the client writes; this class names, reads and removes it."""

    path: Path

    @classmethod
    def of(
        cls,
        session: Session,
        mailbox_id: str,
        file: Path,
        options: dict[str, Any],
        transfers: Path | None,
        *,
        copies: int,
    ) -> Self | None:
        """Return the record of this send, whether it exists or not; None if none can be kept.

        Args:
            copies: how many times the same command has sent the file already.

        Raises OSError if `transfers` was given and cannot be used.
        """
        what = json.dumps([mailbox_id, str(file.absolute()), options, copies], sort_keys=True)
        folder = transfers or transfers_folder()
        try:
            if folder is None:
                raise FileNotFoundError(None, "you have no home folder")
            _try_to_write(folder)
        except OSError as error:
            if transfers is not None:
                raise
            # A send must not fail for want of a home folder; containers often have none.
            session.out.warn(
                f"{folder or 'State folder'}: {error.strerror}. If this send is interrupted, it cannot resume; "
                "--transfers DIR names another folder."
            )
            return None
        return cls(folder / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json")

    def prepare(self, file: Path, *, restart: bool) -> None:
        """Forget the record where the send is to begin anew: on demand, or for new content of a file sent before."""
        record = self._read()
        status = file.stat()
        is_sent = record is not None and record.sent
        if restart or (
            record and is_sent and (record.content_bytes, record.modified_ns) != (status.st_size, status.st_mtime_ns)
        ):
            self.forget()

    @property
    def exists(self) -> bool:
        """Whether the send was begun by an earlier run that did not succeed as a whole."""
        return self.path.is_file()

    def state(self) -> str:
        """How far the earlier run came."""
        record = self._read()
        if record is not None and record.sent:
            when = local_time(record.began)
            return f"already sent by an earlier run ({when}), so not sent again; --restart sends it as a new message"
        return f"resuming an interrupted send{self._progress(' (', ')')}"

    def explain(self, error: BaseException) -> None:
        """Add to the error how to resume; forget a send of which MESH has nothing."""
        if not self.exists:
            return
        record = self._read()
        outcome = getattr(getattr(error, "outcome", None), "name", "")
        if outcome == "NOT_SENT" and record is not None and not record.chunks_done:
            self.forget()
            return
        if isinstance(error, KeyboardInterrupt):
            # The library's note is for those who have no record.
            error.__notes__ = []
        if outcome == "UNKNOWN":
            error.add_note("Run the same command again: it asks MESH whether the message has arrived before it sends.")
        else:
            error.add_note(f"{self._progress('MESH has ', '. ')}Run the same command again to resume.")
        error.add_note("--restart sends it anew.")

    def _progress(self, before: str, after: str) -> str:
        record = self._read()
        if record is None or not record.chunks_done:
            return ""
        done = min(record.chunks_done * record.chunk_bytes, record.content_bytes)
        return f"{before}{size(done)} of {size(record.content_bytes)}{after}"

    def _read(self) -> SendRecord | None:
        from nel_mesh.errors import StorageError
        from nel_mesh.protocol.upload import SendRecord

        try:
            return SendRecord.from_bytes(self.path.read_bytes())
        except (OSError, StorageError):
            return None

    def forget(self) -> None:
        """Remove the record."""
        self.path.unlink(missing_ok=True)
        self.path.with_name(f"{self.path.name}.lock").unlink(missing_ok=True)


def _try_to_write(folder: Path) -> None:
    """Raise OSError if no record can be kept in the folder."""
    import tempfile

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()
