"""Events: what a program's own hooks receive, what they must not, and a hook that fails."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nel_mesh import MeshClient, MeshError
from nel_mesh.instrumentation import (
    AcknowledgementFailed,
    ChecksumNotVerified,
    Event,
    Failure,
    MessageFailed,
    OperationFinished,
    OperationStarted,
    ProgressFailed,
    ReportReceived,
    RequestFinished,
    RequestStarted,
    RetryScheduled,
    Server,
    events,
)
from nel_mesh.sandbox import Sandbox
from scripted_server import ScriptedServer, Step
from secrecy import Listener, at_sandbox, found, text_of_event
from variants import Connector, Face

TO: dict[str, Any] = {"to": "X26ABC2", "workflow_id": "WF"}
SERVER = Server(address="127.0.0.1", port=443, url="https://127.0.0.1")


class Received(list[Event]):
    """A hook that keeps its events."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self if type(event) is kind]


@pytest.fixture
def received() -> Received:
    return Received()


def test_a_hook_receives_each_operation_request_and_retry(
    received: Received, connect: Connector, mesh_sandbox: Sandbox
) -> None:
    mesh_sandbox.add_fault("send_message:1:respond=503")
    mesh = connect(mesh_sandbox.settings("X26ABC1"), hooks=[received])
    receipt = mesh.send_message(b"content", **TO, local_id="L-1")
    assert [type(event).__name__ for event in received] == [
        "OperationStarted",
        "RequestStarted",
        "RequestFinished",
        "RetryScheduled",
        "RequestStarted",
        "RequestFinished",
        "OperationFinished",
    ]
    (retry,) = received.of(RetryScheduled)
    assert (retry.operation, retry.attempt, retry.max_attempts, retry.delay_in_seconds) == ("send_message", 1, 5, 0.5)
    assert retry.failure == Failure(error="Busy", status=503)
    started, again = received.of(RequestStarted)
    refused, accepted = received.of(RequestFinished)
    assert (started.span_id, again.span_id) == (refused.span_id, accepted.span_id)
    assert (refused.status, refused.failure) == (503, retry.failure)
    assert abs(accepted.server_time - datetime.now(UTC)) < timedelta(minutes=1)
    assert (accepted.status, accepted.failure, accepted.attempt) == (202, None, 2)
    assert (accepted.method, accepted.url_template) == ("POST", "/messageexchange/{mailbox_id}/outbox")
    (whole,) = received.of(OperationFinished)
    assert whole.span_id == received.of(OperationStarted)[0].span_id
    assert (whole.message_id, whole.local_id, whole.workflow_id) == (receipt.message_id, "L-1", "WF")
    assert (whole.bytes, whole.chunks, whole.done, whole.failure) == (7, 1, True, None)
    assert 0 < accepted.duration_in_seconds < whole.duration_in_seconds < 60
    assert {event.mailbox_id for event in received} == {"X26ABC1"}
    assert {event.server.port for event in received} == {mesh_sandbox.port}


def test_a_hook_receives_failed_messages_and_reports(
    received: Received, connect: Connector, mesh_sandbox: Sandbox, tmp_path: Path
) -> None:
    bad = mesh_sandbox.deliver_message("X26ABC2", b"content of Mrs Jones", workflow_id="WF")
    report_id = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0", code="14")
    bob = connect(mesh_sandbox.settings("X26ABC2"), hooks=[received])

    def handle(message: Any) -> None:
        raise LookupError("Mrs Jones")

    async def handle_async(message: Any) -> None:
        handle(message)

    bob.receive_messages(handle if connect.variant == "sync" else handle_async)
    (failed,) = received.of(MessageFailed)
    assert (failed.operation, failed.message_id) == ("receive_messages", bad)
    assert failed.failure == Failure(error="LookupError")
    assert "in handle\n" in failed.where
    assert "Jones\n" not in failed.where
    (report,) = received.of(ReportReceived)
    assert (report.message_id, report.linked_message_id, report.event, report.code) == (report_id, "M0", "SEND", "14")


def test_a_hook_receives_a_failed_progress(received: Received, connect: Connector, mesh_sandbox: Sandbox) -> None:
    def progress(done: Any) -> None:
        if done.bytes_done == done.bytes_total:
            raise LookupError("Mrs Jones")

    mesh = connect(mesh_sandbox.settings("X26ABC1"), hooks=[received])
    assert mesh.send_message(b"content", **TO, progress=progress).message_id
    (failed,) = received.of(ProgressFailed)
    assert (failed.operation, failed.failure) == ("send_message", Failure(error="LookupError"))
    assert "in progress\n" in failed.where


