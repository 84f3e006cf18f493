"""The sandbox's certificate authority, made at each start and kept in memory: a server and a client certificate."""

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
        root: the authority's certificate, in PEM.
        client: the client's certificate and key, in PEM.
    """

    def __init__(self, host: str) -> None:
        self._authority = trustme.CA(organization_name="nel_mesh sandbox")
        names = dict.fromkeys(["localhost", "127.0.0.1", "::1", host])
        self._server = self._authority.issue_cert(*names)
        self._client = self._authority.issue_cert(CLIENT_NAME, common_name=CLIENT_NAME)
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

    def client_base64(self, password: str) -> str:
        """Encode the client's certificate and key as base64 of PKCS#12, the form of NEL.MESH's settings."""
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
