from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from example_programs import REFUSED_FOR_LONG, kill, needs_sigterm, refused, start, until

import router
from nel_mesh.sandbox import Sandbox

pytest_plugins = ["example_fixtures"]


@pytest.fixture
def arguments(settings_file: Path, tmp_path: Path) -> list[str]:
    return [str(settings_file), str(tmp_path / "spool")]


def waiting(mesh_sandbox: Sandbox) -> list[str]:
    return [message.message_id for message in mesh_sandbox.messages(recipient="X26ABC1", status="accepted")]


def test_each_message_goes_where_its_workflow_id_says(
    mesh_sandbox: Sandbox, arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = tmp_path / "spool"
    results = mesh_sandbox.deliver_message("X26ABC1", b"results", workflow_id="PATH_RESULTS", subject="For Dr No")
    summary = mesh_sandbox.deliver_message("X26ABC1", [b"sum", b"mary"], workflow_id="DISCHARGE_SUMMARY")
    clinic = mesh_sandbox.deliver_message("X26ABC1", b"a\nb\n", workflow_id="CLINIC_LIST")
    with caplog.at_level("INFO"):
        assert router.main(arguments) == 0
    assert (spool / "pathology" / f"{results}.dat").read_bytes() == b"results"
    assert json.loads((spool / "pathology" / f"{results}.json").read_text())["subject"] == "For Dr No"
    assert (spool / "discharges" / f"{summary}.dat").read_bytes() == b"summary"
    assert f"message {clinic}: a clinic list of 2 lines" in caplog.text
    assert waiting(mesh_sandbox) == []


def test_nothing_is_lost(
    mesh_sandbox: Sandbox, arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = tmp_path / "spool"
    unknown = mesh_sandbox.deliver_message("X26ABC1", b"?", sender="X26ABC2", workflow_id="../WHAT")
    report = mesh_sandbox.deliver_report("X26ABC1", linked_message_id="20260101000000000000_000001")
    assert router.main(arguments) == 1
    assert (spool / "quarantine" / f"{unknown}.dat").read_bytes() == b"?"
    assert f"message {unknown} from X26ABC2 goes into quarantine" in caplog.text
    kept = json.loads((spool / "reports" / f"{report}.json").read_text())
    assert kept["linked_message_id"] == "20260101000000000000_000001"
    assert waiting(mesh_sandbox) == []
    assert router.main(arguments) == 0


def test_a_route_that_fails_leaves_its_message_in_the_inbox(
    mesh_sandbox: Sandbox, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "pathology").write_text("a file in the way")
    failing = mesh_sandbox.deliver_message("X26ABC1", b"results", workflow_id="PATH_RESULTS")
    mesh_sandbox.deliver_message("X26ABC1", b"summary", workflow_id="DISCHARGE_SUMMARY")
    assert router.main(arguments) == 1
    assert waiting(mesh_sandbox) == [failing]
    (tmp_path / "spool" / "pathology").unlink()
    assert router.main(arguments) == 0
    assert waiting(mesh_sandbox) == []


def test_killed_before_acknowledging_it_delivers_once(
    mesh_sandbox: Sandbox, arguments: list[str], tmp_path: Path
) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC1", b"results", workflow_id="PATH_RESULTS")
    mesh_sandbox.add_fault(f"acknowledge_message:*:{REFUSED_FOR_LONG}")
    log = tmp_path / "log.txt"
    process = start("router.py", *arguments, log=log)
    until(lambda: refused(mesh_sandbox, "acknowledge_message"), process, log)
    kill(process)
    assert waiting(mesh_sandbox) == [message_id]
    # Whoever waits for the file has taken it meanwhile.
    (tmp_path / "spool" / "pathology" / f"{message_id}.dat").unlink()
    mesh_sandbox.clear_faults()
    assert router.main(arguments) == 0
    assert waiting(mesh_sandbox) == []
    assert not (tmp_path / "spool" / "pathology" / f"{message_id}.dat").exists()


@needs_sigterm
def test_told_to_stop_it_ends_between_two_messages(mesh_sandbox: Sandbox, arguments: list[str], tmp_path: Path) -> None:
    for _ in range(2):
        mesh_sandbox.deliver_message("X26ABC1", b"results", workflow_id="PATH_RESULTS")
    # The first is acknowledged only when the process has been told.
    mesh_sandbox.add_fault("acknowledge_message:*:respond=503")
    log = tmp_path / "log.txt"
    process = start("router.py", *arguments, log=log)
    until(lambda: refused(mesh_sandbox, "acknowledge_message"), process, log)
    process.send_signal(signal.SIGTERM)
    mesh_sandbox.clear_faults()
    assert process.wait(20) == 0, log.read_text()
    assert len(waiting(mesh_sandbox)) == 1


def test_settings_that_cannot_be_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert router.main([str(tmp_path / "missing.json"), str(tmp_path / "spool")]) == 1
    assert "missing.json" in caplog.text
