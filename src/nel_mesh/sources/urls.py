"""Sources by their URL."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from nel_mesh.errors import InvalidArgument
from nel_mesh.io.content import RemoteSource
from nel_mesh.stores.urls import scheme_of

_CLASSES: dict[str, tuple[str, str]] = {
    "azure": ("azure", "AzureSource"),
    "s3": ("s3", "S3Source"),
    "sftp": ("sftp", "SftpSource"),
}
"""Scheme -> module and class; the module needs the extra of its own name."""


def source_of(place: object) -> RemoteSource | None:
    """Return the source of a URL, which is not opened yet; None for a path.

    Raises:
        InvalidArgument: there is no such kind of source, the URL is not complete, or the extra that it needs is not
            installed.
    """
    scheme = scheme_of(place)
    if scheme is None:
        return None
    if scheme not in _CLASSES:
        known = ", ".join(f"{name}://" for name in sorted(_CLASSES))
        raise InvalidArgument(f"path: {scheme}:// cannot be read from; known are {known} and files")
    module, name = _CLASSES[scheme]
    try:
        found: Any = import_module(f"nel_mesh.sources.{module}")
    except ModuleNotFoundError as error:
        raise InvalidArgument(f"path: {scheme}:// needs {error.name}; run pip install 'nel-mesh[{module}]'") from None
    source: RemoteSource = getattr(found, name).from_url(str(place))
    return source
