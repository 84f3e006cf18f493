"""Identity: every form of certificate and key, and what the context that is made of them trusts and proves.

The handshakes are real, over loopback.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import re
import shutil
import socket
import ssl
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import hypothesis
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.hazmat.primitives.serialization import pkcs12 as pkcs12_module
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates
from hypothesis import given
from hypothesis import strategies as st

import nel_mesh
from certificates import DAY, NOW, Pair, name, root
from nel_mesh.errors import CertificateError, ConfigurationError, SettingFault
from nel_mesh.settings import MeshSettings, SettingsKeywords
from nel_mesh.tls import context, keys
from nel_mesh.tls.context import client_ssl_context
from nel_mesh.tls.identity import Identity
from nel_mesh.tls.keys import Unreadable, WrongPassword

SECONDS = 10
PASSWORD = "correct horse"

ROOT = root("Right root")
INTERMEDIATE = ROOT.issue("Right intermediate", authority=True)
SERVER = INTERMEDIATE.issue("localhost")
CLIENT = INTERMEDIATE.issue("client.x26abc1")
RSA = ROOT.issue("rsa.client", key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
OTHER_ROOT = root("Other root")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(variable, raising=False)


def settings(**keywords: object) -> MeshSettings:
    given: SettingsKeywords = {
        "mailbox_id": "X26ABC1",
        "password": "p",
        "shared_key": "k",
        "url": "https://localhost",
    }
    return MeshSettings(**given, **keywords)


def context_for(chosen: MeshSettings, now: datetime | None = None) -> ssl.SSLContext:
    """The context, as a client makes it."""
    return client_ssl_context(Identity.from_settings(chosen, now=now), chosen)


# --- Handshakes -------------------------------------------------------------------------------------------------


class Server:
    """What a server that takes one connection saw of its client."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(SECONDS)
        self.port: int = self.listener.getsockname()[1]
        self.peer: dict[str, object] | None = None
        self.refusal: ssl.SSLError | None = None

    def run(self, context: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError):
            raw, _ = self.listener.accept()
            with raw:
                raw.settimeout(SECONDS)
                try:
                    with context.wrap_socket(raw, server_side=True) as connection:
                        self.peer = connection.getpeercert()  # type: ignore[assignment]
                        connection.sendall(b"welcome")
                except ssl.SSLError as error:
                    self.refusal = error


