"""The connection to a ledger on PostgreSQL: its URL, its password, and the limits of time.

Nothing waits for ever: a server that is cut off without a word, a lock that a frozen process holds, and a transaction
that nobody ends are given up, so that the rest of a fleet goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from nel_mesh.errors import InvalidArgument, StorageError

CONNECT_TIMEOUT_SECONDS = 5
SILENCE_TIMEOUT_SECONDS = 10
"""How long a connection may be without any answer from the network."""

STATEMENT_TIMEOUT_SECONDS = 30
LOCK_TIMEOUT_SECONDS = 10
IDLE_TRANSACTION_TIMEOUT_SECONDS = 3
"""How long a process may say nothing in the middle of a transaction. One that is frozen there holds locks that all
others need, and as long as they wait for it they do not see how silent it is."""

_DRIVER = "postgresql+psycopg"


def parse_url(text: str) -> URL:
    """Return the URL of a ledger, for SQLAlchemy.

    Raises:
        InvalidArgument: it is none. The text is not in the message: there may be a password in it.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise InvalidArgument("ledger: expected a URL such as postgresql://user@host/database") from None
    if url.drivername in ("postgresql", "postgres", _DRIVER):
        return url.set(drivername=_DRIVER)
    if url.get_backend_name() == "sqlite":
        return url
    raise InvalidArgument(f"ledger: expected postgresql://user@host/database, not {url.drivername}://")


def password_of(file: Path) -> str:
    """Return the password in a file, without the end of its line. Raises StorageError."""
    try:
        password = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise StorageError(f"{file}: the ledger's password cannot be read: {reason}") from None
    if not password:
        raise StorageError(f"{file}: the file for the ledger's password is empty")
    return password


def connect_arguments(url: URL) -> dict[str, Any]:
    """Return what every connection to PostgreSQL is made with, in the words of libpq, as far as the URL lets it be."""
    keepalives = {"keepalives_idle": 4, "keepalives_interval": 2, "keepalives_count": 3}
    silence = {"tcp_user_timeout": SILENCE_TIMEOUT_SECONDS * 1000}
    limits = {
        "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
        "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_TIMEOUT_SECONDS}s",
        # At the server's end too: of a machine without power it learns nothing, and would keep the connections for two
        # hours, until there are as many as it allows.
        **{f"tcp_{name}": value for name, value in keepalives.items()},
        **silence,
    }
    ours = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "keepalives": 1,
        **keepalives,
        **silence,
        "application_name": "nel-mesh",
        "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
    }
    given: dict[str, Any] = {name: value for name, value in url.query.items() if name in ours}
    if "options" in given:
        # Of a setting that is there twice, the server takes the last one.
        given["options"] = f"{ours['options']} {given['options']}"
    return {**ours, **given}


def connection_text(url: URL) -> str:
    """Return a URL as the connection string of libpq, with its password: for a driver, and never shown."""
    from psycopg.conninfo import make_conninfo

    parts = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    given = {name: value for name, value in parts.items() if value is not None}
    options = {str(name): value for name, value in url.query.items()}
    return make_conninfo("", dbname=url.database, **{**options, **connect_arguments(url), **given})
