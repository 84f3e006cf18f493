"""The sandbox's own certificate authority, made on the spot: a server's certificate and a client's, nothing on disk."""

from __future__ import annotations

import base64
import ssl

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
    pkcs12,
)

CLIENT_NAME = "sandbox.X26.api.mesh-client.nhs.uk"


class Certificates:
    """An authority, a server certificate for `localhost`, 127.0.0.1, ::1 and `host`, and a client certificate.

    Attributes:
        root: the authority's certificate, PEM.
        client: the client's certificate and its key, PEM.
    """

    def __init__(self, host: str) -> None:
        self._authority = trustme.CA(organization_name="nel_mesh sandbox")
        names = dict.fromkeys(["localhost", "127.0.0.1", "::1", host])
        self._server = self._authority.issue_cert(*names)
        self._client = self._authority.issue_cert(CLIENT_NAME, common_name=CLIENT_NAME)
        self.root = self._authority.cert_pem.bytes().decode()
        self.client = self._client.private_key_and_cert_chain_pem.bytes().decode()

    def server_context(self) -> ssl.SSLContext:
        """The server's side of mutual TLS: clients without a certificate of this authority are refused."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._server.configure_cert(context)
        self._authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        context.sslobject_class = _AlertingTls
        return context

    def client_context(self) -> ssl.SSLContext:
        """The client's side of mutual TLS; only the sandbox's authority is trusted."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        self._client.configure_cert(context)
        return context

    def root_base64(self) -> str:
        """The authority's certificate as base64 of DER, as NEL.MESH has it in its settings."""
        return base64.b64encode(ssl.PEM_cert_to_DER_cert(self.root)).decode()

    def client_base64(self, password: str) -> str:
        """The client's certificate and key as base64 of PKCS#12, as NEL.MESH has them in its settings."""
        certificate = x509.load_pem_x509_certificate(self._client.cert_chain_pems[0].bytes())
        key = load_pem_private_key(self._client.private_key_pem.bytes(), password=None)
        bundle = pkcs12.serialize_key_and_certificates(
            CLIENT_NAME.encode(),
            key,  # type: ignore[arg-type]
            certificate,
            None,
            BestAvailableEncryption(password.encode()),
        )
        return base64.b64encode(bundle).decode()


class _AlertingTls(ssl.SSLObject):
    """TLS for asyncio, which would otherwise drop a refused client before the alert that says why has been sent.

    asyncio sends what TLS has to say only while the handshake seems to go on. So it seems to, until the client
    hangs up, or has sent more than any does before it reads.
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
