"""A folder on a server of SFTP as the destination of messages."""

from __future__ import annotations

import os
import posixpath
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from nel_mesh.destinations.keys import KeyTemplate
from nel_mesh.destinations.sftp_upload import SftpUpload, write_file
from nel_mesh.destinations.state import StoreJournal, StoreRecords
from nel_mesh.destinations.url_options import UrlOptions
from nel_mesh.errors import InvalidArgument
from nel_mesh.models import MessageMetadata
from nel_mesh.stores.sftp import SftpServer
from nel_mesh.stores.sftp_url import SftpUrl

INCOMING = ".incoming/"
"""Where unfinished files are, below the part of the template that has no fields."""

_STATE_MODE = 0o600


class SftpDestination:
    """Store each message as a file on a server of SFTP. A file is never replaced, and is never seen unfinished.

    Unfinished files are below `.incoming/`, and records of unfinished messages and the journal below `.nel-mesh/`, on
    the server. A worker that is killed is continued by another one, on any machine, at the chunk.

    Host, port, account and key come from where ssh looks for them: `~/.ssh/config`, the ssh agent, the key files in
    `~/.ssh`. The server's host key must be known (`known_hosts`).

    Args:
        host: the server: a name or address, or a `Host` of `~/.ssh/config`.
        folder: the folder for everything; relative to where the account begins, unless it begins with a slash.
        username: the account.
        port: the port.
        key: the name of each file below the folder: text with any of `{mailbox_id}`, `{workflow_id}`, `{sender}`,
            `{date}`, `{message_id}` and `{type}`. Without `{message_id}` it is added as the last part.
        sidecar: also write all metadata, as JSON, to the name with `.json` added, before the file is there.
        known_hosts: the file of known host keys, in place of the usual ones.
        file_mode: the permissions of the files. Default: only the account may read and write them (0600).
        timeout_seconds: how long the server may take for one operation.
        ssh_options: more arguments of `asyncssh.connect`, such as client keys or a passphrase.

    Raises:
        InvalidArgument: an argument cannot be used, or asyncssh is not installed.
    """

    def __init__(
        self,
        *,
        host: str,
        folder: str = "",
        username: str | None = None,
        port: int | None = None,
        key: str = "{workflow_id}/{date}/{message_id}",
        sidecar: bool = False,
        known_hosts: str | os.PathLike[str] | None = None,
        file_mode: int = 0o600,
        timeout_seconds: float = 120,
        ssh_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not folder.isprintable():
            raise InvalidArgument("destination: the folder has characters that cannot be printed")
        self._template = KeyTemplate(key)
        self._server = SftpServer(
            host,
            port=port,
            username=username,
            known_hosts=known_hosts,
            timeout_seconds=timeout_seconds,
            ssh_options=ssh_options,
        )
        self._folder = folder if not folder or folder.endswith("/") else f"{folder}/"
        self._sidecar = sidecar
        self._file_mode = file_mode
        shared = self._folder + (f"{self._template.prefix}/" if self._template.prefix else "")
        self._incoming = shared + INCOMING
        self._state_prefix = self._folder + self._template.state_prefix
        self._store = _StateFiles(self._server, self._incoming)
        self.records = StoreRecords(self._store, self._state_prefix)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location(str(self._template))!r})"

    @classmethod
    def from_url(cls, url: str) -> SftpDestination:
        """Open the destination of a URL: `sftp://[user@]host[:port]/name`, where the name is a template.

        As with `sftp` and `scp`, the name is relative to where the account begins; `sftp://host//srv/in` is `/srv/in`.
        The part of the name that has fields can also be given as `?prefix=`, as in
        `sftp://host/in?prefix={workflow_id}/{message_id}`. With `?sidecar=true` the metadata is stored too.

        Raises:
            InvalidArgument: the URL has no host, another option, or a password, which it may not hold.
        """
        parts = SftpUrl.split(url, "destination")
        options = UrlOptions.parse(parts.query, "sftp")
        name = parts.path.strip("/"), options.prefix
        return cls(
            host=parts.host,
            folder="/" if parts.path.startswith("/") else "",
            username=parts.username,
            port=parts.port,
            key="/".join(part for part in name if part),
            sidecar=options.sidecar,
        )

    def journal(self) -> StoreJournal:
        """Return the journal on the server, which is the default of `receive_messages`."""
        return StoreJournal(self._store, self._state_prefix)

    def upload(self, message_id: str) -> SftpUpload:
        """Return the file for a message's content; nothing is opened yet."""
        return SftpUpload(
            self._server,
            message_id,
            folder=self._folder,
            incoming=self._incoming,
            mode=self._file_mode,
            sidecar=self._sidecar,
        )

    def names(self, metadata: MessageMetadata, file_name: str | None) -> Iterator[str]:
        """Give the name of a message: there is only one, so that every worker finds what another has stored."""
        yield self._template.key(metadata)

    def is_name(self, name: str) -> bool:
        """Whether a name out of a record can be one that this template gave."""
        parts = name.split("/")
        prefix = f"{self._template.prefix}/" if self._template.prefix else ""
        # No part of a name that was made of a message begins with a dot.
        own = parts[prefix.count("/") :]
        return name.startswith(prefix) and all(parts) and not any(part.startswith(".") for part in own)

    def location(self, name: str) -> str:
        """Return the URL of a file."""
        return f"{self._server.place}/{self._folder}{name}"

    def close(self) -> None:
        """Close the connection."""
        self._server.close()


class _StateFiles:
    """Records and journal as files on the server; see `state.Store`. Their keys are paths.

    Args:
        server: the server.
        incoming: the folder of files that are not finished.
    """

    def __init__(self, server: SftpServer, incoming: str) -> None:
        self._server = server
        self._incoming = incoming
        self.place = server.place

    def read_object(self, key: str) -> bytes | None:
        """Return a small file; None if there is none."""
        file = self._server.open(key)
        if file is None:
            return None
        try:
            return b"".join(file.blocks(0))
        finally:
            file.close()

    def write_object(self, key: str, content: bytes) -> None:
        """Make or replace a small file: a new one is written, made durable, and given the name."""
        # Named for the message, so that what a kill leaves of it goes when the message is complete.
        name = posixpath.basename(key).removesuffix(".json")
        temporary = f"{self._incoming}{name}.{secrets.token_hex(8)}.new"
        write_file(self._server, temporary, content, _STATE_MODE)
        self._server.replace(temporary, key)
        self._server.sync_folder(posixpath.dirname(key))

    def remove_object(self, key: str) -> None:
        """Remove a file, if it is there."""
        self._server.remove(key)

    def list_objects(self, prefix: str) -> Iterator[str]:
        """List the files of a folder, and of the folders in it."""
        for name, is_folder in self._server.names(prefix.rstrip("/") or "."):
            if is_folder:
                yield from self.list_objects(f"{prefix}{name}/")
            else:
                yield f"{prefix}{name}"
