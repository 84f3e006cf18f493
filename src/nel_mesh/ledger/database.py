"""The connection to the ledger's database, and its schema brought up to date.

SQLite by default: one machine, several processes, a write-ahead log. A transaction that writes takes the lock at its
beginning, so that two cannot read the same row and both act on it. It is durable when `write` ends: threads that have
committed at the same time share one sync of the log.

PostgreSQL for a fleet: what two could both act on is locked row by row where it is read. Each transaction that writes
asks first whether this process may: see `fence`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from nel_mesh.errors import StorageError
from nel_mesh.io.files import SharedSync, make_folder, sync_folder, translate_storage_errors
from nel_mesh.ledger import postgresql

HEAD = "0004"
"""The newest version of the schema; versions are numbered in four digits."""

_BUSY_TIMEOUT_SECONDS = 30
_START_LOCK = 1852140653
"""A number of our own, for what agents that start at the same moment must do one after another."""


class Database:
    """A database by its URL, such as `postgresql://user@host/mesh`.

    Args:
        url: the URL; `for_file` makes that of a file.
        password_file: a file with the password, if it is in none of the places where libpq looks.

    Attributes:
        fence: called at the beginning of each transaction that writes; it raises `Fenced` if others have taken over
            the work of this process, which must then write nothing more.

    Raises:
        InvalidArgument: the URL is of no database that can be a ledger.
    """

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        self._url = postgresql.parse_url(url)
        self._password_file = password_file
        self.fence: Callable[[Connection], object] | None = None
        self._engine: Engine | None = None
        # SQLite lets waiting writers sleep; threads of one process had better queue.
        self._writing = threading.Lock()
        self._sync = SharedSync(self._sync_log)
        self._log: int | None = None
        self._kept: Connection | None = None
        self._is_closed = False

    @classmethod
    def for_file(cls, path: Path) -> Database:
        """Return the database in an SQLite file, which is made when it is opened."""
        return cls(sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False))

    def __repr__(self) -> str:
        return f"Database({self._url.render_as_string(hide_password=True)!r})"

    @property
    def place(self) -> str:
        """Where it is, for people: without a password."""
        if self.is_sqlite and self._url.database:
            return self._url.database
        return sqlalchemy.URL.create(
            "postgresql", self._url.username, None, self._url.host, self._url.port, self._url.database
        ).render_as_string()

    def connection_text(self) -> str:
        """Return the connection string of libpq, with its password: for the engine of a fleet, and never shown."""
        return postgresql.connection_text(self._url_with_password())

    def _url_with_password(self) -> sqlalchemy.URL:
        if self._password_file is None:
            return self._url
        return self._url.set(password=postgresql.password_of(self._password_file))

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
        self._is_closed = False
        try:
            with self._translated():
                self._engine = self._make_engine()
                event.listen(self._engine, "checkin", self._close_late)
                # As long as one connection is open, the write-ahead log stays the same file.
                self._kept = self._engine.connect()
                self._migrate()
            if self.is_sqlite:
                path = Path(f"{self.place}-wal")
                with translate_storage_errors(path.parent):
                    self._log = os.open(path, os.O_RDWR)
                    sync_folder(path.parent)
                    self._sync.sync()
        except BaseException:
            self.close()
            raise

    def _close_late(self, connection: Any, _record: object) -> None:
        """Close a connection that a thread gives back after `close`: its pool closes no more."""
        if self._is_closed and connection is not None:
            connection.close()

    def _sync_log(self) -> None:
        if self._log is not None:
            os.fsync(self._log)

    def _make_engine(self) -> Engine:
        if not self.is_sqlite:
            try:
                return sqlalchemy.create_engine(
                    self._url_with_password(),
                    connect_args=postgresql.connect_arguments(self._url),
                    pool_pre_ping=True,
                    pool_size=20,
                    max_overflow=20,
                    pool_timeout=_BUSY_TIMEOUT_SECONDS,
                    hide_parameters=True,
                )
            except ImportError:
                text = "a ledger on PostgreSQL needs an extra: pip install 'nel-mesh[agent,fleet]'"
                raise StorageError(text) from None
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
        if not self.is_sqlite:
            # Most starts find it done, and need not wait for one another.
            with self.read() as connection:
                if self._is_current(connection):
                    return
        with self.write() as connection:
            self.wait_for_others_that_start(connection)
            if not self._is_current(connection):
                self._upgrade(connection)

    def wait_for_others_that_start(self, connection: Connection) -> None:
        """Wait until no other agent is making tables, or noting mailboxes; until the transaction ends, others wait."""
        if not self.is_sqlite:  # which has one writer at a time
            # New tables, or thousands of new mailboxes, take longer than a statement may elsewhere.
            for name in ("statement_timeout", "lock_timeout"):
                connection.exec_driver_sql(f"SET LOCAL {name} = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_START_LOCK})")

    @staticmethod
    def _is_current(connection: Connection) -> bool:
        if not sqlalchemy.inspect(connection).has_table("alembic_version"):
            return False
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
        # A later agent may have been here. Its versions only add, so this one can work with them.
        return found is not None and str(found) >= HEAD

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
            if self.fence is not None:
                self.fence(connection)
            yield connection
        if self._log is not None:
            with translate_storage_errors(Path(self.place)):
                self._sync.sync()

    def close(self) -> None:
        """Close every connection; one that is in use, once it is given back."""
        self._is_closed = True
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
