"""Destinations whose messages are objects in a store of parts: S3, Azure Blob."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import NamedTuple, Protocol
from urllib.parse import parse_qs, quote, unquote, urlsplit

from nel_mesh.destinations.keys import KeyTemplate
from nel_mesh.destinations.parts import Part, PartedUpload, PartStore
from nel_mesh.destinations.state import StoreJournal, StoreRecords
from nel_mesh.destinations.url_options import UrlOptions
from nel_mesh.errors import InvalidArgument
from nel_mesh.models import MessageMetadata

MESSAGE_ID = "mesh_message_id"
"""The label by which an object is known as a message."""

CONTENT_TYPE = "application/octet-stream"

_MAX_LABEL_CHARACTERS = 600


class ClosablePartStore(PartStore, Protocol):
    """A store of parts that this process has opened."""

    def close(self) -> None:
        """Close its connections."""


class ObjectDestination:
    """A store in which each message is an object; see the classes that are made of it."""

    def __init__(self, store: ClosablePartStore, key: str, *, sidecar: bool) -> None:
        self._template = KeyTemplate(key)
        self._store = store
        self._sidecar = sidecar
        self.records = StoreRecords(store, self._template.state_prefix)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location(str(self._template))!r})"

    def journal(self) -> StoreJournal:
        """Return the journal in the store, which is the default of `receive_messages`."""
        return StoreJournal(self._store, self._template.state_prefix)

    def upload(self, message_id: str) -> PartedUpload:
        """Return the object for a message's content; nothing is sent yet."""
        return PartedUpload(self._store, message_id, self._template.key, sidecar=self._sidecar)

    def names(self, metadata: MessageMetadata, file_name: str | None) -> Iterator[str]:
        """Give the key of a message: there is only one, so that every worker finds what another has stored."""
        yield self._template.key(metadata)

    def is_name(self, name: str) -> bool:
        """Whether a key out of a record can be one that this template gave."""
        prefix = f"{self._template.prefix}/" if self._template.prefix else ""
        return name.startswith(prefix) and not name.startswith(self._template.state_prefix)

    def location(self, name: str) -> str:
        """Return the URL of an object."""
        return f"{self._store.place}/{name}"

    def close(self) -> None:
        """Close the connections, but not those of a `client` that was given."""
        self._store.close()


class ObjectUrl(NamedTuple):
    """A destination's URL: `scheme://host/path`, with the end of the path as `?prefix=` if need be."""

    host: str
    path: str
    sidecar: bool


def split_url(url: str, credentials: str) -> ObjectUrl:
    """Split a destination's URL.

    Args:
        url: the URL.
        credentials: where credentials come from, for the error text.

    Raises:
        InvalidArgument: it has another option, or credentials, which it may not hold.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or "sig" in parse_qs(parts.query, keep_blank_values=True):
        raise InvalidArgument(f"destination: a URL holds no credentials; {credentials}")
    options = UrlOptions.parse(parts.query, parts.scheme)
    if parts.fragment:
        raise InvalidArgument("destination: a URL ends before its #; write %23 for one in a key")
    path = unquote(parts.path).strip("/"), options.prefix
    return ObjectUrl(parts.netloc, "/".join(part for part in path if part), options.sidecar)


def labels_of(metadata: MessageMetadata) -> dict[str, str]:
    """Return what an object says of its message: nothing that can be about a patient.

    Each value is quoted, as stores take ASCII only, and shortened, as they take 2 kB (S3) or 8 kB (Azure) in all.
    """
    fields = {
        MESSAGE_ID: metadata.message_id,
        "mesh_workflow_id": metadata.workflow_id,
        "mesh_sender": metadata.sender,
        "mesh_type": metadata.message_type,
    }
    return {name: quote(value, safe=" ")[:_MAX_LABEL_CHARACTERS] for name, value in fields.items() if value}


def checksum_of_parts(parts: list[Part]) -> str:
    """Return the checksum of an object of these parts, as S3 makes it: the SHA-256 of theirs, and their number."""
    digests = b"".join(base64.b64decode(part.sha256) for part in parts)
    return f"{base64.b64encode(hashlib.sha256(digests).digest()).decode()}-{len(parts)}"
