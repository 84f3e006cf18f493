"""Messages that nobody collects: they expire, are reported, and are deleted, all by a clock that is moved on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from raw_mesh import RawMesh

from nel_mesh import MeshClient
from nel_mesh.instrumentation import Event, RequestFinished
from nel_mesh.sandbox import Sandbox, sandbox

pytest_plugins = ["raw_fixtures"]

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def bodies(mesh: Sandbox) -> list[Path]:
    return [path for path in mesh.folder.rglob("*") if path.is_file()]


def test_message_expires_after_five_days(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = raw.send(b"1", mex_subject="s", mex_localid="l", mex_filename="f").json()["message_id"]
    mesh_sandbox.advance(5 * DAY - timedelta(minutes=1))
    assert raw.inbox() == [sent]
    mesh_sandbox.advance(timedelta(minutes=1))
    assert raw.inbox() == []
    assert raw.request("GET", "/count", mailbox_id="X26ABC2").json() == {"count": 0}
    assert raw.get(sent).status_code == 410
    assert raw.get(sent, 1).status_code == 410
    assert raw.request("HEAD", f"/inbox/{sent}", mailbox_id="X26ABC2").status_code == 410
    assert raw.acknowledge(sent).status_code == 410
    (message,) = mesh_sandbox.messages(status="undeliverable")
    assert message.changed == message.expires == message.created + 5 * DAY


def test_sender_is_told(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = raw.send(mex_subject="s", mex_localid="l").json()["message_id"]
    mesh_sandbox.advance(6 * DAY)
    (report,) = raw.inbox("X26ABC1")
    answer = raw.get(report, mailbox_id="X26ABC1")
    (failed,) = mesh_sandbox.messages(recipient="X26ABC2")
    expected = {
        "mex-messagetype": "REPORT",
        "mex-messageid": report,
        "mex-linkedmsgid": sent,
        "mex-to": "X26ABC1",
        "mex-subject": "s",
        "mex-localid": "l",
        "mex-workflowid": "TEST",
        "mex-statusevent": "SEND",
        "mex-statuscode": "14",
        "mex-statusdescription": "Message not collected by recipient after 5 days",
        "mex-statussuccess": "ERROR",
        "mex-statustimestamp": f"{failed.expires:%Y%m%d%H%M%S}",
    }
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert (answer.status_code, answer.content) == (200, b"")
    assert raw.acknowledge(report, mailbox_id="X26ABC1").status_code == 200
    assert raw.inbox("X26ABC1") == []


def test_tracking_of_what_was_not_collected(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = raw.send(mex_localid="l").json()["message_id"]
    assert raw.track(sent).json()["status_success"] is True
    mesh_sandbox.advance(5 * DAY)
    tracked = raw.track(sent).json()
    assert (tracked["status"], tracked["status_success"]) == ("undeliverable", False)
    assert (tracked["status_event"], tracked["status_code"]) == ("SEND", "14")
    assert tracked["status_description"] == "Message not collected by recipient after 5 days"
    assert tracked["status_timestamp"] == tracked["expiry_time"]
    for answer in (raw.track(sent, version=1), raw.request("GET", "/outbox/tracking/l")):
        tracked = answer.json()
        assert (tracked["status"], tracked["statusSuccess"]) == ("Undeliverable", "ERROR")
        assert tracked["failureDiagnostic"] == "Message not collected by recipient after 5 days"
        assert tracked["failureDate"] == tracked["expiryTime"]


def test_nothing_is_left_after_thirty_days(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = raw.send(b"1", mex_localid="l", mex_chunk_range="1:2").json()["message_id"]
    raw.send_chunk(sent, 2, 2)
    mesh_sandbox.advance(30 * DAY - timedelta(minutes=1))
    assert raw.get(sent).status_code == 410
    assert len(bodies(mesh_sandbox)) == 2
    mesh_sandbox.advance(timedelta(minutes=1))
    assert raw.get(sent).status_code == 404
    assert raw.track(sent).status_code == 404
    assert raw.request("GET", "/outbox/tracking/l").status_code == 404
    assert mesh_sandbox.messages(recipient="X26ABC2") == []
    assert bodies(mesh_sandbox) == []


def test_acknowledged_message_does_not_expire(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = raw.send().json()["message_id"]
    raw.acknowledge(sent)
    mesh_sandbox.advance(100 * DAY)
    assert raw.track(sent).json()["status"] == "acknowledged"
    assert raw.inbox("X26ABC1") == []


def test_days_count_from_delivery(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = raw.send(mex_chunk_range="1:2").json()["message_id"]
    mesh_sandbox.advance(100 * DAY)
    assert raw.send_chunk(sent, 2, 2).status_code == 202
    mesh_sandbox.advance(4 * DAY)
    assert raw.inbox() == [sent]
    mesh_sandbox.advance(DAY)
    assert raw.inbox() == []


def test_report_expires_without_a_report(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    raw.send()
    mesh_sandbox.advance(10 * DAY)
    assert raw.inbox("X26ABC1") == raw.inbox() == []
    statuses = [message.status for message in mesh_sandbox.messages()]
    assert statuses == ["undeliverable", "undeliverable"]
    mesh_sandbox.advance(25 * DAY)
    assert mesh_sandbox.messages() == []


def test_others_stay_when_some_expire(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    raw.send(mex_localid="l")
    mesh_sandbox.advance(3 * DAY)
    later = raw.send(mex_localid="l").json()["message_id"]
    mesh_sandbox.advance(2 * DAY)
    assert raw.inbox() == [later]
    mesh_sandbox.advance(26 * DAY)
    assert raw.request("GET", "/outbox/tracking/l").json()["messageId"] == later


def test_tokens_are_judged_by_a_clock_that_is_not_moved(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    mesh_sandbox.advance(10 * DAY)
    assert mesh_sandbox.clock() - mesh_sandbox.configuration.clock() > 10 * DAY - SECOND
    assert raw.request("GET", "/inbox").status_code == 200
    ahead = raw.token(now=mesh_sandbox.clock())
    assert raw.request("GET", "/inbox", authorization=ahead).status_code == 403
    token = raw.token()
    mesh_sandbox.advance(10 * DAY)
    assert [raw.request("GET", "/inbox", authorization=token).status_code for _ in range(2)] == [200, 403]


def test_time_of_the_configuration_counts_too() -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    with sandbox(tls=False, clock=lambda: now[0]) as mesh, RawMesh(mesh) as raw:
        sent = raw.send().json()["message_id"]
        assert raw.track(sent).json()["expiry_time"] == "2026-01-06T00:00:00"
        now[0] += 5 * DAY
        assert raw.inbox() == []
        assert len(raw.inbox("X26ABC1")) == 1


def test_shorter_life() -> None:
    with sandbox(tls=False, inbox_life=SECOND) as mesh, RawMesh(mesh) as raw:
        sent = raw.send().json()["message_id"]
        mesh.advance(SECOND)
        assert raw.track(sent).json()["status"] == "undeliverable"
        mesh.advance(30 * DAY - 2 * SECOND)
        assert raw.get(sent).status_code == 410
        mesh.advance(SECOND)
        assert raw.get(sent).status_code == 404


def test_life_of_thirty_days() -> None:
    with sandbox(tls=False, inbox_life=30 * DAY) as mesh, RawMesh(mesh) as raw:
        sent = raw.send().json()["message_id"]
        mesh.advance(30 * DAY)
        assert raw.get(sent).status_code == 404
        assert len(raw.inbox("X26ABC1")) == 1


@pytest.mark.parametrize("life", [timedelta(), -DAY, 31 * DAY])
def test_life_that_cannot_be(life: timedelta) -> None:
    with pytest.raises(ValueError, match="inbox_life"):
        sandbox(inbox_life=life)


def test_clock_does_not_go_back(mesh_sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="moved back"):
        mesh_sandbox.advance(-SECOND)


def test_clock_may_be_moved_before_the_start() -> None:
    mesh = sandbox(tls=False)
    mesh.advance(DAY)
    with mesh, RawMesh(mesh) as raw:
        raw.send()
        (message,) = mesh.messages()
        assert message.created - mesh.configuration.clock() > DAY - timedelta(minutes=1)


def test_responses_have_the_date_of_the_moved_clock(mesh_sandbox: Sandbox) -> None:
    """A client that compares it with the times of messages sees one clock."""
    seen: list[datetime | None] = []

    def hook(event: Event) -> None:
        if isinstance(event, RequestFinished):
            seen.append(event.server_time)

    with MeshClient(mesh_sandbox.settings("X26ABC1"), hooks=[hook]) as mesh:
        mesh.handshake()
        mesh_sandbox.advance(timedelta(days=4))
        mesh.handshake()
    before, after = seen
    assert before is not None
    assert after is not None
    assert timedelta(days=4) <= after - before < timedelta(days=4, minutes=1)