def test_a_hook_that_raises_fails_nothing_and_is_named_once(
    received: Received, connect: Connector, mesh_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Event) -> None:
        raise OSError(f"Mrs Jones {event}")

    caplog.set_level(logging.WARNING, "nel_mesh")
    mesh = connect(mesh_sandbox.settings("X26ABC1"), hooks=[broken, received])
    assert mesh.send_message(b"content", **TO).message_id
    assert len(received) == 4
    assert [record.getMessage() for record in caplog.records] == ["a hook for events failed (OSError)"]


def test_a_log_handler_that_raises_fails_nothing(connect: Connector, mesh_sandbox: Sandbox) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk of the log is full")

    logger = logging.getLogger("nel_mesh")
    handler = Broken()
    logger.addHandler(handler)
    try:
        mesh = connect(mesh_sandbox.settings("X26ABC1"))
        assert mesh.send_message(b"content", **TO).message_id
    finally:
        logger.removeHandler(handler)
    assert len(mesh_sandbox.messages()) == 1


def test_an_event_that_no_hook_wants_is_not_made(mesh_sandbox: Sandbox) -> None:
    class Retries(Received):
        def wants(self, kind: type[Event]) -> bool:
            return kind is RetryScheduled

    retries = Retries()
    mesh_sandbox.add_fault("send_message:1:respond=503")
    settings = mesh_sandbox.settings("X26ABC1", retry_initial_delay_in_seconds=0.01)
    with MeshClient(settings, hooks=[retries]) as mesh:
        mesh.send_message(b"content", **TO)
    assert [type(event) for event in retries] == [RetryScheduled]


