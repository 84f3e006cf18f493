"""What is told of the work: in the log, and to OpenTelemetry, whose SDK is here and keeps it in memory."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from nel_mesh import IntegrityError, InvalidArgument, MeshClient, MeshError, OutcomeUnknown, Refused
from nel_mesh.sandbox import Sandbox
from scripted_server import ScriptedServer, Step
from secrecy import Listener, at_sandbox, at_scripted, found, text_of
from variants import Connector, settings_for

Scripted = Callable[..., tuple[Any, ScriptedServer]]
TO: dict[str, Any] = {"to": "X26ABC2", "workflow_id": "WF"}
CHUNKS: dict[str, Any] = {"max_chunk_size_in_megabytes": 0.001}


class Told:
    """The spans and metrics of one test."""

    def __init__(self, exporter: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
        self._exporter = exporter
        self._reader = reader
        self.clear()

    def clear(self) -> None:
        self._exporter.clear()
        self._reader.get_metrics_data()

    def spans(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name.startswith(name)]

    def span(self, name: str) -> ReadableSpan:
        (span,) = self.spans(name)
        return span

    def children(self, of: ReadableSpan) -> list[str]:
        return [span.name for span in self.spans() if span.parent and of.context and is_parent(of, span)]

    def points(self) -> dict[str, list[Any]]:
        data = self._reader.get_metrics_data()
        every = (
            metric
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        )
        return {metric.name: list(metric.data.data_points) for metric in every}


def is_parent(parent: ReadableSpan, child: ReadableSpan) -> bool:
    return child.parent is not None and parent.context is not None and child.parent.span_id == parent.context.span_id


@pytest.fixture(scope="session")
def exporters() -> tuple[InMemorySpanExporter, InMemoryMetricReader]:
    """OpenTelemetry takes its configuration once for each process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    delta = AggregationTemporality.DELTA
    reader = InMemoryMetricReader(preferred_temporality={Counter: delta, Histogram: delta})
    metrics.set_meter_provider(MeterProvider([reader]))
    return exporter, reader


@pytest.fixture
def told(exporters: tuple[InMemorySpanExporter, InMemoryMetricReader]) -> Told:
    return Told(*exporters)


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """The records of our logger."""
    records: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Handler()
    logger = logging.getLogger("nel_mesh")
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)


def at_level(records: list[logging.LogRecord], level: int) -> list[str]:
    return [record.getMessage() for record in records if record.levelno == level]


def extras(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name.startswith("mesh_")}


@pytest.fixture
def alice(mesh_sandbox: Sandbox, connect: Connector) -> Any:
    return connect(mesh_sandbox.settings("X26ABC1", **CHUNKS))


@pytest.fixture
def bob(mesh_sandbox: Sandbox, connect: Connector) -> Any:
    return connect(mesh_sandbox.settings("X26ABC2"))


