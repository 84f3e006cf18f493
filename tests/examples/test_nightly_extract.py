from __future__ import annotations

import contextlib
import csv
import sqlite3
import tracemalloc
from datetime import date
from pathlib import Path

import pytest
from example_programs import REFUSED_FOR_LONG, kill, refused, start, until

import nightly_extract
from nel_mesh.sandbox import PlanFault, Sandbox, SandboxMailbox, Workflow, sandbox

pytest_plugins = ["example_fixtures"]

DAY = "2026-11-22"


def make_database(path: Path, results: int) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE result (specimen TEXT, taken TEXT, test TEXT, value TEXT)")
        rows = ((f"{number:09}", DAY, "Sodium", "<5") for number in range(results))
        connection.executemany("INSERT INTO result VALUES (?, ?, ?, ?)", rows)
        connection.execute("INSERT INTO result VALUES ('999999999', '2026-11-21', 'Sodium', '140')")
    return path


@pytest.fixture
def arguments(settings_file: Path, tmp_path: Path) -> list[str]:
    database = make_database(tmp_path / "pathology.sqlite", 200)
    return [str(settings_file), str(database), "--to", "X26ABC2", "--state", str(tmp_path / "state"), "--day", DAY]


def test_a_night_is_sent_once(mesh_sandbox: Sandbox, arguments: list[str]) -> None:
    assert nightly_extract.main(arguments) == 0
    assert nightly_extract.main(arguments) == 0
    (message,) = mesh_sandbox.messages()
    assert message.description.local_id == f"results-{DAY}"
    rows = list(csv.reader(mesh_sandbox.content(message.message_id).decode().splitlines()))
    assert rows[0] == ["specimen", "taken", "test", "value"]
    assert [row[0] for row in rows[1:]] == [f"{number:09}" for number in range(200)]


def test_the_next_night_is_another_message(mesh_sandbox: Sandbox, arguments: list[str]) -> None:
    assert nightly_extract.main(arguments) == 0
    assert nightly_extract.main([*arguments, "--day", "2026-11-23"]) == 0
    assert len(mesh_sandbox.messages()) == 2


def test_killed_in_the_middle_it_goes_on(mesh_sandbox: Sandbox, arguments: list[str], tmp_path: Path) -> None:
    mesh_sandbox.add_fault(f"send_chunk:*:{REFUSED_FOR_LONG},chunk=3")
    log = tmp_path / "log.txt"
    small_chunks = {"MESH_MAX_CHUNK_SIZE_IN_MEGABYTES": "0.001"}
    process = start("nightly_extract.py", *arguments, log=log, **small_chunks)
    until(lambda: refused(mesh_sandbox, "send_chunk"), process, log)
    kill(process)
    assert mesh_sandbox.delivered("X26ABC2") == []
    mesh_sandbox.clear_faults()
    assert start("nightly_extract.py", *arguments, log=log, **small_chunks).wait(60) == 0, log.read_text()
    (message,) = mesh_sandbox.messages()
    assert message.total_chunks > 3
    assert mesh_sandbox.content(message.message_id).count(b"\n") == 201
    sent = [request.status for request in mesh_sandbox.requests("send_message")]
    assert sent == [202]


def test_exit_codes(
    mesh_sandbox: Sandbox,
    arguments: list[str],
    mesh_fault: PlanFault,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MESH_MAX_ATTEMPTS", "1")
    # A single request would be looked up for half a minute before it is sent again.
    monkeypatch.setenv("MESH_MAX_CHUNK_SIZE_IN_MEGABYTES", "0.001")
    mesh_fault("send_message:respond=503")
    assert nightly_extract.main(arguments) == 75
    mesh_fault("send_chunk:respond=403")
    assert nightly_extract.main(arguments) == 1
    assert nightly_extract.main(arguments) == 0
    assert nightly_extract.main([str(Path(arguments[0]).with_name("missing.json")), *arguments[1:]]) == 1
    assert "missing.json" in caplog.text
    assert len(mesh_sandbox.delivered("X26ABC2")) == 1


def test_a_recipient_that_may_not_have_it(arguments: list[str], tmp_path: Path) -> None:
    nobody = Workflow(workflow_id="OTHER", senders=(), receivers=())
    with sandbox(mailboxes=[SandboxMailbox(mailbox_id="X26ABC1")], workflows=[nobody]) as strict:
        (settings,) = strict.write_settings(tmp_path / "strict")
        assert nightly_extract.main([str(settings), *arguments[1:]]) == 1
        assert strict.messages() == []


def test_a_large_extract_is_not_held_in_memory(tmp_path: Path) -> None:
    database = make_database(tmp_path / "pathology.sqlite", 50_000)
    path = tmp_path / "extract.csv"
    tracemalloc.start()
    try:
        nightly_extract.write_extract(database, path, date.fromisoformat(DAY))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 1_500_000
    assert peak < 300_000
