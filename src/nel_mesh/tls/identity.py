"""The certificates of the settings: read, checked, sorted, and one chosen to show. `context.py` makes TLS of them.

A certificate is sorted by what it is, not by the setting that holds it: one bundle of roots and intermediates may be
given as either setting, or both. Only a root in `tls_root_certificates` is trusted, so a bundle in the wrong place
never widens trust.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nel_mesh.errors import CertificateError, FaultKind, SettingFault
from nel_mesh.settings import MeshSettings
from nel_mesh.tls import keys
from nel_mesh.tls.keys import PrivateKey, Unreadable, WrongPassword, iso, name_of

ROOTS = "tls_root_certificates"
INTERMEDIATES = "tls_intermediate_certificates"
CERTIFICATE = "client_signing_certificate"
KEY = "client_signing_key"
PROXY_ROOTS = "proxy_root_certificates"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The certificates of one mailbox's settings: the one that it shows, and those that it trusts.

    Two identities are equal if they show and trust the same certificates.

    Attributes:
        certificate: the client certificate, a `cryptography.x509.Certificate`; None if none is set.
        chain: the intermediates between it and its root, in order, without the root.
        roots: the authorities that are trusted, and no others; empty: those of the system.
        intermediates: certificates that complete a server's chain, and are not trusted by themselves.
        untrusted_roots: roots that are only in `tls_intermediate_certificates`; they are left out.
        key: the client certificate's private key; in no repr.
    """

    certificate: x509.Certificate | None = None
    chain: tuple[x509.Certificate, ...] = ()
    roots: tuple[x509.Certificate, ...] = ()
    intermediates: tuple[x509.Certificate, ...] = ()
    untrusted_roots: tuple[x509.Certificate, ...] = ()
    key: PrivateKey | None = dataclasses.field(default=None, repr=False, compare=False)

    @classmethod
    def from_settings(cls, settings: MeshSettings, *, now: datetime | None = None) -> Self:
        """Read the certificates and the key of the settings, and choose the client certificate.

        Several roots may be given, of which some are out of date; at least one must be valid. Of several client
        certificates for one key the valid one that lasts longest is chosen.

        Args:
            settings: where the certificates, keys and password are.
            now: the time at which certificates must be valid, with its time zone. Default: the present.

        Raises:
            CertificateError: with `faults`: every certificate or key that cannot be used.
        """
        now = now or datetime.now(UTC)
        faults: list[SettingFault] = []
        roots, other = _trusted(settings, ROOTS, settings.tls_root_certificates, now, faults)
        intermediates, untrusted_roots = _intermediates(settings, roots, other, faults)
        key, certificate, chain = _shown(settings, intermediates, now, faults)
        if faults:
            raise CertificateError.of(faults)
        return cls(
            certificate=certificate,
            chain=chain,
            roots=roots,
            intermediates=intermediates,
            untrusted_roots=untrusted_roots,
            key=key,
        )

    @classmethod
    def for_proxy(cls, settings: MeshSettings, *, now: datetime | None = None) -> Self:
        """Read the authorities to trust in the certificate of an https proxy; no certificate is shown to it.

        Raises:
            CertificateError: with `faults`: every certificate that cannot be used.
        """
        faults: list[SettingFault] = []
        given = settings.proxy_root_certificates
        roots, other = _trusted(settings, PROXY_ROOTS, given, now or datetime.now(UTC), faults)
        if faults:
            raise CertificateError.of(faults)
        return cls(roots=roots, intermediates=other)

    @property
    def not_after(self) -> datetime | None:
        """The time at which the client certificate expires, in UTC; None if there is none."""
        return self.certificate.not_valid_after_utc if self.certificate else None

    def days_left(self, now: datetime | None = None) -> int | None:
        """The whole days until the client certificate expires; None if there is none.

        Args:
            now: the time to count from, with its time zone. Default: the present.
        """
        return (self.not_after - (now or datetime.now(UTC))).days if self.not_after else None

    def expiring(self, before: datetime, now: datetime | None = None) -> tuple[x509.Certificate, ...]:
        """The certificates that are valid now and expire before a time, of all those that are in use.

        Args:
            before: the time, with its time zone.
            now: the present, with its time zone. Default: the clock's.
        """
        now = now or datetime.now(UTC)
        own = () if self.certificate is None else (self.certificate,)
        used = dict.fromkeys((*own, *self.chain, *self.roots, *self.intermediates))
        return tuple(each for each in used if now <= each.not_valid_after_utc < before)


