"""Certificates and private keys, read from every form in which people keep them.

Base64 of DER, PEM, PKCS#7 or PKCS#12; PEM text, also with its line feeds lost or escaped, or in UTF-16; the path of a
file with any of these. `identity.py` decides which of them to use. Text that is something else (a certificate request,
an SSH key, a Java key store, a web page) is named as that. No error quotes what was read: a key may be in it.
"""

from __future__ import annotations

import base64
import codecs
import dataclasses
import re
import string
import textwrap
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12
from cryptography.x509.oid import NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
"""The keys with which TLS can prove who a client is."""

MAX_FILE_BYTES = 1_000_000
"""More than any bundle of certificates: a larger file is a wrong path."""


class Unreadable(Exception):
    """A setting's value cannot be used; the text has the cause and the cure, without the setting's name and
    without content."""


class WrongPassword(Unreadable):
    """It is encrypted, and the password is missing or wrong."""


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """The certificates and keys that were found, in their order."""

    certificates: tuple[x509.Certificate, ...] = ()
    keys: tuple[PrivateKey, ...] = dataclasses.field(default=(), repr=False)

    def __add__(self, other: Contents) -> Contents:
        return Contents(self.certificates + other.certificates, self.keys + other.keys)


def read(given: str, password: str | None = None) -> Contents:
    """Read the certificates and keys in a setting's value.

    Args:
        given: base64, PEM text, or a path (relative to the working directory; `~` is the home directory).
        password: for an encrypted key or PKCS#12; unencrypted ones ignore it.

    Raises:
        Unreadable: it is none of these, the file cannot be read, the password is wrong or missing, or it has no
            certificate and no key.
    """
    given = given.strip("\"'\ufeff" + string.whitespace)
    found = _text(given, password)
    if found is None:
        found = _content(_file(given), password)
    if not found.certificates and not found.keys:
        raise Unreadable("there is no certificate and no private key in it")
    return found


def describe(certificate: x509.Certificate) -> str:
    """A certificate's name and validity, for people."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return f"{name_of(certificate)} (valid {iso(start)} to {iso(end)})"


def name_of(certificate: x509.Certificate) -> str:
    """The subject's common name, or its whole name where it has none, in quotation marks."""
    return common_name(certificate.subject)


def common_name(name: x509.Name) -> str:
    """The common name in a name, or the whole name where it has none, in quotation marks."""
    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return f"'{names[0].value!s}'" if names else f"'{name.rfc4514_string()}'"


def iso(when: datetime) -> str:
    """A certificate's date, to the minute; in UTC, as certificates have it."""
    return f"{when:%Y-%m-%dT%H:%MZ}"


def _text(text: str, password: str | None) -> Contents | None:
    """The contents of a text; None if it is neither PEM nor base64 of one of the other forms."""
    if "-----BEGIN" in text:
        return _pem(text, password)
    decoded = _base64(text)
    if decoded is None:
        return None
    # A short path can be valid base64 too, so only a whole structure counts, or a known beginning.
    if not (_is_der(decoded) or "-----BEGIN" in _as_text(decoded) or _something_else(decoded)):
        return None
    return _content(decoded, password)


def _content(data: bytes, password: str | None) -> Contents:
    """The contents of a file, or of decoded base64."""
    text = _as_text(data)
    if "-----BEGIN" not in text and data.startswith(_SEQUENCE):
        return _all_der(data, password)
    other = _something_else(data)
    if other is not None:
        raise Unreadable(other)
    found = _text(text.strip(string.whitespace + "\0"), password)
    if found is None:
        raise Unreadable("it is neither PEM, DER, PKCS#7 nor PKCS#12; give it in one of these")
    return found


def _as_text(data: bytes) -> str:
    """The data as text, in UTF-16 if it looks like that; every byte is a character otherwise."""
    if data.startswith(codecs.BOM_UTF8):
        data = data.removeprefix(codecs.BOM_UTF8)
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    elif data[1:2] == b"\0" != data[:1] and not data.startswith(_SEQUENCE):
        return data.decode("utf-16-le", errors="replace")
    elif data[:1] == b"\0" != data[1:2]:
        return data.decode("utf-16-be", errors="replace")
    return data.decode("latin-1")


