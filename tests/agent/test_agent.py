"""The agent at work, against the sandbox over mutual TLS."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import ALICE, BOB, Site, until

from nel_mesh.agent.service import Agent
from nel_mesh.ledger.attention import look
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.search import Filter
from nel_mesh.ledger.states import Direction, State
from nel_mesh.sandbox import Sandbox

SENDS = '[[mailboxes.X26ABC1.send]]\nfrom = "out"\nto = "X26ABC2"\nworkflow_id = "WF"\nsettle_in_seconds = 0\n'
RECEIVES = '[[mailboxes.X26ABC2.receive]]\ninto = "in"\n'


@pytest.fixture
def site(mesh_sandbox: Sandbox, tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, mesh_sandbox)
    (tmp_path / "out").mkdir()
    yield site
    site.close()


def once(site: Site) -> bool:
    Agent(site.config).run(once=True)
    return True


def messages(site: Site, **wanted: object) -> list[LedgerMessage]:
    with site.ledger() as ledger:
        return ledger.search.messages(Filter(**wanted))  # type: ignore[arg-type] # each as its field wants


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}


def test_what_is_put_into_a_folder_arrives_in_the_other(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{{alice}}\n{SENDS}{{bob}}\n{RECEIVES}")
    sent = {f"{number}.csv": f"content {number}".encode() for number in range(3)}
    for name, content in sent.items():
        (site.folder / "out" / name).write_bytes(content)
    once(site)
    once(site)
    assert contents(site.folder / "in") == sent
    assert contents(site.folder / "out/sent") == sent
    assert contents(site.folder / "out") == {}
    assert {one.state for one in messages(site, direction=Direction.IN)} == {State.ACKNOWLEDGED}
    assert {one.state for one in messages(site, direction=Direction.OUT)} == {State.ACCEPTED}
    assert mesh_sandbox.messages(recipient=BOB, status="accepted") == []


def test_one_round_waits_until_a_file_has_settled(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{{alice}}\n{SENDS.replace('settle_in_seconds = 0', 'settle_in_seconds = 0.2')}")
    (site.folder / "out/a.csv").write_text("x")
    once(site)
    assert [message.description.file_name for message in mesh_sandbox.delivered(BOB)] == ["a.csv"]


def test_what_was_sent_is_followed_until_it_is_collected(site: Site) -> None:
    site.write(f"{{alice}}\n{SENDS}{{bob}}\n{RECEIVES}", defaults="track_first_after_in_minutes = 0.0001")
    (site.folder / "out/a.csv").write_text("x")
    until(lambda: once(site) and messages(site, states=(State.COLLECTED,)))


def test_a_file_that_was_replaced_after_a_kill_was_sent_if_mesh_has_it(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{{alice}}\n{SENDS}")
    (site.folder / "out/a.csv").write_text("the first")
    mesh_sandbox.add_fault("send_message:lose-response")
    mesh_sandbox.add_fault("track_by_local_id:delay=30")
    process = site.launch()
    until(lambda: mesh_sandbox.requests("track_by_local_id"))
    process.kill()
    process.wait()
    mesh_sandbox.clear_faults()
    (site.folder / "out/a.csv").write_text("another, of the same name")
    until(lambda: once(site) and all(one.state is State.ACCEPTED for one in messages(site)))
    assert sorted(mesh_sandbox.content(one.message_id or "") for one in messages(site)) == [
        b"another, of the same name",
        b"the first",
    ]


def test_a_file_that_was_replaced_before_it_was_sent_is_refused(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{{alice}}\n{SENDS}")
    (site.folder / "out/a.csv").write_text("the first")
    mesh_sandbox.add_fault("send_message:*:respond=403")
    once(site)
    mesh_sandbox.clear_faults()
    (site.folder / "out/a.csv").write_text("another, of the same name")
    until(lambda: once(site) and messages(site, states=(State.ACCEPTED,)))
    assert [one.reason for one in messages(site, states=(State.REFUSED,))] == [
        "the file was changed or removed before it was sent"
    ]
    assert [mesh_sandbox.content(one.message_id) for one in mesh_sandbox.delivered(BOB)] == [
        b"another, of the same name"
    ]


def test_a_message_goes_to_each_of_its_destinations_and_each_fails_alone(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write('{bob}\n[[mailboxes.X26ABC2.receive]]\ninto = ["in", "copy"]\n')
    (site.folder / "copy").write_text("a file is in its place")
    mesh_sandbox.deliver_message(BOB, b"x", file_name="a.csv")
    once(site)
    assert contents(site.folder / "in")["a.csv"] == b"x"
    [message] = messages(site)
    assert message.state is State.RETRYING
    assert mesh_sandbox.requests("acknowledge_message") == []
    (site.folder / "copy").unlink()
    until(lambda: once(site) and messages(site)[0].state is State.ACKNOWLEDGED)
    assert contents(site.folder / "copy")["a.csv"] == b"x"
    assert [name for name in contents(site.folder / "in") if not name.startswith(".")] == ["a.csv"]


@pytest.mark.parametrize("again", ["respond=400", "respond=404", "respond=410"])
def test_an_acknowledged_message_that_is_still_listed_is_acknowledged_again(
    site: Site, mesh_sandbox: Sandbox, again: str
) -> None:
    site.write(f"{{bob}}\n{RECEIVES}")
    mesh_sandbox.deliver_message(BOB, b"x", file_name="a.csv")
    mesh_sandbox.add_fault("acknowledge_message:1:respond=200")
    once(site)
    assert [one.state for one in messages(site)] == [State.ACKNOWLEDGED]
    mesh_sandbox.add_fault(f"acknowledge_message:*:{again}")
    once(site)
    with site.ledger() as ledger:
        [message] = ledger.search.messages(Filter())
        assert message.state is State.ACKNOWLEDGED
        assert look(ledger.database, ledger.clock.now()) == []
    mesh_sandbox.clear_faults()
    until(lambda: once(site) and mesh_sandbox.messages(recipient=BOB, status="accepted") == [])
    assert [one.reason for one in messages(site)] == [None]
    assert contents(site.folder / "in") == {"a.csv": b"x"}


def test_routes_choose_the_destination_and_what_fits_none_waits(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(
        '{bob}\n[[mailboxes.X26ABC2.receive]]\nworkflow_id = "PATH_*"\ninto = "pathology"\nsidecar = true\n'
        '[[mailboxes.X26ABC2.receive]]\ntype = "report"\ninto = "reports"\n'
    )
    mesh_sandbox.deliver_message(BOB, b"x", workflow_id="PATH_1", file_name="a.csv")
    mesh_sandbox.deliver_message(BOB, b"x", workflow_id="OTHER", file_name="b.csv")
    report = mesh_sandbox.deliver_report(BOB, linked_message_id="20260101000000000000_000001")
    once(site)
    assert "a.csv" in contents(site.folder / "pathology")
    assert json.loads(contents(site.folder / "pathology")["a.csv.json"])["workflow_id"] == "PATH_1"
    assert f"report-{report}.json" in contents(site.folder / "reports")
    [waiting] = messages(site, states=(State.RETRYING,))
    assert "no route" in str(waiting.reason)


def test_a_message_that_fails_for_its_own_sake_is_quarantined_and_stops_no_other(
    site: Site, mesh_sandbox: Sandbox
) -> None:
    site.write(f"{{bob}}\n{RECEIVES}", defaults="quarantine_after_attempts = 2")
    wrong = hashlib.sha256(b"other").hexdigest()
    mesh_sandbox.deliver_message(BOB, b"x", file_name="bad.csv", checksum=f"sha256:{wrong}")
    mesh_sandbox.deliver_message(BOB, b"x", file_name="good.csv")
    until(lambda: once(site) and messages(site, states=(State.QUARANTINED,)))
    assert [name for name in contents(site.folder / "in") if not name.startswith(".")] == ["good.csv"]
    with site.ledger() as ledger:
        [attention] = look(ledger.database, ledger.clock.now())
        assert attention.kind == "quarantined"
    before = len(mesh_sandbox.requests())
    once(site)
    assert len(mesh_sandbox.requests()) - before <= 2


def test_a_report_is_linked_to_its_send(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f'{{alice}}\n{SENDS}[[mailboxes.X26ABC1.receive]]\ninto = "in"\n')
    (site.folder / "out/a.csv").write_text("x")
    once(site)
    [message] = messages(site)
    assert message.message_id is not None
    mesh_sandbox.deliver_report(ALICE, linked_message_id=message.message_id)
    once(site)
    [sent] = messages(site, direction=Direction.OUT)
    assert (sent.state, sent.status_code) == (State.UNDELIVERED, "14")


def test_a_refused_file_is_set_aside_with_the_reason_and_can_be_resent(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{{alice}}\n{SENDS}".replace("X26ABC2", "NOBODY"))
    (site.folder / "out/a.csv").write_text("x")
    once(site)
    [message] = messages(site)
    assert message.state is State.REFUSED
    failed = contents(site.folder / "out/failed")
    assert failed["a.csv"] == b"x"
    assert b"What to do" in failed["a.csv.error.txt"]
    site.write(f"{{alice}}\n{SENDS}")
    code, [done], _ = site.run("resend", str(message.id), "--reason", "corrected")
    assert (code, done["done"]) == (0, True)
    once(site)
    again = messages(site)[0]
    assert again.state is State.REFUSED  # As it was: the recipient is part of the message.


def test_a_lost_response_is_settled_and_nothing_is_sent_twice(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{{alice}}\n{SENDS}")
    (site.folder / "out/a.csv").write_text("x")
    mesh_sandbox.add_fault("send_message:1:lose-response")
    once(site)
    until(lambda: once(site) and messages(site)[0].state is State.ACCEPTED)
    assert len(mesh_sandbox.delivered(BOB)) == 1


def test_shadow_mode_only_looks(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{{bob}}\nshadow = true\n{RECEIVES}")
    mesh_sandbox.deliver_message(BOB, b"x")
    once(site)
    assert [one.state for one in messages(site)] == [State.LISTED]
    assert {request.operation for request in mesh_sandbox.requests()} == {"list_messages"}


def test_a_full_disk_leaves_messages_in_the_inbox_and_says_so(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{{bob}}\n{RECEIVES}", agent="disk_reserve_in_megabytes = 1e12")
    mesh_sandbox.deliver_message(BOB, b"x")
    once(site)
    [message] = messages(site)
    assert message.state is State.RETRYING
    assert "stay free" in str(message.reason)
    assert [one.status for one in mesh_sandbox.delivered(BOB)] == ["accepted"]
    code, found, _ = site.run("status")
    assert code == 0
    assert "stay free" in found[0]["attention"]["text"]


def test_a_process_works_is_paused_reloaded_and_stopped(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{{alice}}\n{SENDS}{{bob}}\n{RECEIVES}")
    process = site.start()
    (site.folder / "out/a.csv").write_text("x")
    until(lambda: "a.csv" in contents(site.folder / "in"))

    assert site.run("pause", BOB, "--reason", "moving")[0] == 0
    (site.folder / "out/b.csv").write_text("x")
    until(lambda: len(mesh_sandbox.delivered(BOB)) == 2)
    code, records, said = site.run("status")
    assert code == 14
    assert any("moving" in record["attention"]["text"] for record in records if "attention" in record)

    good = site.config.read_text()
    site.config.write_text(good + "wrong = 1\n")
    process.send_signal(signal.SIGHUP)
    with site.ledger() as ledger:
        until(lambda: any(event.kind == "configuration refused" for event in ledger.search.events()))
    site.config.write_text(good)
    assert site.run("resume", BOB)[0] == 0
    until(lambda: "b.csv" in contents(site.folder / "in"))
    code, said = site.stop(process)
    assert code == 0
    assert "has ended" in said
    assert "wrong" in said


def test_a_second_agent_waits_for_the_first_to_end(site: Site) -> None:
    site.write(f"{{bob}}\n{RECEIVES}", agent="stop_within_in_seconds = 0.1")
    first = site.start()
    second = threading.Thread(target=site.start)
    second.start()
    site.stop(first)
    second.join(30)
    assert len(site.processes) == 2
    assert site.processes[1].poll() is None
    code, _, said = site.run("run")
    assert code == 4
    assert "another agent" in json.loads(said)["error"]["message"]


def test_the_commands_say_what_there_is(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{{alice}}\n{SENDS}{{bob}}\n{RECEIVES}")
    (site.folder / "out/a.csv").write_text("x")
    once(site)
    code, found, _ = site.run("messages", "--direction", "in")
    assert (code, len(found)) == (0, 1)
    assert "subject" not in found[0]
    code, [shown], _ = site.run("show", str(found[0]["number"]))
    assert [event["kind"] for event in shown["timeline"]] == ["listed", "begun", "stored", "acknowledged"]
    assert shown["copies"][0]["location"].endswith("a.csv")
    code, steps, _ = site.run("check")
    assert (code, {step["is_good"] for step in steps}) == (0, {True})
    code, events, _ = site.run("audit")
    assert (code, events[-1]["kind"]) == (0, "agent stopped")
    code, [refused], _ = site.run("resend", "1")
    assert (code, refused["refused"]) == (8, True)
    assert os.environ.get("MESH_PASSWORD") is None


def test_a_check_makes_the_data_folder_for_its_owner_alone(site: Site) -> None:
    site.write(f"{{bob}}\n{RECEIVES}")
    assert site.run("check")[0] == 0
    data = site.config.parent / "nel-mesh-agent"
    assert data.stat().st_mode & 0o077 == 0


def test_nothing_is_sent_whose_record_the_ledger_does_not_keep(site: Site, mesh_sandbox: Sandbox) -> None:
    """The next attempt would know nothing of it, and send it again."""
    site.write("{alice}\n" + SENDS)
    with site.ledger() as ledger, ledger.database.write() as connection:
        refuse = "CREATE TRIGGER full BEFORE INSERT ON transfer BEGIN SELECT RAISE(ABORT, 'full'); END"
        connection.exec_driver_sql(refuse)
    (site.folder / "out" / "a.csv").write_bytes(b"x" * 1000)
    once(site)
    assert mesh_sandbox.delivered(BOB) == []
    with site.ledger() as ledger:
        [message] = ledger.search.messages(Filter())
        assert message.state is State.RETRYING
        assert "record" in (message.reason or "")
        with ledger.database.write() as connection:
            connection.exec_driver_sql("DROP TRIGGER full")
        ledger.actions.run("retry", [message.id], actor="ann", reason="")
    once(site)
    assert len(mesh_sandbox.delivered(BOB)) == 1
