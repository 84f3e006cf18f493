"""What the console lets nobody do: every page for every role, forged forms, injection, fixation, guessing."""

from __future__ import annotations

import contextlib
import html.parser
import re
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from consoles import ALICE, HOSTILE, PASSWORD, PRIVATE, Filled, Served, Visitor, form_token
from sqlalchemy import func, insert, select

from nel_mesh import InvalidArgument
from nel_mesh.console.accounts import Accounts, LoginRefused
from nel_mesh.console.application import PAGES
from nel_mesh.console.guard import COOKIE, Page
from nel_mesh.console.roles import RIGHTS, Right, Role
from nel_mesh.console.visitors import Pace, network_of
from nel_mesh.ledger.chain import check_chain
from nel_mesh.ledger.schema import console_attempts
from nel_mesh.ledger.states import State

pytest_plugins = ["console_fixtures"]

HEADERS = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
}


def path_of(page: Page, filled: Filled) -> str:
    return page.path.replace("{number:int}", str(filled.stored.id)).replace("{mailbox_id}", ALICE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.method} {page.path}")
def test_an_anonymous_visitor_gets_the_login_and_nothing_else(page: Page, shared: Served, filled: Filled) -> None:
    with shared.visitor() as visitor:
        answer = visitor.client.request(page.method, path_of(page, filled))
        if page.path == "/login":
            assert answer.status_code == (200 if page.method == "GET" else 403)
        elif page.path.startswith("/login/openid"):
            # It is not set up here; a login that nobody began is none.
            assert answer.status_code in (400, 403)
        elif page.path == "/logout":
            assert answer.status_code == 403
        elif page.is_api:
            assert answer.status_code == 401
            assert answer.json() == {"error": "log in first"}
        else:
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert ALICE not in answer.text
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


@pytest.fixture(scope="module")
def visitors(shared: Served) -> Iterator[dict[str, Visitor]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(shared.visitor(name)) for name in (*map(str, Role), "reader")}


@pytest.mark.parametrize("page", [page for page in PAGES if page.right], ids=lambda page: f"{page.method} {page.path}")
def test_each_page_is_for_the_roles_with_its_right(
    page: Page, shared: Served, filled: Filled, visitors: dict[str, Visitor]
) -> None:
    for name, visitor in visitors.items():
        rights = RIGHTS[Role(name)] if name != "reader" else RIGHTS[Role.VIEWER] | {Right.CONTENT}
        # Without the form's token, an action is refused for that; so nothing is done here.
        answer = visitor.client.request(page.method, path_of(page, filled))
        text = answer.text
        if page.right not in rights:
            assert answer.status_code == 403
            assert "Your role does not allow this" in text
        elif page.method == "GET":
            assert answer.status_code == 200, text
        else:
            assert answer.status_code in (403, 413)
            assert "Your role" not in text
            assert "not of this session" in text or "too long" in text


@pytest.mark.parametrize("page", [page for page in PAGES if page.method == "POST"], ids=lambda page: page.path)
def test_a_form_of_another_site_or_session_is_refused(
    page: Page, shared: Served, filled: Filled, visitors: dict[str, Visitor]
) -> None:
    visitor, other = visitors["administrator"], visitors["operator"]
    own, others = form_token(visitor.get("/").text), form_token(other.get("/").text)
    path = path_of(page, filled)
    before = shared.ledger.search.last_event()
    for token, headers in (
        ("", {}),
        ("0" * 64, {}),
        (others, {}),
        ("\N{SNOWMAN}", {}),
        (own, {"origin": "https://attacker.example"}),
        (own, {"origin": "null"}),
        (own, {"origin": "http://[attacker"}),
        (own, {"sec-fetch-site": "cross-site"}),
        (own, {"sec-fetch-site": "same-site"}),
    ):
        fields = {"form_token": token, "reason": "forged", "action": "retry", "number": "1"}
        answer = visitor.client.post(path, data=fields, headers=headers)
        # The administrator has no right to content.
        assert answer.status_code == 403, (token, headers)
    assert shared.ledger.search.last_event() == before


