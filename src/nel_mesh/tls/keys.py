"""Certificates and private keys, read from every form in which people keep them.

Base64 of DER, PEM or PKCS#12; PEM text, also with its line feeds lost or escaped; the path of a file with any
of these. `identity.py` decides what to do with them. No error text quotes what was read: a key may be in it.
"""

from __future__ import annotations

import base64
import dataclasses
import re
import textwrap
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
"""The keys with which TLS can prove who a client is."""

MAX_FILE_BYTES = 1_000_000
"""More than any bundle of certificates: a larger file is a wrong path."""


class Unreadable(Exception):
    """What was given cannot be used; the text says why and what to do, without a setting's name and
    without content."""


class WrongPassword(Unreadable):
    """It is encrypted, and the password is missing or does not open it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """What was found, in its order."""

    certificates: tuple[x509.Certificate, ...] = ()
    keys: tuple[PrivateKey, ...] = dataclasses.field(default=(), repr=False)

    def __add__(self, other: Contents) -> Contents:
        return Contents(self.certificates + other.certificates, self.keys + other.keys)


def read(given: str, password: str | None = None) -> Contents:
    """The certificates and keys in a setting's value.

    Args:
        given: base64, PEM text, or a path (relative to the working directory; `~` is the home directory).
        password: for an encrypted key or PKCS#12. It may be given for what is not encrypted.

    Raises:
        Unreadable: it is none of these, the file cannot be read, the password is wrong or missing, or nothing
            in it is a certificate or key.
    """
    given = given.strip().strip("\"'\ufeff")
    found = _text(given, password)
    if found is None:
        found = _content(_file(given), password)
    if not found.certificates and not found.keys:
        raise Unreadable("there is no certificate and no private key in it")
    return found


def describe(certificate: x509.Certificate) -> str:
    """A certificate in words: its name and when it is valid."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return f"{name_of(certificate)} (valid {iso(start)} to {iso(end)})"


def name_of(certificate: x509.Certificate) -> str:
    """The subject's common name, or its whole name where it has none, in quotation marks."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return f"'{names[0].value!s}'" if names else f"'{certificate.subject.rfc4514_string()}'"


def iso(when: datetime) -> str:
    """A certificate's date, to the minute; in UTC, as certificates have it."""
    return f"{when:%Y-%m-%dT%H:%MZ}"


def _text(text: str, password: str | None) -> Contents | None:
    """What a text holds, or None if it is neither PEM nor base64 of something fit."""
    if "-----BEGIN" in text:
        return _pem(text, password)
    decoded = _base64(text)
    # A short path can be good base64 too, so only a structure that is whole counts.
    if decoded is None or not (_is_der(decoded) or b"-----BEGIN" in decoded):
        return None
    return _content(decoded, password)


def _content(data: bytes, password: str | None) -> Contents:
    """What a file holds, or what base64 stood for."""
    if b"-----BEGIN" not in data and data.startswith(_SEQUENCE):
        return _der(data, password)
    found = _text(data.decode("latin-1"), password)
    if found is None:
        raise Unreadable("it is neither PEM, DER nor PKCS#12; give it in one of these")
    return found


def _file(given: str) -> bytes:
    # A damaged key must not be shown as if it were a path. Base64 has no full stop; nearly every file name
    # has.
    is_path = len(given) < 1000 and given.isprintable() and re.search(r"\.\w{1,8}$", given)
    shown = f" {given}" if is_path else ""
    problem = ""
    try:
        path = Path(given).expanduser()
        if path.stat().st_size <= MAX_FILE_BYTES:
            return path.read_bytes()
        problem = f"the file{shown} is too large to be a certificate or key"
    except FileNotFoundError:
        problem = f"there is no file{shown}" if is_path else ""
    except (OSError, ValueError, RuntimeError) as error:
        # A text that is no path fails in any of these ways: too long, a NUL in it, no such home directory.
        why = getattr(error, "strerror", None) or "it is not a path"
        problem = f"the file{shown} cannot be read: {why}" if is_path else ""
    raise Unreadable(problem or "it is neither base64, PEM text nor a file's path; perhaps it was cut off")


_ESCAPED_LINE_FEED = re.compile(r"\\+[rn]")


def _base64(text: str) -> bytes | None:
    text = re.sub(r"\s", "", _ESCAPED_LINE_FEED.sub("", text)).rstrip("=")
    text = text.replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None


_BLOCK = re.compile(r"-----BEGIN (?P<label>[A-Z0-9 ]+)-----(?P<body>.*?)-----END (?P=label)-----", re.DOTALL)
_OLD_ENCRYPTION = re.compile(r"\s*Proc-Type:\s*4,\s*ENCRYPTED\s*DEK-Info:\s*(?P<cipher>[A-Z0-9-]+),\s*")
_DAMAGED = "it is damaged or cut off; copy it again"


def _pem(text: str, password: str | None) -> Contents:
    contents, blocks = Contents(), 0
    for block in _BLOCK.finditer(_ESCAPED_LINE_FEED.sub("\n", text)):
        contents += _block(block["label"], block["body"], password)
        blocks += 1
    if not blocks:
        raise Unreadable("the PEM text has no END line; it was cut off")
    return contents


