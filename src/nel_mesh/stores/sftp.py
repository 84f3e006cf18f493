"""A server of SFTP. This module knows asyncssh, and no other does.

Errors name the server, the path and the kind of the server's refusal; its own texts are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from nel_mesh.errors import InvalidArgument, MeshError, StorageError
from nel_mesh.stores.loop import Call, LoopThread

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SFTPClientFile, SFTPName, SSHClientConnection, SSHClientConnectionOptions

try:
    import asyncssh
except ModuleNotFoundError:
    # The names of this package can be imported without any extra.
    _is_installed = False
else:
    _is_installed = True

_Value = TypeVar("_Value")

READ_BLOCK_BYTES = 1024 * 1024

_CONNECT_SECONDS, _LOGIN_SECONDS = 20, 60
_KEEPALIVE_SECONDS, _KEEPALIVES = 15, 4
_CLOSE_SECONDS = 5
_CIPHERS = "^aes256-gcm@openssh.com,aes128-gcm@openssh.com"
"""Those that come first, unless the caller or the ssh configuration names others: half as long as ChaCha20 on a CPU
with AES instructions (128 MiB into OpenSSH: 0.7 s of CPU, in place of 1.2)."""
_NAMES_AT_ONCE = 500
_FULL_BYTES = 1024 * 1024
"""A file system with less free space than this is full."""

_LATER = "run it again: it continues where it was"


class FileStatus(NamedTuple):
    """What a server says of an open file.

    Attributes:
        length: its length in bytes.
        modified_ns: when it was changed, in nanoseconds since 1970; most servers tell the second only.
    """

    length: int
    modified_ns: int


class SftpServer:
    """A server of SFTP, through one connection that is made when it is needed, and made again when it is lost.

    Args:
        host: its name, or a name from the ssh configuration.
        port: its port; None for that of the ssh configuration, else 22.
        username: the account; None for that of the ssh configuration, else the name of the local user.
        known_hosts: the file of known host keys; None for those of the ssh configuration, else `~/.ssh/known_hosts` and
            `/etc/ssh/ssh_known_hosts`.
        ssh_options: more arguments of `asyncssh.connect`, such as `passphrase`.
        timeout_seconds: how long the server may take for one operation.
        failure: the class of its errors.
        shows_paths: whether errors name paths; not where somebody else chose them.
    """

    def __init__(
        self,
        host: str,
        *,
        port: int | None = None,
        username: str | None = None,
        known_hosts: str | os.PathLike[str] | None = None,
        ssh_options: Mapping[str, Any] | None = None,
        timeout_seconds: float = 120,
        failure: type[MeshError] = StorageError,
        shows_paths: bool = True,
    ) -> None:
        if not _is_installed:
            raise InvalidArgument("SFTP needs asyncssh; run pip install 'nel-mesh[sftp]'")
        if not host or host.startswith("-") or any(character in host for character in "/@ "):
            raise InvalidArgument("destination: name the host, as in sftp://host/{workflow_id}/{message_id}")
        if ssh_options and "known_hosts" in ssh_options:
            raise InvalidArgument("ssh_options: give known_hosts as an argument of its own, the path of a file")
        named = f"[{host}]" if ":" in host else host
        self.place = f"sftp://{named}" if port is None else f"sftp://{named}:{port}"
        self._host = host
        self._port = port
        self._username = username
        self._known_hosts = known_hosts
        self._ssh_options = dict(ssh_options or {})
        self._timeout = timeout_seconds
        self._failure = failure
        self._shows_paths = shows_paths
        self._loop = LoopThread()
        self._process_id = os.getpid()
        self._connecting = asyncio.Lock()
        self._connection: SSHClientConnection | None = None
        self._client: SFTPClient | None = None
        self.has_fsync: bool | None = None
        """Whether the server can make a file durable; None before it was asked."""

    def error(self, path: str, reason: str) -> MeshError:
        """Return an error about a path."""
        return self._failure(f"{self.place}/{path}: {reason}" if self._shows_paths else f"{self.place}: {reason}")

    def close(self) -> None:
        """Close the connection, and end the thread that served it."""
        if self._loop.is_running:
            self._loop.call(self._disconnect)
        self._loop.close()

    # Files

    def create(self, path: str, mode: int) -> SftpFile:
        """Make a file, which must not exist, to write to it and to read from it; its folders are made if need be."""

        async def create(client: SFTPClient) -> SftpFile:
            attributes = asyncssh.SFTPAttrs(permissions=mode)
            try:
                opened = await client.open(path, "x+b", attributes)
            except _missing():
                await _make_folder_of(client, path)
                opened = await client.open(path, "x+b", attributes)
            return SftpFile(self, client, path, opened)

        return self.call(path, create)

    def open(self, path: str, *, writable: bool = False) -> SftpFile | None:
        """Open a file; None if there is none."""

        async def open_file(client: SFTPClient) -> SftpFile | None:
            try:
                opened = await client.open(path, "r+b" if writable else "rb")
            except _missing():
                return None
            return SftpFile(self, client, path, opened)

        return self.call(path, open_file)

    def size(self, path: str) -> int | None:
        """Return the length of a file in bytes; None if there is none."""

        async def size(client: SFTPClient) -> int | None:
            try:
                return (await client.stat(path)).size or 0
            except _missing():
                return None

        return self.call(path, size)

    def exists(self, path: str) -> bool:
        """Whether anything has this name."""

        async def exists(client: SFTPClient) -> bool:
            try:
                await client.lstat(path)
            except _missing():
                return False
            return True

        return self.call(path, exists)

    def link(self, path: str, name: str) -> bool:
        """Give a file another name; False if the server will not, for whatever reason."""

        async def link(client: SFTPClient) -> bool:
            try:
                try:
                    await client.link(path, name)
                except _missing():
                    await _make_folder_of(client, name)
                    await client.link(path, name)
            except _lost():
                raise
            except asyncssh.SFTPError:
                return False
            return True

        return self.call(name, link)

    def rename(self, path: str, name: str) -> bool:
        """Give a file another name in place of the one it has; False if the server will not, for whatever reason.

        Of an existing file of that name OpenSSH makes a refusal; other servers replace it.
        """

        async def rename(client: SFTPClient) -> bool:
            try:
                await client.rename(path, name)
            except _lost():
                raise
            except asyncssh.SFTPError:
                return False
            return True

        return self.call(name, rename)

    def replace(self, path: str, name: str) -> None:
        """Give a file the name of another one, which goes; at once, if the server can."""

        async def replace(client: SFTPClient) -> None:
            try:
                try:
                    await client.posix_rename(path, name)
                except _missing():
                    await _make_folder_of(client, name)
                    await client.posix_rename(path, name)
            except asyncssh.SFTPOpUnsupported:
                await _make_folder_of(client, name)
                with contextlib.suppress(*_missing()):
                    await client.remove(name)
                await client.rename(path, name)

        self.call(name, replace)

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""

        async def remove(client: SFTPClient) -> None:
            with contextlib.suppress(*_missing()):
                await client.remove(path)

        self.call(path, remove)

    def sync_folder(self, path: str) -> bool:
        """Make the names in a folder durable; False if the server cannot."""
        if not self.has_fsync:
            return False

        async def sync_folder(client: SFTPClient) -> bool:
            try:
                async with client.open(path or ".", "rb") as folder:
                    await folder.fsync()
            except _lost():
                raise
            except asyncssh.SFTPError:
                return False
            return True

        return self.call(path, sync_folder)

    def names(self, path: str) -> Iterator[tuple[str, bool]]:
        """List what is in a folder, if there is one: names, and whether each is a folder."""

        async def begin(client: SFTPClient) -> AsyncIterator[SFTPName]:
            return client.scandir(path)

        async def more(client: SFTPClient, found: AsyncIterator[SFTPName]) -> list[tuple[str, bool]]:
            names: list[tuple[str, bool]] = []
            with contextlib.suppress(*_missing()):
                async for one in found:
                    is_folder = one.attrs.type == asyncssh.FILEXFER_TYPE_DIRECTORY
                    names.append((str(one.filename), is_folder))
                    if len(names) == _NAMES_AT_ONCE:
                        break
            return names

        async def end(_: SFTPClient, found: Any) -> None:
            await found.aclose()

        found = self.call(path, begin)
        try:
            while names := self.call(path, more, found):
                yield from ((name, is_folder) for name, is_folder in names if name not in (".", ".."))
        finally:
            # Not waited for: after an interrupt a listing that still runs ends by itself, and this fails.
            if self._loop.is_running:
                self.start(path, end, found)

    # The connection

    def call(self, path: str, operation: Callable[..., Awaitable[_Value]], *arguments: Any) -> _Value:
        """Run an operation with the client of asyncssh, and wait for its end."""
        return self.start(path, operation, *arguments).result()

    def start(
        self,
        path: str,
        operation: Callable[..., Awaitable[_Value]],
        *arguments: Any,
        client: SFTPClient | None = None,
    ) -> Call[_Value]:
        """Run an operation with a client of asyncssh, and do not wait for it.

        It is given that client, and the arguments. A file belongs to the client that has opened it.
        """
        if self._process_id != os.getpid():
            # The parent has the connection.
            self._process_id = os.getpid()
            self._connecting = asyncio.Lock()
            self._connection = self._client = None
        return self._loop.start(self._perform, path, operation, arguments, client)

    async def _perform(
        self,
        path: str,
        operation: Callable[..., Awaitable[_Value]],
        arguments: tuple[Any, ...],
        client: SFTPClient | None,
    ) -> _Value:
        if client is None:
            client = await self._connected()
        try:
            async with asyncio.timeout(self._timeout):
                return await operation(client, *arguments)
        except TimeoutError:
            await self._drop(client)
            raise self.error(path, f"the server did not respond within {self._timeout:g} s; {_LATER}") from None
        except (asyncssh.Error, OSError) as error:
            if isinstance(error, _lost()) or not isinstance(error, asyncssh.SFTPError):
                await self._drop(client)
                raise self.error(path, f"the connection was lost; {_LATER}") from None
            raise self.error(path, await self._reason(client, path, error)) from None

    async def _reason(self, client: SFTPClient, path: str, error: asyncssh.SFTPError) -> str:
        if isinstance(error, (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)):
            return "the disk of the server is full: free some space, then run it again"
        if isinstance(error, asyncssh.SFTPPermissionDenied):
            return "the account may not do that: give it the permissions in docs/destinations.md"
        if isinstance(error, _missing()):
            return "there is no such file or folder, or another process has removed it; run it again"
        name = type(error).__name__.removeprefix("SFTP")
        if isinstance(error, asyncssh.SFTPFailure) and await self._is_full(client, path):
            return "the disk of the server is full: free some space, then run it again"
        return f"the server refused it ({name}); check the folder and the free space on the server, then run it again"

    async def _is_full(self, client: SFTPClient, path: str) -> bool:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                found = await client.statvfs(posixpath.dirname(path) or ".")
        except (asyncssh.Error, OSError):
            return False
        return found.bavail * found.frsize < _FULL_BYTES or bool(found.files and not found.favail)

    async def _connected(self) -> SFTPClient:
        async with self._connecting:
            if self._connection is not None and self._connection.is_closed():
                self._connection = self._client = None
            if self._client is None:
                connection = await self._connect()
                try:
                    async with asyncio.timeout(self._timeout):
                        self._client = await connection.start_sftp_client()
                except (asyncssh.Error, OSError):
                    raise self._failure(f"{self.place}: the server refused SFTP to this account") from None
                finally:
                    if self._client is None:
                        connection.abort()
                self._connection = connection
            return self._client

    async def _connect(self) -> SSHClientConnection:
        given = self._arguments()
        options = await self._options(given)
        if not options.config.get("Ciphers"):
            given.setdefault("encryption_algs", _CIPHERS)
        trusted = _known_host_keys(self._known_hosts, options)
        try:
            return await asyncssh.connect(**given, known_hosts=trusted)
        except (asyncssh.Error, OSError, ValueError) as error:
            raise self._failure(f"{self.place}: {self._connect_reason(error, options, trusted)}") from None

    def _arguments(self) -> dict[str, Any]:
        given: dict[str, Any] = {
            # Of the user. `connect` looks for it by itself; the options do so only if they are told.
            "config": (),
            "connect_timeout": _CONNECT_SECONDS,
            "login_timeout": _LOGIN_SECONDS,
            "keepalive_interval": _KEEPALIVE_SECONDS,
            "keepalive_count_max": _KEEPALIVES,
            **self._ssh_options,
            "host": self._host,
        }
        if self._port is not None:
            given["port"] = self._port
        if self._username is not None:
            given["username"] = self._username
        return given

    async def _options(self, given: Mapping[str, Any]) -> SSHClientConnectionOptions:
        """Return what asyncssh makes of the arguments and of the ssh configuration."""
        try:
            options: SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(**given)
        except (asyncssh.Error, OSError, ValueError, TypeError) as error:
            kind = type(error).__name__
            raise self._failure(
                f"{self.place}: the ssh configuration, a key file or ssh_options cannot be used ({kind}); "
                f"check that `ssh {self._host}` works"
            ) from None
        return options

    def _connect_reason(
        self, error: Exception, options: SSHClientConnectionOptions, trusted: asyncssh.SSHKnownHosts
    ) -> str:
        host, port = options.host, options.port
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            keys, authorities, revoked, *_ = asyncssh.match_known_hosts(
                trusted, options.host_key_alias or host, "", port if port != 22 else None
            )
            scan = f"ssh-keyscan {'' if port == 22 else f'-p {port} '}{host}"
            if keys or authorities or revoked:
                return (
                    "the host key of the server is not the one that is known. It may have been installed again, or "
                    "somebody may be between you and it: nothing was sent. Ask its operator for the fingerprint of "
                    f"the new key; if it is right, remove the old one (ssh-keygen -R '{_entry(host, port)}') and "
                    f"add the new one ({scan} >> ~/.ssh/known_hosts)"
                )
            return (
                "the host key of the server is not known: nothing was sent. Fetch it "
                f"({scan} > key), compare its fingerprint (ssh-keygen -lf key) with the one that the server's operator "
                "gives, then add it (cat key >> ~/.ssh/known_hosts)"
            )
        if isinstance(error, asyncssh.PermissionDenied):
            return (
                f"the server refused the login of {options.username}: check the account, the key and the ssh agent "
                f"(`sftp {self._host}` must work without a question)"
            )
        if isinstance(error, asyncssh.KeyExchangeFailed):
            return "server and client have no kind of host key or cipher in common; check known_hosts"
        if isinstance(error, TimeoutError):
            return f"no connection within {_CONNECT_SECONDS} s; check host, port and firewall"
        if isinstance(error, OSError):
            return f"no connection ({error.strerror or type(error).__name__}); check host, port and firewall"
        return f"no connection ({type(error).__name__}); check that `sftp {self._host}` works"

    async def _drop(self, client: SFTPClient) -> None:
        """Forget a connection that does not work, unless there is another one since."""
        if client is self._client and self._connection is not None:
            self._connection.abort()
            self._connection = self._client = None

    async def _disconnect(self) -> None:
        connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            connection.close()
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await connection.wait_closed()
            except (TimeoutError, asyncssh.Error, OSError):
                connection.abort()


class SftpFile:
    """An open file of a server. Its handle belongs to one connection: if that is lost, so is the file."""

    def __init__(self, server: SftpServer, client: SFTPClient, path: str, opened: SFTPClientFile) -> None:
        self._server = server
        self._client = client
        self._path = path
        self._file = opened
        self._is_closed = False

    def unit(self, most: int) -> int:
        """Return how many bytes to give to `start_write`: up to `most`, without a short request at their end."""
        request: int = self._file.write_len
        return most // request * request or most

    def start_write(self, position: int, content: bytes | memoryview) -> Call[object]:
        """Write content at a position, and wait only until it is encrypted. It stays as it is until that is done."""

        async def write(_: SFTPClient) -> object:
            # asyncssh only cuts and joins it, which needs no copy of a view.
            return await self._file.write(cast(bytes, content), position)

        call = self._server.start(self._path, write, client=self._client)
        call.wait_begun()
        return call

    def start_read(self, position: int, size: int) -> Call[bytes]:
        """Read up to so many bytes from a position on, and do not wait for them."""

        async def read(_: SFTPClient) -> bytes:
            return await self._file.read(size, position)

        return self._server.start(self._path, read, client=self._client)

    def blocks(self, position: int, end: int | None = None) -> Iterator[bytes]:
        """Read from a position on, each block while the one before it is used."""
        coming = self.start_read(position, READ_BLOCK_BYTES)
        while block := coming.result():
            position += len(block)
            if end is not None and position >= end:
                yield block[: len(block) - (position - end)]
                return
            coming = self.start_read(position, READ_BLOCK_BYTES)
            yield block

    def sync(self) -> bool:
        """Make what was written durable; False if the server cannot."""
        if self._server.has_fsync is not False:
            self._server.has_fsync = self.start_sync().result()
        return self._server.has_fsync

    def start_sync(self) -> Call[bool]:
        """Begin to make durable what was written, and do not wait for it; the result is False if the server cannot."""

        async def fsync(_: SFTPClient) -> bool:
            try:
                await self._file.fsync()
            except asyncssh.SFTPOpUnsupported:
                return False
            return True

        return self._server.start(self._path, fsync, client=self._client)

    def status(self) -> FileStatus:
        """Return its length, and when it was changed."""

        async def status(_: SFTPClient) -> FileStatus:
            found = await self._file.stat()
            return FileStatus(found.size or 0, (found.mtime or 0) * 10**9 + (found.mtime_ns or 0))

        return self._call(status)

    def set_length(self, length: int) -> None:
        """Cut it off, or fill it up with zeros."""

        async def truncate(_: SFTPClient) -> None:
            await self._file.truncate(length)

        self._call(truncate)

    def close(self) -> None:
        """Close it."""
        if self._is_closed:
            return
        self._is_closed = True

        async def close(_: SFTPClient) -> None:
            await self._file.close()

        self._call(close)

    def _call(self, operation: Callable[[SFTPClient], Awaitable[_Value]]) -> _Value:
        return self._server.start(self._path, operation, client=self._client).result()


def _known_host_keys(
    given: str | os.PathLike[str] | None, options: SSHClientConnectionOptions
) -> asyncssh.SSHKnownHosts:
    """Return the host keys that are trusted; `UserKnownHostsFile none` does not mean all of them."""
    if given is not None:
        files = [Path(given)]
        if not files[0].is_file():
            raise InvalidArgument(f"known_hosts: there is no file {given}")
    else:
        configured = options.known_hosts if isinstance(options.known_hosts, list) else []
        files = [Path(str(name)).expanduser() for name in configured]
        files = files or [Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")]
    try:
        return asyncssh.read_known_hosts([str(file) for file in files if file.is_file()])
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"known_hosts: the file cannot be used ({type(error).__name__})") from None


async def _make_folder_of(client: SFTPClient, path: str) -> None:
    if folder := posixpath.dirname(path):
        await client.makedirs(folder, exist_ok=True)


def _entry(host: str, port: int) -> str:
    return host if port == 22 else f"[{host}]:{port}"


def _missing() -> tuple[type[Exception], ...]:
    return asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath


def _lost() -> tuple[type[Exception], ...]:
    return asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection
