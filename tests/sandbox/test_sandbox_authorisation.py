"""One token for one request, made now, by whoever knows the secrets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from raw_mesh import RawMesh

from nel_mesh.sandbox import Sandbox, SandboxMailbox, sandbox
from nel_mesh.sandbox.authorisation import TokenVerifier
from nel_mesh.sandbox.errors import Refusal

pytest_plugins = ["raw_fixtures"]


def test_token_used_twice(raw: RawMesh) -> None:
    once = raw.token()
    assert raw.request("GET", "/inbox", authorization=once).status_code == 200
    assert raw.request("GET", "/inbox", authorization=once).status_code == 403
    assert raw.request("GET", "/count", authorization=once).status_code == 403


def test_token_is_spent_also_by_a_request_that_fails(raw: RawMesh) -> None:
    once = raw.token()
    assert raw.request("GET", "/inbox/NONE", authorization=once).status_code == 404
    assert raw.request("GET", "/inbox", authorization=once).status_code == 403


def test_nonce_may_come_again_with_another_count(raw: RawMesh) -> None:
    for count in (0, 1, 2):
        answer = raw.request("GET", "/inbox", authorization=raw.token(nonce="n", nonce_count=count))
        assert answer.status_code == 200


def test_nonce_may_not_come_again_in_another_minute(raw: RawMesh) -> None:
    now = raw.mesh.configuration.clock()
    for minutes, status in ((0, 200), (1, 403), (-1, 403)):
        made = raw.token(nonce="n", now=now + timedelta(minutes=minutes))
        assert raw.request("GET", "/inbox", authorization=made).status_code == status


@pytest.mark.parametrize(("minutes", "status"), [(-121, 403), (-118, 200), (118, 200), (122, 403)])
def test_timestamp_is_within_two_hours(raw: RawMesh, minutes: int, status: int) -> None:
    made = raw.token(now=raw.mesh.configuration.clock() + timedelta(minutes=minutes))
    assert raw.request("GET", "/inbox", authorization=made).status_code == status


def test_secrets(raw: RawMesh) -> None:
    for wrong in (raw.token(password="guess"), raw.token(shared_key="guess")):
        assert raw.request("GET", "/inbox", authorization=wrong).status_code == 403


def test_token_is_for_the_mailbox_in_the_path(raw: RawMesh) -> None:
    other = raw.token("X26ABC2")
    assert raw.request("GET", "/inbox", authorization=other).status_code == 403


def test_mailbox_id_is_in_upper_case(raw: RawMesh) -> None:
    assert raw.request("GET", "/inbox", mailbox_id="x26abc1").status_code == 403
    lower = raw.token().replace("X26ABC1", "x26abc1")
    assert raw.request("GET", "/inbox", authorization=lower).status_code == 403


def test_unknown_mailbox(raw: RawMesh) -> None:
    assert raw.request("GET", "/inbox", mailbox_id="X26ABC9").status_code == 403


@pytest.mark.parametrize("header", ["", "Basic abc", "NHSMESH X26ABC1:a:b", "NHSMESH"])
def test_what_is_no_token(raw: RawMesh, header: str) -> None:
    answer = raw.http.get("/messageexchange/X26ABC1/inbox", headers={"authorization": header})
    assert answer.status_code == 403
    assert raw.http.get("/messageexchange/X26ABC1/inbox").status_code == 403


def test_refusal_does_not_repeat_secrets(raw: RawMesh) -> None:
    answer = raw.request("GET", "/inbox", authorization=raw.token(password="guess"))
    assert "guess" not in answer.text
    assert "password" in answer.headers["x-sandbox-reason"]


def test_clock_is_the_configured_one() -> None:
    times = [datetime(2030, 1, 1, tzinfo=UTC)]
    with sandbox(tls=False, clock=lambda: times[-1]) as mesh, RawMesh(mesh) as raw:
        made = raw.token()
        times.append(times[0] + timedelta(hours=3))
        assert raw.request("GET", "/inbox", authorization=made).status_code == 403
        assert raw.send().json()["message_id"].startswith("20300101030000")


def test_memory_of_tokens_is_bounded() -> None:
    times = [datetime(2030, 1, 1, tzinfo=UTC)]
    guard = TokenVerifier([SandboxMailbox(mailbox_id="M")], "key", lambda: times[-1])

    def admit(nonce: str) -> None:
        from nel_mesh.protocol.token import authorization

        guard.verify(
            "M",
            authorization(mailbox_id="M", password="password", shared_key="key", nonce=nonce, now=times[-1]),
        )

    for minute in range(300):
        times.append(times[0] + timedelta(minutes=minute))
        admit(str(minute))
    assert len(guard._used) <= 4 * 60
    with pytest.raises(Refusal, match="before"):
        admit("299")
    with pytest.raises(Refusal, match="before"):
        admit("200")


def test_each_attempt_can_be_seen(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    raw.request("GET", "/inbox")
    raw.request("GET", "/inbox", headers={"mex-clientversion": "seen"})
    first, second = mesh_sandbox.requests("list_messages")
    assert (first.status, first.method, first.path) == (200, "GET", "/messageexchange/X26ABC1/inbox")
    assert first.mailbox_id == "X26ABC1"
    assert first.token != second.token
    assert second.headers["mex-clientversion"] == "seen"
    assert "NHSMESH" not in repr(first)