def test_the_forms_are_bounded(visitors: dict[str, Visitor]) -> None:
    visitor = visitors["operator"]
    long = visitor.post("/messages/search", {"party": "x" * 2_100_000})
    assert long.status_code == 413
    many = visitor.post("/messages/preview", {"number": [str(one) for one in range(3000)], "action": "retry"})
    assert many.status_code == 400

    def endless() -> Iterator[bytes]:
        yield b"form_token=x"

    assert visitor.client.post("/messages/search", content=endless()).status_code == 413


def test_another_name_of_the_host_is_refused(shared: Served) -> None:
    with shared.visitor() as visitor:
        answer = visitor.get("/login", headers={"host": "attacker.example"})
        assert answer.status_code == 400
        assert "attacker" not in answer.text
        for host in ("localhost", "LOCALHOST:80", "[::1]:8480", "127.0.0.1"):
            assert visitor.get("/login", headers={"host": host}).status_code == 200
        for host in (
            "", "127.0.0.1.attacker.example", "localhost.", "attacker.example:80@127.0.0.2", "attacker@127.0.0.1",
            "127.0.0.1/attacker", "127.0.0.1?attacker", "[::1", "[attacker]", "localhost:x",
        ):  # fmt: skip
            assert visitor.get("/login", headers={"host": host}).status_code == 400, host


