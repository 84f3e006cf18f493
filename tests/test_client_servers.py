"""The whole conversation, in each variant, with our sandbox over mutual TLS and with the official one."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
import random
import select
import socket
import ssl
import threading
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
import trustme

from certificates import root
from conftest import Server
from nel_mesh import MeshError, NotAuthorised, NotFound, Outcome, Refused, Report
from nel_mesh.sandbox import Sandbox
from nel_mesh.tls.context import in_a_file
from scripted_server import ScriptedServer, Step
from variants import Connector, settings_for

TO = {"to": "X26ABC2", "workflow_id": "PATH_RESULTS"}
_CHANCE = random.Random(0)
CSV = b"nhs_number,result\n" + b"".join(f"{_CHANCE.randrange(10**10)},{k}\n".encode() for k in range(20_000))


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("megabytes", [20, 0.1])
def test_a_file_goes_out_and_comes_back(
    server: Server, connect: Connector, tmp_path: Path, compress: bool, megabytes: float
) -> None:
    alice = connect(server.settings("X26ABC1", max_chunk_size_in_megabytes=megabytes))
    bob = connect(server.settings("X26ABC2"))
    alice.handshake()
    alice.ping()
    path = tmp_path / "results.csv"
    path.write_bytes(CSV)
    checksum = hashlib.sha256(CSV).hexdigest()
    sent = alice.send_file(
        path, **TO, compress=compress, subject="results", local_id="mine-1", checksum=checksum, content_type="text/csv"
    )
    assert sent.chunks == (1 if megabytes == 20 else -(-len(CSV) // 100_000))
    assert sent.bytes == len(CSV)
    assert (sent.bytes_on_wire < len(CSV)) is compress

    tracking = alice.track_message(sent.message_id)
    assert (tracking.status, tracking.local_id, tracking.recipient) == ("accepted", "mine-1", "X26ABC2")
    assert tracking.upload_timestamp is not None
    assert abs(datetime.now(UTC) - tracking.upload_timestamp) < timedelta(minutes=2)

    assert list(bob.iter_message_ids()) == bob.list_messages() == [sent.message_id]
    assert list(bob.iter_message_ids(workflow_filter="PATH*")) == [sent.message_id]
    assert list(bob.iter_message_ids(workflow_filter="!PATH_RESULTS")) == []
    metadata = bob.message_metadata(sent.message_id)
    assert (metadata.sender, metadata.workflow_id, metadata.chunks) == ("X26ABC1", "PATH_RESULTS", sent.chunks)

    with bob.retrieve_message(sent.message_id) as message:
        assert message.save(tmp_path / "inbox" / "received.csv") == len(CSV)
        assert (message.metadata.file_name, message.metadata.subject) == ("results.csv", "results")
        assert message.metadata.checksum == checksum
    assert (tmp_path / "inbox" / "received.csv").read_bytes() == CSV

    bob.acknowledge_message(sent.message_id)
    bob.acknowledge_message(sent.message_id)
    assert list(bob.iter_message_ids()) == []
    assert alice.track_message(sent.message_id).status == "acknowledged"


def test_lines_come_in_order_across_chunks(server: Server, connect: Connector) -> None:
    lines = [b"%d," % k + bytes([97 + k % 26]) * 300 + b"\n" for k in range(1_000)]
    alice = connect(server.settings("X26ABC1", max_chunk_size_in_megabytes=0.1))
    bob = connect(server.settings("X26ABC2"))
    sent = alice.send_message(iter(lines), **TO, compress=True)
    assert sent.chunks == 4
    with bob.retrieve_message(sent.message_id) as message:
        assert list(message.iter_lines()) == lines


def test_pages_are_followed_to_the_end_though_nothing_is_acknowledged(server: Server, connect: Connector) -> None:
    alice, bob = connect(server.settings("X26ABC1")), connect(server.settings("X26ABC2"))
    ids = [
        alice.send_message(f"message {k}", to="X26ABC2", workflow_id="WF_ACK" if k % 3 else "WF").message_id
        for k in range(25)
    ]
    assert list(bob.iter_message_ids(max_results=10)) == ids
    assert list(bob.iter_message_ids(max_results=10)) == ids
    assert sorted(bob.iter_message_ids(max_results=10, workflow_filter="WF")) == sorted(ids[::3])
    page = bob.list_messages(max_results=10)
    assert (page, page.approx_inbox_count) == (ids[:10], 25)
    assert bob.list_messages(max_results=10, continue_from=page.continue_from) == ids[10:20]
    # Acknowledging on the way loses none.
    seen = []
    for message_id in bob.iter_message_ids(max_results=10):
        seen.append(message_id)
        bob.acknowledge_message(message_id)
    assert seen == ids


def test_lookups(server: Server, connect: Connector) -> None:
    mesh = connect(server.settings("X26ABC1"))
    workflow = "TEST_WORKFLOW2"
    found = {one.mailbox_id for one in mesh.lookup_endpoint("X26", workflow)}
    if server.name == "ours":  # the official one, with nothing stored, knows mailboxes but no workflows
        assert found == {"X26ABC1", "X26ABC2"}
        assert len(mesh.search_workflow(workflow)) == 3
    else:
        assert found <= {"X26ABC1", "X26ABC2"}
        mesh.search_workflow(workflow)


def test_what_is_wrong_is_said(server: Server, connect: Connector) -> None:
    mesh = connect(server.settings("X26ABC1"))
    with pytest.raises(NotFound):
        mesh.track_message("20200529155357895317_3573F8")
    with pytest.raises(NotFound):
        mesh.message_metadata("20200529155357895317_3573F8")
    with pytest.raises(Refused) as caught:
        mesh.send_message(b"x", to="NOSUCHBOX", workflow_id="WF")
    assert (caught.value.status, caught.value.outcome) == (417, Outcome.NOT_SENT)
    for wrong in ({"password": "wrong"}, {"shared_key": "wrong"}):
        with pytest.raises(NotAuthorised, match="password") as refused:
            connect(server.settings("X26ABC1", **wrong)).handshake()
        assert "wrong" not in str(refused.value)


def test_the_deprecated_count(server: Server, connect: Connector) -> None:
    mesh = connect(server.settings("X26ABC1"))
    with pytest.warns(DeprecationWarning, match="deprecated"):
        assert mesh.count_messages() == 0


def test_a_report_is_received_and_acknowledged(mesh_sandbox: Sandbox, connect: Connector) -> None:
    mesh = connect(mesh_sandbox.settings("X26ABC1"))
    report_id = mesh_sandbox.deliver_report(
        "X26ABC1", linked_message_id="M0", code="14", description="Undelivered message"
    )
    assert list(mesh.iter_message_ids()) == [report_id]
    with mesh.retrieve_message(report_id) as message:
        assert isinstance(message.metadata, Report)
        assert (message.metadata.linked_message_id, message.metadata.status_code) == ("M0", "14")
        assert message.metadata.status_description == "Undelivered message"
        assert message.metadata.status_event
        assert message.read() == b""
    mesh.acknowledge_message(report_id)
    assert list(mesh.iter_message_ids()) == []


def test_chunks_that_the_server_gzips_come_back_as_they_were(connect: Connector) -> None:
    from nel_mesh.sandbox import sandbox

    with sandbox(compress_downloads=True) as mesh:
        alice = connect(mesh.settings("X26ABC1", max_chunk_size_in_megabytes=0.1))
        bob = connect(mesh.settings("X26ABC2"))
        sent = alice.send_message(CSV, **TO)
        with bob.retrieve_message(sent.message_id) as message:
            assert message.read() == CSV


def test_one_client_serves_many_threads_or_tasks_and_no_token_is_used_twice(
    mesh_sandbox: Sandbox, connect: Connector
) -> None:
    mesh = connect(mesh_sandbox.settings("X26ABC1"))
    bob = connect(mesh_sandbox.settings("X26ABC2"))

    def converse(number: int) -> None:
        content = os.urandom(50_000)
        sent = mesh.send_message(content, **TO, compress=bool(number % 2))
        with bob.retrieve_message(sent.message_id) as message:
            assert message.read() == content
        bob.acknowledge_message(sent.message_id)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(converse, range(40)))
    tokens = [seen.token for seen in mesh_sandbox.requests()]
    assert len(set(tokens)) == len(tokens) >= 120
    assert {seen.status for seen in mesh_sandbox.requests()} <= {200, 202}


def test_an_id_is_a_random_uuid() -> None:
    from nel_mesh.io.clock import Clock

    ids = [uuid.UUID(Clock().unique()) for _ in range(100)]
    assert {(one.version, one.variant) for one in ids} == {(4, uuid.RFC_4122)}
    assert len(set(ids)) == 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child only writes and ends
def test_a_forked_child_makes_tokens_of_its_own(mesh_sandbox: Sandbox) -> None:
    from nel_mesh.io.clock import Clock

    clock = Clock()
    clock.unique()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        os.write(writing, clock.unique().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100).decode() != clock.unique()
    os.close(reading)
    os.close(writing)


def test_a_server_that_is_not_trusted_gets_nothing(mesh_sandbox: Sandbox, connect: Connector) -> None:
    other = trustme.CA().cert_pem.bytes().decode()
    mesh = connect(mesh_sandbox.settings("X26ABC1", tls_root_certificates=[other]))
    with pytest.raises(MeshError, match="certificate is not trusted") as caught:
        mesh.send_message(b"content", **TO)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert connect.clock.waits == []


def test_a_server_that_refuses_our_certificate_has_taken_nothing(connect: Connector) -> None:
    """In TLS 1.3 its alert comes when the request has gone already; it says that nothing was sent, all the same."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(tls)
    root = authority.cert_pem.bytes().decode()
    stranger = trustme.CA().issue_cert("stranger").private_key_and_cert_chain_pem.bytes().decode()
    with ScriptedServer(Step(202), tls=tls) as server:
        for certificate in (None, stranger):
            trust = {"tls_root_certificates": [root], "client_signing_certificate": certificate}
            mesh = connect(settings_for(server.url, **trust))
            with pytest.raises(MeshError, match="refuses our certificate, or wants one") as caught:
                mesh.send_message(b"content", **TO)
            assert caught.value.outcome is Outcome.NOT_SENT
            assert connect.clock.waits == []
    assert server.seen == []