def test_a_send_is_a_span_and_each_attempt_its_child(
    told: Told, alice: Any, mesh_sandbox: Sandbox, connect: Connector
) -> None:
    mesh_sandbox.add_fault("send_chunk:1:respond=503")
    receipt = alice.send_message(bytes(2500), **TO, local_id="L-1", subject="Mrs Jones", file_name="jones.csv")
    send = told.span("send_message")
    port = mesh_sandbox.port
    assert send.kind is SpanKind.CLIENT
    assert send.status.status_code is StatusCode.UNSET
    assert dict(send.attributes or {}) == {
        "messaging.system": "nhs_mesh",
        "messaging.operation.name": "send_message",
        "messaging.operation.type": "send",
        "messaging.client.id": "X26ABC1",
        "messaging.message.id": receipt.message_id,
        "messaging.message.body.size": 2500,
        "nhs_mesh.local_id": "L-1",
        "nhs_mesh.workflow_id": "WF",
        "nhs_mesh.chunks": 3,
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    further = "POST /messageexchange/{mailbox_id}/outbox/{message_id}/{chunk}"
    assert told.children(send) == ["POST /messageexchange/{mailbox_id}/outbox", further, further, further]
    _, refused, repeated, _ = [span for span in told.spans("POST") if is_parent(send, span)]
    url = f"https://127.0.0.1:{port}/messageexchange/REDACTED/outbox/REDACTED/REDACTED"
    request = {
        "http.request.method": "POST",
        "http.request.body.size": 1000,
        "url.template": further.removeprefix("POST "),
        "url.full": url,
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    assert dict(refused.attributes or {}) == {**request, "http.response.status_code": 503, "error.type": "Busy"}
    assert refused.status.status_code is StatusCode.ERROR
    again = {"http.request.resend_count": 1, "http.response.status_code": 202}
    assert dict(repeated.attributes or {}) == {**request, **again}
    assert repeated.kind is SpanKind.CLIENT


def test_what_is_counted_and_measured(told: Told, alice: Any, bob: Any, mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    receipt = alice.send_message(b"content", **TO)
    with pytest.raises(InvalidArgument):
        alice.send_message(b"content", **TO, subject="é")
    bob.receive_file(receipt.message_id, tmp_path)
    bob.acknowledge_message(receipt.message_id)
    points = told.points()
    server = {"server.address": "127.0.0.1", "server.port": mesh_sandbox.port}
    system = {"messaging.system": "nhs_mesh", **server}
    sent, received, settled = (
        {**system, "messaging.operation.name": name, **more}
        for name, more in (
            ("send_message", {}),
            ("receive_file", {"messaging.destination.name": "X26ABC2"}),
            ("acknowledge_message", {"messaging.destination.name": "X26ABC2"}),
        )
    )
    # What could not be sent at all was not sent.
    assert [(dict(one.attributes), one.value) for one in points["messaging.client.sent.messages"]] == [(sent, 1)]
    consumed = points["messaging.client.consumed.messages"]
    assert [(dict(one.attributes), one.value) for one in consumed] == [(received, 1)]
    durations = [dict(one.attributes) for one in points["messaging.client.operation.duration"]]
    assert durations == [
        {**sent, "messaging.operation.type": "send"},
        {**sent, "messaging.operation.type": "send", "error.type": "InvalidArgument"},
        {**received, "messaging.operation.type": "receive"},
        {**settled, "messaging.operation.type": "settle"},
    ]
    requests = points["http.client.request.duration"]
    assert [(one.attributes["http.request.method"], one.count) for one in requests] == [
        ("POST", 1),
        ("GET", 1),
        ("PUT", 1),
    ]
    assert dict(requests[0].attributes) == {
        "http.request.method": "POST",
        "http.response.status_code": 202,
        "url.template": "/messageexchange/{mailbox_id}/outbox",
        "network.protocol.version": "1.1",
        **server,
    }
    assert all(one.explicit_bounds[0] == 0.005 for one in [*requests, *points["messaging.client.operation.duration"]])


@pytest.mark.parametrize("concurrency", [1, 3])
def test_each_message_of_an_inbox_is_a_span_with_all_that_belongs_to_it(
    told: Told, alice: Any, bob: Any, tmp_path: Path, concurrency: int
) -> None:
    ids = [alice.send_message(bytes(2500), **TO).message_id for _ in range(3)]
    told.clear()
    bob.receive_messages(tmp_path, concurrency=concurrency)
    processed = told.spans("receive_messages X26ABC2")
    assert {(span.attributes or {})["messaging.message.id"] for span in processed} == set(ids)
    for span in processed:
        assert span.parent is None
        assert span.kind is SpanKind.CONSUMER
        assert (span.attributes or {})["messaging.operation.type"] == "process"
        assert (span.attributes or {})["messaging.message.body.size"] == 2500
        children = told.children(span)
        # Also those chunks that are fetched by threads or tasks of their own.
        assert sorted(children) == [
            "GET /messageexchange/{mailbox_id}/inbox/{message_id}",
            *["GET /messageexchange/{mailbox_id}/inbox/{message_id}/{chunk}"] * 2,
            "acknowledge_message X26ABC2",
        ]
    for settle in told.spans("acknowledge_message"):
        assert told.children(settle) == ["PUT /messageexchange/{mailbox_id}/inbox/{message_id}/status/acknowledged"]
    points = told.points()
    assert [one.value for one in points["messaging.client.consumed.messages"]] == [3]
    assert [one.count for one in points["messaging.process.duration"]] == [3]


def test_a_handler_works_within_its_message_span_and_its_failure_is_told_without_its_words(
    told: Told,
    alice: Any,
    bob: Any,
    mesh_sandbox: Sandbox,
    connect: Connector,
    tmp_path: Path,
    logged: list[logging.LogRecord],
) -> None:
    first, second = (alice.send_message(bytes(2500), **TO).message_id for _ in range(2))
    told.clear()
    tracer = trace.get_tracer("user")

    def work(message: Any) -> None:
        with tracer.start_as_current_span("work"):
            pass
        if message.metadata.message_id == second:
            raise LookupError("Mrs Jones")

    async def work_async(message: Any) -> None:
        await message.read()
        work(message)

    def work_sync(message: Any) -> None:
        message.read()
        work(message)

    result = bob.receive_messages(work_sync if connect.variant == "sync" else work_async)
    assert (result.delivered, [one.message_id for one in result.failed]) == ([first], [second])
    good, bad = told.spans("receive_messages")
    for span in (good, bad):
        assert "work" in told.children(span)
        assert "GET /messageexchange/{mailbox_id}/inbox/{message_id}/{chunk}" in told.children(span)
    assert good.status.status_code is StatusCode.UNSET
    assert (bad.status.status_code, bad.status.description) == (StatusCode.ERROR, None)
    assert (bad.attributes or {})["error.type"] == "LookupError"
    assert bad.events == ()
    consumed = told.points()["messaging.client.consumed.messages"]
    assert [one.attributes.get("error.type") for one in consumed] == [None, "LookupError"]
    # The log says where it failed, for whoever looks for the bug, and again not in whose words.
    (failed,) = (record for record in logged if record.levelno == logging.WARNING)
    assert failed.getMessage() == f"receive_messages: message {second} failed (LookupError)"
    assert extras(failed) == {
        "mesh_operation": "receive_messages",
        "mesh_mailbox_id": "X26ABC2",
        "mesh_message_id": second,
        "mesh_error": "LookupError",
    }
    (where,) = (text for text in at_level(logged, logging.DEBUG) if "failed here" in text)
    assert "in work\n" in where
    assert "test_telemetry.py" in where
    assert not any("Jones\n" in text_of(record) or "Jones'" in text_of(record) for record in logged)


def test_reading_a_message_belongs_to_it_wherever_it_is_read(
    told: Told, alice: Any, bob: Any, connect: Connector
) -> None:
    sent = alice.send_message(bytes(2500), **TO)
    told.clear()
    with bob.retrieve_message(sent.message_id) as message:
        assert trace.get_current_span() is trace.INVALID_SPAN  # never set where others write the block
        # In another thread, or in one task after another.
        contents: list[bytes] = []
        reader = threading.Thread(target=lambda: contents.append(message.read()))
        reader.start()
        reader.join()
    assert len(contents[0]) == 2500
    retrieve = told.span("retrieve_message X26ABC2")
    assert len(told.children(retrieve)) == 3
    assert (retrieve.attributes or {})["messaging.message.body.size"] == 2500
    for message in bob.iter_messages():
        message.read()
    assert len(told.spans("retrieve_message")) == 2
    assert told.span("acknowledge_message").parent is None


def test_a_message_that_is_not_read_is_not_consumed(
    told: Told, alice: Any, bob: Any, logged: list[logging.LogRecord]
) -> None:
    sent = alice.send_message(b"content", **TO)
    told.clear()
    logged.clear()
    with bob.retrieve_message(sent.message_id):
        pass
    assert told.span("retrieve_message").status.status_code is StatusCode.UNSET
    assert "messaging.client.consumed.messages" not in told.points()
    assert at_level(logged, logging.INFO) == []


def test_a_loop_that_is_left_is_no_error(told: Told, mesh_sandbox: Sandbox) -> None:
    with MeshClient(mesh_sandbox.settings("X26ABC2")) as bob:
        mesh_sandbox.deliver_message("X26ABC2", b"content", workflow_id="WF")
        for _ in bob.iter_messages():
            break
    assert told.span("retrieve_message").status.status_code is StatusCode.UNSET
    assert not told.spans("acknowledge_message")


def test_what_was_delivered_before_is_not_consumed_again(
    told: Told, alice: Any, bob: Any, mesh_sandbox: Sandbox, tmp_path: Path
) -> None:
    alice.send_message(b"content", **TO)
    mesh_sandbox.add_fault("acknowledge_message:*:respond=400")
    assert bob.receive_messages(tmp_path).unacknowledged
    mesh_sandbox.clear_faults()
    told.clear()
    assert bob.receive_messages(tmp_path).already_delivered
    assert told.spans("receive_messages")
    assert "messaging.client.consumed.messages" not in told.points()


def test_a_send_that_fails_says_what_became_of_the_message(told: Told, scripted: Scripted) -> None:
    mesh, _ = scripted(Step(417, body=b'{"messageID": "", "errorEvent": "SEND", "errorCode": "12"}'))
    with pytest.raises(Refused):
        mesh.send_message(b"content", **TO, subject="Mrs Jones")
    send = told.span("send_message")
    assert (send.status.status_code, send.status.description, send.events) == (StatusCode.ERROR, None, ())
    assert (send.attributes or {})["error.type"] == "Refused"
    assert (send.attributes or {})["nhs_mesh.outcome"] == "not sent"


def test_looking_up_a_lost_answer_belongs_to_the_send(told: Told, scripted: Scripted) -> None:
    mesh, _ = scripted(Step(drop=True), Step(404))
    with pytest.raises(OutcomeUnknown):
        mesh.send_message(b"content", **TO)
    send = told.span("send_message")
    assert (send.attributes or {})["nhs_mesh.outcome"] == "unknown"
    assert told.children(send)[:2] == ["POST /messageexchange/{mailbox_id}/outbox", "track_by_local_id"]


def test_work_belongs_to_whoever_asked_for_it_and_nothing_of_it_is_sent_to_mesh(
    told: Told, mesh_sandbox: Sandbox
) -> None:
    with (
        MeshClient(mesh_sandbox.settings("X26ABC1")) as mesh,
        trace.get_tracer("user").start_as_current_span("night") as night,
    ):
        mesh.handshake()
        mesh.list_messages()
        assert trace.get_current_span() is night
    assert told.children(told.span("night")) == ["handshake", "list_messages"]
    handshake = told.span("handshake")
    assert "messaging.operation.type" not in (handshake.attributes or {})
    for request in mesh_sandbox.requests():
        assert not {"traceparent", "tracestate", "baggage", "b3"} & set(request.headers)


def test_nothing_private_is_told(told: Told, alice: Any, bob: Any, mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    private = {"subject": "Mrs Jones", "file_name": "jones-9434765919.csv", "partner_id": "partner-of-jones"}
    alice.send_message(b"the content of it", **TO, **private)
    bob.receive_messages(tmp_path)
    shown = [f"{span.name} {dict(span.attributes or {})} {span.events} {span.status}" for span in told.spans()]
    mine = [text for text in shown if "X26ABC1" in text or "/outbox" in text]
    assert mine
    assert found(mine, at_sandbox(mesh_sandbox)) == []
    assert found(shown, [*private.values(), "the content of it"]) == []
    points = [str(dict(one.attributes)) for every in told.points().values() for one in every]
    assert points
    assert found(points, [*private.values(), "WF-1", "L-1"]) == []


def test_a_broken_exporter_breaks_no_send(told: Told, mesh_sandbox: Sandbox, connect: Connector) -> None:
    class Broken(SpanProcessor):
        active = True

        def on_end(self, span: ReadableSpan) -> None:
            if self.active:
                raise OSError("no")

    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    broken = Broken()
    provider.add_span_processor(broken)
    try:
        mesh = connect(mesh_sandbox.settings("X26ABC1"))
        assert mesh.send_message(b"content", **TO).message_id
    finally:
        broken.active = False
    assert len(mesh_sandbox.messages()) == 1
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_the_log_says_what_was_done_with_each_message(
    alice: Any, bob: Any, tmp_path: Path, logged: list[logging.LogRecord], mesh_sandbox: Sandbox
) -> None:
    mesh_sandbox.add_fault("send_message:1:respond=503")
    receipt = alice.send_message(b"content", **TO, local_id="L-1")
    bob.receive_messages(tmp_path)
    alice.track_message(receipt.message_id)
    assert at_level(logged, logging.INFO) == [
        f"send_message: message {receipt.message_id} sent",
        f"acknowledge_message: message {receipt.message_id} acknowledged",
        f"receive_messages: message {receipt.message_id} delivered",
    ]
    sent, _, delivered = (record for record in logged if record.levelno == logging.INFO)
    duration: float = sent.__dict__.pop("mesh_duration_in_seconds")
    assert 0 < duration < 60
    assert extras(sent) == {
        "mesh_operation": "send_message",
        "mesh_mailbox_id": "X26ABC1",
        "mesh_message_id": receipt.message_id,
        "mesh_local_id": "L-1",
        "mesh_workflow_id": "WF",
        "mesh_bytes": 7,
        "mesh_chunks": 1,
    }
    assert extras(delivered)["mesh_bytes"] == 7
    (retry,) = (record for record in logged if record.levelno == logging.WARNING)
    assert retry.getMessage() == "send_message: attempt 1 of 5 failed (Busy, status 503); next in 0.5 s"
    assert extras(retry) == {
        "mesh_operation": "send_message",
        "mesh_mailbox_id": "X26ABC1",
        "mesh_attempt": 1,
        "mesh_status": 503,
        "mesh_error": "Busy",
    }
    requests = [text.rpartition(" in ")[0] for text in at_level(logged, logging.DEBUG) if "attempt" in text]
    assert requests[:2] == [
        "send_message: attempt 1: POST /messageexchange/{mailbox_id}/outbox: 503",
        "send_message: attempt 2: POST /messageexchange/{mailbox_id}/outbox: 202",
    ]
    first = next(record for record in logged if "attempt 1:" in record.getMessage())
    assert (extras(first)["mesh_bytes"], extras(first)["mesh_status"]) == (7, 503)
    assert not [record for record in logged if record.levelno > logging.WARNING]


def test_the_log_says_that_a_report_came(
    bob: Any, tmp_path: Path, logged: list[logging.LogRecord], mesh_sandbox: Sandbox
) -> None:
    mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0", code="14")
    bob.receive_messages(tmp_path)
    assert at_level(logged, logging.WARNING) == ["receive_messages: a report says that message M0 failed: SEND 14"]


def test_a_secret_in_the_log_would_be_found(scripted: Scripted, mesh_sandbox: Sandbox) -> None:
    """That the search at the end of each test can fail."""
    mesh, server = scripted(Step(417))
    with pytest.raises(MeshError):
        mesh.send_message(b"the content of it", **TO, subject="Mrs Jones", file_name="jones.csv")
    said = Listener()
    logs: list[tuple[str, dict[str, object]]] = [
        (server.seen[0].headers["authorization"], {}),
        ("Mrs Jones", {}),
        ("", {"mesh_file": "jones.csv"}),
        ("", {"mesh_to": "X26ABC2"}),
        ("", {"mesh_mailbox_id": "X26ABC2"}),  # may be our own
        ("the content of it", {}),
        ("canary-password", {}),
        ("", {"headers": {"shared": "TestKey"}}),
    ]
    for text, extra in logs:
        record = logging.makeLogRecord({"msg": text, **extra})
        said.emit(record)
        hit = found(said.take(), at_scripted(server))
        assert bool(hit) is ("mesh_mailbox_id" not in extra), (text, extra)
    error = IntegrityError("Mrs Jones")
    said.emit(logging.makeLogRecord({"msg": "", "exc_info": (type(error), error, None)}))
    assert found(said.take(), at_scripted(server)) == ["Mrs Jones"]
    mesh_sandbox.deliver_message("X26ABC2", b"the content of it", subject="Mr Smith", file_name="smith.csv")
    assert {"Mr Smith", "smith.csv", "the content of it", "X26ABC2"} <= set(at_sandbox(mesh_sandbox))


BLOCKED = """
import sys
sys.modules["opentelemetry"] = None
from nel_mesh import MeshClient, MeshSettings
with MeshClient(MeshSettings.from_file(sys.argv[1])) as mesh:
    sent = mesh.send_message(b"content", to="X26ABC1", workflow_id="WF")
    assert mesh.receive_messages(sys.argv[2]).delivered == [sent.message_id]
assert not [name for name in sys.modules if name.startswith("opentelemetry.")]
"""
UNUSED = BLOCKED.replace('sys.modules["opentelemetry"] = None', "")
TOO_OLD = (
    UNUSED.rpartition("assert")[0].replace("import sys", "import sys, types")
    + """
for name in ("opentelemetry", "opentelemetry.trace"):
    sys.modules[name] = types.ModuleType(name)
with MeshClient(MeshSettings.from_file(sys.argv[1])) as mesh:
    mesh.handshake()
    mesh.handshake()
"""
)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (BLOCKED, ""),
        (UNUSED, ""),  # it is here, and is not imported for our sake
        (TOO_OLD, "no telemetry: it needs opentelemetry-api 1.30 or later\n"),
    ],
    ids=["not installed", "not used", "too old"],
)
def test_without_opentelemetry(mesh_sandbox: Sandbox, tmp_path: Path, program: str, said: str) -> None:
    settings = mesh_sandbox.write_settings(tmp_path)[0]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(settings), str(tmp_path / "inbox")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", said)


LATE = """
import sys
from nel_mesh import MeshClient, MeshSettings
with MeshClient(MeshSettings.from_file(sys.argv[1])) as mesh:
    mesh.handshake()
    from opentelemetry import trace
    mesh.handshake()
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    mesh.handshake()
    print([span.name for span in exporter.get_finished_spans()])
"""


def test_it_may_be_configured_when_the_client_is_there_already(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    settings = mesh_sandbox.write_settings(tmp_path)[0]
    command = [sys.executable, "-W", "error", "-c", LATE, str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("['POST /messageexchange/{mailbox_id}', 'handshake']\n", "")


def test_the_address_is_told_without_its_user(told: Told, serve: Callable[..., ScriptedServer]) -> None:
    url = serve(Step(200, body=b"{}")).url
    with MeshClient(settings_for(f"{url}/behind")) as mesh, pytest.raises(MeshError):
        mesh.list_messages()
    span = told.span("GET")
    assert (span.attributes or {})["url.full"] == f"{url}/behind/messageexchange/REDACTED/inbox"
