"""Which of the settings' certificates is shown to MESH, and which of them end soon."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nel_mesh.settings import MeshSettings
from nel_mesh.tls import keys
from nel_mesh.tls.keys import PrivateKey

WARNING = timedelta(days=60)
"""How long before its end a certificate is spoken of: a new one takes weeks to be had."""


def own_certificate(settings: MeshSettings, now: datetime) -> x509.Certificate | None:
    """The certificate shown to MESH: the valid one of the key's that lasts longest. None if none is set.

    Raises `keys.Unreadable` for settings that `client_ssl_context` does not take either.
    """
    secret = settings.client_signing_certificate_password
    password = secret.get_secret_value() if secret else None
    contents = keys.Contents()
    for given in (settings.client_signing_certificate, settings.client_signing_key):
        if given is not None:
            contents += keys.read(given.get_secret_value(), password)
    known = {_public_key(key) for key in contents.keys}
    pairs = [
        certificate
        for certificate in contents.certificates
        if _public_key(certificate) in known
        and certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    ]
    return max(pairs, key=lambda certificate: certificate.not_valid_after_utc, default=None)


def ending_authorities(settings: MeshSettings, now: datetime) -> list[x509.Certificate]:
    """The authorities in the settings that are valid, but not for long."""
    given = (*settings.tls_root_certificates, *settings.tls_intermediate_certificates)
    found = [certificate for value in given for certificate in keys.read(value).certificates]
    return [certificate for certificate in found if now <= certificate.not_valid_after_utc < now + WARNING]


def _public_key(owner: x509.Certificate | PrivateKey) -> bytes:
    return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