_Certificates = tuple[x509.Certificate, ...]


def _trusted(
    settings: MeshSettings, setting: str, values: Sequence[str], now: datetime, faults: list[SettingFault]
) -> tuple[_Certificates, _Certificates]:
    """The roots to trust, and the intermediates that were given among them."""
    source = settings.source_of(setting)
    given, readable = _read(settings, setting, values, faults)
    roots = tuple(certificate for certificate in given if is_self_issued(certificate))
    other = tuple(certificate for certificate in given if not is_self_issued(certificate))
    if given and readable and not roots:
        names = ", ".join(f"{name_of(each)}, issued by '{each.issuer.rfc4514_string()}'" for each in other)
        message = f"no root is in it, only {names}; put the root here, and these in {INTERMEDIATES}"
        if setting == PROXY_ROOTS:
            message = f"no root is in it, only {names}; add the root"
        faults.append(SettingFault(setting, source, "invalid", message))
    if roots and not any(_is_valid(root, now) for root in roots):
        dates = ", ".join(f"{name_of(root)} {_out_of_date(root, now)}" for root in roots)
        faults.append(SettingFault(setting, source, _date_fault(roots[0], now), f"no root is valid now: {dates}"))
    return roots, other


def _intermediates(
    settings: MeshSettings, roots: _Certificates, other: _Certificates, faults: list[SettingFault]
) -> tuple[_Certificates, _Certificates]:
    """The intermediates of both settings, and the roots that are not trusted since they were only given among them."""
    given, readable = _read(settings, INTERMEDIATES, settings.tls_intermediate_certificates, faults)
    intermediates = tuple(dict.fromkeys((*other, *(each for each in given if not is_self_issued(each)))))
    # OpenSSL trusts every self-issued certificate that it is given, so these must not get there.
    untrusted = tuple(dict.fromkeys(each for each in given if is_self_issued(each) and each not in roots))
    if untrusted and readable and all(is_self_issued(each) for each in given):
        names = ", ".join(map(name_of, untrusted))
        message = f"only a root is in it, {names}; to trust it, put it in {ROOTS}"
        faults.append(SettingFault(INTERMEDIATES, settings.source_of(INTERMEDIATES), "invalid", message))
    return intermediates, untrusted


def _read(
    settings: MeshSettings, setting: str, values: Sequence[str], faults: list[SettingFault]
) -> tuple[list[x509.Certificate], bool]:
    """The certificates in a setting, and whether all of it could be read."""
    found: list[x509.Certificate] = []
    before = len(faults)
    for number, value in enumerate(values, 1):
        source = settings.source_of(setting) + (f", item {number}" if len(values) > 1 else "")
        try:
            contents = keys.read(value)
        except Unreadable as problem:
            faults.append(SettingFault(setting, source, "unreadable", str(problem)))
        else:
            found += contents.certificates
            if not contents.certificates:
                faults.append(SettingFault(setting, source, "unreadable", _ONLY_A_KEY))
    return found, len(faults) == before


_ONLY_A_KEY = "there is no certificate in it, only a private key"


