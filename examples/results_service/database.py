"""Messages and their results in SQLite, each message once."""

from __future__ import annotations

import contextlib
import csv
import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS message (message_id TEXT PRIMARY KEY, sender TEXT, content BLOB NOT NULL, problem TEXT);
CREATE TABLE IF NOT EXISTS result (message_id TEXT NOT NULL, specimen TEXT, test TEXT, value TEXT);
"""
COLUMNS = ["specimen", "test", "value"]

Row = dict[str, object]


class Database:
    """A file of messages and results. Every method may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._transaction() as connection:
            connection.executescript(SCHEMA)

    def store(self, message_id: str, sender: str | None, content: bytes) -> None:
        """Store a message with its results, durably. A duplicate changes nothing."""
        problem = None
        results: list[list[str]] = []
        try:
            results = read_results(content)
        except ValueError as error:
            problem = str(error)
        with self._transaction() as connection:
            added = connection.execute(
                "INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?)", (message_id, sender, content, problem)
            )
            if added.rowcount:
                rows = [(message_id, *result) for result in results]
                connection.executemany("INSERT INTO result VALUES (?, ?, ?, ?)", rows)

    def results(self) -> list[Row]:
        """Return all results, oldest first."""
        return self._select("SELECT message_id, specimen, test, value FROM result ORDER BY rowid")

    def unreadable(self) -> list[Row]:
        """Return the messages that could not be parsed."""
        return self._select("SELECT message_id, sender, problem FROM message WHERE problem IS NOT NULL")

    def _select(self, query: str) -> list[Row]:
        with self._transaction() as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=30)) as connection, connection:
            # MESH deletes an acknowledged message, so a commit must survive a power cut.
            connection.execute("PRAGMA synchronous = EXTRA")
            yield connection


def read_results(content: bytes) -> list[list[str]]:
    """Parse CSV with the columns specimen, test and value. Raises ValueError for anything else."""
    try:
        lines = list(csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True))
    except csv.Error as error:
        raise ValueError("it is not CSV") from error
    if lines[:1] != [COLUMNS]:
        raise ValueError("its columns are not those of results")
    if any(len(line) != len(COLUMNS) for line in lines):
        raise ValueError("a line has too many values, or too few")
    return lines[1:]
