"""The server itself: mutual TLS, a port that is really freed, folders that are really gone, threads."""

from __future__ import annotations

import json
import socket
import ssl
import stat
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from raw_mesh import RawMesh
from wire import connected

from nel_mesh.sandbox import Sandbox, SandboxConfiguration, SandboxMailbox, client_settings, sandbox
from nel_mesh.sandbox.representations import tracking
from nel_mesh.sandbox.store import Description, StoredMessage
from nel_mesh.settings import MeshSettings

pytest_plugins = ["raw_fixtures"]

PING = "/messageexchange/_ping"


def ping(url: str, context: ssl.SSLContext) -> int:
    with httpx2.Client(verify=context, trust_env=False) as http:
        return http.get(url + PING).status_code


def test_client_certificate_is_required(mesh_sandbox: Sandbox) -> None:
    bare = ssl.create_default_context(cadata=mesh_sandbox.root_certificate)
    with pytest.raises(httpx2.TransportError):
        ping(mesh_sandbox.url, bare)
    assert ping(mesh_sandbox.url, mesh_sandbox.client_context()) == 200


def test_client_certificate_of_another_authority_is_refused(mesh_sandbox: Sandbox) -> None:
    foreign = ssl.create_default_context(cadata=mesh_sandbox.root_certificate)
    trustme.CA().issue_cert("client.example").configure_cert(foreign)
    with pytest.raises(httpx2.TransportError):
        ping(mesh_sandbox.url, foreign)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("certificate", "alert"), [("none", "certificate required|handshake failure"), ("foreign", "unknown ca")]
)
@pytest.mark.parametrize("sent_before_reading", [0, 10_000_000])
def test_refused_client_is_told_why(
    raw: RawMesh, version: ssl.TLSVersion, certificate: str, alert: str, sent_before_reading: int
) -> None:
    context = ssl.create_default_context(cadata=raw.mesh.root_certificate)
    context.maximum_version = version
    if certificate == "foreign":
        trustme.CA().issue_cert("client.example").configure_cert(context)
    with pytest.raises(ssl.SSLError, match=alert), connected(raw, context) as connection:
        connection.sendall(bytes(sent_before_reading))
        connection.recv(1000)
    assert raw.inbox() == []


def test_stop_does_not_wait_for_a_refused_client(raw: RawMesh) -> None:
    with sandbox() as mesh, socket.create_connection(("127.0.0.1", mesh.port), timeout=20) as plain:
        context = ssl.create_default_context(cadata=mesh.root_certificate)
        secure = context.wrap_socket(plain, server_hostname="localhost")
        with pytest.raises(ssl.SSLError, match="certificate required"):
            secure.recv(1000)
        begun = time.monotonic()
        mesh.stop()
        assert time.monotonic() - begun < 3
        secure.close()


def test_server_is_not_trusted_by_others(mesh_sandbox: Sandbox) -> None:
    with pytest.raises(httpx2.ConnectError, match="certificate verify failed"):
        ping(mesh_sandbox.url, ssl.create_default_context())


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_server_is_who_it_says(mesh_sandbox: Sandbox, name: str) -> None:
    assert ping(f"https://{name}:{mesh_sandbox.port}", mesh_sandbox.client_context()) == 200


def test_certificates_satisfy_strict_checks(mesh_sandbox: Sandbox) -> None:
    context = mesh_sandbox.client_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert ping(mesh_sandbox.url, context) == 200


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with sandbox(host="::1") as mesh:
        assert mesh.url.startswith("https://[::1]:")
        assert ping(mesh.url, mesh.client_context()) == 200


def test_plain_http() -> None:
    with sandbox(tls=False) as mesh, RawMesh(mesh) as raw:
        assert mesh.url.startswith("http://127.0.0.1:")
        assert raw.http.get(PING).status_code == 200
        assert mesh.root_certificate is None
        assert mesh.client_certificate is None
        with pytest.raises(RuntimeError, match="no TLS"):
            mesh.client_context()


