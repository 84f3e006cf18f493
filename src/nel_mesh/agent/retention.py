"""How long received files are kept, where a route says so. Only files that the agent has stored are removed."""

from __future__ import annotations

import contextlib
import logging
import os
from datetime import timedelta
from pathlib import Path

from nel_mesh.agent.configuration import AgentConfiguration
from nel_mesh.agent.tables import received_into
from nel_mesh.destinations.folder_sidecar import ENDING
from nel_mesh.ledger.ledger import Ledger

logger = logging.getLogger("nel_mesh.agent")


def remove_received(configuration: AgentConfiguration, ledger: Ledger) -> int:
    """Remove received files that are older than their route keeps them; return how many.

    A file is removed if the ledger says that it was stored under this name, so long ago, and if it was not changed
    since: what other programs put into the folder, or changed, stays.
    """
    count = 0
    for folder, days in _kept_for_days(configuration).items():
        oldest = ledger.clock.now() - timedelta(days=days)
        with contextlib.suppress(FileNotFoundError):
            names = [entry.path for entry in os.scandir(folder) if _is_older(entry, oldest.timestamp())]
            for location in ledger.search.stored_before(names, oldest):
                for path in (location, f"{location}{ENDING}", _control_of(location)):
                    if path in names:
                        Path(path).unlink(missing_ok=True)
                count += 1
    if count:
        logger.info("%d received files were removed, as their routes say (keep_for_days)", count)
    return count


def _kept_for_days(configuration: AgentConfiguration) -> dict[Path, float]:
    """Return how long files are kept in each folder that has a limit: the longest, if routes share it."""
    kept: dict[Path, float] = {}
    forever: set[Path] = set()
    for plan in configuration.mailboxes.values():
        for route in plan.options.receive:
            for folder in filter(None, map(received_into, route.into)):
                if route.keep_for_days is None:
                    forever.add(folder)
                else:
                    kept[folder] = max(route.keep_for_days, kept.get(folder, 0.0))
    return {folder: days for folder, days in kept.items() if folder not in forever}


def _is_older(entry: os.DirEntry[str], moment: float) -> bool:
    with contextlib.suppress(OSError):
        return entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < moment
    return False


def _control_of(location: str) -> str:
    """Return the name of the control file that the Java client puts beside content."""
    return f"{location.removesuffix('.dat')}.ctl" if location.endswith(".dat") else location
