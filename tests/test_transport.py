"""Several mailboxes over the same connections: `Transport` and `AsyncTransport`."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from anyio.from_thread import start_blocking_portal

from http_peers import LONG, Peer, Server, response, server_tls
from nel_mesh import (
    AsyncMeshClient,
    AsyncTransport,
    CertificateError,
    ConnectionFailed,
    InvalidArgument,
    MeshClient,
    MeshSettings,
    Transport,
)
from variants import VARIANTS, Face, settings_for


class Mailboxes:
    """Clients of one variant over one transport."""

    def __init__(self, variant: str, stack: contextlib.ExitStack) -> None:
        self._portal = None if variant == "sync" else stack.enter_context(start_blocking_portal(variant))
        self.transport: Any = Transport() if self._portal is None else Face(self._portal, AsyncTransport())
        stack.callback(self.close)

    def client(self, settings: MeshSettings) -> Any:
        if self._portal is None:
            return MeshClient(settings, transport=self.transport)

        async def make() -> AsyncMeshClient:
            return AsyncMeshClient(settings, transport=self.transport._target)

        return Face(self._portal, self._portal.call(make))

    def close(self) -> None:
        self.transport.close()


@pytest.fixture(params=VARIANTS)
def mailboxes(request: pytest.FixtureRequest) -> Iterator[Mailboxes]:
    with contextlib.ExitStack() as stack:
        yield Mailboxes(request.param, stack)


class Mesh:
    """A server that asks for a client certificate, and notes for each request which one its connection showed."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, str, str]] = []
        self.authority = trustme.CA()
        context = server_tls(self.authority)
        context.verify_mode = ssl.CERT_REQUIRED
        self.authority.configure_trust(context)
        self.server = Server(self._serve, context)

    def _serve(self, peer: Peer) -> None:
        number = self.server.connections
        certificate: Any = peer.tls_object.getpeercert() or {}
        shown = dict(part[0] for part in certificate["subject"])["commonName"]
        while head := peer.head():
            self.requests.append((number, shown, head.split()[1].decode().split("/")[-1]))
            peer.send(response(b"{}"))

    def settings(self, mailbox_id: str, identity: trustme.LeafCert, **more: Any) -> MeshSettings:
        return settings_for(
            self.server.url,
            mailbox_id=mailbox_id,
            tls_root_certificates=self.authority.cert_pem.bytes().decode(),
            client_signing_certificate=identity.private_key_and_cert_chain_pem.bytes().decode(),
            max_attempts=1,
            **more,
        )

    def identity(self, name: str) -> trustme.LeafCert:
        return self.authority.issue_cert(f"{name}.example", common_name=name)


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    made = Mesh()
    with made.server:
        yield made


def test_two_mailboxes_use_one_connection(mesh: Mesh, mailboxes: Mailboxes) -> None:
    ours = mesh.identity("ours")
    first = mailboxes.client(mesh.settings("X26ABC1", ours))
    second = mailboxes.client(mesh.settings("X26ABC2", ours, password="another"))
    for _ in range(2):
        first.handshake()
        second.handshake()
    assert mesh.requests == [(1, "ours", mailbox_id) for mailbox_id in ("X26ABC1", "X26ABC2") * 2]


def test_different_identities_never_share_a_connection(mesh: Mesh, mailboxes: Mailboxes) -> None:
    first = mailboxes.client(mesh.settings("X26ABC1", mesh.identity("ours")))
    second = mailboxes.client(mesh.settings("X26ABC2", mesh.identity("theirs")))
    for _ in range(2):
        first.handshake()
        second.handshake()
    assert mesh.requests == [(1, "ours", "X26ABC1"), (2, "theirs", "X26ABC2")] * 2


def test_a_certificate_renewed_in_its_file_is_another_identity(
    mesh: Mesh, mailboxes: Mailboxes, tmp_path: Path
) -> None:
    path = tmp_path / "mesh.pem"
    for name in ("old", "new"):
        mesh.identity(name).private_key_and_cert_chain_pem.write_to_path(path)
        settings = mesh.settings("X26ABC1", mesh.identity("unused")).model_dump() | {
            "client_signing_certificate": str(path)
        }
        mailboxes.client(MeshSettings(**{name: value for name, value in settings.items() if value})).handshake()
    assert [shown for _, shown, _ in mesh.requests] == ["old", "new"]


