"""Who we are and whom we trust, as one `ssl.SSLContext`.

The server must prove its name under an authority that the settings give (or, where they give none, that the
system trusts). Nothing else adds trust: no environment variable where authorities are given, and no
intermediate.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import ssl
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)

from nel_mesh.errors import CertificateError
from nel_mesh.settings import MeshSettings
from nel_mesh.tls import keys
from nel_mesh.tls.keys import PrivateKey, Unreadable, WrongPassword, iso, name_of


def client_ssl_context(settings: MeshSettings, *, now: datetime | None = None) -> ssl.SSLContext:
    """Makes the context for connections to `settings.url`: TLS 1.2 or later, chain and host name always
    verified.

    Roots given: only they are trusted, and no environment variable adds to them. None given: the system's
    authorities (SSL_CERT_FILE and SSL_CERT_DIR say where those are, as for any program that uses OpenSSL).
    Intermediates complete the server's chain, and ours, but are not trusted by themselves.

    Several roots may be given, of which some are out of date; at least one must be valid. Of several client
    certificates for one key the valid one that lasts longest is taken. The valid intermediates that lead from
    it to its root go with it.

    Args:
        settings: where the certificates, keys and password are.
        now: the time at which certificates must be valid, with its time zone. Default: the present.

    Raises:
        CertificateError: with `faults`: every certificate or key that cannot be used: unreadable, wrong
            password, not a pair, out of date (with its name and dates), or in the wrong setting.
    """
    now = now or datetime.now(UTC)
    faults: list[str] = []
    roots = _roots(settings, now, faults)
    intermediates = _intermediates(settings, roots, faults)
    identity = _identity(settings, intermediates, now, faults)
    if not faults:
        context = _verifying_context(roots, intermediates)
        refusal = _present(identity, context) if identity else None
        if refusal is None:
            return context
        faults.append(f"{settings.source_of('client_signing_certificate')}: {refusal}")
    head = "a certificate cannot be used" if len(faults) == 1 else f"{len(faults)} faults in certificates"
    raise CertificateError(f"{head}: " + "; ".join(faults), faults=tuple(faults))


@dataclasses.dataclass(frozen=True, slots=True)
class _Identity:
    key: PrivateKey = dataclasses.field(repr=False)
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]


def _roots(settings: MeshSettings, now: datetime, faults: list[str]) -> list[x509.Certificate]:
    setting = "tls_root_certificates"
    roots = _read(settings, setting, settings.tls_root_certificates, faults)
    # OpenSSL would load such a one, and then trust nothing because of it.
    faults += (
        f"{settings.source_of(setting)}: {name_of(certificate)} is not a root, since"
        f" '{certificate.issuer.rfc4514_string()}' issued it; put it in tls_intermediate_certificates,"
        " and the root here"
        for certificate in roots
        if not _is_self_issued(certificate)
    )
    if roots and not any(_is_valid(root, now) for root in roots):
        dates = ", ".join(f"{name_of(root)} {_out_of_date(root, now)}" for root in roots)
        faults.append(f"{settings.source_of(setting)}: no root is valid now: {dates}")
    return roots


def _intermediates(
    settings: MeshSettings, roots: Sequence[x509.Certificate], faults: list[str]
) -> list[x509.Certificate]:
    setting = "tls_intermediate_certificates"
    given = _read(settings, setting, settings.tls_intermediate_certificates, faults)
    intermediates = [certificate for certificate in given if certificate not in roots]
    # To OpenSSL whatever is self-issued among the certificates that it knows is a root, and trusted.
    faults += (
        f"{settings.source_of(setting)}: {name_of(certificate)} issued itself, so it is a root;"
        " if it is to be trusted put it in tls_root_certificates, else take it out"
        for certificate in intermediates
        if _is_self_issued(certificate)
    )
    return intermediates


def _read(settings: MeshSettings, setting: str, values: Sequence[str], faults: list[str]) -> list[x509.Certificate]:
    found: list[x509.Certificate] = []
    for number, value in enumerate(values, 1):
        item = f", item {number}" if len(values) > 1 else ""
        label = f"{settings.source_of(setting)}{item}"
        try:
            contents = keys.read(value)
        except Unreadable as problem:
            faults.append(f"{label}: {problem}")
        else:
            found += contents.certificates
            if not contents.certificates:
                faults.append(f"{label}: there is no certificate in it, only a private key")
    return found


def _identity(
    settings: MeshSettings, intermediates: Sequence[x509.Certificate], now: datetime, faults: list[str]
) -> _Identity | None:
    if settings.client_signing_certificate is None:
        return None
    certificate_label = settings.source_of("client_signing_certificate")
    key_label = settings.source_of("client_signing_key") if settings.client_signing_key else certificate_label
    password = settings.client_signing_certificate_password
    contents, before = keys.Contents(), len(faults)
    for label, secret in (
        (certificate_label, settings.client_signing_certificate),
        (key_label, settings.client_signing_key),
    ):
        try:
            if secret is not None:
                contents += keys.read(secret.get_secret_value(), password.get_secret_value() if password else None)
        except WrongPassword as problem:
            where = settings.source_of("client_signing_certificate_password")
            faults.append(f"{label}: {problem}; the password is taken from {where}")
        except Unreadable as problem:
            faults.append(f"{label}: {problem}")
    if len(faults) > before:
        return None
    if not contents.certificates:
        faults.append(f"{certificate_label}: there is no certificate in it, only a private key")
        return None
    if not contents.keys:
        faults.append(
            f"{key_label}: there is no private key for {name_of(contents.certificates[0])};"
            " give it as client_signing_key, or both together as PKCS#12 or PEM"
        )
        return None

    pairs = [
        (certificate, key)
        for key in contents.keys
        for certificate in contents.certificates
        if _public_key(certificate) == _public_key(key)
    ]
    if not pairs:
        names = ", ".join(name_of(certificate) for certificate in contents.certificates)
        faults.append(f"{key_label}: the private key does not belong to the certificate {names}")
        return None
    certificate, key = max(
        pairs, key=lambda pair: (_is_valid(pair[0], now), pair[0].not_valid_after_utc), default=pairs[0]
    )
    if not _is_valid(certificate, now):
        faults.append(f"{certificate_label}: {name_of(certificate)} {_out_of_date(certificate, now)}")
        return None
    return _Identity(key, certificate, _chain(certificate, (*contents.certificates, *intermediates), now))


def _chain(
    certificate: x509.Certificate, pool: Iterable[x509.Certificate], now: datetime
) -> tuple[x509.Certificate, ...]:
    """The intermediates above a certificate, in order. The root is left out: who trusts it has it."""
    left = [issuer for issuer in pool if _is_valid(issuer, now) and not _is_self_issued(issuer)]
    chain: list[x509.Certificate] = []
    while issuer := next((issuer for issuer in left if _is_issued(certificate, by=issuer)), None):
        left.remove(issuer)
        chain.append(issuer)
        certificate = issuer
    return tuple(chain)


def _verifying_context(roots: Sequence[x509.Certificate], intermediates: Sequence[x509.Certificate]) -> ssl.SSLContext:
    # Not ssl.create_default_context: it loads the system's authorities, honours SSLKEYLOGFILE, and from
    # Python 3.13 on lets a chain end at an intermediate.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ssl.HAS_NEVER_CHECK_COMMON_NAME:
        context.hostname_checks_common_name = False
    if not roots:
        context.load_default_certs()
    known = [certificate.public_bytes(Encoding.DER) for certificate in (*roots, *intermediates)]
    if known:
        context.load_verify_locations(cadata=b"".join(known))
    return context


def _present(identity: _Identity, context: ssl.SSLContext) -> str | None:
    """Makes the context prove this identity. Returns what OpenSSL has against it, if anything.

    Python can load a key from a file only. It is written under a password that exists for this moment, so
    that even a crash, a snapshot of the disk or a swapped page reveals nothing.
    """
    password = secrets.token_urlsafe(32).encode()
    chain = (identity.certificate, *identity.chain)
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
    pem += identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    try:
        with in_a_file(pem) as path:
            context.load_cert_chain(path, password=password)
    except ssl.SSLError as error:
        reason = (error.reason or "no reason given").replace("_", " ").lower()
        return f"OpenSSL refuses {name_of(identity.certificate)}: {reason}"
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


def _is_self_issued(certificate: x509.Certificate) -> bool:
    return _canonical(certificate.subject) == _canonical(certificate.issuer)


def _canonical(name: x509.Name) -> list[list[tuple[str, object]]]:
    # As OpenSSL compares names. To compare more strictly than it does would let a root pass for an
    # intermediate.
    return [
        sorted((part.oid.dotted_string, " ".join(str(part.value).split()).casefold()) for part in relative)
        for relative in name.rdns
    ]


def _is_issued(certificate: x509.Certificate, *, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _public_key(owner: x509.Certificate | PrivateKey) -> bytes:
    return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _out_of_date(certificate: x509.Certificate, now: datetime) -> str:
    if now < certificate.not_valid_before_utc:
        return f"is not valid before {iso(certificate.not_valid_before_utc)}"
    return f"expired on {iso(certificate.not_valid_after_utc)}"
