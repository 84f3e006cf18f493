from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from example_programs import REFUSED_FOR_LONG, kill, needs_sigterm, refused, start, until

from nel_mesh.sandbox import Sandbox
from results_service.database import Database, read_results

GOOD = b"specimen,test,value\n000000001,Sodium,140\n000000001,Potassium,<5\n"


class Service:
    """The service, as a process of its own."""

    def __init__(self, mesh_sandbox: Sandbox, folder: Path) -> None:
        self.log = folder / f"log-{len(list(folder.glob('log-*')))}.txt"
        self.process = start(
            *("-m", "uvicorn", "results_service.app:app", "--port", "0"),
            log=self.log,
            **mesh_sandbox.environment("X26ABC2"),
            RESULTS_DATABASE=str(folder / "results.sqlite"),
            RESULTS_POLL_SECONDS="0.05",
            RESULTS_STOP_SECONDS="1",
        )

    def until(self, condition: Callable[[], object]) -> None:
        until(condition, self.process, self.log)

    def get(self, path: str) -> Any:
        self.until(lambda: re.search(r"running on (\S+)", self.log.read_text()))
        found = re.search(r"running on (\S+)", self.log.read_text())
        assert found
        with urllib.request.urlopen(f"{found[1]}{path}", timeout=20) as answer:
            return json.load(answer)

    def stop(self) -> None:
        """Ends it as a service manager does."""
        self.process.terminate()
        self.process.wait(20)
        text = self.log.read_text()
        assert "Application shutdown complete" in text, text
        assert "Traceback" not in text, text


@pytest.fixture
def run_service(mesh_sandbox: Sandbox, tmp_path: Path) -> Iterator[Callable[[], Service]]:
    services: list[Service] = []

    def run() -> Service:
        services.append(Service(mesh_sandbox, tmp_path))
        return services[-1]

    yield run
    for service in services:
        with contextlib.suppress(subprocess.TimeoutExpired):
            kill(service.process)


def waiting(mesh_sandbox: Sandbox) -> list[str]:
    return [message.message_id for message in mesh_sandbox.messages(recipient="X26ABC2", status="accepted")]


@needs_sigterm
def test_it_receives_and_one_bad_message_stops_no_other(
    mesh_sandbox: Sandbox, run_service: Callable[[], Service], tmp_path: Path
) -> None:
    first = mesh_sandbox.deliver_message("X26ABC2", GOOD, workflow_id="PATH_RESULTS")
    bad = mesh_sandbox.deliver_message("X26ABC2", b"\xff\x00", workflow_id="PATH_RESULTS")
    # This one does not even arrive whole.
    damaged = mesh_sandbox.deliver_message("X26ABC2", GOOD, workflow_id="PATH_RESULTS", content_encoding="gzip")
    elsewhere = mesh_sandbox.deliver_message("X26ABC2", GOOD, workflow_id="OTHER")
    report = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0", workflow_id="PATH_RESULTS")
    last = mesh_sandbox.deliver_message("X26ABC2", GOOD, workflow_id="PATH_RESULTS")
    service = run_service()
    service.until(lambda: waiting(mesh_sandbox) == [damaged, elsewhere])
    assert [(row["message_id"], row["test"], row["value"]) for row in service.get("/results")] == [
        (message_id, test, value)
        for message_id in (first, last)
        for test, value in (("Sodium", "140"), ("Potassium", "<5"))
    ]
    assert [row["message_id"] for row in service.get("/unreadable")] == [bad, report]
    assert service.get("/health")["last_poll"]
    assert f"message {damaged} stays in the inbox: retrieve_message: " in service.log.read_text()
    assert len(mesh_sandbox.requests("handshake")) == 1
    service.stop()


@needs_sigterm
def test_killed_between_storing_and_acknowledging_it_stores_once(
    mesh_sandbox: Sandbox, run_service: Callable[[], Service], tmp_path: Path
) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", GOOD, workflow_id="PATH_RESULTS")
    mesh_sandbox.add_fault(f"acknowledge_message:*:{REFUSED_FOR_LONG}")
    service = run_service()
    service.until(lambda: refused(mesh_sandbox, "acknowledge_message"))
    kill(service.process)
    database = Database(tmp_path / "results.sqlite")
    assert len(database.results()) == 2
    assert waiting(mesh_sandbox) == [message_id]
    mesh_sandbox.clear_faults()
    service = run_service()
    service.until(lambda: waiting(mesh_sandbox) == [])
    assert len(database.results()) == 2
    assert len(mesh_sandbox.requests("retrieve_message")) >= 2
    service.stop()


@needs_sigterm
def test_a_mesh_that_is_away_is_polled_again(mesh_sandbox: Sandbox, run_service: Callable[[], Service]) -> None:
    mesh_sandbox.deliver_message("X26ABC2", GOOD, workflow_id="PATH_RESULTS")
    mesh_sandbox.add_fault("handshake:respond=403")
    service = run_service()
    service.until(lambda: waiting(mesh_sandbox) == [])
    assert "retry in" in service.log.read_text()
    service.stop()


@needs_sigterm
def test_a_busy_mesh_does_not_keep_it_from_stopping(mesh_sandbox: Sandbox, run_service: Callable[[], Service]) -> None:
    mesh_sandbox.add_fault(f"list_messages:*:{REFUSED_FOR_LONG}")
    service = run_service()
    service.until(lambda: refused(mesh_sandbox, "list_messages"))
    service.stop()


def test_a_message_is_stored_once(tmp_path: Path) -> None:
    database = Database(tmp_path / "results.sqlite")
    for _ in range(2):
        database.store("1", "X26ABC1", GOOD)
        database.store("2", "X26ABC1", b"\xff")
    assert len(database.results()) == 2
    assert len(database.unreadable()) == 1


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"specimen,test\n", b"specimen,test,value\n1,2\n", b'specimen,test,value\n"1,2,3\n']
)
def test_what_is_no_result(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_results(content)