def test_events_are_frozen() -> None:
    failed = ProgressFailed(
        operation="send_message", mailbox_id="X26ABC1", server=SERVER, failure=Failure(error="OSError"), where=""
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        failed.where = "elsewhere"  # type: ignore[misc] # the test is of what mypy forbids


def test_no_event_holds_private_data(
    received: Received, connect: Connector, mesh_sandbox: Sandbox, tmp_path: Path
) -> None:
    private = {"subject": "Mrs Jones", "file_name": "jones-9434765919.csv", "partner_id": "partner-of-jones"}
    alice = connect(mesh_sandbox.settings("X26ABC1", max_chunk_size_in_megabytes=0.001), hooks=[received])
    bob = connect(mesh_sandbox.settings("X26ABC2"), hooks=[received])
    content = b"the content of it" * 100
    sent = [alice.send_message(content, **TO, **private).message_id for _ in range(3)]
    alice.track_message(sent[0])
    with pytest.raises(MeshError):
        alice.send_message(content, to="X26ABC9", workflow_id="WF", **private)
    mesh_sandbox.add_fault("retrieve_message:1:respond=503")
    bob.receive_file(sent[0], tmp_path)
    bob.acknowledge_message(sent[0])
    bob.receive_messages(tmp_path, limit=1)
    for message in bob.iter_messages():
        message.read()
    assert {type(event) for event in received} >= {OperationFinished, RequestFinished, RetryScheduled}
    # The sender's recipient is the receiver's own mailbox.
    texts = [text_of_event(event) for event in received]
    assert found(texts, [*at_sandbox(mesh_sandbox), *private.values()]) == []


def test_private_data_in_an_event_would_be_found() -> None:
    """The search at the end of each test can fail."""
    listener = Listener()
    about: dict[str, Any] = {"operation": "send_message", "mailbox_id": "X26ABC1", "server": SERVER}
    listener.receive(MessageFailed(**about, message_id="1", failure=Failure(error="Mrs Jones"), where=""))
    assert found(listener.take(), ["Mrs Jones"]) == ["Mrs Jones"]
    listener.receive(ProgressFailed(**about, failure=Failure(error="E"), where="canary-password"))
    assert found(listener.take(), []) == ["canary-password"]


def test_a_hook_receives_a_checksum_that_is_not_verified(
    received: Received, connect: Connector, mesh_sandbox: Sandbox, tmp_path: Path
) -> None:
    message_id = mesh_sandbox.deliver_message("X26ABC2", b"content", workflow_id="WF", checksum="0" * 32)
    bob = connect(mesh_sandbox.settings("X26ABC2"), hooks=[received])
    assert bob.receive_file(message_id, tmp_path).verified is False
    with bob.retrieve_message(message_id, verify_checksum=True) as message:
        message.read()
    first, second = received.of(ChecksumNotVerified)
    assert (first.operation, second.operation) == ("receive_file", "retrieve_message")
    assert (first.message_id, first.algorithm, first.differs) == (message_id, "md5", True)


HOSTILE = (
    "\x1b[2J",
    "two\nlines",
    "a\udc80surrogate",
    "é",
    "M" * 3_000_000,
    "9434765919",
    "X_943-476-5919_Y",
    "943 476 5919",
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_r10_texts_of_a_server_are_printable_bounded_and_no_nhs_number(text: str) -> None:
    about: dict[str, Any] = {"operation": "receive_messages", "mailbox_id": "X26ABC1", "server": SERVER}
    report = ReportReceived(**about, message_id=text, linked_message_id=text, event=text, code=text)
    hidden = f"(hidden: {len(text)} characters)"
    assert (report.message_id, report.linked_message_id, report.event, report.code) == (hidden,) * 4
    finished = OperationFinished(
        **about,
        span_id=1,
        message_id=text,
        local_id=text,
        workflow_id=text,
        bytes=None,
        chunks=None,
        done=True,
        duration_in_seconds=1,
        failure=None,
        outcome=None,
    )
    assert (finished.message_id, finished.local_id, finished.workflow_id) == (hidden,) * 3


Serve = Callable[..., tuple[Any, ScriptedServer]]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("form", ["folder", "handler", "iterator"])
def test_r10_hostile_ids_of_an_inbox_are_failed_messages_and_logs_stay_printable(
    scripted: Serve, received: Received, caplog: pytest.LogCaptureFixture, tmp_path: Path, text: str, form: str
) -> None:
    """And a report with hostile headers; conftest searches every record and event."""
    header = "".join(character if " " < character < "\x7f" else "\x1b" for character in text[:1000])
    report = {
        "mex-messagetype": "REPORT",
        "mex-linkedmsgid": header,
        "mex-statusevent": header,
        "mex-statuscode": header,
        "mex-statusdescription": header,
        "mex-workflowid": header,
    }
    mesh, _ = scripted(
        Step(200, body=json.dumps({"messages": [text, "M1"]}).encode()),
        Step(200, report),
        Step(200),
        Step(200, body=b'{"messages": []}'),
    )
    if form == "iterator":
        assert [message.metadata.message_id for message in mesh.iter_messages()] == ["M1"]
    else:

        async def handle_async(message: Any) -> None:
            await message.read()

        handler = handle_async if isinstance(mesh, Face) else lambda message: message.read()
        result = mesh.receive_messages(tmp_path if form == "folder" else handler)
        assert len(result.failed) == len(result.reports) == 1
    everything = "\n".join(record.getMessage() for record in caplog.records)
    assert "M1" in everything
    assert not re.search(r"943.?476.?5919", everything)


def test_r10_the_id_of_a_hostile_answer_to_a_send(scripted: Serve, caplog: pytest.LogCaptureFixture) -> None:
    body = json.dumps({"message_id": "\x1b[2J9434765919", "messageID": "\x1b[2J9434765919"}).encode()
    mesh, _ = scripted(Step(202, body=body), max_attempts=1)
    with pytest.raises(MeshError):
        mesh.send_message(b"content", **TO)
    assert "9434765919" not in "\n".join(record.getMessage() for record in caplog.records)


def test_r10_usual_ids_are_shown_as_they_are() -> None:
    about: dict[str, Any] = {"operation": "receive_messages", "mailbox_id": "X26ABC1", "server": SERVER}
    for text in ("20260101120000000000_0A1B2C", "4b2f8a7a5c6e4f0f9c1d2e3f4a5b6c7d", "LAB-2026-000001", "EPL-151"):
        assert AcknowledgementFailed(**about, message_id=text, failure=Failure(error="Gone")).message_id == text


def test_every_event_is_public() -> None:
    made = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)}
    import nel_mesh.instrumentation as public

    assert {kind.__name__ for kind in made} <= set(public.__all__)
