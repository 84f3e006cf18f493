"""A private key and a certificate request in the form that NHS England asks for (MESH API, "Get a TLS certificate")."""

from __future__ import annotations

import dataclasses
import re

from nel_mesh.errors import InvalidArgument

SUFFIX = "api.mesh-client.nhs.uk"
KEY_SIZES = (2048, 3072, 4096)
"""The sizes of RSA keys, in bits. NHS England requires none; its own instructions use 2048."""

_LONGEST_NAME = 64  # the limit of X.509 for a common name


@dataclasses.dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A key and the request for its certificate, each as PEM."""

    key: bytes = dataclasses.field(repr=False)
    request: bytes


def common_name(local_id: str, ods_code: str) -> str:
    """The common name for a certificate: `SERVER001.X26.api.mesh-client.nhs.uk`.

    Args:
        local_id: your name for this client: a server's name, or the mailbox id.
        ods_code: your organisation's ODS code; converted to upper case.

    Raises:
        InvalidArgument: one of them cannot be part of such a name.
    """
    local_id, ods_code = local_id.strip(), ods_code.strip().upper()
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?", local_id):
        raise InvalidArgument(
            "local id: it is part of a host name: letters, digits, and hyphens between them, such as"
            " SERVER001 or your mailbox id"
        )
    if not re.fullmatch(r"[A-Z0-9]{3,10}", ods_code):
        raise InvalidArgument(
            "ODS code: it has 3 to 10 letters and digits, such as X26; look yours up at"
            " https://odsportal.digital.nhs.uk/"
        )
    name = f"{local_id}.{ods_code}.{SUFFIX}"
    if len(name) > _LONGEST_NAME:
        over = len(name) - _LONGEST_NAME
        raise InvalidArgument(
            f"local id: the whole name is {over} characters too long for a certificate; choose a shorter one"
        )
    return name


def make_request(name: str, *, key_size: int = KEY_SIZES[0], passphrase: str | None = None) -> CertificateRequest:
    """Make an RSA key, and a certificate request with a common name and nothing else.

    Args:
        name: see `common_name`.
        key_size: one of KEY_SIZES.
        passphrase: encrypts the key; None leaves it unencrypted.

    Raises:
        InvalidArgument: the key size is not one of those.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        KeySerializationEncryption,
        NoEncryption,
        PrivateFormat,
    )
    from cryptography.x509.oid import NameOID

    if key_size not in KEY_SIZES:
        raise InvalidArgument(f"key size: must be one of {', '.join(map(str, KEY_SIZES))}")
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase:
        encryption = BestAvailableEncryption(passphrase.encode())
    key = rsa.generate_private_key(public_exponent=65537, key_size=key_size)
    # NHS England wants every other field empty, the e-mail address above all.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return CertificateRequest(
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption),
        request=request.public_bytes(Encoding.PEM),
    )
