"""The incoming folder of the Java client: `<message id>.dat`, then `<message id>.ctl`; of a report the `.ctl` alone.

Programs that watch the folder take a pair when its `.ctl` appears, so that comes last, when the content is complete and
durable. Afterwards they may move both at once: what is no longer there is not written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nel_mesh import MessageMetadata, Report, StorageError
from nel_mesh.agent.java import control_file
from nel_mesh.destinations.folder import FolderDestination, FolderUpload
from nel_mesh.io.files import translate_storage_errors, write_file


class JavaDestination(FolderDestination):
    """A folder as the Java client's `IN`.

    Args:
        folder: the folder.
        file_mode: the permissions of the files.
    """

    def upload(self, message_id: str) -> FolderUpload:
        """Return the file for a message's content; nothing is opened yet."""
        return _JavaUpload(self.folder, message_id, mode=self.file_mode)

    def names(self, metadata: MessageMetadata, file_name: str | None) -> Iterator[str]:
        """Give the one name: nobody else has files with this message's id."""
        yield f"{metadata.message_id}.{'ctl' if isinstance(metadata, Report) else 'dat'}"


class _JavaUpload(FolderUpload):
    def __init__(self, folder: Path, message_id: str, *, mode: int) -> None:
        super().__init__(folder / f".{message_id}.part", mode=mode)
        self._in = folder
        self._control_path = folder / f"{message_id}.ctl"
        self._metadata: MessageMetadata | None = None
        self._now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def start(self, metadata: MessageMetadata) -> None:
        self._metadata = metadata
        super().start(metadata)

    def resume(self, state: Mapping[str, Any] | None, metadata: MessageMetadata) -> int | None:
        self._metadata = metadata
        return super().resume(state, metadata)

    def publish(self, name: str) -> bool:
        if isinstance(self._metadata, Report):
            # Its JSON, which the client writes for a folder, is not what is wanted here.
            self._write_control()
            self.remove()
            return True
        if not super().publish(name):
            return False
        self._write_control()
        return True

    def is_published(self, name: str, length: int) -> bool:
        if not super().is_published(name, length):
            return False
        if not isinstance(self._metadata, Report) and (self._in / name).exists():
            # An earlier process was killed between the two files.
            self._write_control()
        return True

    def _write_control(self) -> None:
        if self._metadata is None:
            raise StorageError("the control file's message is not known")
        control = control_file.received(self._metadata, mailbox_id=self._metadata.recipient or "", now=self._now())
        with translate_storage_errors(self._in):
            write_file(self._control_path, control.render(), replace=False)
