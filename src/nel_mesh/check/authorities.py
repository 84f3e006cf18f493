"""The authorities of a check: those that signed the certificate that a server shows, and those that are trusted."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from nel_mesh.http.tls import shown_chain
from nel_mesh.settings import MeshSettings
from nel_mesh.tls.identity import Identity, is_self_issued
from nel_mesh.tls.keys import common_name, describe, name_of

Certificates = Sequence[x509.Certificate]


def shown_in(error: BaseException | None) -> Certificates:
    """Return the certificates that the server showed in a handshake that failed; none if it came to none."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__
    return read([] if error is None else shown_chain(error))


def read(chain: Sequence[bytes]) -> Certificates:
    """Read certificates in DER."""
    return [x509.load_der_x509_certificate(each) for each in chain]


def in_words(shown: Certificates) -> str:
    """Say whose certificate it is, and which authority issued it and each one above it."""
    issuers = (common_name(each.issuer) for each in shown if not is_self_issued(each))
    return "it shows " + ", issued by ".join((name_of(shown[0]), *issuers))


def trusted(settings: MeshSettings, identity: Identity) -> str:
    """Say which authorities are trusted, and which setting says so."""
    if not identity.roots:
        return f"trusted by {trusted_by(settings)}; tls_root_certificates is not set"
    return f"trusted by {trusted_by(settings)}: {'; '.join(map(describe, identity.roots))}"


def trusted_by(settings: MeshSettings) -> str:
    """Return the setting that names the trusted authorities, or the system's place for them."""
    if settings.tls_root_certificates:
        return settings.source_of("tls_root_certificates")
    paths = ssl.get_default_verify_paths()
    return f"the system ({paths.cafile or paths.capath or 'its certificate store'})"


def facts(certificates: Certificates) -> list[dict[str, Any]]:
    """Describe certificates for programs, with the fingerprints that NHS England (SHA-1) and browsers show."""
    return [
        {
            "subject": each.subject.rfc4514_string(),
            "issuer": each.issuer.rfc4514_string(),
            "not_after": each.not_valid_after_utc,
            "sha1": each.fingerprint(hashes.SHA1()).hex(),  # noqa: S303  to compare with a published one
            "sha256": each.fingerprint(hashes.SHA256()).hex(),
        }
        for each in certificates
    ]
