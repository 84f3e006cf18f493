"""Every operation, answered in both versions of the API as the specification has it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from raw_mesh import V2, RawMesh

from nel_mesh.sandbox import Sandbox, SandboxMailbox, Workflow, sandbox

pytest_plugins = ["raw_fixtures"]

HANDSHAKE = {"mex-clientversion": "test==1", "mex-osname": "Linux", "mex-osversion": "6"}


def test_ping_needs_no_token(raw: RawMesh) -> None:
    answer = raw.http.get("/messageexchange/_ping")
    assert answer.status_code == 200
    assert answer.json()["outcome"] == "Yes"


def test_handshake(raw: RawMesh) -> None:
    answer = raw.request("POST", "", headers=HANDSHAKE)
    # A client that goes by the type would read JSON from an empty body.
    assert (answer.status_code, answer.content, answer.headers.get("content-type")) == (200, b"", None)
    answer = raw.request("POST", "", headers=HANDSHAKE, version=1)
    assert (answer.status_code, answer.json()) == (200, {"mailboxId": "X26ABC1"})


def test_handshake_by_get_is_refused(raw: RawMesh) -> None:
    answer = raw.request("GET", "", headers=HANDSHAKE)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("absent", HANDSHAKE)
def test_handshake_says_which_client_it_is(raw: RawMesh, absent: str) -> None:
    answer = raw.request("POST", "", headers={name: value for name, value in HANDSHAKE.items() if name != absent})
    assert answer.status_code == 400
    [fault] = answer.json()["detail"]
    assert (fault["loc"], fault["type"]) == (["header", absent], "missing")


def test_unknown_paths(raw: RawMesh) -> None:
    assert raw.request("GET", "/attic").status_code == 404
    assert raw.http.get("/elsewhere").status_code == 404
    assert raw.request("DELETE", "/inbox").status_code == 405


def test_unknown_version(raw: RawMesh) -> None:
    answer = raw.request("GET", "/inbox", headers={"accept": "application/vnd.mesh.v3+json"})
    assert answer.status_code == 400


def test_version_is_chosen_among_several(raw: RawMesh) -> None:
    answer = raw.request("GET", "/inbox", headers={"accept": f"application/json, {V2};q=0.9"})
    assert answer.headers["content-type"] == V2


@pytest.mark.parametrize(("version", "name"), [(2, "message_id"), (1, "messageID")])
def test_send(raw: RawMesh, version: int, name: str) -> None:
    answer = raw.send(version=version)
    assert answer.status_code == 202
    assert re.fullmatch(r"\d{20}_[0-9A-F]{6}", answer.json()[name])
    assert list(answer.json()) == [name]


def test_message_passes_through_with_its_headers(raw: RawMesh) -> None:
    sent = raw.send(
        b"the content",
        mex_from="X26ABC1",
        mex_subject="subject",
        mex_localid="local",
        mex_filename="file.txt",
        mex_partnerid="partner",
        mex_content_checksum="b10a8db164e0754105b7a99be72e3fe5",
        mex_content_compressed="Y",
        mex_content_encrypted="Y",
        mex_content_type="text/csv",
    ).json()["message_id"]
    assert raw.inbox() == [sent]
    answer = raw.get(sent)
    assert (answer.status_code, answer.content) == (200, b"the content")
    expected = {
        "mex-messageid": sent,
        "mex-from": "X26ABC1",
        "mex-to": "X26ABC2",
        "mex-workflowid": "TEST",
        "mex-subject": "subject",
        "mex-localid": "local",
        "mex-filename": "file.txt",
        "mex-partnerid": "partner",
        "mex-content-checksum": "b10a8db164e0754105b7a99be72e3fe5",
        "mex-content-compressed": "Y",
        "mex-content-encrypted": "Y",
        "mex-content-type": "text/csv",
        "mex-messagetype": "DATA",
        "mex-chunk-range": "1:1",
        "mex-statussuccess": "SUCCESS",
        "mex-version": "1.0",
        "content-type": "text/csv",
        "content-length": "11",
    }
    assert expected.items() <= dict(answer.headers).items()
    head = raw.request("HEAD", f"/inbox/{sent}", mailbox_id="X26ABC2")
    assert (head.status_code, head.content) == (200, b"")
    of_content = {"content-type", "content-length"}
    assert {name: value for name, value in expected.items() if name not in of_content}.items() <= dict(
        head.headers
    ).items()


def test_message_without_options(raw: RawMesh) -> None:
    sent = raw.send().json()["message_id"]
    headers = raw.get(sent).headers
    assert headers["mex-filename"] == f"{sent}.dat"
    assert headers["mex-content-compressed"] == "N"
    assert "mex-subject" not in headers


@pytest.mark.parametrize(
    ("given", "header", "field"), [("true", "Y", "Y"), ("1", "Y", "Y"), ("N", None, ""), ("no", None, "")]
)
def test_flags_are_passed_on_in_one_form(raw: RawMesh, given: str, header: str | None, field: str) -> None:
    sent = raw.send(mex_content_compressed=given, mex_content_encrypted=given).json()["message_id"]
    headers, tracked = raw.get(sent).headers, raw.track(sent, version=1).json()
    assert (headers["mex-content-compressed"], headers.get("mex-content-encrypted")) == (header or "N", header)
    assert [tracked[name] for name in ("compressFlag", "isCompressed", "encryptedFlag")] == [field] * 3


def test_version_1_download_is_octets(raw: RawMesh) -> None:
    sent = raw.send(mex_content_type="text/csv").json()["message_id"]
    assert raw.get(sent, version=1).headers["content-type"] == "application/octet-stream"


def test_acknowledge(raw: RawMesh) -> None:
    sent = raw.send().json()["message_id"]
    answer = raw.acknowledge(sent)
    assert (answer.status_code, answer.content) == (200, b"")
    again = raw.acknowledge(sent, version=1)
    assert (again.status_code, again.json()) == (200, {"messageId": sent})
    assert raw.inbox() == []
    assert raw.get(sent).status_code == 410
    assert raw.get(sent, 1).status_code == 410
    assert raw.request("HEAD", f"/inbox/{sent}", mailbox_id="X26ABC2").status_code == 410


def test_messages_that_are_not_there(raw: RawMesh) -> None:
    for answer in (raw.get("NONE"), raw.acknowledge("NONE"), raw.track("NONE")):
        assert answer.status_code == 404
    assert raw.request("HEAD", "/inbox/NONE").status_code == 404


def test_messages_of_another_mailbox(raw: RawMesh) -> None:
    sent = raw.send().json()["message_id"]
    assert raw.get(sent, mailbox_id="X26ABC3").status_code == 403
    assert raw.acknowledge(sent, mailbox_id="X26ABC3").status_code == 403
    assert raw.request("HEAD", f"/inbox/{sent}", mailbox_id="X26ABC3").status_code == 404
    assert raw.track(sent, mailbox_id="X26ABC2").status_code == 404
    assert raw.inbox() == [sent]


def test_track_in_version_2(raw: RawMesh) -> None:
    sent = raw.send(mex_localid="local", mex_filename="f.txt", to="X26ABC3").json()["message_id"]
    tracked = raw.track(sent).json()
    assert tracked["status"] == "accepted"
    assert tracked["status_success"] is True
    assert {
        "message_id": sent,
        "local_id": "local",
        "workflow_id": "TEST",
        "filename": "f.txt",
        "recipient": "X26ABC3",
        "recipient_name": "TESTMB3",
        "recipient_ods_code": "X27",
    }.items() <= tracked.items()
    uploaded, expires = (
        datetime.fromisoformat(tracked[name]).replace(tzinfo=UTC) for name in ("upload_timestamp", "expiry_time")
    )
    assert abs((datetime.now(UTC) - uploaded).total_seconds()) < 60
    assert (expires - uploaded).days == 5
    raw.acknowledge(sent, mailbox_id="X26ABC3")
    assert raw.track(sent).json()["status"] == "acknowledged"


def test_track_in_version_1(raw: RawMesh) -> None:
    sent = raw.send(b"12345", mex_localid="local", mex_subject="s").json()["message_id"]
    tracked = raw.track(sent, version=1).json()
    assert {
        "messageId": sent,
        "dtsId": sent,
        "fileSize": 5,
        "chunkCount": 1,
        "localId": "local",
        "subject": "s",
        "sender": "X26ABC1",
        "recipient": "X26ABC2",
        "status": "Accepted",
        "statusSuccess": "SUCCESS",
        "messageType": "DATA",
    }.items() <= tracked.items()
    assert re.fullmatch(r"\d{14}", tracked["uploadTimestamp"])
    assert "downloadTimestamp" not in tracked
    raw.acknowledge(sent)
    assert re.fullmatch(r"\d{14}", raw.track(sent, version=1).json()["downloadTimestamp"])


def test_track_needs_a_message_id(raw: RawMesh) -> None:
    assert raw.request("GET", "/outbox/tracking").status_code == 400


def test_track_by_local_id(raw: RawMesh) -> None:
    path = "/outbox/tracking/my%2Flocal%20id"
    assert raw.request("GET", path).status_code == 404
    sent = raw.send(mex_localid="my/local id").json()["message_id"]
    found = raw.request("GET", path)
    assert (found.status_code, found.json()["messageId"]) == (200, sent)
    assert raw.request("GET", path, mailbox_id="X26ABC2").status_code == 404
    raw.send(mex_localid="my/local id")
    several = raw.request("GET", path)
    assert (several.status_code, several.json()["detail"][0]["msg"]) == (300, "Multiple Choices")


def test_count(raw: RawMesh) -> None:
    raw.send()
    assert raw.request("GET", "/count", mailbox_id="X26ABC2").json() == {"count": 1}
    old = raw.request("GET", "/count", mailbox_id="X26ABC2", version=1).json()
    assert (old["count"], old["allResultsIncluded"]) == (1, True)
    assert old["internalID"]


def test_look_up_by_organisation(raw: RawMesh) -> None:
    path = "/messageexchange/endpointlookup/x26/ANY%2FWORKFLOW"
    assert raw.http.get(path, headers={"accept": V2}).json() == {
        "results": [
            {"mailbox_id": "X26ABC1", "mailbox_name": "TESTMB1"},
            {"mailbox_id": "X26ABC2", "mailbox_name": "TESTMB2"},
        ]
    }
    old = raw.http.get(path).json()
    assert old["query_id"]
    assert old["results"][1] == {"address": "X26ABC2", "description": "TESTMB2", "endpoint_type": "MESH"}
    nobody = raw.http.get("/messageexchange/endpointlookup/Z99/W", headers={"accept": V2})
    assert (nobody.status_code, nobody.json()) == (200, {"results": []})
    assert raw.http.get("/messageexchange/endpointlookup/%20/W").status_code == 400


def test_search_by_workflow_has_one_form(raw: RawMesh) -> None:
    for version in (V2, "application/json"):
        answer = raw.http.get("/messageexchange/workflowsearch/ANY", headers={"accept": version})
        assert answer.headers["content-type"] == version
        assert len(answer.json()["results"]) == 3
        assert answer.json()["results"][2] == {"mailbox_id": "X26ABC3", "mailbox_name": "TESTMB3"}


def test_configured_workflows() -> None:
    flows = [
        Workflow(workflow_id="PATH", senders=("LAB",), receivers=("GP",)),
        Workflow(workflow_id="PATH_ACK", senders=("GP",), receivers=("LAB",)),
    ]
    boxes = [SandboxMailbox(mailbox_id="LAB", ods_code="R1"), SandboxMailbox(mailbox_id="GP", ods_code="G1")]
    with sandbox(tls=False, mailboxes=boxes, workflows=flows) as mesh, RawMesh(mesh) as raw:

        def send(sender: str, to: str, workflow_id: str) -> tuple[int, str]:
            answer = raw.send(mailbox_id=sender, to=to, mex_workflowid=workflow_id)
            return answer.status_code, answer.json().get("detail", [{"code": ""}])[0]["code"]

        assert send("LAB", "GP", "PATH") == (202, "")
        assert send("GP", "GP", "PATH") == (417, "16")
        assert send("LAB", "LAB", "PATH") == (417, "17")
        assert send("LAB", "GP", "OTHER") == (417, "17")
        found = raw.http.get("/messageexchange/endpointlookup/G1/PATH", headers={"accept": V2}).json()
        assert found == {"results": [{"mailbox_id": "GP", "mailbox_name": "GP"}]}
        assert raw.http.get("/messageexchange/endpointlookup/G1/OTHER").json()["results"] == []
        assert len(raw.http.get("/messageexchange/workflowsearch/PATH_ACK").json()["results"]) == 1


def test_report(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    failed = raw.send(mex_localid="local", mex_subject="subject").json()["message_id"]
    report = mesh_sandbox.deliver_report("X26ABC1", linked_message_id=failed)
    assert raw.inbox("X26ABC1") == [report]
    for answer in (raw.get(report, mailbox_id="X26ABC1"), raw.get(report, 1, mailbox_id="X26ABC1")):
        assert (answer.status_code, answer.content) == (200, b"")
        assert {
            "mex-messagetype": "REPORT",
            "mex-messageid": report,
            "mex-linkedmsgid": failed,
            "mex-to": "X26ABC1",
            "mex-workflowid": "TEST",
            "mex-statusevent": "SEND",
            "mex-statuscode": "14",
            "mex-statusdescription": "Undelivered message",
            "mex-statussuccess": "ERROR",
            "mex-localid": "local",
            "mex-subject": "subject",
            "content-length": "0",
        }.items() <= dict(answer.headers).items()
        assert re.fullmatch(r"\d{14}", answer.headers["mex-statustimestamp"])
    assert raw.get(report, 2, mailbox_id="X26ABC1").status_code == 404
    assert raw.request("HEAD", f"/inbox/{report}").headers["mex-messagetype"] == "REPORT"
    assert raw.acknowledge(report, mailbox_id="X26ABC1").status_code == 200
    assert raw.inbox("X26ABC1") == []
