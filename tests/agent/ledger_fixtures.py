"""Ledgers for the tests of the agent: in a file, and on a PostgreSQL that all tests of a process share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledgers import MovableClock

from nel_mesh.ledger.ledger import Ledger
from postgresql_server import TEMPLATE, PostgreSQL, temporary_postgresql
from stores import skipped_if_missing

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server with a database that has the tables of a ledger."""
    with skipped_if_missing(), temporary_postgresql() as server:
        server.execute("CREATE DATABASE {}", TEMPLATE)
        with Ledger(server.url(TEMPLATE)):
            pass
        yield server


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """The URL of a database of its own, with empty tables."""
    with postgresql.database(f"ledger_{next(_NUMBERS)}", TEMPLATE) as url:
        yield url


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a ledger is: each test runs on both databases."""
    if request.param == "sqlite":
        return tmp_path / "ledger"
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
def ledger(place: Path | str, clock: MovableClock) -> Iterator[Ledger]:
    with Ledger(place, clock=clock) as opened:
        yield opened
