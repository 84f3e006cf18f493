"""A nightly extract: send one day's results from a database over MESH as CSV, once.

    python examples/nightly_extract.py appsettings.json pathology.sqlite --to X26ABC2 --state /var/lib/extract

Run it from cron as often as you like: an interrupted send resumes, and a complete one is not repeated. The first run
for a day writes the extract into the state folder, and later ones send the same file; delete old ones.

Exit codes: 0 sent, now or before; 75 temporary failure, run it again; 1 a person must look.
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

SENT, FAILED, RETRY = 0, 1, 75  # 75 is EX_TEMPFAIL of sysexits.h
TEMPORARY = (Busy, ConnectionFailed, ConnectionLost, OutcomeUnknown, ServerError)

logger = logging.getLogger("nightly_extract")


def main(arguments: list[str] | None = None) -> int:
    """Send the extract of one day; return the exit code."""
    parser = argparse.ArgumentParser(description="Send one day's results over MESH, once.")
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
    except TEMPORARY as error:
        # With its record, the next run settles an unknown outcome.
        logger.warning("temporary failure: %s", error)
        return RETRY
    except (MeshError, sqlite3.Error, OSError) as error:
        logger.error("%s: %s", type(error).__name__, error)
        return FAILED
    logger.info("extract of %s: message %s, %d bytes", given.day, receipt.message_id, receipt.bytes)
    return SENT


def send_extract(mesh: MeshClient, database: Path, day: date, *, to: str, state: Path) -> SendReceipt:
    """Write the extract of a day unless it exists, and send it; resume an interrupted send."""
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
    """Write one day's results as CSV, row by row; the file has its name only when it is complete."""
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
