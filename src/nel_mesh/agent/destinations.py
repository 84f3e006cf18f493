"""The destinations of an agent, each opened once and shared by all its mailboxes; and the guard of its disks."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from nel_mesh import Destination, StorageError, open_destination
from nel_mesh.agent.configuration import AgentConfiguration
from nel_mesh.agent.java.destination import JavaDestination
from nel_mesh.agent.tables import JAVA, received_into

_MEGABYTE = 1_000_000
_MEASURED_FOR_SECONDS = 5.0


class Destinations:
    """Opens destinations by their place, and keeps them.

    Args:
        disk_reserve_in_megabytes: how much must stay free on a disk that messages are stored on.
        budgets: how many megabytes may lie in a folder, for those that have a limit.
        monotonic: returns the seconds by which it is known when a folder was measured.
    """

    def __init__(
        self,
        disk_reserve_in_megabytes: float,
        budgets: Mapping[Path, float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reserve = disk_reserve_in_megabytes
        self._budgets = budgets or {}
        self._monotonic = monotonic
        self._measured: dict[Path, tuple[float, float]] = {}
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
            self._check_budget(folder)
        with self._guard:
            if place not in self._opened:
                self._opened[place] = _opened(place)
            return self._opened[place]

    def forget(self, place: str) -> None:
        """Open it again next time: it failed, and its credentials may have been replaced."""
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

    def _check_budget(self, folder: Path) -> None:
        budget = self._budgets.get(folder)
        if budget is None:
            return
        used = self._used(folder)
        if used >= budget:
            raise StorageError(
                f"{folder}: {used:.0f} MB lie in it, and {budget:.0f} MB may (budget_in_megabytes); messages wait in "
                "the inbox until some are taken away"
            )

    def _used(self, folder: Path) -> float:
        """Return how many megabytes lie in a folder, measured a short time ago."""
        now = self._monotonic()
        with self._guard:
            at, used = self._measured.get(folder, (-_MEASURED_FOR_SECONDS, 0.0))
        if now - at >= _MEASURED_FOR_SECONDS:
            used = megabytes_in(folder)
            with self._guard:
                self._measured[folder] = (now, used)
        return used


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


def budgets_of(configuration: AgentConfiguration) -> dict[Path, float]:
    """Return how many megabytes may lie in each folder that has a limit: the least, if routes share it."""
    budgets: dict[Path, float] = {}
    for plan in configuration.mailboxes.values():
        for route in plan.options.receive:
            for place in route.into:
                folder = received_into(place)
                if folder is not None and route.budget_in_megabytes is not None:
                    budgets[folder] = min(route.budget_in_megabytes, budgets.get(folder, float("inf")))
    return budgets


def megabytes_in(folder: Path) -> float:
    """Return how much lies in a folder, and in those below it; what vanishes meanwhile does not count."""
    total = 0
    for above, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(above, name)).st_size  # noqa: PTH118  for each of many files
    return total / _MEGABYTE
