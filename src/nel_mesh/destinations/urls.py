"""Destinations by their URL, or by the path of a folder."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from nel_mesh.destinations.base import Destination
from nel_mesh.destinations.folder import FolderDestination
from nel_mesh.destinations.url_options import UrlOptions
from nel_mesh.errors import InvalidArgument
from nel_mesh.stores.urls import scheme_of

_CLASSES: dict[str, tuple[str, str]] = {
    "azure": ("azure", "AzureDestination"),
    "s3": ("s3", "S3Destination"),
    "sftp": ("sftp", "SftpDestination"),
}
"""Scheme -> module and class; the module needs the extra of its own name."""


_FOLDER = "file"


def open_destination(place: str | os.PathLike[str], *, sidecar: bool = False) -> Destination:
    """Open a destination.

    Args:
        place: the path of a folder, or a URL: `file:///folder`, `s3://bucket/key`, `azure://account/container/name`,
            `sftp://host/folder`; each with `?sidecar=true` if need be.
        sidecar: also store the metadata of each message, as JSON, under its name with `.json` added. It may hold
            patient data.

    Raises:
        InvalidArgument: there is no such kind of destination, the URL is not complete, or the extra that it needs is
            not installed.
    """
    scheme = scheme_of(place)
    if scheme is None:
        return FolderDestination(place, sidecar=sidecar)
    if sidecar:
        place = with_sidecar(str(place))
    if scheme == _FOLDER:
        return FolderDestination(_path_of(str(place)), sidecar=_folder_options(str(place)).sidecar)
    if scheme not in _CLASSES:
        known = ", ".join(f"{name}://" for name in sorted([*_CLASSES, _FOLDER]))
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


def with_sidecar(place: str) -> str:
    """Return the URL of a place, a folder's path or a URL, with the option `sidecar=true`."""
    if scheme_of(place) is None:
        place = Path(place).absolute().as_uri()
    if "sidecar=" in urlsplit(place).query:
        return place
    return f"{place}{'&' if '?' in place else '?'}sidecar=true"


def folder_of(place: str) -> Path | None:
    """Return the folder on this machine that a place is, by path or URL; None if it is a store elsewhere."""
    scheme = scheme_of(place)
    if scheme is None:
        return Path(place)
    return _path_of(place) if scheme == _FOLDER else None


def _folder_options(url: str) -> UrlOptions:
    return UrlOptions.parse(urlsplit(url).query, _FOLDER, ("sidecar",))


def _path_of(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.fragment or len(parts.path) < len("/a"):
        raise InvalidArgument("destination: the URL of a folder is file:///folder; write %23 for a # in it")
    path = unquote(parts.path)
    # Of file:///C:/folder.
    return Path(path[1:] if os.name == "nt" and path[2:3] == ":" else path)
