"""Cases found by comparison with the official sandbox; each test has the number of its row."""

from __future__ import annotations

import hashlib
import hmac
import tracemalloc
import uuid
from datetime import timedelta
from typing import Any

import pytest
from raw_mesh import V2, RawMesh

from nel_mesh.sandbox import Sandbox, SandboxConfiguration, SandboxMailbox, Workflow, sandbox

pytest_plugins = ["raw_fixtures"]


@pytest.mark.parametrize("count", ["001", "1234567890"])
def test_s1_the_nonce_count_is_text(raw: RawMesh, count: str) -> None:
    nonce = str(uuid.uuid4())
    timestamp = raw.mesh.configuration.clock().strftime("%Y%m%d%H%M")
    message = f"X26ABC1:{nonce}:{count}:password:{timestamp}".encode()
    digest = hmac.new(b"TestKey", message, hashlib.sha256).hexdigest()
    made = f"NHSMESH X26ABC1:{nonce}:{count}:{timestamp}:{digest}"
    assert raw.request("GET", "/inbox", authorization=made).status_code == 200
    assert raw.request("GET", "/inbox", authorization=made).status_code == 403


def test_s2_the_digest_may_be_in_upper_case(raw: RawMesh) -> None:
    start, _, digest = raw.token().rpartition(":")
    assert raw.request("GET", "/inbox", authorization=f"{start}:{digest.upper()}").status_code == 200


def test_s3_workflows_can_be_for_look_ups_alone() -> None:
    boxes = [SandboxMailbox(mailbox_id="LAB", ods_code="R1"), SandboxMailbox(mailbox_id="GP", ods_code="G1")]
    flows = [Workflow(workflow_id="PATH", senders=(), receivers=("GP",))]
    with sandbox(tls=False, mailboxes=boxes, workflows=flows, enforce_workflows=False) as mesh, RawMesh(mesh) as raw:
        found = raw.http.get("/messageexchange/workflowsearch/PATH", headers={"accept": V2}).json()
        assert [box["mailbox_id"] for box in found["results"]] == ["GP"]
        assert raw.http.get("/messageexchange/endpointlookup/R1/PATH").json()["results"] == []
        assert raw.send(mailbox_id="LAB", to="LAB", mex_workflowid="OTHER").status_code == 202


def test_s4_an_unfinished_upload_has_not_been_transferred(raw: RawMesh) -> None:
    message_id = raw.send(mex_chunk_range="1:2").json()["message_id"]
    tracked = raw.track(message_id).json()
    assert tracked["status"] == "uploading"
    assert not {"status_event", "status_code", "status_description", "status_timestamp"} & set(tracked)
    raw.send_chunk(message_id, 2, 2)
    assert raw.track(message_id).json()["status_code"] == "00"


@pytest.mark.parametrize("text", ["{1:1}", "{1:2}", "{ 1:1 }"])
def test_s5_a_sender_writes_no_braces(raw: RawMesh, mesh_sandbox: Sandbox, text: str) -> None:
    answer = raw.send(mex_chunk_range=text)
    assert answer.status_code == 417
    assert mesh_sandbox.messages() == []
    first = raw.send(mex_chunk_range="1:2").json()["message_id"]
    assert raw.send_chunk(first, 2, 2, headers={"mex-chunk-range": "{2:2}"}).status_code == 417


def send(raw: RawMesh, version: int, **headers: str) -> Any:
    return raw.send(version=version, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("headers", "event", "code", "words"),
    [
        ({"mex_to": "X26NONE"}, "SEND", "12", "Unregistered to address"),
        ({"mex_to": ""}, "SEND", "08", "Missing Mex-To header"),
        (
            {"mex_from": "X26ABC2"},
            "SEND",
            "07",
            "Invalid From Address, the mailbox does not match the authorization header",
        ),
        ({"mex_messagetype": "REPORT"}, "SEND", "11", "Invalid Message Type for the transfer, should be DATA"),
        (
            {"mex_chunk_range": "2:3"},
            "SEND",
            "InvalidHeaderChunks",
            "Invalid chunk values sent in mex-Chunk-Range header",
        ),
        ({"content_encoding": "deflate"}, "SEND", "06", "Malformed headers"),
        ({"mex_to": "https://a.b"}, "TRANSFER", "06", "Malformed headers"),
        ({"mex_content_checksum": "md5;abc"}, "SEND", "Invalid checksum", "Invalid checksum"),
    ],
)
def test_s6_the_words_beside_a_code_are_the_apis(
    raw: RawMesh, headers: dict[str, str], event: str, code: str, words: str
) -> None:
    [detail] = send(raw, 2, **headers).json()["detail"]
    assert detail == {"event": event, "code": code, "msg": words}
    old = send(raw, 1, **headers).json()
    assert (old["errorEvent"], old["errorCode"], old["errorDescription"]) == (event, code, words)


