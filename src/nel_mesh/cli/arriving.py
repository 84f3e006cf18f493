"""How far files have arrived, seen from outside: the client keeps each as a hidden `.part` file, with a record."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from nel_mesh.cli.context import Session
from nel_mesh.cli.progress import Bar

_LOOK_EVERY_SECONDS = 0.2


@contextlib.contextmanager
def watched(session: Session, folder: Path, message_id: str = "*") -> Iterator[None]:
    """Shows a bar for what arrives in the folder while the block runs, and says how to go on if it is interrupted."""
    stop = threading.Event()
    try:
        with session.out.bar("Receiving" if message_id == "*" else f"Receiving {message_id}") as bar:
            watcher = threading.Thread(target=_watch, args=(bar, folder, message_id, stop), daemon=True)
            if bar.wanted:
                watcher.start()
            yield
    except KeyboardInterrupt as interruption:
        interruption.add_note("What has arrived is kept: run the same command again to go on.")
        raise
    finally:
        stop.set()


def _watch(bar: Bar, folder: Path, message_id: str, stop: threading.Event) -> None:
    while not stop.wait(_LOOK_EVERY_SECONDS):
        with contextlib.suppress(OSError):
            bar(*_arrived(folder, message_id))


def _arrived(folder: Path, message_id: str) -> tuple[int, int | None]:
    """How much has arrived, and about how much there is: known when the first of several chunks is here."""
    from nel_mesh.errors import StorageError
    from nel_mesh.protocol.records import ReceiveRecord

    done, total = 0, 0
    known = True
    for part in folder.glob(f".{message_id}.part"):
        done += part.stat().st_size
        try:
            record = ReceiveRecord.from_bytes(part.with_suffix(".json").read_bytes())
        except (OSError, StorageError):
            record = None
        if record is None or not record.chunks or not record.chunks_done:
            known = False
        else:
            total += record.length * record.chunks // record.chunks_done
    return done, max(total, done) if known and total else None
