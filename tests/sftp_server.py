"""A server of SFTP in this process (asyncssh's), which lacks what it is told to lack and breaks chosen operations."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.sftp import SFTPServerHandler
from asyncssh.stream import SSHReader, SSHServerStreamSession, SSHWriter

from sshd import SftpAccount

EXTENSIONS = ("fsync@openssh.com", "hardlink@openssh.com", "posix-rename@openssh.com", "statvfs@openssh.com")
FAILURE, NO_SPACE, PERMISSION_DENIED = 4, 14, 3

_NAMES = {
    3: "open", 4: "close", 5: "read", 6: "write", 7: "lstat", 8: "fstat", 9: "setstat", 10: "fsetstat", 11: "opendir",
    12: "readdir", 13: "remove", 14: "mkdir", 15: "rmdir", 16: "realpath", 17: "stat", 18: "rename",
}  # fmt: skip
_EXTENDED, _STATUS = 200, 101
_WITHOUT_PATH = {"close", "read", "write", "fstat", "fsetstat", "readdir", "fsync@openssh.com", "limits@openssh.com"}


@dataclasses.dataclass
class Break:
    """What is done to operations that match.

    Attributes:
        pattern: a regular expression for the operation and its path, such as `open .*\\.part`.
        how: `cut` the connection before the operation, `lose-response` of one that was carried out, `stall` for ever,
            `refuse` with a code, or `call` something first.
        times: how many operations; the first `after` pass.
        code: for `refuse`.
        before: for `call`.
    """

    pattern: str
    how: str
    times: int = 1
    after: int = 0
    code: int = FAILURE
    before: Callable[[], object] | None = None


class FaultyServer(SftpAccount):
    """See the module; `seen` has the operations.

    Attributes:
        without: names of extensions that it does not have.
        rename_replaces: whether a plain rename replaces a file that has the name.
        room_bytes: how much can be written before its disk is full; None for a disk without end.
        full_code: what it then says.
        free_bytes: what it says when it is asked for its free space; None for the truth.
        has_sftp: whether it lets the account use SFTP.
        accepts_nobody: whether it refuses every key.
        connections: those that are open.
    """

    def __init__(self, port: int, home: Path, folder: Path) -> None:
        super().__init__(port, home, folder)
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.reset()

    def reset(self) -> None:
        """Become a server without faults."""
        self.without: frozenset[str] = frozenset()
        self.rename_replaces = False
        self.room_bytes: int | None = None
        self.full_code = FAILURE
        self.free_bytes: int | None = None
        self.has_sftp = True
        self.accepts_nobody = False
        self.breaks: list[Break] = []
        self.seen: list[str] = []

    def add(self, pattern: str, how: str, **more: Any) -> None:
        self.breaks.append(Break(pattern, how, **more))

    def count(self, pattern: str) -> int:
        """How many operations have come that match."""
        return sum(re.search(pattern, line) is not None for line in self.seen)

    def due(self, line: str) -> Break | None:
        self.seen.append(line)
        for one in self.breaks:
            if one.times and re.search(one.pattern, line):
                if one.after:
                    one.after -= 1
                    continue
                one.times -= 1
                return one
        return None


class _Files(asyncssh.SFTPServer):
    def __init__(self, chan: Any, faulty: FaultyServer) -> None:
        super().__init__(chan)
        self._faulty = faulty

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        if self._faulty.rename_replaces:
            return self.posix_rename(oldpath, newpath)
        return super().rename(oldpath, newpath)

    def statvfs(self, path: bytes) -> Any:
        if self._faulty.free_bytes is None:
            return super().statvfs(path)
        return asyncssh.SFTPVFSAttrs(bsize=1, frsize=1, blocks=10**9, bfree=0, bavail=self._faulty.free_bytes)


class _Handler(SFTPServerHandler):
    _faulty: FaultyServer
    _is_silent = False

    async def _process_packet(self, pkttype: int, pktid: int, packet: Any) -> None:
        rest = packet.get_remaining_payload()
        name = _text(rest) if pkttype == _EXTENDED else _NAMES.get(pkttype, str(pkttype))
        path = "" if name in _WITHOUT_PATH else _text(rest[4 + len(name) :] if pkttype == _EXTENDED else rest)
        due = self._faulty.due(f"{name} {path}".rstrip())
        how = None if due is None else due.how
        code = due.code if due is not None and how == "refuse" else None
        if name in self._faulty.without:
            code = 8
        elif name == "write" and code is None and how is None:
            code = self._take_room(rest)
        if how == "stall":
            return
        if due is not None and due.before is not None:
            due.before()
        if code is not None:
            self.send_packet(_STATUS, pktid, struct.pack(">IIIII", pktid, code, 0, 0, 0)[:-4])
            return
        if how != "cut":
            self._is_silent = how == "lose-response"
            await super()._process_packet(pkttype, pktid, packet)
        if how in ("cut", "lose-response"):
            assert self._writer is not None
            self._writer.channel.get_connection().abort()

    def _take_room(self, rest: bytes) -> int | None:
        if self._faulty.room_bytes is None:
            return None
        (handle,) = struct.unpack_from(">I", rest)
        (length,) = struct.unpack_from(">I", rest, 4 + handle + 8)
        if length > self._faulty.room_bytes:
            return self._faulty.full_code
        self._faulty.room_bytes -= length
        return None

    def send_packet(self, pkttype: int, pktid: int | None, *args: bytes) -> None:
        if not self._is_silent:
            super().send_packet(pkttype, pktid, *args)


def _text(rest: bytes) -> str:
    (length,) = struct.unpack_from(">I", rest)
    return rest[4 : 4 + length].decode()


class _Session(SSHServerStreamSession[bytes]):
    def __init__(self, faulty: FaultyServer) -> None:
        super().__init__(None)
        self._faulty = faulty

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp" and self._faulty.has_sftp

    def session_started(self) -> None:
        assert self._chan is not None
        assert self._conn is not None
        self._chan.set_encoding(None)
        self._encoding = None
        reader, writer = SSHReader(self, self._chan), SSHWriter(self, self._chan)
        handler = _Handler(_Files(self._chan, self._faulty), reader, writer, 3)
        handler._faulty = self._faulty
        lacking = self._faulty.without
        handler._extensions = [one for one in SFTPServerHandler._extensions if one[0].decode() not in lacking]
        self._conn.create_task(handler.run(), handler.logger)


class _Login(asyncssh.SSHServer):
    def __init__(self, faulty: FaultyServer) -> None:
        self._faulty = faulty

    def begin_auth(self, username: str) -> bool:
        if self._faulty.accepts_nobody:
            self._conn.set_authorized_keys(asyncssh.import_authorized_keys(""))
        return True

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        self._faulty.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._faulty.connections.discard(self._conn)

    def session_requested(self) -> Any:
        return _Session(self._faulty)


@contextlib.contextmanager
def faulty_server(folder: Path) -> Iterator[FaultyServer]:
    """A server without faults, until it is told to have some."""
    ssh, files = folder / "home" / ".ssh", folder / "files"
    ssh.mkdir(parents=True, mode=0o700)
    files.mkdir()
    host, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    client.write_private_key(ssh / "id_ed25519")
    client.write_public_key(ssh / "id_ed25519.pub")
    accepted = folder / "accepted"
    client.write_public_key(accepted)
    faulty = FaultyServer(0, folder / "home", files)
    loop = asyncio.new_event_loop()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Login(faulty),
            server_host_keys=[host],
            authorized_client_keys=str(accepted),
            encoding=None,
        )

    async def end(acceptor: asyncssh.SSHAcceptor) -> None:
        acceptor.close()
        for connection in list(faulty.connections):
            connection.abort()
        await acceptor.wait_closed()

    acceptor = loop.run_until_complete(listen())
    faulty.port = acceptor.get_port()
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{faulty.port} {host.export_public_key().decode()}")
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield faulty
    finally:
        asyncio.run_coroutine_threadsafe(end(acceptor), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
