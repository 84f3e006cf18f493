"""The records of sends, for those who keep them until a receipt is safe: listed, looked at and forgotten."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from nel_mesh.errors import StorageError
from nel_mesh.io.transfers import TransferRecord, TransferRecords
from nel_mesh.protocol.upload_record import SendRecord


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TransferState:
    """How far a send has come, by its record.

    Attributes:
        sent: whether MESH has the whole message. If not, it may have it all the same: `send_file` finds out.
        bytes_done: how much of the content MESH certainly has.
        bytes_total: the length of the content.
        modified_ns: when the source had last been changed, in nanoseconds; 0 if it has no such time.
        message_id: MESH's id of the message, if there is one yet.
        local_id: the sender's own id of the message.
        began: when the send began.
    """

    sent: bool
    bytes_done: int
    bytes_total: int
    modified_ns: int
    message_id: str | None
    local_id: str = dataclasses.field(repr=False)
    began: datetime


class Transfer(TransferRecord):
    """A send, by the record that `send_file` keeps of it; pass it as `resume`.

    Under such a record a send that is complete returns its receipt again, until the record is forgotten. So forget it
    when the receipt is where it must not be lost from: stored, or printed.
    """

    def state(self) -> TransferState | None:
        """Return how far the send has come; None if there is no record. Raises StorageError for a file of others."""
        written = self.read()
        if written is None:
            return None
        record = SendRecord.from_bytes(written, self.place)
        return TransferState(
            sent=record.sent,
            bytes_done=record.bytes_done,
            bytes_total=record.content_bytes,
            modified_ns=record.modified_ns,
            message_id=record.message_id,
            local_id=record.local_id,
            began=record.began,
        )

    def forget(self) -> None:
        """Remove the record, if there is one. Raises StorageError if that fails, or a process is sending under it."""
        if not self.exists():
            return
        lock = self.lock()
        if not lock.acquire():
            raise StorageError("the transfer is under way in another process or thread")
        try:
            super().forget()
        finally:
            lock.release()


class Transfers:
    """The records of sends in a folder, each by a key of your own.

    Args:
        folder: the folder; made when the first record is written. On a local disk, best.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._records = TransferRecords(Path(folder))

    def transfer(self, key: str) -> Transfer:
        """Return the transfer of a key, whether or not it was begun. A key may hold what a file name may."""
        return Transfer(self._records.record(key).path)

    def keys(self) -> Iterator[str]:
        """Iterate over the keys of all records."""
        return self._records.keys()
