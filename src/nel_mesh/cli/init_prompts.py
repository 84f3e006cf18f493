"""What `nel-mesh init` takes for an answer: each is checked where it is given, so that the file will load."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from nel_mesh.errors import ConfigurationError, InvalidArgument
from nel_mesh.settings import ENVIRONMENTS, MeshSettings, SettingsKeywords
from nel_mesh.tls import keys
from nel_mesh.tls.keys import Unreadable, WrongPassword


@dataclasses.dataclass(frozen=True, slots=True)
class IdentityFile:
    """A file with a certificate, a key, or both.

    Attributes:
        path: absolute, since settings are used from any working directory.
        has_key: whether the private key is in it.
        is_encrypted: whether it takes a password to read it.
    """

    path: str
    has_key: bool
    is_encrypted: bool

    def opens_with(self, password: str) -> bool:
        """Whether that is its password."""
        try:
            keys.read(self.path, password)
        except Unreadable:
            return False
        return True


def settings_file(path: Path) -> Path:
    """Where the settings go, absolute. Raises InvalidArgument for a name by which they would not be read as TOML."""
    if path.suffix.lower() == ".json":
        raise InvalidArgument("--output: the file is TOML; give it a name that ends in .toml")
    return path.expanduser().absolute()


def mailbox_id(text: str) -> str:
    """A mailbox id. Raises InvalidArgument."""
    _check("mailbox_id", {"mailbox_id": text})
    return text.strip().upper()


def environment(text: str) -> str:
    """An environment's name. Raises InvalidArgument."""
    if text.strip().casefold() not in ENVIRONMENTS:
        raise InvalidArgument(f"one of {', '.join(ENVIRONMENTS)} is needed; for another address use --url")
    return text.strip().casefold()


def url(text: str) -> str:
    """An environment's name, or an address. Raises InvalidArgument."""
    _check("url", {"url": text})
    return text.strip()


def authority_file(text: str) -> str:
    """A file with an authority's certificate. Raises InvalidArgument."""
    path = _absolute(text)
    try:
        found = keys.read(path)
    except Unreadable as problem:
        raise InvalidArgument(str(problem)) from None
    if not found.certificates:
        raise InvalidArgument(f"there is no certificate in {path}, only a private key")
    return path


def certificate_file(text: str) -> IdentityFile:
    """A file with the own certificate, perhaps with its key. Raises InvalidArgument."""
    path = _absolute(text)
    found = _contents(path)
    if found is None:
        # Only a key, or a PKCS#12 file, which holds one, is ever encrypted.
        return IdentityFile(path, has_key=True, is_encrypted=True)
    if not found.certificates:
        raise InvalidArgument(f"there is no certificate in {path}, only a private key")
    return IdentityFile(path, has_key=bool(found.keys), is_encrypted=False)


def key_file(text: str) -> IdentityFile:
    """A file with the own private key. Raises InvalidArgument."""
    path = _absolute(text)
    found = _contents(path)
    if found is not None and not found.keys:
        raise InvalidArgument(f"there is no private key in {path}")
    return IdentityFile(path, has_key=True, is_encrypted=found is None)


def _contents(path: str) -> keys.Contents | None:
    """What a file of certificates and keys holds; None if it is encrypted."""
    try:
        return keys.read(path)
    except WrongPassword:
        return None
    except Unreadable as problem:
        raise InvalidArgument(str(problem)) from None


def _absolute(text: str) -> str:
    return str(Path(text.strip()).expanduser().absolute())


def _check(name: str, given: SettingsKeywords) -> None:
    """Raises InvalidArgument with what MeshSettings has against a value."""
    sound: SettingsKeywords = {"mailbox_id": "X", "url": "integration", "password": "-", "shared_key": "-"}
    try:
        MeshSettings(**(sound | given))
    except ConfigurationError as error:
        # The environment's faults are not this answer's.
        for fault in error.faults:
            if fault.setting == name:
                raise InvalidArgument(fault.message) from None