def _shown(
    settings: MeshSettings, intermediates: _Certificates, now: datetime, faults: list[SettingFault]
) -> tuple[PrivateKey | None, x509.Certificate | None, _Certificates]:
    """The private key, the client certificate that belongs to it, and its chain."""
    nothing = None, None, ()
    if settings.client_signing_certificate is None:
        return nothing
    source = settings.source_of(CERTIFICATE)
    key_setting = KEY if settings.client_signing_key else CERTIFICATE
    key_source = settings.source_of(key_setting)
    contents = _client_contents(settings, faults)
    if contents is None:
        return nothing
    if not contents.certificates:
        faults.append(SettingFault(CERTIFICATE, source, "unreadable", _ONLY_A_KEY))
        return nothing
    if not contents.keys:
        message = (
            f"there is no private key for {name_of(contents.certificates[0])};"
            f" give it as {KEY}, or both together as PKCS#12 or PEM"
        )
        faults.append(SettingFault(KEY, key_source, "missing", message))
        return nothing
    pairs = [
        (certificate, key)
        for key in contents.keys
        for certificate in contents.certificates
        if _public_key(certificate) == _public_key(key)
    ]
    if not pairs:
        names = ", ".join(name_of(certificate) for certificate in contents.certificates)
        message = f"the private key does not belong to the certificate {names}"
        faults.append(SettingFault(key_setting, key_source, "key_mismatch", message))
        return nothing
    certificate, key = max(pairs, key=lambda pair: (_is_valid(pair[0], now), pair[0].not_valid_after_utc))
    if not _is_valid(certificate, now):
        message = f"{name_of(certificate)} {_out_of_date(certificate, now)}"
        faults.append(SettingFault(CERTIFICATE, source, _date_fault(certificate, now), message))
        return nothing
    return key, certificate, _chain(certificate, (*contents.certificates, *intermediates), now)


def _client_contents(settings: MeshSettings, faults: list[SettingFault]) -> keys.Contents | None:
    """The content of the client certificate's and key's settings; None if one of them cannot be read."""
    secret = settings.client_signing_certificate_password
    password = secret.get_secret_value() if secret else None
    contents, before = keys.Contents(), len(faults)
    for setting, given in ((CERTIFICATE, settings.client_signing_certificate), (KEY, settings.client_signing_key)):
        try:
            if given is not None:
                contents += keys.read(given.get_secret_value(), password)
        except WrongPassword as problem:
            where = settings.source_of("client_signing_certificate_password")
            message = f"{problem}; the password is taken from {where}"
            faults.append(SettingFault(setting, settings.source_of(setting), "wrong_password", message))
        except Unreadable as problem:
            faults.append(SettingFault(setting, settings.source_of(setting), "unreadable", str(problem)))
    return contents if len(faults) == before else None


def _chain(certificate: x509.Certificate, pool: Iterable[x509.Certificate], now: datetime) -> _Certificates:
    """The intermediates above a certificate, in order. Its root is left out: who trusts it has it."""
    left = [issuer for issuer in pool if _is_valid(issuer, now) and not is_self_issued(issuer)]
    chain: list[x509.Certificate] = []
    while issuer := next((issuer for issuer in left if _is_issued(certificate, by=issuer)), None):
        left.remove(issuer)
        chain.append(issuer)
        certificate = issuer
    return tuple(chain)


def trusted_in(contents: keys.Contents) -> str:
    """Return the roots among certificates, as PEM: a keystore of Java has its authorities beside the key."""
    roots = [one for one in contents.certificates if is_self_issued(one) and _is_authority(one)]
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in roots)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Whether it names itself as its issuer, which makes it a root to OpenSSL."""
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


def _date_fault(certificate: x509.Certificate, now: datetime) -> FaultKind:
    return "not_yet_valid" if now < certificate.not_valid_before_utc else "expired"


def _out_of_date(certificate: x509.Certificate, now: datetime) -> str:
    if now < certificate.not_valid_before_utc:
        return f"is not valid before {iso(certificate.not_valid_before_utc)}"
    return f"expired on {iso(certificate.not_valid_after_utc)}"
