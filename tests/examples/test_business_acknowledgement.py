from __future__ import annotations

import json
from pathlib import Path

import pytest
from example_programs import REFUSED_FOR_LONG, kill, refused, start, until

import business_acknowledgement
from nel_mesh.sandbox import ClientFactory, PlanFault, Sandbox

pytest_plugins = ["example_fixtures"]


@pytest.fixture
def arguments(settings_file: Path, tmp_path: Path) -> list[str]:
    return [str(settings_file), "PATH_RESULTS", str(tmp_path / "results")]


def deliver(mesh_sandbox: Sandbox, workflow_id: str = "PATH_RESULTS") -> str:
    return mesh_sandbox.deliver_message("X26ABC1", b"results", sender="X26ABC2", workflow_id=workflow_id)


def answers(mesh_sandbox: Sandbox, message_id: str) -> list[bytes]:
    """What the sender got for this message."""
    return [
        mesh_sandbox.content(message.message_id)
        for message in mesh_sandbox.delivered("X26ABC2")
        if message.description.workflow_id == "PATH_RESULTS_ACK" and message.description.local_id == f"ack-{message_id}"
    ]


def status(mesh_sandbox: Sandbox, message_id: str) -> str:
    (message,) = (one for one in mesh_sandbox.messages() if one.message_id == message_id)
    return message.status


def test_each_message_is_answered_once(mesh_sandbox: Sandbox, arguments: list[str], tmp_path: Path) -> None:
    first, second = deliver(mesh_sandbox), deliver(mesh_sandbox)
    other = deliver(mesh_sandbox, "PATH_RESULTS_ACK")
    report = mesh_sandbox.deliver_report("X26ABC1", linked_message_id="M0", workflow_id="PATH_RESULTS")
    assert business_acknowledgement.main(arguments) == 0
    assert business_acknowledgement.main(arguments) == 0
    for message_id in (first, second):
        (answer,) = answers(mesh_sandbox, message_id)
        assert json.loads(answer) == {"message_id": message_id, "status": "processed"}
        assert status(mesh_sandbox, message_id) == "acknowledged"
        assert (tmp_path / "results" / "inbox" / f"{message_id}.dat").read_bytes() == b"results"
    assert status(mesh_sandbox, other) == "accepted"
    kept = json.loads((tmp_path / "results" / "inbox" / f"report-{report}.json").read_text())
    assert kept["linked_message_id"] == "M0"
    assert len(mesh_sandbox.delivered("X26ABC2")) == 2


def test_killed_between_answering_and_acknowledging(
    mesh_sandbox: Sandbox, arguments: list[str], tmp_path: Path
) -> None:
    message_id = deliver(mesh_sandbox)
    mesh_sandbox.add_fault(f"acknowledge_message:*:{REFUSED_FOR_LONG}")
    log = tmp_path / "log.txt"
    process = start("business_acknowledgement.py", *arguments, log=log)
    until(lambda: refused(mesh_sandbox, "acknowledge_message"), process, log)
    kill(process)
    assert len(answers(mesh_sandbox, message_id)) == 1
    assert status(mesh_sandbox, message_id) == "accepted"
    mesh_sandbox.clear_faults()
    assert business_acknowledgement.main(arguments) == 0
    assert len(answers(mesh_sandbox, message_id)) == 1
    assert status(mesh_sandbox, message_id) == "acknowledged"


def test_killed_before_it_knew_that_the_answer_was_sent(
    mesh_sandbox: Sandbox, arguments: list[str], tmp_path: Path
) -> None:
    message_id = deliver(mesh_sandbox)
    mesh_sandbox.add_fault("send_message:delay=5")
    log = tmp_path / "log.txt"
    process = start("business_acknowledgement.py", *arguments, log=log)
    until(lambda: answers(mesh_sandbox, message_id), process, log)
    kill(process)
    assert status(mesh_sandbox, message_id) == "accepted"
    assert business_acknowledgement.main(arguments) == 0
    assert len(answers(mesh_sandbox, message_id)) == 1
    assert len(mesh_sandbox.requests("send_message")) == 1
    assert status(mesh_sandbox, message_id) == "acknowledged"


def test_an_answer_that_cannot_be_sent_leaves_the_message(
    mesh_sandbox: Sandbox, mesh_client: ClientFactory, mesh_fault: PlanFault, tmp_path: Path
) -> None:
    acknowledger = business_acknowledgement.Acknowledger(mesh_client("X26ABC1"), "PATH_RESULTS", tmp_path)
    message_id = deliver(mesh_sandbox)
    mesh_fault("send_message:respond=403")
    assert not acknowledger.run()
    assert status(mesh_sandbox, message_id) == "accepted"
    assert acknowledger.run()
    assert len(answers(mesh_sandbox, message_id)) == 1
