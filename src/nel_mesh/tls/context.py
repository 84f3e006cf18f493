"""The `ssl.SSLContext` for connections to MESH.

The server must prove its name under an authority that the settings give (or, where they give none, that the
system trusts). Nothing else adds trust: no environment variable where authorities are given, and no
intermediate.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from nel_mesh.errors import CertificateError, SettingFault
from nel_mesh.settings import MeshSettings
from nel_mesh.tls.identity import CERTIFICATE, Identity
from nel_mesh.tls.keys import PrivateKey, name_of


def client_ssl_context(identity: Identity, settings: MeshSettings) -> ssl.SSLContext:
    """Make the context: TLS 1.2 or later, chain and host name always verified, the client certificate shown.

    Roots given: only they are trusted, and no environment variable adds to them. None given: the system's
    authorities (SSL_CERT_FILE and SSL_CERT_DIR say where those are, as for any program that uses OpenSSL).
    Intermediates complete the server's chain, and ours, but are not trusted by themselves.

    Args:
        identity: the certificates and the key.
        settings: the settings that they are from; an error names the setting as its source does.

    Raises:
        CertificateError: OpenSSL does not accept the client certificate or its key.
    """
    context = _verifying_context(identity)
    if identity.certificate is not None and identity.key is not None:
        refusal = _show(context, identity.certificate, identity.chain, identity.key)
        if refusal is not None:
            raise CertificateError.of(
                [SettingFault(CERTIFICATE, settings.source_of(CERTIFICATE), "unreadable", refusal)]
            )
    return context


def proxy_ssl_context(identity: Identity) -> ssl.SSLContext:
    """Make the context for connections to an https proxy, whose authorities are not those of MESH."""
    return _verifying_context(identity)


def _verifying_context(identity: Identity) -> ssl.SSLContext:
    # Not ssl.create_default_context: it loads the system's authorities, honours SSLKEYLOGFILE, and from
    # Python 3.13 on lets a chain end at an intermediate.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Some servers ask for the client certificate only once they have read the request (TLS 1.3).
    context.post_handshake_auth = True
    if ssl.HAS_NEVER_CHECK_COMMON_NAME:
        context.hostname_checks_common_name = False
    if not identity.roots:
        context.load_default_certs()
    known = [each.public_bytes(Encoding.DER) for each in (*identity.roots, *identity.intermediates)]
    if known:
        context.load_verify_locations(cadata=b"".join(known))
    return context


def _show(
    context: ssl.SSLContext, certificate: x509.Certificate, chain: tuple[x509.Certificate, ...], key: PrivateKey
) -> str | None:
    """Load the client certificate into the context. Returns OpenSSL's objection, if it has any.

    Python can load a key from a file only. It is written under a password that exists for this moment, so
    that even a crash, a snapshot of the disk or a swapped page reveals nothing.
    """
    password = secrets.token_urlsafe(32).encode()
    pem = b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, *chain))
    pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    try:
        with in_a_file(pem) as path:
            context.load_cert_chain(path, password=password)
    except ssl.SSLError as error:
        reason = (error.reason or "no reason given").replace("_", " ").lower()
        return f"OpenSSL refuses {name_of(certificate)}: {reason}"
    except OSError as error:
        return f"the key could not be handed to OpenSSL: {error.strerror}"
    return None


def in_a_file(content: bytes) -> AbstractContextManager[str]:
    """The path of a file with this content, while the context lasts: in memory where the system can."""
    if sys.platform == "linux" and Path("/proc/self/fd").is_dir():
        with contextlib.suppress(OSError):  # a container may forbid it
            return in_memory(os.memfd_create("nel-mesh"), content)
    return on_disk(content)


@contextlib.contextmanager
def in_memory(descriptor: int, content: bytes) -> Iterator[str]:
    """As `in_a_file`, in an anonymous file of the kernel's: needs no disk, and goes with the descriptor."""
    with open(descriptor, "wb", buffering=0) as file:
        file.write(content)
        yield f"/proc/self/fd/{descriptor}"


@contextlib.contextmanager
def on_disk(content: bytes) -> Iterator[str]:
    """As `in_a_file`, in the temporary folder: readable by its owner only, and deleted whatever happens."""
    descriptor, path = tempfile.mkstemp(prefix="nel-mesh-", suffix=".pem")
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor has no path
            file.write(content)
        yield path
    finally:
        Path(path).unlink()