def test_no_secret_is_shown(mesh_sandbox: Sandbox, connect: Connector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    settings = mesh_sandbox.settings("X26ABC1", password="PassWord-42", max_attempts=1)
    mesh = connect(settings)
    errors: list[Any] = []
    for call in (mesh.handshake, lambda: mesh.send_message(b"PatientName", **TO, subject="Mrs Jones")):
        with pytest.raises(MeshError) as caught:
            call()
        errors += [str(caught.value), repr(caught.value), caught.value.args]
    shown = f"{settings!r} {settings} {mesh!r} {errors} {caplog.text}"
    for secret in ("PassWord-42", "TestKey", "PRIVATE KEY", "Jones", "PatientName", "NHSMESH "):
        assert secret not in shown


class AskingLate:
    """A server that asks for the client certificate once it has read a request (TLS 1.3): 200 for one, else 403."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        raw, _ = self._listener.accept()
        raw.settimeout(10)
        with self._context.wrap_socket(raw, server_side=True) as connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            with contextlib.suppress(ssl.SSLError):  # the client does not do this
                connection.verify_client_post_handshake()
                connection.do_handshake()
                connection.setblocking(False)
                while not connection.getpeercert() and select.select([connection], [], [], 10)[0]:
                    with contextlib.suppress(ssl.SSLWantReadError):
                        connection.recv(1)
            connection.settimeout(10)
            status = "200 OK" if connection.getpeercert() else "403 Forbidden"
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(20)
        assert not self._thread.is_alive()


def test_a6_a_server_that_asks_for_the_certificate_after_the_handshake(connect: Connector) -> None:
    authority = root("Authority")
    server, client = authority.issue("127.0.0.1"), authority.issue("client.x26abc1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with in_a_file((server.pem + server.key_pem).encode()) as path:
        context.load_cert_chain(path)
    context.load_verify_locations(cadata=authority.pem)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.post_handshake_auth = True
    context.verify_mode = ssl.CERT_REQUIRED
    with AskingLate(context) as asking:
        certificates = {
            "tls_root_certificates": authority.pem,
            "client_signing_certificate": client.pem + client.key_pem,
        }
        connect(settings_for(asking.url, max_attempts=1, **certificates)).handshake()