def _block(label: str, body: str, password: str | None) -> Contents:
    if label not in ("CERTIFICATE", "X509 CERTIFICATE") and not label.endswith("PRIVATE KEY"):
        return Contents()  # such as EC PARAMETERS, which openssl writes before a key
    header = _OLD_ENCRYPTION.match(body)
    if header is not None:
        if header["cipher"] not in ("AES-128-CBC", "AES-256-CBC", "DES-EDE3-CBC"):
            raise Unreadable(f"the private key cannot be read: {_UNSUPPORTED}")
        # Where line feeds were lost, only the vector's length tells where the header ends.
        digits = 16 if header["cipher"].startswith("DES") else 32
        end = header.end() + digits
        vector, body = body[header.end() : end], body[end:]
    der = _base64(body)
    if der is None:
        raise Unreadable(_DAMAGED)
    if not label.endswith("PRIVATE KEY"):
        return _certificate(der)
    if header is not None:
        lines = textwrap.fill(base64.b64encode(der).decode(), 64)
        head = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: {header['cipher']},{vector}\n\n"
        pem = f"-----BEGIN {label}-----\n{head}{lines}\n-----END {label}-----\n".encode()
        return _key(lambda secret: serialization.load_pem_private_key(pem, secret), password, encrypted=True)
    encrypted = label.startswith("ENCRYPTED")
    return _key(lambda secret: serialization.load_der_private_key(der, secret), password, encrypted=encrypted)


_SEQUENCE, _INTEGER, _OBJECT_IDENTIFIER = b"\x30", b"\x02", b"\x06"
_PKCS12_VERSION = b"\x02\x01\x03"


def _is_der(data: bytes) -> bool:
    """Whether the data is one ASN.1 sequence, from its first byte to its last."""
    if len(data) < 2 or not data.startswith(_SEQUENCE):
        return False
    if data[1] == 0x80:  # BER's indefinite length, which some PKCS#12 files have
        return data.endswith(b"\0\0")
    start = _inside(data)
    length = data[1] if start == 2 else int.from_bytes(data[2:start])
    return len(data) == start + length


def _inside(data: bytes, at: int = 0) -> int:
    """Where the content of the structure at `at` starts."""
    return at + 2 + (data[at + 1] & 0x7F if data[at + 1] > 0x80 else 0)


def _der(data: bytes, password: str | None) -> Contents:
    # Told apart by how they begin, so that an error is about what it is and not about the last thing tried.
    try:
        start = _inside(data)
        deeper = data[_inside(data, start) :][:1]
    except IndexError:
        raise Unreadable(_DAMAGED) from None
    if data[start:].startswith(_PKCS12_VERSION):
        return _pkcs12(data, password)
    encrypted = deeper == _OBJECT_IDENTIFIER
    if encrypted or data[start:].startswith(_INTEGER):
        return _key(lambda secret: serialization.load_der_private_key(data, secret), password, encrypted=encrypted)
    return _certificate(data)


def _certificate(der: bytes) -> Contents:
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Parsed when asked for, so ask for what will be needed, here where a failure has a name.
        describe(certificate)
        certificate.issuer.rfc4514_string()
        certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise Unreadable(f"the certificate cannot be read: {_DAMAGED}") from None
    return Contents(certificates=(certificate,))


def _key(load: Callable[[bytes | None], PrivateKeyTypes], password: str | None, *, encrypted: bool) -> Contents:
    if encrypted and password is None:
        raise WrongPassword("the private key is encrypted, and there is no password")
    try:
        key = load(_bytes(password) if encrypted else None)
    except (ValueError, TypeError):
        if encrypted:
            raise WrongPassword("the private key has another password, or is damaged") from None
        raise Unreadable(f"the private key cannot be read: {_DAMAGED}") from None
    except UnsupportedAlgorithm:
        raise Unreadable(f"the private key cannot be read: {_UNSUPPORTED}") from None
    return Contents(keys=(_for_tls(key),))


def _pkcs12(data: bytes, password: str | None) -> Contents:
    # "No password" is written in two ways, and .NET takes an empty one for both.
    for secret in (None, b"") if password is None else (_bytes(password),):
        try:
            found = pkcs12.load_pkcs12(data, secret)
        except ValueError:
            continue
        except UnsupportedAlgorithm:
            raise Unreadable(f"the PKCS#12 file cannot be read: {_UNSUPPORTED}") from None
        first = () if found.cert is None else (found.cert.certificate,)
        rest = tuple(extra.certificate for extra in found.additional_certs)
        return Contents(first + rest, () if found.key is None else (_for_tls(found.key),))
    what = "needs a password" if password is None else "has another password"
    raise WrongPassword(f"the PKCS#12 file {what}, or is damaged")


_UNSUPPORTED = "it is encrypted or made in an unusual way; export it as PKCS#8 or PKCS#12 with AES-256"


def _for_tls(key: PrivateKeyTypes) -> PrivateKey:
    if isinstance(key, PrivateKey):
        return key
    raise Unreadable("the private key is of a kind that TLS does not use; it takes RSA, EC and Ed keys")


def _bytes(password: str | None) -> bytes | None:
    # The environment's bytes that are no UTF-8 come as surrogates, and go back to what they were.
    return None if password is None else password.encode(errors="surrogateescape")
