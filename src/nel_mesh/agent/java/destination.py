"""The incoming folder of the Java client: `<message id>.dat`, then `<message id>.ctl`; of a report the `.ctl` alone.

Content arrives in TEMP. There it is made whole, and its control file is written; then the `.dat` goes to IN, and the
`.ctl` last, by a rename. Programs that watch IN take a pair when its `.ctl` appears: up to that rename nobody has seen
the message, and after it nothing is left in TEMP. So a process that continues after a kill can tell the two apart, and
writes nothing again that a program has taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nel_mesh import MessageMetadata, Report
from nel_mesh.agent.java import control_file, folders
from nel_mesh.destinations.folder import FolderDestination, FolderUpload
from nel_mesh.io.files import make_folder, sync_folder, translate_storage_errors

_FILE_MODE = 0o666
"""The umask says who may read the files, as with the Java client: other programs of the site take them."""


class JavaDestination(FolderDestination):
    """A folder as the Java client's `IN`.

    Args:
        folder: the folder.
        temp: a folder on the same disk for what is unfinished; default: the `TEMP` beside it.
        now: the time, for a message whose headers have none.
    """

    def __init__(
        self, folder: Path, temp: Path | None = None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(temp or folders.find(folder.parent, "TEMP"), file_mode=_FILE_MODE)
        self.inbox = folder
        self.now = now

    def upload(self, message_id: str) -> JavaUpload:
        """Return the place for a message's content; nothing is opened yet."""
        return JavaUpload(self, message_id)

    def names(self, metadata: MessageMetadata, file_name: str | None) -> Iterator[str]:
        """Give the one name: nobody else has files with this message's id."""
        yield f"{metadata.message_id}.{'ctl' if isinstance(metadata, Report) else 'dat'}"

    def location(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.inbox / name)


class JavaUpload(FolderUpload):
    """A pair on its way: a file in TEMP, and what comes after it.

    Args:
        destination: whose.
        message_id: the message.
    """

    def __init__(self, destination: JavaDestination, message_id: str) -> None:
        self._part = destination.folder / f".{message_id}.part"
        super().__init__(self._part, mode=destination.file_mode)
        self._inbox, self._temp, self._now = destination.inbox, destination.folder, destination.now
        self._metadata: MessageMetadata | None = None
        self._data, self._control = self._inbox / f"{message_id}.dat", self._inbox / f"{message_id}.ctl"
        self._whole, self._written = self._temp / f".{message_id}.whole", self._temp / f".{message_id}.ctl"

    def start(self, metadata: MessageMetadata) -> None:
        """Begin an empty one."""
        self._metadata = metadata
        with translate_storage_errors(self._temp):
            self._whole.unlink(missing_ok=True)
            self._written.unlink(missing_ok=True)
        super().start(metadata)

    def resume(self, state: Mapping[str, Any] | None, metadata: MessageMetadata) -> int | None:
        """Open the file that an earlier process left, and return its length; None if there is none."""
        self._metadata = metadata
        return super().resume(state, metadata)

    def is_published(self, name: str, length: int) -> bool:
        """Whether the pair is in IN. One whose renames an earlier process did not come to gets them now."""
        with translate_storage_errors(self._inbox):
            if self._part.exists():
                return False
            self._move()
        return True

    def publish(self, name: str) -> bool:
        """Put the pair into IN; False if something else is there.

        A complete pair of that message id is this message: the Java client, or an agent that has lost its ledger,
        stored it, and was ended before it acknowledged it.
        """
        with translate_storage_errors(self._inbox):
            make_folder(self._inbox)
            target = self._inbox / name
            is_report = target == self._control
            if self._control.exists() and target.exists():
                is_same = is_report or target.stat().st_size == self._part.stat().st_size
                if is_same:
                    self.remove()
                return is_same
            if is_report:
                # Its JSON, which the client writes for a folder, is not what is wanted here.
                self._write_control()
                super().remove()
            elif not super().publish(self._whole.name):
                return False
            self._move()
        return True

    def withdraw(self, name: str) -> None:
        """Remove the pair. Not needed here: content is read before it has its name."""
        with translate_storage_errors(self._inbox):
            self._control.unlink(missing_ok=True)
            self._data.unlink(missing_ok=True)

    def remove(self) -> None:
        """Close the file, and remove what is in TEMP."""
        super().remove()
        with translate_storage_errors(self._temp):
            self._whole.unlink(missing_ok=True)
            self._written.unlink(missing_ok=True)

    def _write_control(self) -> None:
        if self._metadata is not None:
            recipient = self._metadata.recipient or ""
            control = control_file.received(self._metadata, mailbox_id=recipient, now=self._now())
            folders.write_control_file(self._written, control.render())

    def _move(self) -> None:
        """Move what is ready in TEMP into IN, the `.ctl` last."""
        if self._whole.exists():
            self._write_control()
            self._whole.replace(self._data)
            sync_folder(self._inbox)
        if self._written.exists():
            self._written.replace(self._control)
            sync_folder(self._inbox)
            sync_folder(self._temp)