_SSH_CURE = "it is a key of SSH; convert it with `ssh-keygen -p -m PKCS8 -f FILE`"
_JAVA_CURE = "it is a Java key store; convert it with `keytool -importkeystore -deststoretype PKCS12`"
_BEGINNINGS = {
    b"ssh-": _SSH_CURE,
    b"ecdsa-sha2-": _SSH_CURE,
    b"PuTTY-User-Key-File": "it is a key of PuTTY; export it from PuTTYgen as an OpenSSL key",
    b"\xfe\xed\xfe\xed": _JAVA_CURE,
    b"\xce\xce\xce\xce": _JAVA_CURE,
    b"<": "it is a web page or XML, not a certificate; download the certificate itself",
    b"PK\3\4": "it is an archive; unpack it, and give the file in it",
    b"\x1f\x8b": "it is an archive; unpack it, and give the file in it",
}
"""What files of other kinds begin with, and what to do with them."""


def _something_else(data: bytes) -> str | None:
    """The name and the cure of a file that is a known kind without certificates; None if it is not one."""
    start = data[:1000].removeprefix(codecs.BOM_UTF8).lstrip()
    return next((cure for beginning, cure in _BEGINNINGS.items() if start.startswith(beginning)), None)


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
_CERTIFICATE_LABELS = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE", "PKCS7", "CMS")


_OTHER_LABELS = {
    "OPENSSH PRIVATE KEY": _SSH_CURE,
    "CERTIFICATE REQUEST": "there is no certificate in it, only a certificate request; give what was issued for it",
    "NEW CERTIFICATE REQUEST": "there is no certificate in it, only a certificate request; give what was issued for it",
    "PUBLIC KEY": "there is only a public key in it; give the certificate, or the private key",
    "RSA PUBLIC KEY": "there is only a public key in it; give the certificate, or the private key",
    "X509 CRL": "it is a revocation list, not a certificate",
    "PGP PRIVATE KEY BLOCK": "it is a key of PGP, which TLS does not use",
    "PGP PUBLIC KEY BLOCK": "it is a key of PGP, which TLS does not use",
}
"""Labels of PEM for what is neither certificate nor key of TLS, and what to do with it."""


def _pem(text: str, password: str | None) -> Contents:
    contents, labels = Contents(), []
    for block in _BLOCK.finditer(_ESCAPED_LINE_FEED.sub("\n", text)):
        labels.append(block["label"])
        contents += _block(block["label"], block["body"], password)
    if not labels:
        raise Unreadable("the PEM text has no END line; it was cut off")
    if not contents.certificates and not contents.keys:
        for label in labels:
            if label in _OTHER_LABELS:
                raise Unreadable(_OTHER_LABELS[label])
    return contents


def _block(label: str, body: str, password: str | None) -> Contents:
    is_key = label.endswith("PRIVATE KEY") and label not in _OTHER_LABELS
    if not is_key and label not in _CERTIFICATE_LABELS:
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
    if label == "TRUSTED CERTIFICATE":  # what OpenSSL adds to it comes after the certificate
        der = next(_sequences(der), b"")
    if not is_key:
        # Not by its label: Microsoft's certsrv writes PKCS#7 as CERTIFICATE.
        return _all_der(der, password)
    if header is not None:
        lines = textwrap.fill(base64.b64encode(der).decode(), 64)
        head = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: {header['cipher']},{vector}\n\n"
        pem = f"-----BEGIN {label}-----\n{head}{lines}\n-----END {label}-----\n".encode()
        return _key(lambda secret: serialization.load_pem_private_key(pem, secret), password, encrypted=True)
    encrypted = label.startswith("ENCRYPTED")
    return _key(lambda secret: serialization.load_der_private_key(der, secret), password, encrypted=encrypted)


_SEQUENCE, _INTEGER, _OBJECT_IDENTIFIER, _BIT_STRING = b"\x30", b"\x02", b"\x06", b"\x03"
_PKCS12_VERSION = b"\x02\x01\x03"


def _is_der(data: bytes) -> bool:
    """Whether the data is ASN.1 sequences and nothing else, the last one whole."""
    *_, last = [b"", *_sequences(data)]
    return len(last) >= 2 and last.startswith(_SEQUENCE) and _end(last) == len(last)


