"""The record of a send that may be interrupted: found again by the next run of the same command."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nel_mesh.cli.output import size
from nel_mesh.cli.session import Session, transfers_folder

if TYPE_CHECKING:
    from nel_mesh.protocol.upload import SendRecord


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """A record, which the client keeps; here it is only named, looked at and removed."""

    path: Path

    @classmethod
    def of(
        cls, session: Session, mailbox_id: str, file: Path, options: dict[str, Any], transfers: Path | None
    ) -> Self | None:
        """The record of this send, whether or not it was begun; None if none can be kept.

        Raises OSError if `transfers` was asked for, and cannot be.
        """
        what = json.dumps([mailbox_id, str(file.absolute()), options], sort_keys=True)
        folder = transfers or transfers_folder()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            if transfers is not None:
                raise
            # A send is not to fail for want of a home folder; containers often have none.
            session.out.warn(
                f"{folder}: {error.strerror}; if this send is interrupted, it must begin anew. --transfers DIR helps."
            )
            return None
        return cls(folder / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json")

    @property
    def exists(self) -> bool:
        """Whether such a send was begun, and not completed."""
        return self.path.is_file()

    def progress(self) -> str:
        """How far it came, as a phrase to follow a verb; empty if that is not known, or nowhere."""
        record = self._read()
        if record is None or not record.chunks_done:
            return ""
        done = min(record.chunks_done * record.chunk_bytes, record.content_bytes)
        return f" ({size(done)} of {size(record.content_bytes)})"

    def explain(self, error: BaseException) -> None:
        """Tells with the error how to go on; forgets a send of which MESH has nothing."""
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
        error.add_note(
            f"What MESH has of it is remembered{self.progress()}: run the same command again, and it goes on from "
            "there, or asks MESH whether all has arrived. With --restart it begins anew."
        )

    def _read(self) -> SendRecord | None:
        from nel_mesh.errors import StorageError
        from nel_mesh.protocol.upload import SendRecord

        try:
            return SendRecord.from_bytes(self.path.read_bytes())
        except (OSError, StorageError):
            return None

    def forget(self) -> None:
        """Removes it."""
        self.path.unlink(missing_ok=True)
        self.path.with_name(f"{self.path.name}.lock").unlink(missing_ok=True)
