"""Destinations by their URL, or by the path of a folder."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from nel_mesh.destinations.base import Destination
from nel_mesh.destinations.folder import FolderDestination
from nel_mesh.errors import InvalidArgument
from nel_mesh.stores.urls import scheme_of

_CLASSES: dict[str, tuple[str, str]] = {
    "azure": ("azure", "AzureDestination"),
    "s3": ("s3", "S3Destination"),
    "sftp": ("sftp", "SftpDestination"),
}
"""Scheme -> module and class; the module needs the extra of its own name."""


def open_destination(place: str | os.PathLike[str]) -> Destination:
    """Open a destination.

    Args:
        place: the path of a folder, or a URL: `s3://bucket/key`, `azure://account/container/name`,
            `sftp://host/folder`.

    Raises:
        InvalidArgument: there is no such kind of destination, the URL is not complete, or the extra that it needs is
            not installed.
    """
    scheme = scheme_of(place)
    if scheme is None:
        return FolderDestination(place)
    if scheme not in _CLASSES:
        known = ", ".join(f"{name}://" for name in sorted(_CLASSES))
        raise InvalidArgument(f"destination: {scheme}:// is no kind of destination; known are {known} and folders")
    module, name = _CLASSES[scheme]
    try:
        found: Any = import_module(f"nel_mesh.destinations.{module}")
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            f"destination: {scheme}:// needs {error.name}; run pip install 'nel-mesh[{module}]'"
        ) from None
    destination: Destination = getattr(found, name).from_url(str(place))
    return destination
