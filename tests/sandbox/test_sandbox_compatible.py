"""The leniencies of the sandbox, one by one, and all of them by `compatible`."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx2
import pytest
from raw_mesh import RawMesh

from nel_mesh.sandbox import (
    SandboxConfiguration,
    Workflow,
    read_mailboxes,
    read_workflows,
    sandbox,
)
from nel_mesh.sandbox.configuration import COMPATIBLE

pytest_plugins = ["raw_fixtures"]


def test_compatible_sets_what_it_names_and_the_default_is_strict() -> None:
    strict, compatible = SandboxConfiguration(), SandboxConfiguration(compatible=True)
    for name, value in COMPATIBLE.items():
        assert (getattr(strict, name), getattr(compatible, name)) == (not value, value)


def test_ids_in_any_case(raw: RawMesh) -> None:
    sent = raw.send().json()["message_id"]
    assert raw.request("GET", "/inbox", mailbox_id="x26abc2").status_code == 403
    with sandbox(tls=False, ids_in_any_case=True) as mesh, RawMesh(mesh) as lenient:
        sent = lenient.send(headers={"mex-from": "x26abc1"}).json()["message_id"]
        assert lenient.request("GET", "/inbox", mailbox_id="x26abc2").json()["messages"] == [sent]
        assert lenient.request("GET", f"/inbox/{sent.lower()}", mailbox_id="x26abc2").status_code == 200


def test_an_acknowledged_message_is_readable(raw: RawMesh) -> None:
    with sandbox(tls=False, acknowledged_readable=True) as mesh, RawMesh(mesh) as lenient:
        for server, status in ((raw, 410), (lenient, 200)):
            sent = server.send().json()["message_id"]
            server.acknowledge(sent)
            head = server.request("HEAD", f"/inbox/{sent}", mailbox_id="X26ABC2")
            assert [server.get(sent).status_code, head.status_code] == [status, status]
            assert server.inbox() == []


def test_the_java_clients_question_for_updates(raw: RawMesh) -> None:
    assert raw.request("POST", "/update").status_code == 404
    with sandbox(tls=False, update_check=True) as mesh, RawMesh(mesh) as lenient:
        assert lenient.request("POST", "/update").status_code == 200
        assert lenient.request("POST", "/update", authorization="none").status_code == 403


def test_rich_lists(raw: RawMesh) -> None:
    assert raw.request("GET", "/outbox/rich").status_code == 404
    with sandbox(tls=False, rich_lists=True) as mesh, RawMesh(mesh) as lenient:
        ids = [lenient.send().json()["message_id"] for _ in range(25)]
        unfinished = lenient.send(headers={"mex-chunk-range": "1:2"}).json()["message_id"]
        lenient.acknowledge(ids[3])
        mesh.deliver_report("X26ABC2", linked_message_id="L", code="14")
        for mailbox_id, path, expected in (
            ("X26ABC2", "/inbox/rich", ids[::-1]),
            ("X26ABC1", "/outbox/rich", [unfinished, *ids[::-1]]),
        ):
            found, query = [], "?max_results=10"
            while query:
                page = lenient.request("GET", path + query, mailbox_id=mailbox_id).json()
                found += page["messages"]
                query = page["links"].get("next", "").removeprefix(f"/messageexchange/{mailbox_id}{path}")
            data = [one["message_id"] for one in found if one["message_type"] == "DATA"]
            assert data == expected
            assert {one["message_id"]: one["status"] for one in found}[ids[3]] == "acknowledged"
            for bad in ("max_results=0", "max_results=x", "start_time=x", "continue_from=NONE"):
                answer = lenient.request("GET", f"{path}?{bad}", mailbox_id=mailbox_id)
                assert answer.status_code == 400
        later = lenient.request("GET", "/outbox/rich?start_time=2999-01-01T00:00:00").json()
        assert later["messages"] == []


def test_tls_without_client_certificates() -> None:
    with sandbox(client_certificates=False) as mesh:
        context = ssl.create_default_context(cadata=mesh.root_certificate)
        with httpx2.Client(verify=context, trust_env=False) as http:
            assert http.get(f"{mesh.url}/messageexchange/_ping").status_code == 200


def test_files_of_the_official_sandbox(tmp_path: Path) -> None:
    mailboxes, workflows = tmp_path / "mailboxes.jsonl", tmp_path / "workflows.jsonl"
    mailboxes.write_text(
        '{"mailbox_id": "LAB", "mailbox_name": "Lab", "billing_entity": "Wales", "ods_code": "R1", "password": "p"}\n\n'
        '{"mailbox_id": "GP", "org_code": "ignored"}'
    )
    workflows.write_text('{"workflow_id": "W", "senders": ["LAB"], "receivers": ["GP", "LAB"]}\n')
    lab, gp = read_mailboxes(mailboxes)
    assert (lab.name, lab.ods_code, lab.password, lab.billing_entity) == ("Lab", "R1", "p", "Wales")
    assert (gp.mailbox_id, gp.name, gp.ods_code) == ("GP", "GP", "X26")
    assert read_workflows(workflows) == (Workflow(workflow_id="W", senders=("LAB",), receivers=("GP", "LAB")),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"mailbox_id": "A"}\n{"ods_code": "X"}', 'line 2: "mailbox_id" is missing'),
        ("[1]", "line 1: it is not a JSON object"),
        ("{", "line 1: it is not a JSON object"),
        ('{"mailbox_id": "a b"}', "line 1: mailbox id 'a b'"),
    ],
)
def test_a_file_of_mailboxes_that_is_wrong(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "mailboxes.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match="mailboxes.jsonl") as raised:
        read_mailboxes(path)
    assert reason in str(raised.value)


@pytest.mark.parametrize("text", ['{"workflow_id": "W"}', '{"workflow_id": 1, "senders": [], "receivers": []}'])
def test_a_file_of_workflows_that_is_wrong(tmp_path: Path, text: str) -> None:
    path = tmp_path / "workflows.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"workflows.jsonl line 1"):
        read_workflows(path)
