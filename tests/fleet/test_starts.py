"""Agents of a fleet that start at the same moment: who waits for whom, and what is written."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from agents import Site
from sqlalchemy import text

from nel_mesh import StorageError
from nel_mesh.ledger import events
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.sandbox import Sandbox
from ports import free_ports
from postgresql_server import PostgreSQL

pytest_plugins = ["ledger_fixtures"]

SHORT = "?options=-c%20lock_timeout%3D20ms%20-c%20statement_timeout%3D{}ms"
"""In place of the 10 s for a lock and the 30 s for a statement, which a test would have to outlast."""


def test_the_server_gives_up_connections_of_a_machine_that_is_gone(postgresql_url: str) -> None:
    """Such a machine says nothing: its connections would stay until there are as many as the server allows."""
    query = "SELECT name, setting FROM pg_settings WHERE name LIKE 'tcp%'"
    wanted = {
        "tcp_keepalives_idle": "4",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "10000",
    }
    with Ledger(postgresql_url) as ledger:
        with ledger.database.read() as connection:
            assert {row.name: row.setting for row in connection.execute(text(query))} == wanted
        with psycopg.connect(ledger.database.connection_text()) as engines:
            assert dict(engines.execute(query).fetchall()) == wanted


def at_once(works: list[Callable[[], object]]) -> list[str]:
    """Do things at the same moment; return the errors."""
    start, errors = threading.Barrier(len(works)), []

    def do(work: Callable[[], object]) -> None:
        start.wait(20)
        try:
            work()
        except StorageError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=do, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


def test_tables_and_thousands_of_mailboxes_are_made_once_however_long_the_others_wait(postgresql: PostgreSQL) -> None:
    names = [f"X26F{number:05}" for number in range(5000)]
    with postgresql.database("starts") as url:

        def start() -> None:
            with Ledger(url + SHORT.format(20_000)) as ledger:
                ledger.mailboxes.configure(names)

        assert at_once([start] * 4) == []
        with Ledger(url) as ledger:
            assert [one.mailbox_id for one in ledger.mailboxes.all()] == names
            assert len(ledger.search.events(kind="mailbox added", limit=9999)) == len(names)


def test_what_starts_and_those_that_wait_for_it_may_take_longer_than_anything_else(postgresql_url: str) -> None:
    with Ledger(postgresql_url + SHORT.format(300)) as first, Ledger(postgresql_url + SHORT.format(300)) as second:

        def take_long(*, is_start: bool) -> None:
            with first.database.write() as connection:
                if is_start:
                    first.database.wait_for_others_that_start(connection)
                connection.execute(text("SELECT pg_sleep(0.6)"))

        def wait() -> None:
            second.mailboxes.configure(["X26ABC1"])

        assert at_once([lambda: take_long(is_start=True), wait, wait]) == []
        with pytest.raises(StorageError, match="statement timeout"):
            take_long(is_start=False)


def test_a_start_writes_no_mailbox_that_stays_as_it_is(postgresql_url: str) -> None:
    """A visit, on any machine of the fleet, holds its row; and each row that is written leaves a dead one."""
    with Ledger(postgresql_url) as ledger:

        def versions() -> list[str]:
            with ledger.database.read() as connection:
                return list(connection.scalars(text("SELECT xmin::text FROM mailbox ORDER BY mailbox_id")))

        ledger.mailboxes.configure(["X26ABC1", "X26ABC2"])
        before = versions()
        ledger.mailboxes.configure(["X26ABC1", "X26ABC2"])
        assert versions() == before
        ledger.mailboxes.configure(["X26ABC1"])
        assert [old == new for old, new in zip(before, versions(), strict=True)] == [True, False]


def test_a_database_that_is_not_there_is_named_with_what_to_do(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    site = Site(tmp_path, mesh_sandbox, f"postgresql://mesh:hidden@127.0.0.1:{port}/mesh")
    site.write("{bob}\n")
    code, _, said = site.run("nodes", config=site.node("one"))
    message = json.loads(said)["error"]["message"]
    assert code == 4
    assert f"postgresql://mesh@127.0.0.1:{port}/mesh: the ledger cannot be used" in message
    assert "Check the file, disk, store or database that is named" in message
    assert "hidden" not in said


def test_a_process_that_is_frozen_in_the_middle_of_an_entry_holds_the_others_up_for_a_while_only(
    postgresql_url: str,
) -> None:
    option = "?options=-c%20idle_in_transaction_session_timeout%3D300ms"
    with Ledger(f"{postgresql_url}{option}") as frozen, Ledger(postgresql_url) as other:

        def entry(ledger: Ledger, name: str) -> None:
            with ledger.database.write() as connection:
                events.append(connection, ledger.clock.now(), name)
                if ledger is frozen:
                    # It has the lock of the chain, and says nothing; the other waits for it, and is not refused.
                    entry(other, "after it")

        with pytest.raises(StorageError, match="cannot be used"):
            entry(frozen, "lost")
        with other.database.read() as connection:
            kinds = connection.exec_driver_sql("SELECT kind FROM event").scalars().all()
        assert kinds == ["after it"]
