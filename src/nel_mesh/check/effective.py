"""The settings in force, each with its source, without secrets: for `nel-mesh config show` and for the console."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from nel_mesh.check.loading import Loaded
from nel_mesh.settings import DIRECT, MeshSettings

CERTIFICATES = {
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
        value: its value; None if it is not set or cannot be used, HIDDEN for a secret, AS_TEXT for a certificate that
            is not in a file.
        source: where it was given, "default", or "missing".
    """

    setting: str
    value: str | int | float | bool | list[str] | None
    source: str


def effective_settings(loaded: Loaded) -> Iterator[EffectiveSetting]:
    """List all settings in force, in the order of the reference; those with a fault have no value."""
    if loaded.settings is None:
        return
    for name in MeshSettings.model_fields:
        source = loaded.settings.source_of(name)
        value = shown(name, getattr(loaded.settings, name))
        if name in loaded.replaced:
            fault = next(fault for fault in loaded.faults if fault.setting == name)
            yield EffectiveSetting(name, None, "missing" if fault.kind == "missing" else fault.source)
        else:
            yield EffectiveSetting(name, value, "default" if source == name else source)


def shown(name: str, value: object) -> str | int | float | bool | list[str] | None:
    """Return the value of a setting: HIDDEN for a secret, AS_TEXT for a certificate that is not in a file."""
    if name in CERTIFICATES:
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
