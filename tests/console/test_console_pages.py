"""The pages of the console, and what is done from them, by a browser without scripts."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from consoles import ALICE, BOB, HOSTILE, PRIVATE, Filled, Served, Visitor, served_console

from nel_mesh import ConfigurationError, InvalidArgument
from nel_mesh.agent.membership import place_of
from nel_mesh.console.accounts import check_password
from nel_mesh.console.application import TABLES, openapi
from nel_mesh.console.chain_checks import ChainChecks
from nel_mesh.console.plots import ages, days_left, messages_an_hour
from nel_mesh.console.roles import Role
from nel_mesh.console.selections import read_filter, restored_filter, stored_filter
from nel_mesh.console.serving import console_served
from nel_mesh.ledger.states import Direction, State
from nel_mesh.ledger.statistics import Hour
from nel_mesh.sandbox import Sandbox

from certificates import root  # isort: skip

pytest_plugins = ["console_fixtures", "ledger_fixtures"]


def selection_of(text: str) -> str:
    found = re.search(r'name="selection" value="([^"]+)"', text)
    assert found is not None, text
    return found[1]


def test_the_first_page_says_what_needs_a_person_or_that_nothing_does(served: Served, tmp_path: Path) -> None:
    with served.visitor("viewer") as visitor:
        text = visitor.get("/").text
        assert "Nothing needs a person" in text
        assert "All is well" in text
        filled = Filled(served.ledger, tmp_path)
        text = visitor.get("/").text
        assert re.search(r"[4-9] things need a person", text)
        assert "the checksum differs" in text
        assert f'href="/messages/{filled.quarantined.id}"' in text
        assert re.search(r"Looked at .*\d\d:\d\d:\d\d UTC", text)
        said = visitor.get("/api/now").json()
        assert {one["kind"] for one in said["attention"]} >= {"quarantined", "undelivered", "refused", "unknown"}
        assert said["summary"]["mailboxes"] == 2


def test_a_page_tells_of_a_message_and_masks_names_until_they_are_asked_for(shared: Served, filled: Filled) -> None:
    with shared.visitor("operator") as visitor:
        page = f"/messages/{filled.undelivered.id}"
        text = visitor.get(page).text
        for event in ("waiting", "begun", "accepted", "undelivered"):
            assert f"<strong>{event}</strong>" in text
        assert "TRANSFER" in text
        assert re.search(r'href="/messages/\d+">Report', text)
        assert PRIVATE["recipient"] not in text
        assert PRIVATE["recipient"] in visitor.post(f"{page}/names", {"reason": "the sender asks"}, page=page).text
        assert "Show content" not in text
        assert visitor.post(f"{page}/content", {"reason": "x"}, page=page).status_code == 403
        report = visitor.get("/api/reports").json()["rows"][0]["number"]
        assert f'about <a href="/messages/{filled.undelivered.id}"' in visitor.get(f"/messages/{report}").text


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"identifier": "GOOD1"}, ["GOOD1"]),
        ({"identifier": PRIVATE["local_id"], "direction": "in"}, ["GOOD1", "BROKEN1"]),
        ({"states": "quarantined"}, ["BROKEN1"]),
        ({"states": ["quarantined", "acknowledged"]}, ["GOOD1", "BROKEN1"]),
        ({"workflow_id": "PATH_RES*", "direction": "in", "states": "acknowledged"}, ["GOOD1"]),
        ({"party": BOB.lower()}, ["GOOD1"]),
        ({"party": PRIVATE["recipient"], "direction": "in"}, ["GOOD1", "BROKEN1"]),
        ({"mailbox_id": BOB}, []),
        ({"since": "2000-01-01T00:00", "until": "2000-01-02"}, []),
        ({"since": "2000-01-01T00:00", "identifier": "GOOD1"}, ["GOOD1"]),
    ],
    ids=str,
)
def test_messages_are_found(
    shared: Served, filled: Filled, operator: Visitor, fields: dict[str, str], expected: list[str]
) -> None:
    answer = operator.post("/messages/search", fields)
    place = answer.headers["location"]
    # Nothing that can be a person's stands in the address.
    assert not {"identifier", "party"} & set(re.findall(r"[?&](\w+)=", place))
    rows = operator.get(f"/api{place}").json()["rows"]
    assert [row["message_id"] for row in rows] == expected
    assert operator.get(place).status_code == 200


@pytest.fixture(scope="module")
def operator(shared: Served) -> object:
    with shared.visitor("operator") as visitor:
        yield visitor


def test_a_search_that_cannot_be_understood_is_named(operator: Visitor) -> None:
    answer = operator.post("/messages/search", {"since": "yesterday"})
    assert answer.status_code == 400
    assert "since: expected a date" in answer.text


def test_a_search_is_kept_as_it_was() -> None:
    wanted = read_filter(
        {
            "identifier": ["x"],
            "states": ["gone", "listed"],
            "direction": ["in"],
            "since": ["2026-11-26T18:00+00:00"],
            "party": ["a"],
        }
    )
    assert restored_filter(stored_filter(wanted)) == wanted
    assert wanted.since == datetime(2026, 11, 26, 18, tzinfo=UTC)


def test_views_are_saved_by_name_and_are_each_persons_own(shared: Served, filled: Filled, operator: Visitor) -> None:
    operator.post("/messages/search", {"states": "quarantined", "name": "In <quarantine>", "save": "1"})
    place = operator.post(
        "/messages/search", {"states": "quarantined", "name": "In <quarantine>", "save": "1"}
    ).headers["location"]
    text = operator.get(place).text
    assert text.count("In &lt;quarantine&gt;</a>") == 1
    with shared.visitor("viewer") as other:
        assert "quarantine&gt;" not in other.get("/messages").text
        assert other.get(place).status_code == 400
    operator.post("/messages/forget", {"view": place.partition("view=")[2]})
    assert "quarantine&gt;" not in operator.get("/messages").text


def test_a_view_is_not_saved_without_a_name(operator: Visitor) -> None:
    answer = operator.post("/messages/search", {"states": "gone", "name": " ", "save": "1"})
    assert answer.status_code == 400
    assert "give the search a name" in answer.text
    assert '<a href="/messages">Back to the page of the form</a>' in answer.text


def test_a_list_goes_on_page_by_page(served: Served) -> None:
    ids = [f"M{number:03}" for number in range(120)]
    served.ledger.incoming.note_listed(ALICE, ids)
    with served.visitor("viewer") as visitor:
        seen: list[str] = []
        place: str | None = "/messages?states=listed"
        while place:
            text = visitor.get(place).text
            seen += re.findall(r"<td[^>]*>(M\d{3})</td>", text)
            found = re.search(r'<a href="([^"]+)" rel="next"', text)
            place = found[1].replace("&amp;", "&") if found else None
        assert seen == ids[::-1]
        first = visitor.get("/api/messages?limit=100").json()
        second = visitor.get(f"/api/messages?limit=100&before={first['next_before']}").json()
        assert [row["message_id"] for row in first["rows"] + second["rows"]] == ids[::-1]
        assert second["next_before"] is None


def test_every_table_is_csv_and_json_too(shared: Served, filled: Filled) -> None:
    described = openapi()
    json.dumps(described)
    with shared.visitor("administrator") as visitor:
        assert visitor.get("/api/openapi.json").json() == described
        for table in TABLES:
            rows = visitor.get(f"/api/{table.name}").json()["rows"]
            schema = described["paths"][f"/api/{table.name}"]["get"]["responses"]["200"]["content"]
            names = list(schema["application/json"]["schema"]["properties"]["rows"]["items"]["properties"])
            assert all(list(row) == names for row in rows)
            lines = list(csv.reader(io.StringIO(visitor.get(f"/{table.name}.csv").text)))
            assert lines[0] == names
            assert len(lines) >= min(len(rows), 1)


def test_a_cell_is_no_formula(served: Served, tmp_path: Path) -> None:
    served.ledger.mailboxes.pause(ALICE, actor="=1+1", reason='=HYPERLINK("https://attacker.example")')
    with served.visitor("viewer") as visitor:
        [row] = [row for row in csv.DictReader(io.StringIO(visitor.get("/mailboxes.csv").text)) if row["paused_by"]]
    assert row["paused_by"] == "'=1+1"
    assert row["pause_reason"].startswith("'=")


HOSTILE_SENDER = json.dumps(HOSTILE[:90])
CONTACTS = f"""[contacts]
{ALICE} = "Ann & team, ann@example.org"
{HOSTILE_SENDER} = "Their desk <desk@example.org>"
X26PRIV9 = "The recipient's desk"
"/" = "File servers"
"""


def test_who_to_call_stands_at_what_is_wrong(tmp_path: Path) -> None:
    with served_console(tmp_path, more=CONTACTS) as served, served.visitor("viewer") as visitor:
        filled = Filled(served.ledger, tmp_path)
        text = visitor.get("/").text
        assert "Who to call: Ann &amp; team, ann@example.org" in text
        assert f'href="/messages/{filled.quarantined.id}#words"' in text
        assert {one["contact"] for one in visitor.get("/api/now").json()["attention"]} == {
            "Ann & team, ann@example.org"
        }
        contacts = {row["mailbox_id"]: row["contact"] for row in visitor.get("/api/mailboxes").json()["rows"]}
        assert contacts == {ALICE: "Ann & team, ann@example.org", BOB: None}
        assert visitor.get(f"/api/mailboxes/{ALICE}").json()["contact"] == "Ann & team, ann@example.org"
        assert "Ann &amp; team" in visitor.get(f"/mailboxes/{ALICE}").text
        assert "File servers" in visitor.get("/destinations").text
        page = f"/messages/{filled.undelivered.id}"
        assert "The recipient&#39;s desk" not in visitor.get(page).text
        assert "The recipient&#39;s desk" in visitor.post(f"{page}/names", {"reason": "x"}, page=page).text


@pytest.mark.parametrize("name", ["quarantined", "undelivered", "refused"])
def test_there_are_words_to_send_which_name_no_patient(tmp_path: Path, name: str) -> None:
    with served_console(tmp_path, more=CONTACTS) as served, served.visitor("viewer") as visitor:
        message = served.ledger.messages.get(getattr(Filled(served.ledger, tmp_path), name).id)
        text = visitor.get(f"/messages/{message.id}").text
        words = visitor.get(f"/api/messages/{message.id}").json()["words"]
        assert (message.message_id or f"number {message.id}") in words["text"]
        assert "Jane" not in words["text"] + words["subject"]
        assert not any(value in words["text"] for value in PRIVATE.values())
        if name == "quarantined":
            assert "the checksum differs" in words["text"]
            assert words["to"] == "Their desk <desk@example.org>"
        link = re.search(r'href="(mailto:[^"]+)"', text)
        assert link is not None
        assert "\n" not in link[1]
        assert link[1].startswith(f"mailto:{'desk' if name == 'quarantined' else 'ann'}@example.org?subject=MESH%20")
        assert "<textarea" in text


def test_of_what_is_well_there_is_nothing_to_send(shared: Served, filled: Filled) -> None:
    with shared.visitor("viewer") as visitor:
        assert visitor.get(f"/api/messages/{filled.stored.id}").json()["words"] is None
        assert "Words to send" not in visitor.get(f"/messages/{filled.stored.id}").text
        assert "mailto:" not in visitor.get(f"/messages/{filled.quarantined.id}").text


def test_an_action_is_previewed_and_done_once_with_a_reason(served: Served, tmp_path: Path) -> None:
    filled = Filled(served.ledger, tmp_path)
    with served.visitor("operator") as visitor:
        numbers = [str(filled.undelivered.id), str(filled.stored.id), str(filled.unknown.id)]
        preview = visitor.post("/messages/preview", {"number": numbers, "action": "resend"})
        assert "Resend: 1 message" in preview.text
        assert "Refused: 2 messages" in preview.text
        assert "the recipient could get it twice" in preview.text
        text = visitor.get(f"/messages/{filled.quarantined.id}").text
        assert "<code>release</code> lets it out" in text
        assert "`" not in text
        selection = selection_of(preview.text)
        assert visitor.post("/messages/run", {"selection": selection}).status_code == 400
        done = visitor.post("/messages/run", {"selection": selection, "reason": "new mailbox"})
        assert "1 done, 0 refused" in done.text
        again = visitor.post("/messages/run", {"selection": selection, "reason": "new mailbox"})
        assert again.status_code == 400
        assert "is over" in again.text
    after = served.ledger.messages.get(filled.undelivered.id)
    assert after.resent_as is not None
    last = served.ledger.search.timeline(filled.undelivered.id)[-1]
    assert (last.kind, last.actor, last.details["reason"]) == ("resent", "operator (console)", "new mailbox")


def test_an_action_on_all_that_a_search_finds_is_about_what_was_previewed(served: Served) -> None:
    served.ledger.incoming.note_listed(ALICE, [f"M{number}" for number in range(60)])
    with served.visitor("operator") as visitor:
        fields = {"which": "all", "query": f"mailbox_id={ALICE}", "action": "retry"}
        preview = visitor.post("/messages/preview", fields)
        assert "Retry: 60 messages" in preview.text
        served.ledger.incoming.note_listed(ALICE, ["LATER"])
        done = visitor.post("/messages/run", {"selection": selection_of(preview.text), "reason": "the disk is free"})
        assert "60 done" in done.text
        # All that the page shows: of its address it takes no other fields.
        fields["query"] = f"mailbox_id={ALICE}&identifier=M1&before=3"
        assert "Retry: 61 messages" in visitor.post("/messages/preview", fields).text
        assert visitor.post("/messages/preview", {"action": "retry"}).status_code == 400
        assert visitor.post("/messages/preview", {"action": "explode", "number": "1"}).status_code == 400
        assert visitor.post("/messages/preview", {"action": "retry", "number": "one"}).status_code == 400


def test_a_mailbox_is_paused_visited_and_resumed(served: Served) -> None:
    with served.visitor("operator") as visitor:
        page = f"/mailboxes/{ALICE}"
        assert "is visited within seconds anyway" in visitor.get(page).text
        assert "neither looked into" in visitor.post(f"{page}/preview", {"action": "pause"}).text
        assert visitor.post(f"{page}/run", {"action": "pause"}).status_code == 400
        answer = visitor.post(f"{page}/run", {"action": "pause", "reason": "the server moves"})
        assert answer.headers["location"] == page
        assert "the server moves" in visitor.get(page).text
        assert visitor.post(f"{page}/run", {"action": "pause", "reason": "x"}).status_code == 400
        assert "paused" in visitor.post(f"{page}/preview", {"action": "visit"}).text
        visitor.post(f"{page}/run", {"action": "resume", "reason": "it is done"})
        epoch = served.ledger.mailboxes.begin_visit(ALICE, "test")
        assert epoch is not None
        later = served.clock.now() + timedelta(minutes=5)
        served.ledger.mailboxes.end_visit(ALICE, epoch.epoch, later, None)
        visitor.post(f"{page}/run", {"action": "visit", "reason": "a colleague waits"})
    mailbox = served.ledger.mailboxes.get(ALICE)
    assert mailbox.paused_at is None
    assert mailbox.next_visit_at is not None
    assert mailbox.next_visit_at <= served.clock.now()
    [asked] = served.ledger.search.events(kind="visit asked for")
    assert (asked.actor, asked.details) == ("operator (console)", {"reason": "a colleague waits"})


def test_a_node_is_shown_and_drained(served: Served) -> None:
    within = timedelta(seconds=10)
    node = served.ledger.nodes.start("node-1", place="made-up:/data", version="1", alive_within=within)
    served.ledger.database.fence = None
    assert node is not None
    with served.visitor("operator") as visitor:
        assert visitor.get("/api/nodes").json()["rows"][0]["state"] == "works"
        assert visitor.post("/nodes/change", {"name": "node-1", "action": "drain"}).status_code == 400
        visitor.post("/nodes/change", {"name": "node-1", "action": "drain", "reason": "a new disk"})
        text = visitor.get("/nodes").text
        assert "works, drained" in text
        assert "a new disk" in text
        served.clock.added += timedelta(minutes=2)
        assert visitor.get("/api/nodes").json()["rows"][0]["state"] == "silent, drained"
        visitor.post("/nodes/change", {"name": "node-1", "action": "undrain", "reason": "it is in"})
        assert visitor.get("/api/nodes").json()["rows"][0]["state"] == "silent"
        assert visitor.post("/nodes/change", {"name": "x", "action": "drain", "reason": "y"}).status_code == 400
    undrained = served.ledger.search.events(kind="node undrained")[0]
    assert undrained.details == {"node": "node-1", "reason": "it is in"}
    drained = served.ledger.search.events(kind="node drained")[0]
    assert (drained.actor, drained.details["reason"]) == ("operator (console)", "a new disk")


def checked(visitor: Visitor, **fields: str) -> dict[str, Any]:
    """Have the chain checked, and return what was found."""
    assert visitor.post("/audit/check", fields, page="/audit").headers["location"] == "/audit"
    end = time.monotonic() + 20
    while (said := visitor.get("/api/audit/chain").json())["being_checked_at"] is not None:
        assert time.monotonic() < end
    return dict(said)


def test_the_audit_is_checked_in_the_background_and_exported(served: Served, tmp_path: Path) -> None:
    Filled(served.ledger, tmp_path)
    with served.visitor("auditor") as visitor:
        assert "has not been checked yet" in visitor.get("/audit").text
        first = checked(visitor)
        assert (first["is_whole"], first["checked_by"]) == (True, "auditor (console)")
        assert "Every event up to" in visitor.get("/audit").text
        lines = visitor.post("/audit.jsonl").text.splitlines()
        numbers = [json.loads(line)["number"] for line in lines]
        assert numbers == sorted(numbers, reverse=True)
        assert len(numbers) == served.ledger.search.last_event()
        with served.ledger.database.write() as connection:
            connection.exec_driver_sql("UPDATE event SET actor = 'nobody' WHERE number = 7")
        # It was whole there by the last check; from the beginning it is not.
        assert checked(visitor)["is_whole"] is True
        assert checked(visitor, whole="1")["text"].startswith("Event 7 does not follow")
        assert "Event 7 does not follow" in visitor.get("/audit").text
        # The next one begins before it, and does not forget it.
        assert checked(visitor)["is_whole"] is False
        # Whoever changes the verdict itself hides nothing either.
        for details in ("{}", "[]", '{"first_broken": null, "verified": {"number": "x"}}'):
            with served.ledger.database.write() as connection:
                connection.exec_driver_sql("UPDATE event SET details = ? WHERE kind = 'audit checked'", (details,))
            page = visitor.get("/audit")
            assert page.status_code == 200
            assert "has not been checked yet" in page.text
        assert checked(visitor)["text"].startswith("Event 7 does not follow")


def test_the_chain_is_checked_once_at_a_time(served: Served) -> None:
    checks = ChainChecks(served.ledger, threading.Event())
    with served.ledger.database.write():
        # It cannot write what it has found until this ends.
        checks.begin(actor="ann", is_whole=True)
        with pytest.raises(InvalidArgument, match="being checked already"):
            checks.begin(actor="bob", is_whole=True)
    end = time.monotonic() + 20
    while checks.reached is not None:
        assert time.monotonic() < end
    verdict = checks.last()
    assert verdict is not None
    assert (verdict.actor, verdict.broken) == ("ann", None)
    stopping = threading.Event()
    stopping.set()
    ended = ChainChecks(served.ledger, stopping)
    ended.begin(actor="carol", is_whole=True)
    while ended.reached is not None:
        assert time.monotonic() < end
    assert checks.last() == verdict


def test_it_ends_in_good_order_while_a_page_listens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.ExitStack() as stack:
        with served_console(tmp_path) as served:
            visitor = stack.enter_context(served.visitor("viewer"))
            events = stack.enter_context(visitor.client.stream("GET", "/live"))
            lines = events.iter_lines()
            assert next(lines) == "event: ready"
            served.ledger.mailboxes.pause(ALICE, actor="ann", reason="made up")
            assert "event: change" in lines
        assert list(lines)[-1] == ""
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("is_again", [False, True])
def test_a_page_is_told_of_what_happened_before_it_listened(served: Served, is_again: bool) -> None:
    with served.visitor("viewer") as visitor:
        [newest] = re.findall(r'data-newest-event="(\d+)"', visitor.get("/mailboxes").text)
        headers = {"last-event-id": newest} if is_again else {}
        since = "0" if is_again else newest
        served.ledger.mailboxes.pause(ALICE, actor="ann", reason="made up")
        with visitor.client.stream("GET", f"/live?since={since}", headers=headers) as events:
            lines = [line for line, _ in zip(events.iter_lines(), range(6), strict=False)]
        assert lines[:2] == ["event: ready", "data: "]
        assert lines[3:5] == [f"id: {int(newest) + 1}", "event: change"]


def test_a_page_that_missed_nothing_is_told_nothing(served: Served) -> None:
    with served.visitor("viewer") as visitor:
        [newest] = re.findall(r'data-newest-event="(\d+)"', visitor.get("/mailboxes").text)
        with visitor.client.stream("GET", f"/live?since={newest}") as events:
            lines = events.iter_lines()
            assert next(lines) == "event: ready"
            time.sleep(0.3)
            served.ledger.mailboxes.pause(ALICE, actor="ann", reason="made up")
            assert [line for line, _ in zip(lines, range(4), strict=False)][2] == f"id: {int(newest) + 1}"


def test_the_events_are_for_those_who_have_logged_in(shared: Served) -> None:
    with shared.visitor() as visitor:
        assert visitor.get("/live").status_code == 401


def test_no_secret_is_among_the_settings(served: Served) -> None:
    with served.visitor("administrator") as visitor:
        for path in ("/settings", "/api/settings"):
            text = visitor.get(path).text
            assert ALICE in text
            assert "canary" not in text


def once_of(visitor: Visitor) -> str:
    found = re.search(r'name="once" value="([^"]+)"', visitor.get("/send").text)
    assert found is not None
    return found[1]


def test_a_file_is_sent_by_the_agent_and_tracked(tmp_path: Path, mesh_sandbox: Sandbox) -> None:
    from nel_mesh.agent.service import Agent

    paths = mesh_sandbox.write_settings(tmp_path / "settings")
    mailboxes = "\n".join(
        f'[mailboxes.{name}]\nsettings = "{next(path for path in paths if name in path.name)}"' for name in (ALICE, BOB)
    )
    with served_console(tmp_path, mailboxes=mailboxes) as served, served.visitor("operator") as visitor:
        fields = {"mailbox_id": ALICE, "to": BOB, "workflow_id": "PATH_RESULTS", "subject": "made up"}
        files = {"file": ("C:\\results\\made-up.csv", b"made,up\n1,2\n")}
        assert visitor.post("/send", fields, page="/send", files=files).status_code == 400
        fields["once"] = once_of(visitor)
        assert visitor.post("/send", fields, page="/send", files={"file": ("x", b"")}).status_code == 400
        assert visitor.post("/send", fields | {"to": ""}, page="/send", files=files).status_code == 400
        # One that was refused can be sent again; one that was sent, as by a second click, sends nothing more.
        answer, again = (visitor.post("/send", fields, page="/send", files=files) for _ in range(2))
        assert again.status_code == 400
        assert "was sent already" in again.text
        page = answer.headers["location"]
        number = int(page.rpartition("/")[2])
        Agent(served.config, clock=served.clock).run(once=True)
        message = served.ledger.messages.get(number)
        assert message.state is State.ACCEPTED
        assert message.file_name == "made-up.csv"
        [stored] = mesh_sandbox.delivered(BOB)
        assert mesh_sandbox.content(stored.message_id) == b"made,up\n1,2\n"
        assert (stored.description.file_name, stored.description.subject) == ("made-up.csv", "made up")
        assert "accepted" in visitor.post(f"{page}/track", page=page).text
        first = served.ledger.search.timeline(number)[0]
        assert (first.kind, first.actor) == ("waiting", "operator (console)")
        found = visitor.post("/send/lookup", {"mailbox_id": ALICE, "workflow_id": "PATH_RESULTS"}, page="/send")
        assert found.status_code == 200
        assert '<a href="/send">Look again</a>' in found.text
        # Its file is kept, so it could be sent again if MESH did not deliver it.
        assert message.archived_as is not None
        assert Path(message.archived_as).read_bytes() == b"made,up\n1,2\n"


def test_other_machines_need_tls_or_a_named_proxy(tmp_path: Path) -> None:
    from nel_mesh.agent.configuration import load

    config = tmp_path / "agent.toml"
    mailbox = f'[mailboxes.{ALICE}]\nsettings = {{ url = "http://127.0.0.1:9", password = "p", shared_key = "k" }}\n'
    config.write_text(mailbox)
    for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0", "console.example:0"):
        with pytest.raises(ConfigurationError, match="there is no TLS"), console_served(address, lambda: load(config)):
            pass
    for table, fault in (
        ('certificate = "c.pem"', "belong together"),
        ('trusted_proxy = "proxy.example"', "expected the address"),
        ("idle_minutes = 0", "greater than 0"),
        ('hots = ["x"]', "did you mean hosts"),
    ):
        config.write_text(f"[console]\n{table}\n{mailbox}")
        with pytest.raises(ConfigurationError, match=fault):
            load(config)
    config.write_text(f'[console]\ncertificate = "c.pem"\nprivate_key = "k.pem"\n{mailbox}')
    with pytest.raises(ConfigurationError, match="cannot be used"), console_served("127.0.0.1:0", lambda: load(config)):
        pass


def test_it_is_served_over_tls(tmp_path: Path) -> None:
    authority = root("Made up")
    pair = authority.issue("localhost")
    (tmp_path / "console.pem").write_text(pair.pem)
    (tmp_path / "console.key").write_text(pair.key_pem)
    trusting = ssl.create_default_context(cadata=authority.pem)
    more = '[console]\ncertificate = "console.pem"\nprivate_key = "console.key"'
    with served_console(tmp_path, more=more) as served:
        assert served.url.startswith("https://127.0.0.1:")
        url = served.url.replace("127.0.0.1", "localhost")
        with httpx.Client(base_url=url, verify=trusting) as client:
            visitor = Visitor(served, client)
            answer = visitor.log_in("viewer")
            assert answer.status_code == 303
            assert "secure" in answer.headers["set-cookie"].lower()
            page = visitor.get("/")
            assert page.status_code == 200
            assert page.headers["strict-transport-security"] == "max-age=31536000"


def test_a_named_proxy_says_who_visits_and_that_there_is_tls(tmp_path: Path) -> None:
    more = '[console]\ntrusted_proxy = "127.0.0.1"\nhosts = ["console.example"]'
    with served_console(tmp_path, more=more) as served, served.visitor() as visitor:
        visitor.client.headers |= {
            "host": "console.example",
            "x-forwarded-proto": "https",
            "x-forwarded-for": "198.51.100.7",
        }
        answer = visitor.get("/login")
        assert "secure" in answer.headers["set-cookie"].lower()
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
    (tmp_path / "plain").mkdir()
    with served_console(tmp_path / "plain") as served, served.visitor() as visitor:
        answer = visitor.get("/login", headers={"x-forwarded-proto": "https"})
        assert "secure" not in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaa", "my name is ann, it is"])
def test_a_password_that_is_easy_to_guess_is_refused(password: str) -> None:
    with pytest.raises(InvalidArgument, match="password"):
        check_password(password, "ann")


def test_an_account_is_made_once(served: Served) -> None:
    with pytest.raises(InvalidArgument, match="already"):
        served.add_user("viewer", Role.VIEWER)
    with pytest.raises(InvalidArgument, match="letters"):
        served.add_user("no body", Role.VIEWER)
    with pytest.raises(InvalidArgument, match="no user"):
        served.accounts.disable("nobody", actor="test")


def test_plots_say_the_same_in_words() -> None:
    now = datetime(2026, 11, 26, 18, tzinfo=UTC)
    counts = {(Direction.IN, State.ACKNOWLEDGED): 1200, (Direction.OUT, State.REFUSED): 3}
    plot = messages_an_hour([Hour(start=now - timedelta(hours=1), counts={}), Hour(start=now, counts=counts)])
    assert "1,200 received, 3 sent, 3 of them in trouble" in plot.text
    assert plot.text in str(plot.svg)
    assert len(plot.rows) == 2
    assert "A&lt;b&gt;" in str(ages("Ages", [("A<b>", now - timedelta(days=3))], now).svg)
    assert "3 days" in ages("Ages", [("A", now - timedelta(days=3))], now).text
    assert "A: 12 days" in days_left("Days", [("A", 12)]).text
    assert messages_an_hour([]).text


def test_over_postgresql_a_message_of_a_fleet_is_for_the_machine_that_has_its_file(
    tmp_path: Path, postgresql_url: str
) -> None:
    with served_console(tmp_path, database=postgresql_url) as served, served.visitor("operator") as visitor:
        fields = {"mailbox_id": ALICE, "to": BOB, "workflow_id": "PATH_RESULTS", "once": once_of(visitor)}
        files = {"file": ("made-up.csv", b"made,up\n")}
        answer = visitor.post("/send", fields, page="/send", files=files)
        assert answer.status_code == 400
        assert "no agent of the fleet works here" in answer.text
        place = place_of(tmp_path / "nel-mesh-agent")
        served.ledger.nodes.start("node-7", place=place, version="1", alive_within=timedelta(seconds=10))
        served.ledger.database.fence = None
        page = visitor.post("/send", fields, page="/send", files=files).headers["location"]
        [message] = served.ledger.outgoing.due(ALICE, 10, "node-7")
        assert page == f"/messages/{message.id}"
        for path in ("/", page, "/messages", "/messages?workflow_id=PATH*&states=waiting", "/nodes", "/destinations"):
            assert visitor.get(path).status_code == 200
        filled = Filled(served.ledger, tmp_path)
        preview = visitor.post("/messages/preview", {"number": str(filled.quarantined.id), "action": "release"})
        done = visitor.post("/messages/run", {"selection": selection_of(preview.text), "reason": "made up"})
        assert "1 done" in done.text
