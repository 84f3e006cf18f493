"""A router: empty an inbox, and pass each message to the route for its workflow id.

    python examples/router.py appsettings.json /var/spool/mesh

A message is acknowledged only after its route has returned. An unknown workflow id goes into `quarantine` and into the
log, a report into `reports`; a message that fails stays in the inbox for the next run. It can be interrupted at any
time: the journal records what was delivered, and a duplicate gets the same file name as before.
Exit codes: 0 success; 1 something failed or was quarantined.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from nel_mesh import MeshClient, MeshError, MeshSettings, Message, MessageMetadata, Report

Route = Callable[[Message], object]

logger = logging.getLogger("router")


def routes(spool: Path) -> dict[str, Route]:
    """Return the route for each workflow id. A route reads the whole message, and raises if it cannot store it."""
    return {
        "PATH_RESULTS": into(spool / "pathology"),
        "DISCHARGE_SUMMARY": into(spool / "discharges"),
        "CLINIC_LIST": count_lines,
    }


def into(folder: Path) -> Route:
    """Return a route that stores each message in a folder, with its metadata beside it."""

    def store(message: Message) -> None:
        message_id = message.metadata.message_id
        write_metadata(message.metadata, folder / f"{message_id}.json")
        message.save(folder / f"{message_id}.dat")  # last: if it exists, the message is complete

    return store


def count_lines(message: Message) -> None:
    """Count lines: a route with code of your own."""
    lines = sum(1 for _ in message.iter_lines())
    logger.info("message %s: a clinic list of %d lines", message.metadata.message_id, lines)


def write_metadata(metadata: MessageMetadata, path: Path) -> None:
    """Store a message's metadata durably."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(metadata.model_dump_json(indent=2, exclude_none=True))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def run(mesh: MeshClient, spool: Path, known: Mapping[str, Route], stop: Callable[[], bool]) -> bool:
    """Empty the inbox once; return whether everything was delivered to a known route."""
    quarantined = []

    def route(message: Message) -> None:
        metadata = message.metadata
        chosen = known.get(metadata.workflow_id or "")
        if chosen is None:
            logger.error(
                "message %s from %s goes into quarantine: unknown workflow id %s",
                metadata.message_id,
                metadata.sender,
                metadata.workflow_id,
            )
            quarantined.append(metadata.message_id)
            chosen = into(spool / "quarantine")
        chosen(message)

    def keep_report(report: Report) -> None:
        write_metadata(report, spool / "reports" / f"{report.message_id}.json")

    result = mesh.receive_messages(route, on_report=keep_report, journal=spool / "journal", stop=stop)
    for failed in result.failed:
        # The type only: the text may quote the message.
        logger.error("message %s stays in the inbox: %s", failed.message_id, failed.error)
    return not (result.failed or result.error or quarantined)


def main(arguments: list[str] | None = None) -> int:
    """Empty the inbox once; run it every five minutes."""
    parser = argparse.ArgumentParser(description="Empty a MESH inbox, and route each message by its workflow id.")
    parser.add_argument("settings", type=Path, help="the mailbox's settings file")
    parser.add_argument("spool", type=Path, help="the folder with a folder for each route")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    try:
        with MeshClient(MeshSettings.from_file(given.settings)) as mesh:
            succeeded = run(mesh, given.spool, routes(given.spool), stopping.is_set)
    except (MeshError, OSError) as error:
        logger.error("%s: %s", type(error).__name__, error)
        return 1
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
