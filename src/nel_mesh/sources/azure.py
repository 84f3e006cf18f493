"""Content that is sent out of Azure Blob Storage: a blob, read in ranges, in constant memory."""

from __future__ import annotations

import hashlib
import threading
from typing import Any
from urllib.parse import unquote, urlsplit

from nel_mesh.errors import InvalidArgument, SourceError
from nel_mesh.io.content import Content, NothingThere, RemoteSource
from nel_mesh.stores.azure import BLOB_NOT_FOUND, Container, account_url_of
from nel_mesh.stores.refusal import Expected

_RANGE_BYTES = 4 * 1024 * 1024
_MOST_RANGES = 3
"""A chunk is sent while the next one is compressed."""


class AzureSource(RemoteSource):
    """A blob in a container.

    Args:
        container: the name of the container.
        name: the name of the blob.
        account_url: the address of the storage account, such as `https://account.blob.core.windows.net`.
        connection_string: account and credentials, in place of those from the environment.
        client: a ContainerClient of azure-storage-blob, in place of container, address and credentials.
    """

    def __init__(
        self,
        *,
        container: str = "",
        name: str,
        account_url: str | None = None,
        connection_string: str | None = None,
        client: Any = None,
    ) -> None:
        if (client is None) == (not container) or not name or name.endswith("/"):
            raise InvalidArgument("path: name account, container and blob, as in azure://account/container/name")
        self._container = Container(
            container,
            account_url=account_url,
            connection_string=connection_string,
            client=client,
            failure=SourceError,
        )
        super().__init__(url=f"{self._container.place}/{name}", name=name.rpartition("/")[2])
        self._name = name

    @classmethod
    def from_url(cls, url: str) -> AzureSource:
        """Return the blob of a URL: `azure://account/container/name`, where a name has `%3F` for a question mark."""
        parts = urlsplit(url)
        container, _, name = unquote(parts.path).strip("/").partition("/")
        if "@" in parts.netloc or "sig=" in parts.query:
            raise InvalidArgument(
                "path: a URL holds no credentials; they come from AZURE_STORAGE_CONNECTION_STRING, or from "
                "DefaultAzureCredential"
            )
        if parts.query or parts.fragment:
            raise InvalidArgument("path: azure:// has no options here; write %3F for a question mark, and %23 for #")
        if not parts.netloc or not container or parts.path.endswith("/"):
            raise InvalidArgument("path: name account, container and blob, as in azure://account/container/name")
        return cls(container=container, name=name, account_url=account_url_of(parts.netloc))

    def open(self) -> Content:
        """Look at the blob, for its length and its ETag."""
        try:
            found = self._container.properties(self._name, expected=(BLOB_NOT_FOUND,))
        except Expected:
            self._container.close()
            raise NothingThere(f"content: there is no such blob in {self._container.place}; check its name") from None
        except BaseException:
            self._container.close()
            raise
        return _AzureContent(self._container, self._name, int(found.size), str(found.etag))


class _AzureContent(Content):
    """A blob of one ETag. What was read of it and not asked for yet is kept for the next read of the same reader."""

    def __init__(self, container: Container, name: str, length: int, etag: str) -> None:
        super().__init__(length)
        self._container, self._name, self._etag = container, name, etag
        self._guard = threading.Lock()
        self._ranges: dict[int, memoryview] = {}
        """What is left of ranges, by where it begins."""
        self._is_closed = False

    def read(self, start: int, size: int) -> bytes:
        """Read exactly `size` bytes from `start`."""
        with self._guard:
            if self._is_closed:
                raise SourceError("content: the send has ended")
            left = self._ranges.pop(start, memoryview(b""))
        blocks: list[memoryview] = []
        position, end = start, start + size
        while position < end:
            if not left:
                left = memoryview(self._read_range(position))
                if not left:
                    raise SourceError("content: it became shorter while it was being sent")
            block = left[: end - position]
            blocks.append(block)
            left = left[len(block) :]
            position += len(block)
        if left:
            with self._guard:
                self._ranges[position] = left
                while len(self._ranges) > _MOST_RANGES:
                    del self._ranges[next(iter(self._ranges))]
        return b"".join(blocks)

    def _read_range(self, position: int) -> bytes:
        try:
            return self._container.read_range(self._name, self._etag, position, _RANGE_BYTES)
        except Expected:
            raise SourceError("content: the blob in Azure changed while it was being sent") from None

    def digest(self, start: int, length: int, before: str) -> str:
        """Return a digest of the place and the ETag: nothing is read of a blob with another one."""
        text = f"{before} {self._etag} {start} {length}"
        return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()

    def stamp(self) -> tuple[int, int]:
        """Return the length, and a number made of the ETag in place of a date."""
        return self.length, int.from_bytes(hashlib.sha256(self._etag.encode()).digest()[:6], "big")

    def close(self) -> None:
        """Close the connections."""
        with self._guard:
            self._is_closed = True
            self._ranges.clear()
        self._container.close()
