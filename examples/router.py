"""A router: empties an inbox, and gives each message to whoever is responsible for its workflow id.

    python examples/router.py appsettings.json /var/spool/mesh

Nothing is lost: a message is acknowledged only after its route has come to its end; one whose workflow id nobody knows
goes into `quarantine` and into the log; reports go into `reports`. What fails stays in the inbox for the next run.
Interrupt it when you like: the journal knows what was delivered, and where a message comes a second time nevertheless,
it gets the same file name as before. Exit codes: 0 all is well; 1 something failed or was quarantined.
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
    """Which workflow id goes where. A route reads the whole message, and raises if it is not safe."""
    return {
        "PATH_RESULTS": into(spool / "pathology"),
        "DISCHARGE_SUMMARY": into(spool / "discharges"),
        "CLINIC_LIST": count_lines,
    }


def into(folder: Path) -> Route:
    """A route that stores each message in a folder, with what its headers say beside it."""

    def store(message: Message) -> None:
        message_id = message.metadata.message_id
        write_metadata(message.metadata, folder / f"{message_id}.json")
        message.save(folder / f"{message_id}.dat")  # the last: where it is, all of the message is

    return store


def count_lines(message: Message) -> None:
    """A route that is a program of your own."""
    lines = sum(1 for _ in message.iter_lines())
    logger.info("message %s: a clinic list of %d lines", message.metadata.message_id, lines)


def write_metadata(metadata: MessageMetadata, path: Path) -> None:
    """Stores what a message's headers say, durably."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(metadata.model_dump_json(indent=2, exclude_none=True))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def run(mesh: MeshClient, spool: Path, known: Mapping[str, Route], stop: Callable[[], bool]) -> bool:
    """Goes through the inbox once; gives whether all is well."""
    quarantined = []

    def route(message: Message) -> None:
        metadata = message.metadata
        chosen = known.get(metadata.workflow_id or "")
        if chosen is None:
            logger.error(
                "message %s from %s goes into quarantine: nobody knows its workflow id, %s",
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
        # The type alone: what a route raises may quote the message.
        logger.error("message %s stays in the inbox: %s", failed.message_id, type(failed.error).__name__)
    return not (result.failed or quarantined)


def main(arguments: list[str] | None = None) -> int:
    """Empties the inbox once; run it every five minutes or more."""
    parser = argparse.ArgumentParser(description="Empties a MESH inbox, and routes each message by its workflow id.")
    parser.add_argument("settings", type=Path, help="the mailbox's settings file")
    parser.add_argument("spool", type=Path, help="the folder that has a folder for each route")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    try:
        with MeshClient(MeshSettings.from_file(given.settings)) as mesh:
            is_well = run(mesh, given.spool, routes(given.spool), stopping.is_set)
    except (MeshError, OSError) as error:
        logger.error("%s: %s", type(error).__name__, error)
        return 1
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