@pytest.mark.parametrize("tls", [True, False])
def test_stop_is_quick_and_leaves_nothing(tls: bool) -> None:
    with sandbox(tls=tls) as mesh, RawMesh(mesh) as raw:
        # One idle connection, and one in the middle of an upload, that nobody will ever read from again.
        raw.send(b"content")
        head = (
            f"POST /messageexchange/X26ABC1/outbox HTTP/1.1\r\nhost: x\r\nauthorization: {raw.token()}\r\n"
            "mex-to: X26ABC2\r\nmex-workflowid: W\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", mesh.port), timeout=20) as plain:
            half = mesh.client_context().wrap_socket(plain, server_hostname="localhost") if tls else plain
            half.sendall(head.encode())
            assert half.recv(1000).startswith(b"HTTP/1.1 100 ")
            begun = time.monotonic()
            mesh.stop()
            assert time.monotonic() - begun < 3
            half.close()
        assert not mesh.folder.exists()
        assert f"nel-mesh-sandbox-{mesh.port}" not in {thread.name for thread in threading.enumerate()}
        socket.create_server(("127.0.0.1", mesh.port)).close()
        with pytest.raises(httpx2.TransportError):
            raw.http.get(PING)
        mesh.stop()


def test_it_runs_once() -> None:
    mesh = sandbox(tls=False)
    for use in (lambda: mesh.url, lambda: mesh.port, mesh.reset, mesh.messages, mesh.requests):
        with pytest.raises(RuntimeError, match="not been started"):
            use()
    with mesh:
        pass
    with pytest.raises(RuntimeError, match="started before"):
        mesh.start()


def test_port_in_use(tmp_path: Path) -> None:
    with sandbox(tls=False) as mesh:
        second = sandbox(tls=False, port=mesh.port, data_folder=tmp_path)
        with pytest.raises(OSError, match="in use"):
            second.start()
        second.stop()
    with sandbox(tls=False, data_folder=tmp_path):
        pass


def test_chosen_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with sandbox(tls=False, port=port) as mesh:
        assert mesh.url == f"http://127.0.0.1:{port}"


def test_many_clients_at_once(mesh_sandbox: Sandbox) -> None:
    clients, each = 8, 25
    failures: list[BaseException] = []
    start = threading.Barrier(clients, timeout=20)

    def work(number: int) -> None:
        try:
            with RawMesh(mesh_sandbox) as raw:
                start.wait()
                for k in range(each):
                    assert raw.send(f"{number}:{k}".encode()).status_code == 202
                    mesh_sandbox.deliver_message("X26ABC3", b"from outside")
        except BaseException as error:  # noqa: BLE001 - it is looked at below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    sent = mesh_sandbox.delivered("X26ABC2")
    contents = {mesh_sandbox.content(message.message_id) for message in sent}
    assert contents == {f"{number}:{k}".encode() for number in range(clients) for k in range(each)}
    everything = mesh_sandbox.messages()
    assert len({message.message_id for message in everything}) == len(everything) == 2 * clients * each
    assert [message.message_id for message in everything] == sorted(message.message_id for message in everything)


def test_ids_are_unique_while_the_clock_stands_still() -> None:
    with sandbox(tls=False, clock=lambda: datetime(2030, 1, 1, tzinfo=UTC)) as mesh:
        ids = [mesh.deliver_report("X26ABC1", linked_message_id="") for _ in range(100)]
        assert len(set(ids)) == 100
        assert ids == sorted(ids)


