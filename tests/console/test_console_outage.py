"""The console while its ledger cannot be read, and while people do the same at once: on both databases."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest
from consoles import ALICE, PASSWORD, Served, Visitor, form_token, served_console
from sqlalchemy import text

from nel_mesh import InvalidArgument, StorageError
from nel_mesh.console.chain_checks import ChainChecks
from nel_mesh.console.guard import UNAVAILABLE
from nel_mesh.console.roles import Role
from nel_mesh.ledger.database import Database
from nel_mesh.ledger.ledger import Ledger
from postgresql_server import PASSWORD as DATABASE_PASSWORD
from postgresql_server import temporary_postgresql
from stores import skipped_if_missing

pytest_plugins = ["console_fixtures", "ledger_fixtures"]


@pytest.fixture(params=["sqlite", "postgresql"])
def console(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """A console over each database."""
    url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else None
    with served_console(tmp_path, database=url) as served:
        yield served


@contextlib.contextmanager
def held_up(database: Database, table: str, count: int) -> Iterator[None]:
    """Let nobody else write to a table, until so many wait for that; SQLite does not tell how many wait."""
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"))
        yield
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        end = time.monotonic() + 4
        while not database.is_sqlite:
            with database.read() as another:  # in one transaction the view stays as it is
                if (another.scalar(waiting) or 0) >= count:
                    break
            assert time.monotonic() < end


def sent_at_once(served: Served, table: str, forms: list[tuple[Visitor, str, dict[str, str]]]) -> list[httpx.Response]:
    """Send forms at the same moment."""
    tokens = [form_token(visitor.get("/login" if path == "/login" else "/").text) for visitor, path, _ in forms]
    with ThreadPoolExecutor(len(forms)) as pool:
        with held_up(served.ledger.database, table, len(forms)):
            sent = [
                pool.submit(visitor.client.post, path, data={"form_token": token, **fields})
                for (visitor, path, fields), token in zip(forms, tokens, strict=True)
            ]
        return [one.result() for one in sent]


@pytest.mark.parametrize("doing", [("disable", ""), ("change", "viewer")], ids=str)
def test_of_two_administrators_who_remove_each_other_one_stays(console: Served, doing: tuple[str, str]) -> None:
    action, role = doing
    console.accounts.change("operator", role=Role.ADMINISTRATOR, actor="test")
    with console.visitor("administrator") as one, console.visitor("operator") as other:
        fields = {"action": action, "role": role, "reason": "made up"}
        answers = sent_at_once(
            console,
            "console_user",
            [
                (one, "/users/change", {**fields, "name": "operator"}),
                (other, "/users/change", {**fields, "name": "administrator"}),
            ],
        )
    left = [user.name for user in console.accounts.all() if user.role is Role.ADMINISTRATOR and not user.disabled_at]
    assert len(left) == 1
    done = [answer.headers.get("location") == "/users" for answer in answers]
    assert sorted(done) == [False, True]
    assert "last administrator" in "".join(answer.text for answer in answers) or console.ledger.database.is_sqlite


def test_two_changes_of_one_account_both_hold(console: Served) -> None:
    with console.visitor("administrator") as one, console.visitor("administrator") as other:
        fields = {"name": "viewer", "action": "change", "reason": "made up"}
        answers = sent_at_once(
            console,
            "console_user",
            [
                (one, "/users/change", {**fields, "role": "operator"}),
                (other, "/users/change", {**fields, "role": "auditor"}),
            ],
        )
    assert [answer.status_code for answer in answers] == [303, 303]
    # Each event says from what: the second from what the first had made of it.
    second, first = (event.details["role"] for event in console.ledger.search.events(kind="user changed", limit=2))
    assert first["from"] == "viewer"
    assert second["from"] == first["to"]


def test_an_account_that_two_add_at_once_is_one(console: Served) -> None:
    def add(_: int) -> str:
        return console.accounts.add("carol", Role.VIEWER, None, sees_content=False, actor="test")

    refused = []
    with ThreadPoolExecutor(2) as pool:
        with held_up(console.ledger.database, "console_user", 2):
            added = [pool.submit(add, number) for number in range(2)]
        for one in added:
            try:
                one.result()
            except InvalidArgument as error:
                refused.append(str(error))
    assert refused == ["there is a user carol already; `reset` gives a new password"]
    added_names = [event.details["name"] for event in console.ledger.search.events(kind="user added")]
    assert added_names.count("carol") == 1


def test_guesses_at_the_same_moment_are_each_counted(console: Served) -> None:
    with contextlib.ExitStack() as stack:
        guesses = {"name": "viewer", "password": "not the password", "code": "000000"}
        visitors = [stack.enter_context(console.visitor()) for _ in range(2)]
        for _ in range(2):
            answers = sent_at_once(console, "console_attempt", [(one, "/login", guesses) for one in visitors])
            assert [answer.status_code for answer in answers] == [403, 403]
        assert "wrong" in visitors[0].log_in("viewer", "not the password", "000000").text
        assert "Too many attempts" in visitors[0].log_in("viewer", "not the password", "000000").text
    assert len(console.ledger.search.events(kind="login failed")) == 5


def test_no_database_is_asked_for_a_text_with_a_nul(console: Served) -> None:
    with console.visitor("operator") as visitor:
        answers = [
            visitor.get(path) for path in ("/messages?view=%00", "/messages?workflow_id=a%00", "/mailboxes/a%00")
        ]
        answers.append(visitor.post("/messages/search", {"identifier": "a\0b"}))
        answers.append(visitor.post(f"/mailboxes/{ALICE}/run", {"action": "pause", "reason": "a\0b"}))
        files = {"file": ("a.csv", b"made up")}
        fields = {"mailbox_id": ALICE, "to": ALICE, "workflow_id": "a\0b", "once": "x"}
        answers.append(visitor.post("/send", fields, page="/send", files=files))
        answers.append(visitor.get("/audit", headers={"cookie": "nel_mesh_console=%00"}))
    with console.visitor() as visitor:
        answers.append(visitor.log_in("a\0b", code="000000"))
    assert [answer.status_code for answer in answers] == [400, 400, 400, 400, 400, 400, 303, 400]


Outage = tuple[Served, Callable[[], object], Callable[[], object]]


@pytest.fixture(params=["sqlite", "postgresql"])
def outage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outage]:
    """A console, and what takes its ledger away and gives it back."""
    if request.param == "sqlite":
        with served_console(tmp_path) as served:

            def rename(before: str, after: str) -> None:
                with served.ledger.database.write() as connection:
                    for table in ("console_session", "event"):
                        connection.execute(text(f"ALTER TABLE {table}{before} RENAME TO {table}{after}"))

            yield served, lambda: rename("", "_away"), lambda: rename("_away", "")
        return
    with skipped_if_missing(), temporary_postgresql(is_durable=True) as server, server.database("mesh") as url:
        with Ledger(url):
            pass
        with served_console(tmp_path, database=url) as served:
            yield served, lambda: server.stop(signal.SIGQUIT), server.start


def test_without_its_ledger_it_says_so_and_what_to_do(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    served, take_away, give_back = outage
    with served.visitor("administrator") as visitor, served.visitor() as anonymous:
        token = form_token(visitor.get("/users").text)
        login = form_token(anonymous.get("/login").text)
        take_away()
        answers = [visitor.get(path) for path in ("/", "/messages", "/messages.csv", "/login", f"/mailboxes/{ALICE}")]
        answers.append(visitor.client.post("/audit/check", data={"form_token": token}))
        fields = {"name": "viewer", "password": PASSWORD, "code": "000000", "form_token": login}
        answers.append(anonymous.client.post("/login", data=fields))
        programs = [visitor.get("/api/now"), visitor.get("/api/messages"), visitor.get("/live")]
        give_back()
        for answer in answers:
            assert answer.status_code == 503, answer.request.url
            assert answer.headers["content-type"].startswith("text/html")
            assert UNAVAILABLE in answer.text
            assert answer.headers["x-frame-options"] == "DENY"
        assert [answer.status_code for answer in programs] == [503, 503, 503]
        assert [answer.json() for answer in programs[:2]] == [{"error": UNAVAILABLE}] * 2
        for answer in (*answers, *programs):
            for word in ("Traceback", "bug in nel-mesh", "postgresql", "console_session", DATABASE_PASSWORD):
                assert word not in answer.text
        # The same session goes on.
        assert visitor.get("/").status_code == 200
    assert "the ledger cannot be used" in caplog.text
    assert DATABASE_PASSWORD not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_page_that_listens_goes_on_when_the_ledger_is_back(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    served, take_away, give_back = outage
    with served.visitor("viewer") as visitor, visitor.client.stream("GET", "/live?since=0") as events:
        lines = events.iter_lines()
        assert "event: change" in lines
        take_away()
        time.sleep(1.5)  # it looks each second
        give_back()
        served.ledger.mailboxes.pause(ALICE, actor="ann", reason="made up")
        assert "event: change" in lines
    assert "Traceback" not in caplog.text


def test_the_chain_can_be_checked_after_the_ledger_was_away(outage: Outage) -> None:
    served, take_away, give_back = outage
    checks = ChainChecks(served.ledger, threading.Event())
    take_away()
    with contextlib.suppress(StorageError):
        checks.begin(actor="ann", is_whole=False)
    give_back()
    end = time.monotonic() + 20
    while checks.last() is None:
        assert time.monotonic() < end
        with contextlib.suppress(InvalidArgument):
            checks.begin(actor="ann", is_whole=False)