@pytest.mark.parametrize(
    "other",
    [
        {"read_timeout_in_seconds": 50},
        {"max_connections": 7},
        {"min_bytes_per_second": 0},
        {"proxy": "http://127.0.0.1:1"},
        {"connect_timeout_in_seconds": 5},
    ],
)
def test_clients_that_reach_the_server_in_another_way_have_their_own_connections(
    mesh: Mesh, mailboxes: Mailboxes, other: dict[str, Any]
) -> None:
    ours = mesh.identity("ours")
    mailboxes.client(mesh.settings("X26ABC1", ours, proxy="none")).handshake()
    different = mailboxes.client(mesh.settings("X26ABC2", ours, **{"proxy": "none", **other}))
    if "proxy" in other:
        with pytest.raises(ConnectionFailed, match="the proxy 127.0.0.1:1"):
            different.handshake()
    else:
        different.handshake()
        assert mesh.requests[1][0] == 2


def test_closing_a_client_leaves_the_connections_and_closing_the_transport_ends_them(
    mesh: Mesh, mailboxes: Mailboxes
) -> None:
    ours = mesh.identity("ours")
    first = mailboxes.client(mesh.settings("X26ABC1", ours))
    second = mailboxes.client(mesh.settings("X26ABC2", ours))
    first.handshake()
    first.close()
    second.handshake()
    assert [number for number, _, _ in mesh.requests] == [1, 1]
    mailboxes.close()
    assert mesh.server.ended.acquire(timeout=LONG)
    with pytest.raises(InvalidArgument, match="has been closed"):
        second.handshake()
    with pytest.raises(InvalidArgument, match="the transport has been closed"):
        mailboxes.client(mesh.settings("X26ABC1", ours))


def test_a_client_without_a_transport_closes_its_own_connections(mesh: Mesh) -> None:
    with MeshClient(mesh.settings("X26ABC1", mesh.identity("ours"))) as client:
        client.handshake()
    assert mesh.server.ended.acquire(timeout=LONG)


def test_the_proxys_authority_is_a_setting(mesh: Mesh, mailboxes: Mailboxes, tmp_path: Path) -> None:
    """A13: an https proxy under a private authority. A22: its context heeds no SSLKEYLOGFILE, and is made once."""
    proxy_authority = trustme.CA()
    heads: list[bytes] = []

    def refuse(peer: Peer) -> None:
        heads.append(peer.head())
        peer.send(b"HTTP/1.1 503 Busy\r\n\r\n")

    with Server(refuse, server_tls(proxy_authority)) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
        settings = mesh.settings("X26ABC1", mesh.identity("ours"), proxy=proxy.url)
        with pytest.raises(ConnectionFailed, match="certificate of the proxy.*proxy_root_certificates") as caught:
            mailboxes.client(settings).handshake()
        assert not caught.value.transient
        assert proxy.ended.acquire(timeout=LONG)
        trusting = mesh.settings(
            "X26ABC1",
            mesh.identity("ours"),
            proxy=proxy.url,
            proxy_root_certificates=proxy_authority.cert_pem.bytes().decode(),
        )
        with pytest.raises(ConnectionFailed, match="the proxy 127.0.0.1:.* refuses .status 503."):
            mailboxes.client(trusting).handshake()
    assert len(heads) == 1
    assert not (tmp_path / "keys.log").exists()


def test_the_proxys_authority_must_be_one(mesh: Mesh) -> None:
    leaf = trustme.CA().issue_cert("proxy.example").cert_chain_pems[0].bytes().decode()
    settings = mesh.settings(
        "X26ABC1", mesh.identity("ours"), proxy="https://127.0.0.1:1", proxy_root_certificates=leaf
    )
    with pytest.raises(CertificateError, match="proxy_root_certificates.*no root is in it"):
        MeshClient(settings)