def test_reset(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = raw.send(mex_localid="local").json()["message_id"]
    mesh_sandbox.reset()
    assert mesh_sandbox.messages() == []
    assert mesh_sandbox.requests() == []
    assert raw.inbox() == []
    assert raw.get(sent).status_code == 404
    assert raw.request("GET", "/outbox/tracking/local").status_code == 404
    assert [path for path in mesh_sandbox.folder.rglob("*") if path.is_file()] == []
    with pytest.raises(KeyError):
        mesh_sandbox.content(sent)


def test_looking_inside(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = raw.send(b"one").json()["message_id"]
    begun = raw.send(b"two", mex_chunk_range="1:2").json()["message_id"]
    raw.acknowledge(sent)
    mesh_sandbox.deliver_report("X26ABC2", linked_message_id="x")
    assert [message.message_id for message in mesh_sandbox.delivered("X26ABC2")] == [sent]
    assert [message.message_id for message in mesh_sandbox.messages(status="uploading")] == [begun]
    assert len(mesh_sandbox.messages(sender="X26ABC1")) == 2
    assert len(mesh_sandbox.messages(recipient="X26ABC2")) == 3
    with pytest.raises(KeyError):
        mesh_sandbox.deliver_message("X26NONE", b"content")
    with pytest.raises(ValueError, match="chunk"):
        mesh_sandbox.deliver_message("X26ABC2", [])


def test_sizes_beyond_32_bits() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    message = StoredMessage(
        message_id="M",
        sender="A",
        recipient="B",
        description=Description(),
        total_chunks=60,
        created=moment,
        expires=moment,
        changed=moment,
        sizes=[100_000_000] * 60,
    )
    assert tracking(message, lambda box: SandboxMailbox(mailbox_id=box), 1)["fileSize"] == 6_000_000_000


@pytest.mark.parametrize(
    "make",
    [
        lambda: SandboxMailbox(mailbox_id="lower"),
        lambda: SandboxMailbox(mailbox_id=""),
        lambda: SandboxMailbox(mailbox_id="A:B"),
        lambda: SandboxConfiguration(mailboxes=()),
        lambda: SandboxConfiguration(mailboxes=(SandboxMailbox(mailbox_id="A"), SandboxMailbox(mailbox_id="A"))),
    ],
)
def test_configurations_that_cannot_be(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="mailbox"):
        make()


def test_configuration_hides_secrets() -> None:
    chosen = SandboxConfiguration(mailboxes=(SandboxMailbox(mailbox_id="A", password="hunter2"),), shared_key="hunter3")
    assert "hunter" not in repr(chosen)


def test_settings(mesh_sandbox: Sandbox) -> None:
    assert mesh_sandbox.mailbox_ids == ("X26ABC1", "X26ABC2", "X26ABC3")
    settings = mesh_sandbox.settings("X26ABC2", max_attempts=2)
    assert (settings.mailbox_id, settings.url, settings.max_attempts) == ("X26ABC2", mesh_sandbox.url, 2)
    assert settings.tls_root_certificates == (mesh_sandbox.root_certificate,)
    assert settings.client_signing_certificate
    assert settings.client_signing_certificate.get_secret_value() == mesh_sandbox.client_certificate
    assert settings.proxy_for_url() is None
    assert mesh_sandbox.settings().mailbox_id == "X26ABC1"
    with pytest.raises(KeyError):
        mesh_sandbox.settings("X26NONE")


def test_settings_files(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "settings"
    for _ in range(2):
        paths = mesh_sandbox.write_settings(folder)
        assert sorted(paths) == sorted(folder.glob("appsettings.*"))
    assert [path.name for path in paths] == [f"appsettings.{box}.json" for box in mesh_sandbox.mailbox_ids]
    if sys.platform != "win32":
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(json.loads(paths[0].read_text())) == ["MeshConfiguration"]
    settings = MeshSettings.from_file(paths[1])
    assert (settings.mailbox_id, settings.url) == ("X26ABC2", mesh_sandbox.url)
    assert settings.password.get_secret_value() == "password"


def test_environment(mesh_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = mesh_sandbox.environment("X26ABC3")
    assert all("\n" not in value for value in variables.values())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = MeshSettings()
    assert (settings.mailbox_id, settings.url) == ("X26ABC3", mesh_sandbox.url)
    assert len(settings.tls_root_certificates) == 1


def test_a24_settings_for_plain_http_on_another_machine_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    details: dict[str, Any] = {"shared_key": "k", "url": "http://192.0.2.1:8700", "certificates": None}
    mailbox = SandboxMailbox(mailbox_id="X26ABC1")
    assert MeshSettings(**client_settings.keywords(mailbox, **details)).allow_plain_http
    appsettings = client_settings.appsettings(mailbox, **details)
    client_settings.write_private(tmp_path / "appsettings.json", appsettings)
    assert MeshSettings.from_file(tmp_path / "appsettings.json").allow_plain_http
    for name, value in client_settings.environment(appsettings).items():
        monkeypatch.setenv(name, value)
    assert MeshSettings().allow_plain_http
    details["url"] = "http://127.0.0.1:8700"
    assert "allow_plain_http" not in client_settings.keywords(mailbox, **details)
