"""Logging in by OpenID Connect, at a real server of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from consoles import PASSWORD, Served, Visitor, served_console
from openid_provider import CLIENT, SECRET, Provider, openid_provider
from sqlalchemy import func, select

from nel_mesh.console.roles import Role
from nel_mesh.ledger.schema import metadata


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with openid_provider() as running:
        yield running


@pytest.fixture(scope="module")
def site(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("openid")
    (folder / "client.secret").write_text(f"{SECRET}\n")
    more = (
        f'[console.openid]\nissuer = "{provider.url}"\nclient_id = "{CLIENT}"\nclient_secret_file = "client.secret"\n'
    )
    with served_console(folder, more=more) as served:
        served.accounts.add("bob", Role.OPERATOR, None, sees_content=False, actor="test")
        yield served


@pytest.fixture(autouse=True)
def _honest(provider: Provider) -> None:
    provider.name, provider.changes = "bob", {}
    provider.algorithm, provider.is_other_key = "RS256", False


def come_back(visitor: Visitor) -> str:
    """Go to the organisation's server; return the address by which it leads back."""
    assert "Log in with your organisation" in visitor.get("/login").text
    away = visitor.get("/login/openid")
    assert away.status_code == 303
    with httpx.Client(verify=False) as client:
        back = client.get(away.headers["location"]).headers["location"]
    return back.removeprefix(visitor.served.url)


def test_whom_the_organisation_names_is_logged_in(site: Served) -> None:
    with site.visitor() as visitor:
        path = come_back(visitor)
        answer = visitor.get(path)
        assert answer.status_code == 200
        assert "You are logged in as bob" in answer.text
        assert "bob, operator" in visitor.get("/").text
        # The same address a second time is nothing.
        assert visitor.get(path).status_code == 403
    last = site.ledger.search.events(kind="logged in", limit=1)[0]
    assert (last.actor, last.details) == ("bob (console)", {"by": "OpenID Connect"})


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://attacker.example"},
        {"aud": "another-client"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1_700_000_000},
        {"exp": None},
        {"preferred_username": None},
        {"preferred_username": ["bob"]},
        {"preferred_username": "nobody"},
        {"preferred_username": "viewer"},
    ],
    ids=str,
)
def test_a_claim_that_is_not_for_this_login_is_refused(
    site: Served, provider: Provider, changes: dict[str, Any]
) -> None:
    provider.changes = changes
    check_refused(site)


def check_refused(site: Served) -> None:
    with site.visitor() as visitor:
        assert visitor.get(come_back(visitor)).status_code == 403
        assert visitor.get("/").headers["location"] == "/login"


def test_a_signature_of_another_key_or_by_the_shared_secret_is_refused(site: Served, provider: Provider) -> None:
    provider.is_other_key = True
    check_refused(site)
    provider.is_other_key = False
    provider.algorithm = "HS256"
    check_refused(site)


def test_a_login_that_another_browser_began_is_refused(site: Served) -> None:
    with site.visitor() as attacker, site.visitor() as victim:
        planted = come_back(attacker)
        come_back(victim)
        assert victim.get(planted).status_code == 403
        assert victim.get("/").headers["location"] == "/login"
        assert victim.get("/login/openid/back?code=x&state=y").status_code == 403
        assert victim.get("/login/openid/back").status_code == 403


def test_a_login_that_is_begun_writes_nothing_and_is_limited(provider: Provider, tmp_path: Path) -> None:
    (tmp_path / "client.secret").write_text(f"{SECRET}\n")
    more = (
        f'[console.openid]\nissuer = "{provider.url}"\nclient_id = "{CLIENT}"\nclient_secret_file = "client.secret"\n'
    )
    with served_console(tmp_path, more=more) as served, served.visitor() as visitor:
        before = written(served)
        codes = [visitor.get("/login/openid").status_code for _ in range(60)]
        codes += [visitor.get("/login/openid/back?code=x&state=y").status_code for _ in range(41)]
        assert codes == [303] * 60 + [403] * 40 + [429]
        assert visitor.get("/login/openid").status_code == 429
        assert "Try again in a few minutes" in visitor.get("/login/openid").text
        assert written(served) == before
        served.clock.added += timedelta(minutes=5)
        assert visitor.get("/login/openid").status_code == 303


def written(served: Served) -> list[int]:
    tables = [table for name, table in metadata.tables.items() if name.startswith("console_") or name == "event"]
    with served.ledger.database.read() as connection:
        return [connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


def test_such_an_account_has_no_password_here(site: Served) -> None:
    with site.visitor() as visitor:
        for password in ("", PASSWORD):
            assert visitor.log_in("bob", password, "000000").status_code == 403


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "client.secret").write_text(SECRET)
    more = '[console.openid]\nissuer = "http://127.0.0.1:9"\nclient_id = "x"\nclient_secret_file = "client.secret"\n'
    with served_console(tmp_path, more=more) as served, served.visitor() as visitor:
        answer = visitor.get("/login/openid")
        assert answer.status_code == 503
        assert "cannot be asked" in answer.text
        # Who has a password here logs in meanwhile.
        assert "With a password of the console" in answer.text
        assert urlsplit(served.url).hostname == "127.0.0.1"
    (tmp_path / "without").mkdir()
    with served_console(tmp_path / "without") as served, served.visitor() as visitor:
        assert visitor.get("/login/openid").status_code == 400
        assert "organisation" not in visitor.get("/login").text