def _start(data: bytes, at: int = 0) -> int:
    """Where the content of the structure at `at` starts."""
    return at + 2 + (data[at + 1] & 0x7F if data[at + 1] > 0x80 else 0)


def _end(data: bytes, at: int = 0) -> int:
    """Where the structure at `at` ends."""
    if data[at + 1] == 0x80:  # BER's indefinite length, which some PKCS#12 files have
        whole = data.rstrip()
        return len(whole) if whole.endswith(b"\0\0") else -1
    start = _start(data, at)
    return start + (data[at + 1] if start == at + 2 else int.from_bytes(data[at + 2 : start]))


def _sequences(data: bytes) -> Iterator[bytes]:
    """The structures that follow one another in the data; what only looks like another is part of the last."""
    at = 0
    while data.startswith(_SEQUENCE, at) and len(data) - at >= 2:
        end = _end(data, at)
        rest = data[end:].lstrip()
        if not at < end <= len(data) or (rest and not rest.startswith(_SEQUENCE)):
            break
        yield data[at:end]
        at = len(data) - len(rest)
    if data[at:].strip():
        yield data[at:]


def _all_der(data: bytes, password: str | None) -> Contents:
    contents = Contents()
    for one in _sequences(data):
        contents += _der(one, password)
    return contents


def _der(data: bytes, password: str | None) -> Contents:
    # Told apart by how they begin, so that an error is about what it is and not about the last form tried.
    try:
        start = _start(data)
        first = data[start : start + 1]
        deeper = data[_start(data, start) :][:1]
        second = data[_end(data, start) :][:1]
    except IndexError:
        raise Unreadable(_DAMAGED) from None
    if data[start:].startswith(_PKCS12_VERSION):
        return _pkcs12(data, password)
    if first == _OBJECT_IDENTIFIER:
        return _pkcs7(data)
    if deeper == _OBJECT_IDENTIFIER and second == _BIT_STRING:
        raise Unreadable(_OTHER_LABELS["PUBLIC KEY"])
    encrypted = deeper == _OBJECT_IDENTIFIER
    if encrypted or first == _INTEGER:
        return _key(lambda secret: serialization.load_der_private_key(data, secret), password, encrypted=encrypted)
    return _certificate(data)


def _pkcs7(der: bytes) -> Contents:
    try:
        return Contents(certificates=tuple(map(_checked, pkcs7.load_der_pkcs7_certificates(der))))
    except UnsupportedAlgorithm:
        raise Unreadable("it is a PKCS#7 file of another kind; export the certificates as PEM or PKCS#12") from None
    except ValueError:
        raise Unreadable(f"the PKCS#7 file cannot be read: {_DAMAGED}") from None


def _certificate(der: bytes) -> Contents:
    try:
        return Contents(certificates=(_checked(x509.load_der_x509_certificate(der)),))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        pass
    try:
        x509.load_der_x509_csr(der)
    except ValueError:
        raise Unreadable(f"the certificate cannot be read: {_DAMAGED}") from None
    raise Unreadable(_OTHER_LABELS["CERTIFICATE REQUEST"])


def _checked(certificate: x509.Certificate) -> x509.Certificate:
    # Parsed when asked for, so ask for all that will be needed, here where a failure has a name.
    describe(certificate)
    certificate.issuer.rfc4514_string()
    certificate.public_key()
    return certificate


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
    # "No password" is encoded in two ways, and .NET takes an empty one for both.
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
    problem = "needs a password" if password is None else "has another password"
    raise WrongPassword(f"the PKCS#12 file {problem}, or is damaged")


_UNSUPPORTED = "it is encrypted or made in an unusual way; export it as PKCS#8 or PKCS#12 with AES-256"


def _for_tls(key: PrivateKeyTypes) -> PrivateKey:
    if isinstance(key, PrivateKey):
        return key
    raise Unreadable("the private key is of a kind that TLS does not use; it takes RSA, EC and Ed keys")


def _bytes(password: str | None) -> bytes | None:
    # The environment's bytes that are no UTF-8 come as surrogates, and go back to what they were.
    return None if password is None else password.encode(errors="surrogateescape")