def test_s6_the_reason_in_plain_words_is_kept_beside(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    once = raw.token()
    raw.request("GET", "/inbox", authorization=once)
    refused = raw.request("GET", "/inbox", authorization=once)
    assert refused.json()["detail"][0]["msg"] == "Error Duplicated Authentication Token"
    reason = "the token has been used before; make one for each request"
    assert refused.headers["x-sandbox-reason"] == reason
    assert [seen.reason for seen in mesh_sandbox.requests("list_messages")] == [None, reason]
    assert raw.send(b"").json()["detail"][0]["msg"] == "Data file is missing or inaccessible"
    assert raw.get("NONE").json()["detail"][0]["msg"] == "Message does not exist"
    assert raw.request("POST", "").json()["detail"][0]["msg"] == "Field required"


def test_s7_a_report_can_follow_an_unregistered_recipient() -> None:
    with sandbox(tls=False, report_unregistered_recipients=True) as mesh, RawMesh(mesh) as raw:
        refused = raw.send(to="X26NONE", mex_localid="L1", mex_subject="S1")
        assert refused.status_code == 417
        message_id = refused.json()["message_id"]
        (report_id,) = raw.inbox("X26ABC1")
        report = raw.get(report_id, mailbox_id="X26ABC1").headers
        assert {
            "mex-messagetype": "REPORT",
            "mex-linkedmsgid": message_id,
            "mex-statusevent": "SEND",
            "mex-statuscode": "12",
            "mex-statusdescription": "Unregistered to address",
            "mex-workflowid": "TEST",
            "mex-localid": "L1",
            "mex-subject": "S1",
        }.items() <= dict(report).items()
        assert raw.track(message_id).status_code == 404
    assert SandboxConfiguration().report_unregistered_recipients is False


def test_s7_by_default_there_is_none(raw: RawMesh) -> None:
    assert "message_id" not in raw.send(to="X26NONE").json()
    assert raw.inbox("X26ABC1") == []


@pytest.mark.parametrize("version", [1, 2])
def test_s8_a_message_that_is_being_uploaded_is_gone(raw: RawMesh, version: int) -> None:
    message_id = raw.send(mex_chunk_range="1:2").json()["message_id"]
    assert raw.get(message_id, version=version).status_code == 410
    assert raw.get(message_id, 1, version=version).status_code == 410
    assert raw.request("HEAD", f"/inbox/{message_id}", mailbox_id="X26ABC2", version=version).status_code == 410
    assert raw.acknowledge(message_id).status_code == 404
    raw.send_chunk(message_id, 2, 2)
    assert raw.get(message_id).status_code == 206


@pytest.mark.parametrize("text", ["Data", "data", "DATA", ""])
def test_s9_the_type_of_a_message_is_read_in_any_case(raw: RawMesh, text: str) -> None:
    assert raw.send(headers={"mex-messagetype": text}).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        {"file_name": "\u0174yn.csv"},
        {"subject": "\ud800"},
        {"local_id": "a\r\nx: y"},
        {"workflow_id": "a\0"},
        {"checksum": " a"},
        {"content_encoding": "gzip\n"},
    ],
)
def test_s10_a_value_that_http_cannot_carry_is_refused_at_once(mesh_sandbox: Sandbox, headers: dict[str, str]) -> None:
    (name,) = headers
    with pytest.raises(ValueError, match=f"^{name}: an HTTP header cannot carry "):
        mesh_sandbox.deliver_message("X26ABC2", b"content", **headers)
    assert mesh_sandbox.messages() == []
    if name in ("file_name", "subject", "local_id", "workflow_id"):
        with pytest.raises(ValueError, match=name):
            mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M1", **headers)
    with pytest.raises(ValueError, match="linked_message_id"):
        mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M\n1")


def test_s10_a_value_that_breaks_mesh_s_rules_alone_is_delivered(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content", file_name="caf\u00e9\x1b/..", checksum="?" * 200)
    assert raw.get(message_id).status_code == 200


def test_s11_a_message_that_nobody_collected_is_undeliverable() -> None:
    with sandbox(tls=False) as mesh, RawMesh(mesh) as raw:
        message_id = raw.send().json()["message_id"]
        mesh.advance(timedelta(days=5))
        assert raw.track(message_id).json()["status"] == "undeliverable"
        assert raw.track(message_id, version=1).json()["status"] == "Undeliverable"
        assert [message.message_id for message in mesh.messages(status="undeliverable")] == [message_id]


def test_r25_the_memory_of_refused_requests_is_bounded() -> None:
    with sandbox(tls=False) as mesh, RawMesh(mesh) as raw:
        headers = {"x-long": "x" * 50_000}
        raw.http.get("/messageexchange/X26ABC1/inbox", headers=headers)
        tracemalloc.start()
        try:
            for _ in range(600):
                assert raw.http.get("/messageexchange/X26ABC1/inbox", headers=headers).status_code == 403
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 12_000_000
        assert 100 < len(mesh.requests()) < 200
        assert mesh.requests()[-1].headers["x-long"] == headers["x-long"]


CLIENT = {"mex-clientversion": "1", "mex-osname": "x", "mex-osversion": "1"}


def test_a_handshake_by_get_is_an_option(raw: RawMesh) -> None:
    assert raw.request("GET", "", headers=CLIENT).status_code == 405
    with sandbox(tls=False, handshake_by_get=True) as mesh, RawMesh(mesh) as lenient:
        for method in ("GET", "POST"):
            assert lenient.request(method, "", headers=CLIENT).status_code == 200
        assert lenient.request("GET", "", authorization="none").status_code == 403
        assert lenient.request("PUT", "", headers=CLIENT).status_code == 405
        assert [seen.operation for seen in mesh.requests("handshake")][:2] == ["handshake", "handshake"]