class Elements(html.parser.HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def check_harmless(text: str) -> None:
    for tag, attributes in Elements(text).found:
        assert tag not in ("img", "iframe", "object", "style", "base", "embed"), tag
        assert not [name for name in attributes if name.startswith("on") or name == "style"], attributes
        if tag == "script":
            assert attributes == {"src": "/static/console.js", "defer": None}
        for name in ("href", "action", "formaction", "src"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("/", "#", "?")), value
            assert not value.startswith("//")
    assert "${49}" not in text
    assert "49" not in re.findall(r"\{\{.*?\}\}|onerror=alert\(1\)>(\d+)", text)


def test_what_a_sender_wrote_is_shown_as_text_and_nothing_else(
    shared: Served, filled: Filled, visitors: dict[str, Visitor]
) -> None:
    visitor = visitors["administrator"]
    pages = [path_of(page, filled) for page in PAGES if page.method == "GET" and not page.is_api]
    pages += [f"/messages/{one.id}" for one in (filled.refused, filled.quarantined, filled.undelivered)]
    shown = 0
    for path in pages:
        if path.endswith(".csv") or path == "/login":
            continue
        text = visitor.get(path).text
        check_harmless(text)
        shown += "&lt;script&gt;alert(&#39;shown&#39;)" in text
        for value in PRIVATE.values():
            assert value not in text, path
    assert shown >= 5
    for path in ("/messages.csv", "/reports.csv", "/audit.csv", "/api/messages", "/api/audit", "/api/now"):
        answer = visitor.get(path)
        assert not answer.headers["content-type"].startswith("text/html")
        for value in PRIVATE.values():
            assert value not in answer.text


def test_names_and_content_are_escaped_too(shared: Served, filled: Filled, visitors: dict[str, Visitor]) -> None:
    reader = visitors["reader"]
    page = f"/messages/{filled.stored.id}"
    text = reader.post(f"{page}/names", {"reason": "asked by the sender"}, page=page).text
    check_harmless(text)
    assert "Jane Doe" in text
    text = reader.post(f"{page}/content", {"reason": "asked by the sender"}, page=page).text
    check_harmless(text)
    assert "content of GOOD1" in text
    answer = reader.post(f"{page}/download", {"reason": "asked by the sender"}, page=page)
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
    assert "\n" not in answer.headers["content-disposition"]
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.text == f"content of GOOD1 {HOSTILE}"


def test_each_look_is_recorded_with_name_and_reason(
    shared: Served, filled: Filled, visitors: dict[str, Visitor]
) -> None:
    page = f"/messages/{filled.undelivered.id}"
    for look in ("names", "content", "download"):
        no_reason = visitors["reader"].post(f"{page}/{look}", page=page)
        assert no_reason.status_code == 400
        assert "Jane Doe" not in no_reason.text
        visitors["reader"].post(f"{page}/{look}", {"reason": f"for {look}"}, page=page)
    found = [event for event in shared.ledger.search.timeline(filled.undelivered.id) if event.actor != "agent"]
    assert [(event.kind, event.actor, event.details["reason"]) for event in found] == [
        ("names shown", "reader (console)", "for names"),
        ("content shown", "reader (console)", "for content"),
        ("content downloaded", "reader (console)", "for download"),
    ]
    checked = check_chain(shared.ledger.database)
    assert checked is not None
    assert checked.broken is None


def test_addresses_with_anything_in_them_harm_nothing(visitors: dict[str, Visitor]) -> None:
    visitor = visitors["viewer"]
    for path in (
        "/messages?states=%3Cscript%3E",
        "/messages?before=1%20OR%201=1",
        "/messages?workflow_id=%27%3BDROP%20TABLE%20message%3B--",
        "/messages?view=%00",
        "/messages?view=../../etc/passwd",
        "/messages?since=99999-99-99",
        "/messages?before=99999999999999999999",
        "/api/messages?limit=-1",
        "/mailboxes/%3Cscript%3Ealert(1)%3C/script%3E",
        "/mailboxes/..%2f..%2fetc",
        "/messages/999999999",
        "/messages/99999999999999999999999999",
        "/messages/1%00",
        "/static/../guard.py",
        "/static/%2e%2e/guard.py",
        "/api/nothing",
    ):
        answer = visitor.get(path)
        assert answer.status_code in (200, 400, 404), path
        assert "Traceback" not in answer.text
        assert "bug in nel-mesh" not in answer.text, path
        if answer.headers["content-type"].startswith("text/html"):
            check_harmless(answer.text)
    assert visitor.get("/messages").status_code == 200


def test_a_login_leads_to_no_other_site(shared: Served) -> None:
    with shared.visitor() as visitor:
        token = form_token(visitor.get("/login?next=https://attacker.example").text)
        fields = {"name": "viewer", "password": PASSWORD, "code": shared.code("viewer"), "form_token": token}
        fields |= {"next": "//attacker.example", "return": "https://attacker.example"}
        answer = visitor.client.post("/login?next=//attacker.example", data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_session_that_was_planted_is_not_taken_over(shared: Served) -> None:
    with shared.visitor() as attacker, shared.visitor() as victim:
        attacker.get("/login")
        planted = attacker.cookie
        assert planted is not None
        victim.client.cookies.set(COOKIE, planted, domain="127.0.0.1", path="/")
        assert victim.log_in("viewer").status_code == 303
        assert attacker.get("/").headers["location"] == "/login"
        jar = [cookie.value for cookie in victim.client.cookies.jar if cookie.name == COOKIE]
        assert any(value != planted for value in jar)


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(shared: Served) -> None:
    with shared.visitor() as visitor:
        said = visitor.log_in("viewer").headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    assert "domain" not in said
    assert "expires" not in said


def test_a_session_ends_by_sign_out_by_idleness_and_by_age(served: Served) -> None:
    with served.visitor("viewer") as visitor:
        kept = visitor.cookie
        visitor.post("/logout")
        visitor.client.cookies.set(COOKIE, kept or "", domain="127.0.0.1", path="/")
        assert visitor.get("/").status_code == 303
    with served.visitor("viewer") as visitor:
        served.clock.added += timedelta(minutes=29)
        assert visitor.get("/").status_code == 200
        served.clock.added += timedelta(minutes=29)
        # A page that refreshes itself does not keep the session alive.
        assert visitor.get("/", headers={"x-nel-mesh-live": "1"}).status_code == 200
        served.clock.added += timedelta(minutes=2)
        assert visitor.get("/").status_code == 303
    with served.visitor("viewer") as visitor:
        for _ in range(26):
            served.clock.added += timedelta(minutes=28)
            last = visitor.get("/").status_code
        assert last == 303


def test_who_is_disabled_is_out_at_once(served: Served) -> None:
    with served.visitor("operator") as operator, served.visitor("administrator") as administrator:
        own = administrator.post("/users/change", {"name": "administrator", "action": "disable", "reason": "x"})
        assert own.status_code == 400
        fields = {"name": "operator", "action": "disable", "reason": "left"}
        assert administrator.post("/users/change", fields).status_code == 303
        assert operator.get("/").status_code == 303
        assert operator.log_in("operator").status_code == 403
        # Nothing changes, so nothing is noted.
        for name, action in (("operator", "disable"), ("viewer", "enable")):
            again = administrator.post("/users/change", {"name": name, "action": action, "reason": "once more"})
            assert again.status_code == 400
            assert "disabled" in again.text
    kinds = [(event.kind, event.actor) for event in served.ledger.search.events(limit=3)]
    assert ("user disabled", "administrator (console)") in kinds


def test_a_new_role_holds_at_once_in_sessions_that_are_open(served: Served) -> None:
    with served.visitor("viewer") as viewer, served.visitor("administrator") as administrator:
        assert viewer.get("/send").status_code == 403
        fields = {"name": "viewer", "action": "change", "role": "operator", "reason": "a new post"}
        assert administrator.post("/users/change", {**fields, "role": "king"}).status_code == 400
        assert administrator.post("/users/change", {**fields, "role": ""}).status_code == 400
        assert administrator.post("/users/change", fields).status_code == 303
        assert viewer.get("/send").status_code == 200
        assert viewer.get("/audit").status_code == 403
        right = {"name": "viewer", "action": "change", "content": "yes", "reason": "a doctor"}
        assert administrator.post("/users/change", right).status_code == 303
        assert served.accounts.get("viewer").sees_content  # type: ignore[union-attr]
        back = fields | {"role": "viewer", "content": "no"}
        assert administrator.post("/users/change", back).status_code == 303
        assert viewer.get("/send").status_code == 403
    changed = served.ledger.search.events(kind="user changed")[-1]
    assert changed.actor == "administrator (console)"
    said = {"name": "viewer", "reason": "a new post", "role": {"from": "viewer", "to": "operator"}}
    assert changed.details == said


def test_the_last_administrator_stays(served: Served) -> None:
    with pytest.raises(InvalidArgument, match="last administrator"):
        served.accounts.disable("administrator", actor="ann")
    with pytest.raises(InvalidArgument, match="last administrator"):
        served.accounts.change("administrator", role=Role.VIEWER, actor="ann")
    served.accounts.change("administrator", sees_content=True, actor="ann")
    served.accounts.change("operator", role=Role.ADMINISTRATOR, actor="ann")
    served.accounts.disable("administrator", actor="ann")
    # One who is disabled is none.
    with pytest.raises(InvalidArgument, match="last administrator"):
        served.accounts.change("operator", role=Role.VIEWER, actor="ann")


def test_guessing_is_locked_out_for_longer_each_time(served: Served) -> None:
    with served.visitor() as visitor:
        for _ in range(5):
            answer = visitor.log_in("viewer", "not the password", "000000")
            assert answer.status_code == 403
        assert "Name, password or code is wrong" in answer.text
        # The right ones do not help now.
        assert "Too many attempts" in visitor.log_in("viewer", code=served.present_code("viewer")).text
        served.clock.added += timedelta(seconds=31)
        assert "wrong" in visitor.log_in("viewer", "not the password", "000000").text
        served.clock.added += timedelta(seconds=31)
        assert "Too many attempts" in visitor.log_in("viewer", code=served.present_code("viewer")).text
        served.clock.added += timedelta(seconds=30)
        assert visitor.log_in("viewer").status_code == 303
    failed = served.ledger.search.events(limit=20, kind="login failed")
    assert len(failed) == 6


def test_a_name_that_nobody_has_cannot_be_told_from_one_that_somebody_has(served: Served) -> None:
    with served.visitor() as visitor:
        known = [visitor.log_in("viewer", "wrong", "000000").text for _ in range(6)]
        unknown = [visitor.log_in("nobody <b>", "wrong", "000000").text for _ in range(6)]
    strip = re.compile(r'value="[0-9a-f]{64}"|\d+ seconds')
    assert [strip.sub("", text) for text in known] == [strip.sub("", text) for text in unknown]
    said = [event.actor for event in served.ledger.search.events(limit=20, kind="login failed")]
    assert set(said) == {"viewer", "unknown"}


def test_an_address_that_tries_many_names_is_locked_out(served: Served) -> None:
    with served.visitor() as visitor:
        for number in range(20):
            visitor.log_in(f"name{number}", "wrong", "000000")
        assert "Too many attempts" in visitor.log_in("viewer", code=served.present_code("viewer")).text


def test_what_anybody_on_the_network_sends_grows_the_ledger_within_bounds(served: Served) -> None:
    accounts = served.accounts
    for number in range(260):
        # Each from another network, so that none is locked out.
        with pytest.raises(LoginRefused):
            accounts.log_in(f"made up {number}", "wrong", "000000", address=f"10.0.{number // 250}.{number % 250}")
    assert len(served.ledger.search.events(limit=500, kind="login failed")) == 200
    many = [{"key": f"{n:064}", "failures": 1, "last_at": served.clock.now()} for n in range(10_500)]
    with served.ledger.database.write() as connection:
        connection.execute(insert(console_attempts), many)
    with pytest.raises(LoginRefused):
        accounts.log_in("viewer", "wrong", "000000", address="10.1.0.1")
    with served.ledger.database.read() as connection:
        assert (connection.scalar(select(func.count()).select_from(console_attempts)) or 0) <= 10_001


def test_addresses_of_one_network_are_one_visitor(served: Served) -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("") == ""
    pace, now = Pace(2, timedelta(minutes=5)), served.clock.now()
    assert [pace.allows("2001:db8::1", now), pace.allows("2001:db8::2", now)] == [True, True]
    for number in range(11_000):
        pace.allows(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}", now)
    # It forgets those who ask seldom.
    assert not pace.allows("2001:db8::3", now)


def test_a_code_is_good_once(served: Served) -> None:
    with served.visitor() as first, served.visitor() as second:
        code = served.code("viewer")
        assert first.log_in("viewer", code=code).status_code == 303
        assert second.log_in("viewer", code=code).status_code == 403
        assert second.log_in("viewer", code="").status_code == 403
        assert second.log_in("viewer").status_code == 303


def test_passwords_are_kept_by_argon2_and_cookies_by_their_digest(served: Served) -> None:
    accounts = Accounts(served.ledger, PasswordHasher())
    served.secrets["slow"] = accounts.add("slow", Role.VIEWER, PASSWORD, sees_content=False, actor="test")
    began = time.process_time()
    assert accounts.log_in("slow", PASSWORD, served.code("slow"), address="127.0.0.1").name == "slow"
    assert time.process_time() - began > 0.005
    with served.visitor("viewer") as visitor, served.ledger.database.read() as connection:
        kept = connection.exec_driver_sql("SELECT password FROM console_user WHERE name = 'slow'").scalar_one()
        assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        rows = connection.exec_driver_sql("SELECT digest FROM console_session").scalars().all()
        assert visitor.cookie is not None
        assert visitor.cookie not in rows
        events = connection.exec_driver_sql("SELECT details FROM event").scalars().all()
        assert not any(PASSWORD in text or served.secrets["slow"] in text for text in events)


def test_a_selection_of_another_person_cannot_be_used(
    shared: Served, filled: Filled, visitors: dict[str, Visitor]
) -> None:
    page = visitors["operator"].post("/messages/preview", {"number": str(filled.refused.id), "action": "seen"}).text
    key = re.search(r'name="selection" value="([^"]+)"', page)
    assert key is not None
    fields = {"selection": key[1], "reason": "stolen"}
    answer = visitors["administrator"].post("/messages/run", fields)
    assert answer.status_code == 400
    assert shared.ledger.messages.get(filled.refused.id).seen_at is None
    assert shared.ledger.messages.get(filled.refused.id).state is State.REFUSED


def test_a_saved_view_is_no_selection_and_stays(shared: Served, visitors: dict[str, Visitor]) -> None:
    visitor = visitors["operator"]
    place = visitor.post("/messages/search", {"states": "gone", "name": "kept", "save": "1"}).headers["location"]
    fields = {"selection": place.partition("view=")[2], "reason": "made up"}
    answer = visitor.post("/messages/run", fields)
    assert answer.status_code == 400
    assert "begin again" in answer.text
    assert visitor.get(place).status_code == 200
    preview = visitor.post("/messages/search", {"identifier": "a search that is not saved"}).headers["location"]
    assert visitor.post("/messages/run", {**fields, "selection": preview.partition("view=")[2]}).status_code == 400


def test_a_selection_is_no_search(shared: Served, filled: Filled, visitors: dict[str, Visitor]) -> None:
    page = visitors["operator"].post("/messages/preview", {"number": str(filled.refused.id), "action": "seen"}).text
    key = re.search(r'name="selection" value="([^"]+)"', page)
    assert key is not None
    # It would find every message.
    assert visitors["operator"].get(f"/messages?view={key[1]}").status_code == 400
