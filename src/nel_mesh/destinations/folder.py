"""A folder as the destination of messages."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from nel_mesh.io.journal import SqliteJournal
from nel_mesh.io.partial import PartialFile
from nel_mesh.io.transfers import TransferRecords
from nel_mesh.models import MessageMetadata, Report
from nel_mesh.protocol import filenames

JOURNAL_NAME = ".nel-mesh-journal"
"""The file, in the folder, that remembers what has been delivered."""


class FolderDestination:
    """Store each message as a file in a folder. A file is never replaced, and is never seen unfinished.

    A file is called as its message says, made safe; where there is a file of that name, the message id is put into
    the name. A report is stored as `report-<message id>.json`. What is unfinished has a hidden name: `.<message
    id>.part` for the content, `.<message id>.json` for the record.

    Args:
        folder: the folder; made if need be.
        file_mode: the permissions of the files. Default: only the owner may read and write them (0600).
    """

    def __init__(self, folder: str | os.PathLike[str], *, file_mode: int = 0o600) -> None:
        self.folder = Path(folder)
        self.file_mode = file_mode
        self.records = TransferRecords(self.folder, prefix=".")

    def journal(self) -> SqliteJournal:
        """Return the journal in the folder, which is the default of `receive_messages`."""
        return SqliteJournal(self.folder / JOURNAL_NAME)

    def upload(self, message_id: str) -> PartialFile:
        """Return the file for a message's content; nothing is opened yet."""
        return PartialFile(self.folder / f".{message_id}.part", mode=self.file_mode)

    def names(self, metadata: MessageMetadata, file_name: str | None) -> Iterator[str]:
        """Give the names to try, the best first."""
        message_id = metadata.message_id
        if isinstance(metadata, Report):
            wish = f"report-{message_id}.json"
        else:
            wish = filenames.safe_name(file_name or metadata.file_name, message_id)
        yield wish
        for attempt in itertools.count(1):
            yield filenames.unique_name(wish, message_id, attempt)

    def is_name(self, name: str) -> bool:
        """Whether a name out of a record can be one that this folder gave: no path, and nothing hidden."""
        return filenames.is_safe(name)

    def location(self, name: str) -> Path:
        """Return the path of a file."""
        return self.folder / name
