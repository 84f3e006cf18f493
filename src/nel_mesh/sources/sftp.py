"""Content that is sent out of a server of SFTP: a file, read in order, in constant memory."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from typing import Any

from nel_mesh.errors import InvalidArgument, SourceError
from nel_mesh.io.content import Content, NothingThere, RemoteSource
from nel_mesh.stores.sftp import SftpFile, SftpServer
from nel_mesh.stores.sftp_url import SftpUrl

_ATTEMPTS = 3
_MOST_STREAMS = 3
"""A chunk is sent while the next one is compressed."""

_CHANGED = "content: the file on the server changed while it was being sent"


class SftpSource(RemoteSource):
    """A file on a server of SFTP.

    Host, port, account and keys come from where ssh looks for them, as for `SftpDestination`.

    Args:
        host: the server: a name or address, or a `Host` of `~/.ssh/config`.
        path: the file; relative to where the account begins, unless it begins with a slash.
        username: the account.
        port: the port.
        known_hosts: the file of known host keys, in place of the usual ones.
        timeout_seconds: how long the server may take for one operation.
        ssh_options: more arguments of `asyncssh.connect`, such as client keys or a passphrase.
    """

    def __init__(
        self,
        *,
        host: str,
        path: str,
        username: str | None = None,
        port: int | None = None,
        known_hosts: str | os.PathLike[str] | None = None,
        timeout_seconds: float = 120,
        ssh_options: Mapping[str, Any] | None = None,
    ) -> None:
        name = path.rpartition("/")[2]
        if not host or name in ("", ".", ".."):
            raise InvalidArgument("path: name the host and the file, as in sftp://host/folder/results.csv")
        self._server = SftpServer(
            host,
            port=port,
            username=username,
            known_hosts=known_hosts,
            timeout_seconds=timeout_seconds,
            ssh_options=ssh_options,
            failure=SourceError,
            shows_paths=False,
        )
        super().__init__(url=f"{self._server.place}/{path}", name=name)
        self._path = path

    @classmethod
    def from_url(cls, url: str) -> SftpSource:
        """Return the file of a URL: `sftp://[user@]host[:port]/path`, where a name has `%3F` for a question mark."""
        parts = SftpUrl.split(url, "path")
        if parts.query:
            raise InvalidArgument("path: sftp:// has no options here; write %3F for a question mark in a name")
        return cls(host=parts.host, path=parts.path, username=parts.username, port=parts.port)

    def open(self) -> Content:
        """Open the file, for its length and its date."""
        try:
            return _SftpContent(self._server, self._path)
        except BaseException:
            self._server.close()
            raise


class _SftpContent(Content):
    """A file of one length and date. Each reader goes on in its stream, from where it was."""

    def __init__(self, server: SftpServer, path: str) -> None:
        self._server, self._path = server, path
        self._guard = threading.Lock()
        self._file = self._open()
        self._status = self._file.status()
        super().__init__(self._status.length)
        self._streams: dict[int, _Stream] = {}
        """Those that are open, by where they stand."""
        self._is_closed = False

    def _open(self) -> SftpFile:
        file = self._server.open(self._path)
        if file is None:
            raise NothingThere(f"content: there is no such file on {self._server.place}; check the path")
        return file

    def read(self, start: int, size: int) -> bytes:
        """Read exactly `size` bytes from `start`; a connection that is lost is made again."""
        attempt = 1
        while True:
            file = self._file
            try:
                data, is_changed = self._read(file, start, size)
                break
            except SourceError:
                if attempt == _ATTEMPTS or self._is_closed:
                    raise
                attempt += 1
                self._open_again(file)
        if is_changed:
            raise SourceError(_CHANGED)
        if len(data) != size:
            raise SourceError("content: it became shorter while it was being sent")
        return data

    def _read(self, file: SftpFile, start: int, size: int) -> tuple[bytes, bool]:
        """Read, and look whether the file is still the one that was opened, once for each block that it gave."""
        with self._guard:
            if self._is_closed:
                raise SourceError("content: the send has ended")
            stream = self._streams.pop(start, None)
        if stream is None or stream.file is not file:
            stream = _Stream(file, start)
        blocks = stream.blocks_taken
        data = stream.read(size)
        is_changed = stream.blocks_taken != blocks and file.status() != self._status
        with self._guard:
            self._streams[stream.position] = stream
            while len(self._streams) > _MOST_STREAMS:
                self._streams.pop(next(iter(self._streams)))
        return data, is_changed

    def _open_again(self, file: SftpFile) -> None:
        """Open the file on a new connection, if another reader has not."""
        if self._file is not file:
            return
        opened = self._open()
        if opened.status() != self._status:
            raise SourceError(_CHANGED)
        with self._guard:
            if self._file is file:
                self._file = opened

    def digest(self, start: int, length: int, before: str) -> str:
        """Return a digest of the place, the length and the date: what MESH has already is not read again."""
        text = f"{before} {self._status.length} {self._status.modified_ns} {start} {length}"
        return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()

    def stamp(self) -> tuple[int, int]:
        """Return the length and the date with which it was opened; `read` compares them."""
        return self._status.length, self._status.modified_ns

    def close(self) -> None:
        """Close the connection."""
        with self._guard:
            self._is_closed = True
            self._streams.clear()
        self._server.close()


class _Stream:
    """The bytes of a file from one place on, each block fetched while the one before it is used."""

    def __init__(self, file: SftpFile, position: int) -> None:
        self.file = file
        self.position = position
        self.blocks_taken = 0
        self._blocks = file.blocks(position)
        self._held = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Read so many bytes; fewer only at the end."""
        parts: list[memoryview] = []
        while size:
            if not self._held:
                block = next(self._blocks, b"")
                if not block:
                    break
                self._held = memoryview(block)
                self.blocks_taken += 1
            part = self._held[:size]
            parts.append(part)
            self._held = self._held[len(part) :]
            self.position += len(part)
            size -= len(part)
        return b"".join(parts)
