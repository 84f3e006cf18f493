"""The settings in force, each with its source, without secrets: for `nel-mesh config show` and for the console."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from nel_mesh.settings import DIRECT, MeshSettings

_CERTIFICATES = {
    "tls_root_certificates",
    "tls_intermediate_certificates",
    "proxy_root_certificates",
    "client_signing_certificate",
    "client_signing_key",
}
"""Settings that take a path or a text; a private key may have been given as any of them."""

HIDDEN = "(hidden)"
AS_TEXT = "(given as text)"


@dataclasses.dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """One setting in force.

    Attributes:
        setting: its name in `MeshSettings`.
        value: its value; None if it is not set, HIDDEN for a secret, AS_TEXT for a certificate that is not in a file.
        source: where it was given, or "default".
    """

    setting: str
    value: str | int | float | bool | list[str] | None
    source: str


def effective_settings(settings: MeshSettings) -> Iterator[EffectiveSetting]:
    """List all settings in force, in the order of the reference."""
    for name in type(settings).model_fields:
        value = _shown(name, getattr(settings, name))
        source = settings.source_of(name)
        yield EffectiveSetting(name, value, "default" if source == name else source)


def _shown(name: str, value: object) -> str | int | float | bool | list[str] | None:
    if name in _CERTIFICATES:
        if isinstance(value, tuple):
            return [_path_or_text(item) for item in value]
        return _path_or_text(value.get_secret_value()) if isinstance(value, SecretStr) else None
    if isinstance(value, SecretStr):
        return _without_user(value.get_secret_value()) if name == "proxy" else HIDDEN
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def _path_or_text(value: str) -> str:
    try:
        return value.strip() if Path(value.strip()).expanduser().is_file() else AS_TEXT
    except (OSError, ValueError, RuntimeError):
        return AS_TEXT


def _without_user(proxy: str) -> str:
    if proxy in DIRECT:
        return proxy
    parts = urlsplit(proxy)
    user, _, place = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{place}" + (f" user {HIDDEN}" if user else "")
