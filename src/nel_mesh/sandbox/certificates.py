"""The sandbox's certificate authority, with a server and a client certificate.

It is made at each start and kept in memory, or kept in a folder, so that settings stay good over a restart.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Sequence
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
    pkcs12,
)

from nel_mesh.io.files import write_file

CLIENT_NAME = "sandbox.X26.api.mesh-client.nhs.uk"


_AUTHORITY, _KEY, _CLIENT = "authority.pem", "authority.key", "client.pem"


class Certificates:
    """An authority, a server certificate for `localhost`, 127.0.0.1, ::1 and `names`, and a client certificate.

    Args:
        names: further names and addresses of the server.
        folder: where the authority and the client certificate are kept, and found at the next start; None is nowhere.

    Attributes:
        root: the authority's certificate, in PEM.
        client: the client's certificate and key, in PEM.
    """

    def __init__(self, names: Sequence[str], folder: Path | None = None) -> None:
        # Written last, so that all are there if it is.
        if folder is not None and (folder / _AUTHORITY).exists():
            self._authority = trustme.CA.from_pem((folder / _AUTHORITY).read_bytes(), (folder / _KEY).read_bytes())
            client = (folder / _CLIENT).read_bytes()
            key, _, rest = client.partition(b"-----BEGIN CERTIFICATE-----")
            self._client = trustme.LeafCert(key, b"-----BEGIN CERTIFICATE-----" + rest, [])
        else:
            self._authority = trustme.CA(organization_name="nel_mesh sandbox")
            self._client = self._authority.issue_cert(CLIENT_NAME, common_name=CLIENT_NAME)
            if folder is not None:
                write_file(folder / _KEY, self._authority.private_key_pem.bytes())
                write_file(folder / _CLIENT, self._client.private_key_and_cert_chain_pem.bytes())
                write_file(folder / _AUTHORITY, self._authority.cert_pem.bytes())
        self._server = self._authority.issue_cert(*dict.fromkeys(["localhost", "127.0.0.1", "::1", *names]))
        self.root = self._authority.cert_pem.bytes().decode()
        self.client = self._client.private_key_and_cert_chain_pem.bytes().decode()

    def server_context(self, *, client_certificates: bool) -> ssl.SSLContext:
        """Make the server's context.

        With `client_certificates` it is for mutual TLS: it refuses clients without a certificate of this authority.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._server.configure_cert(context)
        if client_certificates:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        context.sslobject_class = _AlertingTls
        return context

    def client_context(self) -> ssl.SSLContext:
        """Make the client's context for mutual TLS: it trusts only the sandbox's authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        self._client.configure_cert(context)
        return context

    def root_base64(self) -> str:
        """Encode the authority's certificate as base64 of DER, the form of NEL.MESH's settings."""
        return base64.b64encode(ssl.PEM_cert_to_DER_cert(self.root)).decode()

    def client_pkcs12(self, password: str) -> bytes:
        """Encode the client's certificate and key as PKCS#12, as .NET and Java take it."""
        certificate = x509.load_pem_x509_certificate(self._client.cert_chain_pems[0].bytes())
        key = load_pem_private_key(self._client.private_key_pem.bytes(), password=None)
        return pkcs12.serialize_key_and_certificates(
            CLIENT_NAME.encode(),
            key,  # type: ignore[arg-type]
            certificate,
            None,
            BestAvailableEncryption(password.encode()),
        )

    def client_parts(self) -> tuple[bytes, bytes]:
        """The client's certificate and its key, each in PEM, for programs that take two files."""
        return self._client.cert_chain_pems[0].bytes(), self._client.private_key_pem.bytes()


class _AlertingTls(ssl.SSLObject):
    """TLS for asyncio that sends the alert to a client that it refuses.

    asyncio drops a refused connection before the alert is sent: it sends data of TLS only while the handshake goes on.
    So the handshake appears to go on until the client closes, or has sent more than a client sends before it reads.
    """

    _refusal: ssl.SSLError | None = None
    _rounds_left = 100

    def do_handshake(self) -> None:
        if self._refusal is None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                self._refusal = error
            else:
                return
        self._rounds_left -= 1
        if self._rounds_left < 0:
            raise self._refusal
        raise ssl.SSLWantReadError
