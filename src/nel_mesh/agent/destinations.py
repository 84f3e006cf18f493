"""The destinations of an agent, each opened once and shared by all its mailboxes; and the guard of its disks."""

from __future__ import annotations

import contextlib
import shutil
import threading
from pathlib import Path

from nel_mesh import Destination, StorageError, open_destination
from nel_mesh.agent.configuration import JAVA, received_into
from nel_mesh.agent.java.destination import JavaDestination

_MEGABYTE = 1_000_000


class Destinations:
    """Opens destinations by their place, and keeps them.

    Args:
        disk_reserve_in_megabytes: how much must stay free on a disk that messages are stored on.
    """

    def __init__(self, disk_reserve_in_megabytes: float) -> None:
        self._reserve = disk_reserve_in_megabytes
        self._opened: dict[str, Destination] = {}
        self._guard = threading.Lock()

    def open(self, place: str) -> Destination:
        """Return the destination of a place.

        Raises:
            StorageError: its disk is too full.
            InvalidArgument: it is no place, or its extra is not installed.
        """
        folder = received_into(place)
        if folder is not None:
            self._check_disk(folder)
        with self._guard:
            if place not in self._opened:
                self._opened[place] = _opened(place)
            return self._opened[place]

    def forget(self, place: str) -> None:
        """Open it anew next time: it failed, and its credentials may have been replaced."""
        with self._guard:
            destination = self._opened.pop(place, None)
        if destination is not None:
            with contextlib.suppress(StorageError):
                destination.close()

    def close(self) -> None:
        """Close them all."""
        for place in list(self._opened):
            self.forget(place)

    def _check_disk(self, folder: Path) -> None:
        free = free_megabytes(folder)
        if free is not None and free < self._reserve:
            raise StorageError(
                f"{folder}: only {free:.0f} MB are free on its disk, and {self._reserve:.0f} MB are to stay free "
                "(disk_reserve_in_megabytes); messages wait in the inbox until there is room"
            )


def _opened(place: str) -> Destination:
    if place.startswith(JAVA):
        return JavaDestination(Path(place.removeprefix(JAVA)))
    return open_destination(place)


def free_megabytes(folder: Path) -> float | None:
    """Return how much is free on the disk of a folder, which need not be there yet; None if that cannot be told."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(place).free / _MEGABYTE
    return None
