"""Azure Blob Storage as the destination of messages.

A block that was sent belongs to the name of its blob until some worker commits a list of blocks under that name; all
others vanish then, and after 7 days at the latest. So each upload has a random id, which is in the ids of its blocks:
two workers on one message never replace each other's, the first commits, and the second finds the blob complete.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from nel_mesh.destinations.objects import MESSAGE_ID, ObjectDestination, checksum_of_parts, labels_of, split_url
from nel_mesh.destinations.part_buffer import PartContent, PartReader
from nel_mesh.destinations.parts import Part, StoredObject
from nel_mesh.errors import InvalidArgument
from nel_mesh.models import MessageMetadata
from nel_mesh.stores.azure import (
    BAD_BLOCKS,
    BLOB_EXISTS,
    BLOB_NOT_FOUND,
    CONDITION_NOT_MET,
    MAY_NOT_OVERWRITE,
    Container,
    account_url_of,
)
from nel_mesh.stores.refusal import CONNECTION_LOST, Expected

_SHA256 = "mesh_sha256"
_EXISTS = (BLOB_EXISTS, CONDITION_NOT_MET)
_REFUSALS = (*_EXISTS, MAY_NOT_OVERWRITE, BAD_BLOCKS, CONNECTION_LOST)
"""Refusals to make a blob: there may be one of that name, which may be ours."""


class AzureDestination(ObjectDestination):
    """Store each message as a blob in a container. A blob is never replaced, and is never seen unfinished.

    The blobs need no local disk: the records of unfinished messages and the journal are in the container too, below
    `.nel-mesh/`. A worker that is killed is continued by another one, on any machine, at the chunk.

    Credentials come from AZURE_STORAGE_CONNECTION_STRING, if it is set, and else from DefaultAzureCredential, if
    azure-identity is installed. The blob has the message id, workflow id, sender and type as its metadata, and a
    SHA-256 of the content. The subject, the recipient and the file name, which may hold patient data, are only in the
    sidecar.

    Args:
        container: the name of the container.
        account_url: the address of the storage account, such as `https://account.blob.core.windows.net`.
        connection_string: account and credentials, in place of those from the environment.
        key: the name of each blob: text with any of `{mailbox_id}`, `{workflow_id}`, `{sender}`, `{date}`,
            `{message_id}` and `{type}`. Without `{message_id}` it is added as the last part.
        client: a ContainerClient of azure-storage-blob, in place of the three; it stays open.
        sidecar: also write all metadata, as JSON, to the name with `.json` added, before the blob is there.

    Raises:
        InvalidArgument: an argument cannot be used, or there are no credentials.
    """

    def __init__(
        self,
        *,
        container: str = "",
        account_url: str | None = None,
        connection_string: str | None = None,
        key: str = "mesh/{workflow_id}/{date}/{message_id}",
        client: Any = None,
        sidecar: bool = False,
    ) -> None:
        if (client is None) == (not container):
            raise InvalidArgument(
                "destination: name the container, as in azure://account/container/{message_id}; or give a client"
            )
        store = PartedContainer(container, account_url=account_url, connection_string=connection_string, client=client)
        super().__init__(store, key, sidecar=sidecar)

    @classmethod
    def from_url(cls, url: str) -> AzureDestination:
        """Open the destination of a URL: `azure://account/container/name`, where the name is a template.

        The part of the name that has fields can also be given as `?prefix=`, as in
        `azure://account/results/mesh?prefix={workflow_id}/{message_id}`. With `?sidecar=true` the metadata is stored
        too. An account elsewhere than at blob.core.windows.net is given with its whole host name.

        Raises:
            InvalidArgument: the URL has no account or container, another option, or credentials, which it may not hold.
        """
        parts = split_url(url, "they come from AZURE_STORAGE_CONNECTION_STRING, or from DefaultAzureCredential")
        container, _, key = parts.path.partition("/")
        if not parts.host or not container:
            raise InvalidArgument(
                "destination: name account and container, as in azure://account/container/{message_id}"
            )
        return cls(container=container, account_url=account_url_of(parts.host), key=key, sidecar=parts.sidecar)


class PartedContainer(Container):
    """A container whose blobs arrive in blocks, and are made only where nothing is; see `parts.PartStore`.

    A blob has at most 50,000 blocks; `parts.PartSizes` makes fewer than 10,001.
    """

    least_part_bytes = 1

    def begin(self, key: str, metadata: MessageMetadata) -> str:
        """Return a random id; blocks need no beginning."""
        return uuid.uuid4().hex

    def is_open(self, key: str, upload_id: str, parts: list[Part]) -> bool:
        """Whether Azure still has these blocks."""
        found = self.unfinished_blocks(key)
        return all(found.get(part.tag) == part.length for part in parts)

    def put_part(self, key: str, upload_id: str, number: int, content: PartContent, sha256: str) -> Part:
        """Store a block. Azure compares its MD5."""
        # All ids under one name must have the same length.
        block_id = f"{upload_id}-{number:05}"
        md5 = hashlib.md5(usedforsecurity=False)
        for block in content.blocks():
            md5.update(block)
        self.put_block(key, block_id, PartReader(content), content.length, md5.digest())
        return Part(content.length, block_id, sha256)

    def complete(self, key: str, upload_id: str, parts: list[Part], metadata: MessageMetadata) -> bool:
        """Make the blob of its blocks; False if there is a blob of that name.

        If the response was lost, a repeated request is refused, and the blob of that name is this one.
        """
        labels = {**labels_of(metadata), _SHA256: checksum_of_parts(parts)}
        try:
            self.commit_blocks(key, [part.tag for part in parts], labels, _REFUSALS)
        except Expected as refusal:
            return self._refused(refusal, key)
        return True

    def put(self, key: str, content: bytes, metadata: MessageMetadata) -> bool:
        """Make a blob in one request; False if there is one of that name."""
        labels = {**labels_of(metadata), _SHA256: base64.b64encode(hashlib.sha256(content).digest()).decode()}
        try:
            self.create_object(key, content, labels, _REFUSALS)
        except Expected as refusal:
            return self._refused(refusal, key)
        return True

    def find(self, key: str) -> StoredObject | None:
        """Look at a blob; None if there is none."""
        try:
            found = self.properties(key, expected=(BLOB_NOT_FOUND,))
        except Expected:
            return None
        labels = found.metadata or {}
        message_id = labels.get(MESSAGE_ID)
        return StoredObject(int(found.size), unquote(message_id) if message_id else None, labels.get(_SHA256))

    def checksum_of(self, parts: list[Part]) -> str | None:
        """Return the checksum that `complete` gives to a blob of these blocks."""
        return checksum_of_parts(parts)

    def read_blocks(self, key: str) -> Iterator[bytes]:
        """Read a blob, a block at a time."""
        etag = str(self.properties(key).etag)
        position = 0
        try:
            while block := self.read_range(key, etag, position):
                yield block
                position += len(block)
        except Expected as refusal:
            raise self.error(f"the blob changed while it was read: {refusal.code}") from None

    def abandon(self, key: str, upload_id: str) -> None:
        """Do nothing: Azure drops blocks that were never committed after 7 days, and at no request."""

    def _refused(self, refusal: Expected, key: str) -> bool:
        """Return False if there is a blob of that name."""
        if refusal.code in _EXISTS or self.find(key) is not None:
            return False
        raise self.error(
            f"Azure did not make the blob: {refusal.code}; run it again, and it will be sent again if need be"
        )
