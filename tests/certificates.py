"""Certificates for tests: authorities that issue on the spot. Nothing of them outlives the test run."""

from __future__ import annotations

import dataclasses
import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization import pkcs12 as _pkcs12
from cryptography.x509.oid import NameOID

from nel_mesh.tls.keys import PrivateKey

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclasses.dataclass(frozen=True)
class Pair:
    """A certificate and its key; if it is an authority's it can issue others."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def key_bytes(
        self,
        password: str | None = None,
        encoding: Encoding = Encoding.PEM,
        form: PrivateFormat = PrivateFormat.PKCS8,
    ) -> bytes:
        encryption: KeySerializationEncryption = NoEncryption()
        if password is not None:
            encryption = BestAvailableEncryption(password.encode())
        return self.key.private_bytes(encoding, form, encryption)

    @property
    def key_pem(self) -> str:
        return self.key_bytes().decode()

    def pkcs12(self, password: str | None = None, *chain: Pair) -> bytes:
        return _pkcs12.serialize_key_and_certificates(
            b"test",
            self.key,
            self.certificate,
            [link.certificate for link in chain],
            NoEncryption() if password is None else BestAvailableEncryption(password.encode()),
        )

    def issue(
        self,
        subject: str,
        *,
        authority: bool = False,
        start: datetime = NOW - DAY,
        end: datetime = NOW + DAY,
        key: PrivateKey | None = None,
    ) -> Pair:
        """A certificate for a name (a host's, if it is no authority's), signed by this one."""
        return _issue(self.certificate.subject, self.key, name(subject), key, authority, start, end)


def root(
    subject: str = "Test root",
    *,
    issuer: str | None = None,
    start: datetime = NOW - DAY,
    end: datetime = NOW + DAY,
    key: PrivateKey | None = None,
) -> Pair:
    """An authority that signs itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    return _issue(name(issuer or subject), key, name(subject), key, True, start, end)


def _issue(
    issuer: x509.Name,
    issuer_key: PrivateKey,
    subject: x509.Name,
    key: PrivateKey | None,
    authority: bool,
    start: datetime,
    end: datetime,
) -> Pair:
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not authority:
        host = str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    return Pair(builder.sign(issuer_key, hashes.SHA256()), key)
