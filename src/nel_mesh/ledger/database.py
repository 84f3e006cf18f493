"""The connection to the ledger's database, and its schema brought up to date.

SQLite by default: one machine, several processes, a write-ahead log. A transaction that writes takes the lock at its
beginning, so that two cannot read the same row and both act on it. It is durable when `write` ends: threads that have
committed at the same time share one sync of the log.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from nel_mesh.errors import StorageError
from nel_mesh.io.files import SharedSync, make_folder, sync_folder, translate_storage_errors

HEAD = "0002"
"""The newest version of the schema; versions are numbered in four digits."""

_BUSY_TIMEOUT_SECONDS = 30
_MIGRATION_LOCK = 1852140653


class Database:
    """A database by its URL, such as `sqlite:///PATH`.

    Args:
        url: SQLAlchemy's URL; `for_file` makes that of a file.
    """

    def __init__(self, url: str) -> None:
        self._url = sqlalchemy.make_url(url)
        self._engine: Engine | None = None
        # SQLite lets waiting writers sleep; threads of one process had better queue.
        self._writing = threading.Lock()
        self._sync = SharedSync(self._sync_log)
        self._log: int | None = None
        self._kept: Connection | None = None

    @classmethod
    def for_file(cls, path: Path) -> Database:
        """Return the database in an SQLite file, which is made when it is opened."""
        return cls(sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string())

    def __repr__(self) -> str:
        return f"Database({self._url.render_as_string(hide_password=True)!r})"

    @property
    def place(self) -> str:
        """Where it is, for people: without a password."""
        return self._url.database if self.is_sqlite and self._url.database else self._url.render_as_string()

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file on this machine."""
        return self._url.get_backend_name() == "sqlite"

    def open(self) -> None:
        """Connect, and bring the schema up to date. Raises StorageError if that cannot be done."""
        if self.is_sqlite and self._url.database:
            folder = Path(self._url.database).parent
            with translate_storage_errors(folder):
                make_folder(folder, 0o700)
                # Names of files and subjects are in it.
                Path(self._url.database).touch(mode=0o600)
        with self._translated():
            self._engine = self._make_engine()
            # As long as one connection is open, the write-ahead log stays the same file.
            self._kept = self._engine.connect()
            self._migrate()
        if self.is_sqlite:
            path = Path(f"{self.place}-wal")
            with translate_storage_errors(path.parent):
                self._log = os.open(path, os.O_RDWR)
                sync_folder(path.parent)
                self._sync.sync()

    def _sync_log(self) -> None:
        if self._log is not None:
            os.fsync(self._log)

    def _make_engine(self) -> Engine:
        if not self.is_sqlite:
            return sqlalchemy.create_engine(self._url, pool_pre_ping=True, pool_size=20, max_overflow=20)
        engine = sqlalchemy.create_engine(
            self._url, connect_args={"timeout": _BUSY_TIMEOUT_SECONDS}, pool_size=20, max_overflow=20
        )

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            # The driver would begin transactions by itself, and too late.
            connection.isolation_level = None
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL would sync the write-ahead log in each commit; `_sync` does so once for all that have committed.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            reads = connection.get_execution_options().get("nel_mesh_reads")
            connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

        return engine

    def _migrate(self) -> None:
        """Run the versions of the schema that this database has not seen; another process may be doing so."""
        with self.write() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            found = None
            if sqlalchemy.inspect(connection).has_table("alembic_version"):
                found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
            # A later agent may have been here. Its versions only add, so this one can work with them.
            if found is None or found < HEAD:
                self._upgrade(connection)

    def _upgrade(self, connection: Connection) -> None:
        # Half of the time of a command's start, and needed once.
        from alembic import command
        from alembic.config import Config

        with as_file(files("nel_mesh.ledger") / "migrations") as folder:
            config = Config()
            config.set_main_option("script_location", str(folder).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Read, all at one moment."""
        with self._translated(), self._opened().connect() as connection:
            connection = connection.execution_options(nel_mesh_reads=True)
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Write in one transaction, which is durable when the block ends, and undone if it raises."""
        turn = self._writing if self.is_sqlite else contextlib.nullcontext()
        with turn, self._translated(), self._opened().begin() as connection:
            yield connection
        if self._log is not None:
            with translate_storage_errors(Path(self.place)):
                self._sync.sync()

    def close(self) -> None:
        """Close every connection."""
        log, self._log = self._log, None
        if log is not None:
            os.close(log)
        if self._kept is not None:
            self._kept.close()
        if self._engine is not None:
            self._engine.dispose()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            # Its text has the statement, with names of files in it.
            reason = str(error.__cause__ or type(error).__name__).splitlines()[0]
            raise StorageError(f"{self.place}: the ledger cannot be used: {reason}") from None

    def _opened(self) -> Engine:
        if self._engine is None:
            raise StorageError("the ledger has not been opened")
        return self._engine


def row_values(row: Any) -> dict[str, Any]:
    """Return the columns of a row by name."""
    return dict(row._mapping)