@contextlib.contextmanager
def serving(pair: Pair, *chain: Pair, client_root: Pair | None = None) -> Iterator[Server]:
    """A TLS server with this certificate and chain; asks for a client certificate if a root for it is given."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = "".join(link.pem for link in (pair, *chain)) + pair.key_pem
    with context.in_a_file(pem.encode()) as path:
        server_context.load_cert_chain(path)
    if client_root is not None:
        server_context.verify_mode = ssl.CERT_REQUIRED
        server_context.load_verify_locations(cadata=client_root.pem)
    server = Server()
    thread = threading.Thread(target=server.run, args=(server_context,))
    thread.start()
    try:
        yield server
    finally:
        # A client that never came leaves the thread waiting in accept: this lets it go.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS).close()
        thread.join(SECONDS)
        server.listener.close()
    assert not thread.is_alive()


def talk(server: Server, context: ssl.SSLContext, host: str = "localhost") -> bytes:
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=host) as connection,
    ):
        return connection.recv(100)


def refusal(server: Server, context: ssl.SSLContext, host: str = "localhost") -> str:
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        talk(server, context, host)
    return caught.value.verify_message


def test_a_server_under_the_given_root_is_trusted() -> None:
    with serving(SERVER, INTERMEDIATE) as server:
        assert talk(server, context_for(settings(tls_root_certificates=ROOT.pem))) == b"welcome"


def test_an_ip_address_is_checked_as_a_host_name_is() -> None:
    context = context_for(settings(tls_root_certificates=ROOT.pem))
    with serving(ROOT.issue("127.0.0.1")) as server:
        assert talk(server, context, "127.0.0.1") == b"welcome"
    with serving(SERVER, INTERMEDIATE) as server:
        assert "IP address mismatch" in refusal(server, context, "127.0.0.1")


def test_a_right_certificate_for_another_host_is_refused() -> None:
    with serving(INTERMEDIATE.issue("elsewhere.nhs.uk"), INTERMEDIATE) as server:
        context = context_for(settings(tls_root_certificates=ROOT.pem))
        assert "Hostname mismatch" in refusal(server, context)


def test_a_server_under_another_root_is_refused() -> None:
    with serving(OTHER_ROOT.issue("localhost")) as server:
        context = context_for(settings(tls_root_certificates=ROOT.pem))
        assert "unable to get local issuer" in refusal(server, context)


def test_a_server_that_signed_its_own_certificate_is_refused() -> None:
    with serving(root("localhost")) as server:
        context = context_for(settings(tls_root_certificates=ROOT.pem))
        assert "self" in refusal(server, context)


def test_an_expired_server_certificate_is_refused() -> None:
    with serving(ROOT.issue("localhost", start=NOW - 2 * DAY, end=NOW - DAY)) as server:
        context = context_for(settings(tls_root_certificates=ROOT.pem))
        assert "expired" in refusal(server, context)


def test_a_trusted_intermediate_alone_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "system.pem").write_text(OTHER_ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    for roots in ((), (OTHER_ROOT.pem,)):
        chosen = settings(tls_root_certificates=roots, tls_intermediate_certificates=INTERMEDIATE.pem)
        for chain in ((), (INTERMEDIATE,)):
            with serving(SERVER, *chain) as server:
                assert "unable to get" in refusal(server, context_for(chosen))


def test_intermediates_complete_the_chain_of_a_server_that_leaves_them_out() -> None:
    with serving(SERVER) as server:
        assert "unable to get" in refusal(server, context_for(settings(tls_root_certificates=ROOT.pem)))
    chosen = settings(tls_root_certificates=ROOT.pem, tls_intermediate_certificates=INTERMEDIATE.pem)
    with serving(SERVER) as server:
        assert talk(server, context_for(chosen)) == b"welcome"


def test_no_environment_variable_adds_to_the_given_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rogue = root("Rogue root")
    (tmp_path / "rogue.pem").write_text(rogue.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "rogue.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "rogue.pem"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    with serving(rogue.issue("localhost")) as server:
        context = context_for(settings(tls_root_certificates=ROOT.pem))
        assert "unable to get local issuer" in refusal(server, context)
    assert not (tmp_path / "keys.log").exists()
    # The variable does work where no roots are given, so the refusal above was not for want of it.
    with serving(rogue.issue("localhost")) as server:
        assert talk(server, context_for(settings())) == b"welcome"


def test_with_no_roots_the_system_is_trusted_and_intermediates_complete_its_chains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "system.pem").write_text(ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    chosen = settings(tls_intermediate_certificates=INTERMEDIATE.pem)
    with serving(SERVER) as server:
        assert talk(server, context_for(chosen)) == b"welcome"


def test_an_expired_root_beside_its_renewal_does_no_harm() -> None:
    old = root("Right root", start=NOW - 3 * DAY, end=NOW - DAY, key=ROOT.key)
    for roots in ((old.pem, ROOT.pem), (ROOT.pem, old.pem)):
        with serving(SERVER, INTERMEDIATE) as server:
            assert talk(server, context_for(settings(tls_root_certificates=roots))) == b"welcome"


@pytest.mark.parametrize("where", ["in the file", "as intermediate"])
def test_the_server_sees_the_client_certificate_with_its_chain(where: str) -> None:
    chosen = (
        settings(
            tls_root_certificates=ROOT.pem,
            client_signing_certificate=base64.b64encode(CLIENT.pkcs12(None, INTERMEDIATE, ROOT, OTHER_ROOT)).decode(),
        )
        if where == "in the file"
        else settings(
            tls_root_certificates=ROOT.pem,
            tls_intermediate_certificates=[
                OTHER_ROOT.issue("Stranger", authority=True).pem,
                INTERMEDIATE.pem,
            ],
            client_signing_certificate=CLIENT.pem,
            client_signing_key=CLIENT.key_pem,
        )
    )
    # The server knows the root only, so it can verify the client only if the chain comes with it.
    with serving(SERVER, INTERMEDIATE, client_root=ROOT) as server:
        assert talk(server, context_for(chosen)) == b"welcome"
    assert server.peer is not None
    assert server.peer["subject"] == ((("commonName", "client.x26abc1"),),)


def test_without_a_client_certificate_none_is_shown() -> None:
    with serving(SERVER, INTERMEDIATE, client_root=ROOT) as server, pytest.raises((ssl.SSLError, ConnectionError)):
        talk(server, context_for(settings(tls_root_certificates=ROOT.pem)))
    assert server.refusal is not None
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in str(server.refusal)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        RSA.key,
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["EC", "RSA", "Ed25519"],
)
def test_keys_of_every_kind_that_tls_uses(key: rsa.RSAPrivateKey) -> None:
    pair = ROOT.issue("client.x26abc1", key=key)
    chosen = settings(tls_root_certificates=ROOT.pem, client_signing_certificate=pair.pem + pair.key_pem)
    with serving(SERVER, INTERMEDIATE, client_root=ROOT) as server:
        assert talk(server, context_for(chosen)) == b"welcome"


def test_the_context_cannot_be_weaker_than_it_should() -> None:
    for chosen in (settings(), settings(tls_root_certificates=ROOT.pem)):
        context = context_for(chosen)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert not context.hostname_checks_common_name
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert not context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN


# --- What cannot be used ----------------------------------------------------------------------------------------


def fault_values(now: datetime = NOW, **keywords: object) -> tuple[SettingFault, ...]:
    """The faults of settings with these values, after a search for secrets in all that the error carries."""
    with pytest.raises(CertificateError) as caught:
        context_for(settings(**keywords), now=now)
    error = caught.value
    assert isinstance(error, ConfigurationError)
    assert error.__cause__ is None
    assert error.__context__ is None
    told = f"{error} {error!r} {error.faults}"
    for value in keywords.values():
        for secret in re.findall(r"[A-Za-z0-9+/=_ ]{16,}", value if isinstance(value, str) else ""):
            assert secret not in told.replace(INTERMEDIATE.certificate.issuer.rfc4514_string(), "")
    return error.faults


def faults(now: datetime = NOW, **keywords: object) -> tuple[str, ...]:
    """The faults as sentences."""
    return tuple(map(str, fault_values(now, **keywords)))


def test_each_fault_is_a_value_with_its_setting_and_kind() -> None:
    both = CLIENT.pem + CLIENT.key_pem
    locked = CLIENT.pem + CLIENT.key_bytes(PASSWORD).decode()
    for keywords, now, setting, kind in (
        ({"client_signing_certificate": locked}, NOW, "client_signing_certificate", "wrong_password"),
        ({"client_signing_certificate": both}, NOW + 2 * DAY, "client_signing_certificate", "expired"),
        ({"client_signing_certificate": both}, NOW - 2 * DAY, "client_signing_certificate", "not_yet_valid"),
        ({"client_signing_certificate": "x.pem"}, NOW, "client_signing_certificate", "unreadable"),
        ({"client_signing_certificate": CLIENT.pem}, NOW, "client_signing_key", "missing"),
        (
            {"client_signing_certificate": CLIENT.pem, "client_signing_key": SERVER.key_pem},
            NOW,
            "client_signing_key",
            "key_mismatch",
        ),
        ({"tls_root_certificates": ROOT.pem}, NOW + 2 * DAY, "tls_root_certificates", "expired"),
        ({"tls_root_certificates": ROOT.pem}, NOW - 2 * DAY, "tls_root_certificates", "not_yet_valid"),
        ({"tls_root_certificates": INTERMEDIATE.pem}, NOW, "tls_root_certificates", "invalid"),
        ({"tls_intermediate_certificates": ROOT.pem}, NOW, "tls_intermediate_certificates", "invalid"),
    ):
        (fault,) = fault_values(now, **keywords)
        assert (fault.setting, fault.kind) == (setting, kind)
        assert str(fault) == f"{fault.source}: {fault.message}"


def test_a_wrong_or_missing_password_names_both_settings() -> None:
    pfx = base64.b64encode(CLIENT.pkcs12(PASSWORD)).decode()
    (fault,) = faults(client_signing_certificate=pfx, client_signing_certificate_password="incorrect horse")
    assert fault == (
        "keyword argument `client_signing_certificate`: the PKCS#12 file has another password, or is damaged;"
        " the password is taken from keyword argument `client_signing_certificate_password`"
    )
    (fault,) = faults(client_signing_certificate=pfx)
    assert "the PKCS#12 file needs a password" in fault
    assert fault.endswith("the password is taken from client_signing_certificate_password")
    locked = CLIENT.key_bytes(PASSWORD).decode()
    (fault,) = faults(client_signing_certificate=CLIENT.pem, client_signing_key=locked)
    assert fault.startswith("keyword argument `client_signing_key`: the private key is encrypted")
    (fault,) = faults(
        client_signing_certificate=CLIENT.pem,
        client_signing_key=locked,
        client_signing_certificate_password="incorrect horse",
    )
    assert "the private key has another password" in fault


def test_a_key_that_does_not_match_names_the_certificate() -> None:
    (fault,) = faults(client_signing_certificate=CLIENT.pem, client_signing_key=SERVER.key_pem)
    assert fault == (
        "keyword argument `client_signing_key`: the private key does not belong to the certificate 'client.x26abc1'"
    )


def test_a_certificate_without_key_and_a_key_without_certificate() -> None:
    (fault,) = faults(client_signing_certificate=CLIENT.pem)
    assert "there is no private key for 'client.x26abc1'" in fault
    (fault,) = faults(client_signing_certificate=CLIENT.key_pem)
    assert "there is no certificate in it, only a private key" in fault
    (fault,) = faults(tls_root_certificates=CLIENT.key_pem)
    assert "there is no certificate in it, only a private key" in fault


def test_a_client_certificate_out_of_date_says_which_and_when() -> None:
    both = CLIENT.pem + CLIENT.key_pem
    end, start = CLIENT.certificate.not_valid_after_utc, CLIENT.certificate.not_valid_before_utc
    (fault,) = faults(now=NOW + 2 * DAY, client_signing_certificate=both)
    assert fault.endswith(f"'client.x26abc1' expired on {end:%Y-%m-%dT%H:%MZ}")
    (fault,) = faults(now=NOW - 2 * DAY, client_signing_certificate=both)
    assert fault.endswith(f"'client.x26abc1' is not valid before {start:%Y-%m-%dT%H:%MZ}")


def test_of_several_certificates_for_one_key_the_valid_one_is_shown() -> None:
    old = ROOT.issue("old.client", start=NOW - 3 * DAY, end=NOW - DAY, key=CLIENT.key)
    new = ROOT.issue("new.client", key=CLIENT.key)
    future = ROOT.issue("future.client", start=NOW + DAY, end=NOW + 9 * DAY, key=CLIENT.key)
    chosen = settings(
        tls_root_certificates=ROOT.pem,
        client_signing_certificate=old.pem + future.pem + new.pem + CLIENT.key_pem,
    )
    with serving(SERVER, INTERMEDIATE, client_root=ROOT) as server:
        assert talk(server, context_for(chosen)) == b"welcome"
    assert server.peer is not None
    assert server.peer["subject"] == ((("commonName", "new.client"),),)


def test_roots_all_out_of_date_are_a_fault_that_names_each() -> None:
    old = root("Old root", start=NOW - 3 * DAY, end=NOW - DAY)
    young = root("Young root", start=NOW + DAY, end=NOW + 3 * DAY)
    (fault,) = faults(tls_root_certificates=[old.pem, young.pem])
    assert "no root is valid now" in fault
    assert f"'Old root' expired on {old.certificate.not_valid_after_utc:%Y-%m-%dT%H:%MZ}" in fault
    assert f"'Young root' is not valid before {NOW + DAY:%Y-%m-%dT%H:%MZ}" in fault


def test_an_intermediate_given_as_root_is_told_where_it_belongs() -> None:
    (fault,) = faults(tls_root_certificates=INTERMEDIATE.pem)
    assert "no root is in it, only 'Right intermediate', issued by 'CN=Right root'" in fault
    assert "put the root here, and these in tls_intermediate_certificates" in fault


@pytest.mark.parametrize("issuer", ["Sly root", "sly  ROOT"])
def test_a_root_given_as_intermediate_is_refused(issuer: str) -> None:
    sly = root("Sly root", issuer=issuer)
    for roots in ((), (ROOT.pem,)):
        (fault,) = faults(tls_root_certificates=roots, tls_intermediate_certificates=sly.pem)
        assert "only a root is in it, 'Sly root'; to trust it, put it in tls_root_certificates" in fault


@pytest.fixture(scope="module")
def bundle() -> str:
    """A bundle as the official client has it: two roots and two intermediates in one PEM file."""
    return ROOT.pem + INTERMEDIATE.pem + OTHER_ROOT.pem + OTHER_ROOT.issue("Other intermediate", authority=True).pem


@pytest.mark.parametrize("also_as_intermediates", [False, True])
def test_a5_a_bundle_as_roots_is_sorted_by_content(bundle: str, also_as_intermediates: bool) -> None:
    chosen = settings(
        tls_root_certificates=bundle, tls_intermediate_certificates=bundle if also_as_intermediates else ()
    )
    identity = Identity.from_settings(chosen)
    assert identity.roots == (ROOT.certificate, OTHER_ROOT.certificate)
    assert identity.intermediates[0] == INTERMEDIATE.certificate
    assert (len(identity.intermediates), identity.untrusted_roots) == (2, ())
    # The server leaves its intermediate out, so the one in the bundle must complete the chain.
    with serving(SERVER) as server:
        assert talk(server, context_for(chosen)) == b"welcome"
    with serving(root("Third root").issue("localhost")) as server:
        assert "unable to get local issuer" in refusal(server, context_for(chosen))


@pytest.mark.parametrize("roots", ["none", "another"])
def test_a5_a_bundle_as_intermediates_does_not_widen_trust(
    bundle: str, roots: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    third = root("Third root")
    (tmp_path / "system.pem").write_text(third.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    chosen = settings(tls_root_certificates=() if roots == "none" else third.pem, tls_intermediate_certificates=bundle)
    identity = Identity.from_settings(chosen)
    assert identity.untrusted_roots == (ROOT.certificate, OTHER_ROOT.certificate)
    assert len(identity.intermediates) == 2
    for chain in ((), (INTERMEDIATE,), (INTERMEDIATE, ROOT)):
        with serving(SERVER, *chain) as server:
            refusal(server, context_for(chosen))
    with serving(third.issue("localhost")) as server:
        assert talk(server, context_for(chosen)) == b"welcome"


def test_a5_roots_and_intermediates_in_several_items_in_any_order() -> None:
    for items in (
        [INTERMEDIATE.pem, ROOT.pem],
        [INTERMEDIATE.pem + ROOT.pem],
        [ROOT.pem, INTERMEDIATE.pem + SERVER.pem],
    ):
        with serving(SERVER) as server:
            assert talk(server, context_for(settings(tls_root_certificates=items))) == b"welcome"


def test_an_identity_tells_what_is_shown_and_when_it_expires() -> None:
    chosen = settings(
        tls_root_certificates=ROOT.pem,
        tls_intermediate_certificates=INTERMEDIATE.pem,
        client_signing_certificate=CLIENT.pem + CLIENT.key_pem,
    )
    identity = nel_mesh.Identity.from_settings(chosen, now=NOW)
    assert (identity.certificate, identity.chain) == (CLIENT.certificate, (INTERMEDIATE.certificate,))
    assert identity.not_after == CLIENT.certificate.not_valid_after_utc
    assert (identity.days_left(NOW - 9 * DAY), identity.days_left(NOW + 9 * DAY)) == (9, -9)
    assert identity.expiring(NOW + 2 * DAY, NOW) == tuple(pair.certificate for pair in (CLIENT, INTERMEDIATE, ROOT))
    assert identity.expiring(NOW, NOW) == identity.expiring(NOW + 9 * DAY, NOW + 8 * DAY) == ()
    assert "PrivateKey" not in repr(identity)
    again = Identity.from_settings(chosen, now=NOW)
    assert (again == identity, hash(again) == hash(identity)) == (True, True)
    nobody = Identity.from_settings(settings())
    assert (nobody.certificate, nobody.not_after, nobody.days_left(), nobody.key) == (None, None, None, None)
    assert nobody != identity


def test_a_root_that_is_among_the_intermediates_as_well_is_no_fault() -> None:
    context_for(settings(tls_root_certificates=ROOT.pem, tls_intermediate_certificates=[INTERMEDIATE.pem + ROOT.pem]))


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    found = faults(
        tls_root_certificates=[str(tmp_path / "absent.pem"), ROOT.pem, "rubbish"],
        tls_intermediate_certificates=ROOT.pem[:-100],
        client_signing_certificate=CLIENT.pem + CLIENT.key_bytes(PASSWORD).decode(),
    )
    assert [fault.split(":")[0] for fault in found] == [
        "keyword argument `tls_root_certificates`, item 1",
        "keyword argument `tls_root_certificates`, item 3",
        "keyword argument `tls_intermediate_certificates`",
        "keyword argument `client_signing_certificate`",
    ]
    assert found[0].endswith(f"there is no file {tmp_path / 'absent.pem'}")
    assert "perhaps it was cut off" in found[1]
    assert "no END line" in found[2]


def test_faults_name_the_setting_as_its_file_does(tmp_path: Path) -> None:
    file = tmp_path / "appsettings.json"
    file.write_text('{"MeshConfiguration": {"ClientSigningCertificate": "nonsense"}}')
    chosen = MeshSettings.from_file(file, mailbox_id="X26ABC1", password="p", shared_key="k", url="production")
    with pytest.raises(CertificateError, match="MeshConfiguration:ClientSigningCertificate in appsettings"):
        context_for(chosen)


def test_what_openssl_itself_refuses_is_a_certificate_error() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  it is to be refused
    pair = ROOT.issue("weak.client", key=weak)
    (fault,) = faults(client_signing_certificate=pair.pem + pair.key_pem)
    assert "OpenSSL refuses 'weak.client': ee key too small" in fault


# --- Keys stay off the disk -------------------------------------------------------------------------------------


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[dict[str, bytes]]:
    """Collects, as fast as it can, whatever is in a folder while the block runs."""
    seen: dict[str, bytes] = {}
    stop, first_look = threading.Event(), threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for path in folder.iterdir():
                with contextlib.suppress(OSError):
                    seen[path.name] = path.read_bytes()
            first_look.set()

    thread = threading.Thread(target=watch)
    thread.start()
    first_look.wait(SECONDS)
    try:
        yield seen
    finally:
        stop.set()
        thread.join(SECONDS)


@pytest.fixture
def temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_no_key_is_left_on_disk(temporary_folder: Path) -> None:
    weak = ROOT.issue("weak.client", key=rsa.generate_private_key(public_exponent=65537, key_size=1024))  # noqa: S505
    with watched(temporary_folder) as seen:
        for _ in range(5):
            context_for(settings(client_signing_certificate=CLIENT.pem + CLIENT.key_pem))
            with pytest.raises(CertificateError):
                context_for(settings(client_signing_certificate=weak.pem + weak.key_pem))
    assert list(temporary_folder.iterdir()) == []
    for content in seen.values():  # where the system has no files in memory
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in content or b"PRIVATE" not in content


def test_a_file_on_disk_is_its_owners_alone_and_goes_away_whatever_happens(temporary_folder: Path) -> None:
    with context.on_disk(b"content") as path:
        assert Path(path).parent == temporary_folder
        assert Path(path).read_bytes() == b"content"
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    with pytest.raises(KeyError), context.on_disk(b"content"):
        raise KeyError
    assert list(temporary_folder.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="files in memory are Linux's")
def test_on_linux_no_file_is_made_at_all(temporary_folder: Path) -> None:
    temporary_folder.rmdir()  # a read-only container has no such folder either
    context_for(settings(client_signing_certificate=CLIENT.pem + CLIENT.key_pem))
    with context.in_a_file(b"content") as path:
        assert Path(path).read_bytes() == b"content"
    assert not Path(path).exists()


# --- Forms ------------------------------------------------------------------------------------------------------

ENCODED: dict[str, tuple[bytes, int, int]] = {
    "certificate, DER": (CLIENT.der, 1, 0),
    "certificate, PEM": (CLIENT.pem.encode(), 1, 0),
    "bundle, PEM": ((CLIENT.pem + INTERMEDIATE.pem + ROOT.pem).encode(), 3, 0),
    "both, PEM": ((CLIENT.key_pem + CLIENT.pem).encode(), 1, 1),
    "both, encrypted PEM": (CLIENT.pem.encode() + CLIENT.key_bytes(PASSWORD), 1, 1),
    "PKCS#12": (CLIENT.pkcs12(PASSWORD, INTERMEDIATE, ROOT), 3, 1),
    "PKCS#12 without password": (CLIENT.pkcs12(None), 1, 1),
    "key, PKCS#8 DER": (CLIENT.key_bytes(None, Encoding.DER), 0, 1),
    "key, encrypted PKCS#8 DER": (CLIENT.key_bytes(PASSWORD, Encoding.DER), 0, 1),
    "key, old DER": (RSA.key_bytes(None, Encoding.DER, PrivateFormat.TraditionalOpenSSL), 0, 1),
    "EC key, old DER": (CLIENT.key_bytes(None, Encoding.DER, PrivateFormat.TraditionalOpenSSL), 0, 1),
    "key, old PEM": (RSA.key_bytes(None, form=PrivateFormat.TraditionalOpenSSL), 0, 1),
    "key, old encrypted PEM": (RSA.key_bytes(PASSWORD, form=PrivateFormat.TraditionalOpenSSL), 0, 1),
}
BOTH_KEYS = (CLIENT.key_bytes(), RSA.key_bytes())


def read_as(value: str, name: str) -> None:
    """Reads a value in which the named content of ENCODED must be found whole."""
    _, how_many_certificates, how_many_keys = ENCODED[name]
    # A password that is not needed is no harm, except that a PKCS#12 file always has one, if only none.
    found = keys.read(value, None if name == "PKCS#12 without password" else PASSWORD)
    assert len(found.certificates) == how_many_certificates
    assert len(found.keys) == how_many_keys
    if found.certificates:
        assert CLIENT.certificate in found.certificates
    for key in found.keys:
        assert key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) in BOTH_KEYS


@pytest.mark.parametrize("name", ENCODED)
def test_every_form_as_base64(name: str) -> None:
    content = ENCODED[name][0]
    standard = base64.b64encode(content).decode()
    for value in (
        standard,
        f'  "{standard}"\n',
        base64.urlsafe_b64encode(content).decode().rstrip("="),
        base64.encodebytes(content).decode().replace("\n", "\r\n"),
        base64.encodebytes(content).decode().replace("\n", "\\n"),
    ):
        read_as(value, name)


@pytest.mark.parametrize("name", ENCODED)
def test_every_form_as_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = ENCODED[name][0]
    (tmp_path / "client.file").write_bytes(content)
    read_as(str(tmp_path / "client.file"), name)
    (tmp_path / "base64.txt").write_bytes(base64.encodebytes(content))
    read_as(str(tmp_path / "base64.txt"), name)
    monkeypatch.chdir(tmp_path)
    read_as("client.file", name)
    monkeypatch.setenv("HOME", str(tmp_path))
    read_as("~/client.file", name)


TEXTS = {name: content.decode() for name, (content, _, _) in ENCODED.items() if "PEM" in name}


@hypothesis.settings(deadline=None)  # a busy machine is no failure
@given(st.sampled_from(sorted(TEXTS)), st.data())
def test_pem_survives_whatever_becomes_of_its_line_feeds(name: str, data: st.DataObject) -> None:
    lines = TEXTS[name].splitlines()
    breaks = st.sampled_from(["\n", "\r\n", " ", "", "\t", "\\n", "\\r\\n", "\\\\n"])
    same = data.draw(st.none() | breaks)  # mostly, one thing happens to all of them
    read_as("".join(line + (data.draw(breaks) if same is None else same) for line in lines), name)


def test_pem_with_what_tools_write_around_it() -> None:
    text = (
        "\ufeffBag Attributes\n    friendlyName: client\nsubject=CN = client\n"
        f"{CLIENT.pem}-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{CLIENT.key_pem}"
    )
    found = keys.read(text)
    assert found.certificates == (CLIENT.certificate,)
    assert len(found.keys) == 1


def test_pkcs12_in_the_encryption_that_old_tools_write() -> None:
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .key_cert_algorithm(pkcs12_module.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .build(PASSWORD.encode())
    )
    old = pkcs12_module.serialize_key_and_certificates(
        None,
        RSA.key,
        RSA.certificate,
        None,
        encryption,
    )
    assert keys.read(base64.b64encode(old).decode(), PASSWORD).certificates == (RSA.certificate,)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl: `make services`")
def test_pkcs12_under_an_empty_password(tmp_path: Path) -> None:
    # NEL.MESH's example has one: ClientSigningCertificatePassword is "".
    (tmp_path / "both.pem").write_text(CLIENT.pem + CLIENT.key_pem)
    command = "openssl pkcs12 -export -in both.pem -out empty.pfx -passout pass:"
    subprocess.run(command.split(), cwd=tmp_path, check=True, timeout=SECONDS)
    found = keys.read(str(tmp_path / "empty.pfx"))
    assert (found.certificates, len(found.keys)) == ((CLIENT.certificate,), 1)


def test_an_old_key_in_a_cipher_that_nobody_reads_is_not_called_a_wrong_password() -> None:
    text = RSA.key_bytes(PASSWORD, form=PrivateFormat.TraditionalOpenSSL).decode()
    with pytest.raises(Unreadable, match="export it as PKCS#8") as caught:
        keys.read(re.sub("DEK-Info: [A-Z0-9-]+", "DEK-Info: AES-192-CBC", text), PASSWORD)
    assert not isinstance(caught.value, WrongPassword)


def test_a_key_that_tls_does_not_use_is_said_to_be_one() -> None:
    key = x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(Unreadable, match="of a kind that TLS does not use"):
        keys.read(key.decode())


def test_a_password_in_other_letters() -> None:
    text = CLIENT.key_bytes("žluťoučký").decode()
    assert keys.read(text, "žluťoučký").keys
    with pytest.raises(WrongPassword):
        keys.read(text, "zlutoucky")


def pkcs7(encoding: Encoding) -> bytes:
    return serialize_certificates([CLIENT.certificate, INTERMEDIATE.certificate, ROOT.certificate], encoding)


def request() -> x509.CertificateSigningRequest:
    return x509.CertificateSigningRequestBuilder().subject_name(name("client")).sign(CLIENT.key, hashes.SHA256())


BUNDLE = CLIENT.pem + INTERMEDIATE.pem + ROOT.pem
UNUSUAL: dict[str, bytes] = {
    "UTF-16 PEM": BUNDLE.encode("utf-16"),
    "UTF-16 PEM, big-endian": codecs.BOM_UTF16_BE + BUNDLE.encode("utf-16-be"),
    "UTF-16 PEM without a byte order mark": BUNDLE.encode("utf-16-le"),
    "UTF-16 PEM, big-endian, without a byte order mark": BUNDLE.encode("utf-16-be"),
    "UTF-16 base64": base64.b64encode(BUNDLE.encode()).decode().encode("utf-16"),
    "UTF-8 PEM with a byte order mark": codecs.BOM_UTF8 + BUNDLE.encode(),
    "base64 with a byte order mark": codecs.BOM_UTF8 + base64.encodebytes(BUNDLE.encode()),
    "base64 of UTF-16 PEM": base64.b64encode(BUNDLE.encode("utf-16")),
    "PKCS#7 PEM": pkcs7(Encoding.PEM),
    "PKCS#7 PEM as CMS": pkcs7(Encoding.PEM).replace(b"PKCS7", b"CMS"),
    "PKCS#7 as certsrv writes it": pkcs7(Encoding.PEM).replace(b"PKCS7", b"CERTIFICATE"),
    "PKCS#7 DER": pkcs7(Encoding.DER),
    "PKCS#7 PEM in UTF-16": pkcs7(Encoding.PEM).decode().encode("utf-16"),
    "base64 of PKCS#7 DER": base64.encodebytes(pkcs7(Encoding.DER)),
    "DER after DER": CLIENT.der + INTERMEDIATE.der + ROOT.der,
    "DER with a line feed after it": CLIENT.der + INTERMEDIATE.der + ROOT.der + b"\r\n",
    "PKCS#12 with a line feed after it": CLIENT.pkcs12(None, INTERMEDIATE, ROOT) + b"\n",
    "OpenSSL's trusted certificates": BUNDLE.replace("CERTIFICATE", "TRUSTED CERTIFICATE").encode(),
}


@pytest.mark.parametrize("form", UNUSUAL)
def test_a15_unusual_forms_are_read(form: str, tmp_path: Path) -> None:
    (tmp_path / "file.p7b").write_bytes(UNUSUAL[form])
    values = [str(tmp_path / "file.p7b")]
    if "base64" not in form:
        values.append(base64.b64encode(UNUSUAL[form]).decode())
    for value in values:
        # A PKCS#7 bundle has its certificates in the order of their bytes.
        assert set(keys.read(value).certificates) == {CLIENT.certificate, INTERMEDIATE.certificate, ROOT.certificate}


def test_a15_text_with_a_byte_order_mark_and_blanks_around_it() -> None:
    assert len(keys.read(f" \ufeff {BUNDLE}\ufeff\n").certificates) == 3
    assert len(keys.read(f'"\ufeff{base64.b64encode(BUNDLE.encode()).decode()} "').certificates) == 3
    assert len(keys.read(pkcs7(Encoding.PEM).decode()).certificates) == 3


def openssh(password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return CLIENT.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption)


PUBLIC = CLIENT.certificate.public_key()
OTHER_THINGS: dict[str, tuple[bytes, str]] = {
    "a certificate request, PEM": (request().public_bytes(Encoding.PEM), "certificate request"),
    "a certificate request, DER": (request().public_bytes(Encoding.DER), "certificate request"),
    "a public key, PEM": (PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "public key"),
    "a public key, DER": (PUBLIC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "public key"),
    "a public key of SSH": (PUBLIC.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), "ssh-keygen"),
    "a key of SSH": (openssh(), "ssh-keygen -p -m PKCS8"),
    "a key of PuTTY": (b"PuTTY-User-Key-File-2: ssh-rsa\r\n", "PuTTY"),
    "a Java key store": (b"\xfe\xed\xfe\xed\0\0\0\2\0\0\0\1", "keytool -importkeystore"),
    "a Java key store, new": (b"\xce\xce\xce\xce\0\0\0\2\0\0\0\1", "keytool -importkeystore"),
    "a web page": (b"\n<!DOCTYPE html><html>\n<body>Log in</body></html>", "web page"),
    "an archive": (b"PK\3\4\x14\0", "archive"),
    "a revocation list": (b"-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n", "revocation list"),
}


@pytest.mark.parametrize("thing", OTHER_THINGS)
def test_a15_what_is_something_else_is_named(thing: str, tmp_path: Path) -> None:
    content, says = OTHER_THINGS[thing]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(Unreadable, match=re.escape(says)) as caught:
        keys.read(str(tmp_path / "file"))
    assert "damaged" not in str(caught.value)
    assert not isinstance(caught.value, WrongPassword)


V3 = b"\xa0\x03\x02\x01\x02"  # how a certificate says that it is one of version 3


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: str(folder), "cannot be read|cut off"),
        (lambda folder: str(folder / "absent.pfx"), r"there is no file .*absent\.pfx"),
        (lambda folder: str(folder / "folder.pem"), r"folder\.pem cannot be read: Is a directory"),
        (lambda folder: str(folder / "text.pem"), "neither PEM, DER, PKCS#7 nor PKCS#12"),
        (lambda folder: str(folder / "empty.pem"), "neither PEM, DER, PKCS#7 nor PKCS#12"),
        (lambda folder: str(folder / "tiny.der"), "damaged or cut off"),
        (lambda folder: str(folder / "large.pem"), r"large\.pem is too large"),
        (lambda _: base64.b64encode(CLIENT.der).decode()[:-40], "perhaps it was cut off"),
        (lambda _: CLIENT.key_pem[:-30], "no END line"),
        (lambda _: CLIENT.key_pem.replace("MI", "!!"), "damaged or cut off"),
        (lambda _: ssl.DER_cert_to_PEM_cert(CLIENT.der[:-40]), "the certificate cannot be read"),
        (lambda _: base64.b64encode(CLIENT.der.replace(V3, b"\xa0\x03\x02\x01\x09")).decode(), "cannot be read"),
        (lambda _: RSA.key_pem.replace("MII", "MIJ"), "the private key cannot be read"),
        (lambda _: base64.b64encode(b"0\x80\0\0").decode(), "damaged|cannot be read"),
        (lambda _: "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----", "no certificate"),
        (lambda _: "A" * 100_000, "perhaps it was cut off"),
        (lambda _: "a\0b.pem", "cut off"),
        (lambda _: "~nobody-of-that-name/a.pem", "cannot be read"),
    ],
)
def test_what_cannot_be_read_says_why(make: Callable[[Path], str], says: str, tmp_path: Path) -> None:
    (tmp_path / "folder.pem").mkdir()
    (tmp_path / "text.pem").write_text("Not a certificate at all.")
    (tmp_path / "empty.pem").touch()
    (tmp_path / "tiny.der").write_bytes(b"0")
    with (tmp_path / "large.pem").open("wb") as file:
        file.truncate(keys.MAX_FILE_BYTES + 1)
    with pytest.raises(Unreadable, match=says):
        keys.read(make(tmp_path))


@hypothesis.settings(deadline=None)  # a busy machine is no failure
@given(st.text() | st.binary().map(lambda data: base64.b64encode(b"0" + data).decode()))
def test_rubbish_is_unreadable_and_nothing_worse(text: str) -> None:
    with pytest.raises(Unreadable):
        keys.read(text)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # for odd serial numbers
@hypothesis.settings(deadline=None)  # a busy machine is no failure
@given(st.sampled_from(sorted(ENCODED)), st.data())
def test_damage_is_unreadable_or_does_not_matter(name: str, data: st.DataObject) -> None:
    content = bytearray(ENCODED[name][0])
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(Unreadable):
        keys.read(base64.b64encode(content).decode(), PASSWORD)


def test_a_certificate_in_words() -> None:
    start, end = CLIENT.certificate.not_valid_before_utc, CLIENT.certificate.not_valid_after_utc
    assert keys.describe(CLIENT.certificate) == (
        f"'client.x26abc1' (valid {start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ})"
    )
