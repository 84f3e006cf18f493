"""A nightly extract: one day's results from a database, sent over MESH as CSV, once.

    python examples/nightly_extract.py appsettings.json pathology.sqlite --to X26ABC2 --state /var/lib/extract

Run it from cron as often as you like: what was interrupted goes on, and what was sent is not sent again. The first run
of a night writes the extract into the state folder, and every later one sends that same file; delete old ones when the
night cannot be run again.

Exit codes: 0 it is sent, now or before; 75 not now, run it again; 1 somebody must look.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import logging
import os
import sqlite3
import sys
from datetime import date, datetime
from pathlib import Path

from nel_mesh import (
    Busy,
    ConnectionFailed,
    ConnectionLost,
    MeshClient,
    MeshError,
    MeshSettings,
    OutcomeUnknown,
    SendReceipt,
    ServerError,
)

SENT, SOMEBODY_MUST_LOOK, RUN_IT_AGAIN = 0, 1, 75  # 75 is EX_TEMPFAIL of sysexits.h
PASSING = (Busy, ConnectionFailed, ConnectionLost, OutcomeUnknown, ServerError)

logger = logging.getLogger("nightly_extract")


def main(arguments: list[str] | None = None) -> int:
    """Sends the extract of one day; gives the exit code."""
    parser = argparse.ArgumentParser(description="Sends one day's results over MESH, once.")
    parser.add_argument("settings", type=Path, help="the mailbox's settings file")
    parser.add_argument("database", type=Path, help="the SQLite database with the results")
    parser.add_argument("--to", required=True, help="the recipient's mailbox id")
    parser.add_argument("--state", type=Path, required=True, help="a folder for extracts and records")
    today = datetime.now().astimezone().date()
    parser.add_argument("--day", type=date.fromisoformat, default=today, help="YYYY-MM-DD; today by default")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        with MeshClient(MeshSettings.from_file(given.settings)) as mesh:
            receipt = send_extract(mesh, given.database, given.day, to=given.to, state=given.state)
    except PASSING as error:
        # Under its record, the next run finds out what became of an unknown outcome.
        logger.warning("not now: %s", error)
        return RUN_IT_AGAIN
    except (MeshError, sqlite3.Error, OSError) as error:
        logger.error("%s: %s", type(error).__name__, error)
        return SOMEBODY_MUST_LOOK
    logger.info("extract of %s: message %s, %d bytes", given.day, receipt.message_id, receipt.bytes)
    return SENT


def send_extract(mesh: MeshClient, database: Path, day: date, *, to: str, state: Path) -> SendReceipt:
    """Makes the extract of a day unless it is there, and sends it; goes on where an earlier run was interrupted."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state / f"results-{day}.csv"
    if not path.exists():
        write_extract(database, path, day)
    with path.open("rb") as file:
        checksum = f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    return mesh.send_file(
        path,
        to=to,
        workflow_id="RESULTS_EXTRACT",
        local_id=f"results-{day}",
        checksum=checksum,
        compress=True,
        resume=state / f"results-{day}.record",
    )


def write_extract(database: Path, path: Path, day: date) -> None:
    """Writes one day's results as CSV, row by row; the file has its name only when it is complete."""
    part = path.with_suffix(".part")
    with (
        contextlib.closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection,
        part.open("w", newline="", encoding="utf-8") as file,
    ):
        rows = connection.execute(
            "SELECT specimen, taken, test, value FROM result WHERE taken = ? ORDER BY specimen", [day.isoformat()]
        )
        writer = csv.writer(file)
        writer.writerow(column for column, *_ in rows.description)
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
