"""A network of its own for one machine of a fleet, which can be cut off without a word and healed. Needs root and `ip`.

The machine reaches the database over a bridge. Out of the bridge, its packets go nowhere, and nobody says so: no reset,
no "unreachable". What it needs besides, MESH and S3, it reaches by relays over sockets in the file system, which a cut
does not touch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

HOST, GUEST = "10.211.77.1", "10.211.77.2"
_HOST_MAC, _GUEST_MAC = "02:00:00:00:77:01", "02:00:00:00:77:02"
_NAME = "nmfleet"


def can_be_cut() -> bool:
    """Whether this machine can make networks."""
    return sys.platform == "linux" and os.getuid() == 0 and shutil.which("ip") is not None


class Network:
    """The network of one machine."""

    before = ("ip", "netns", "exec", _NAME)
    """What a command is run in it with."""

    def cut(self) -> None:
        """Let every packet to and from the machine vanish."""
        _ip("link", "set", f"{_NAME}0", "nomaster")

    def heal(self) -> None:
        """Let packets through again."""
        _ip("link", "set", f"{_NAME}0", "master", _NAME)


@contextlib.contextmanager
def network(folder: Path, ports: Sequence[int]) -> Iterator[Network]:
    """A network while the block runs.

    Args:
        folder: where the relays have their sockets.
        ports: ports of this machine that are reached in it under the same numbers.
    """
    relays: list[subprocess.Popen[bytes]] = []
    _remove()
    try:
        _ip("netns", "add", _NAME)
        _ip("link", "add", _NAME, "address", _HOST_MAC, "type", "bridge")
        _ip("link", "add", f"{_NAME}0", "type", "veth", "peer", "name", f"{_NAME}1")
        _ip("link", "set", f"{_NAME}1", "netns", _NAME, "address", _GUEST_MAC)
        _ip("link", "set", f"{_NAME}0", "master", _NAME, "up")
        _ip("addr", "add", f"{HOST}/24", "dev", _NAME)
        _ip("link", "set", _NAME, "up")
        for arguments in (
            ("addr", "add", f"{GUEST}/24", "dev", f"{_NAME}1"),
            ("link", "set", f"{_NAME}1", "up"),
            ("link", "set", "lo", "up"),
            # Else the machine that looks for the other's address in vain would hear of it.
            ("neigh", "replace", HOST, "lladdr", _HOST_MAC, "dev", f"{_NAME}1", "nud", "permanent"),
        ):
            _ip("-n", _NAME, *arguments)
        _ip("neigh", "replace", GUEST, "lladdr", _GUEST_MAC, "dev", _NAME, "nud", "permanent")
        for port in ports:
            socket = str(folder / f"{port}.sock")
            relay = [sys.executable, __file__]
            relays.append(subprocess.Popen([*relay, "out", socket, str(port)]))
            relays.append(subprocess.Popen([*Network.before, *relay, "in", socket, str(port)]))
        yield Network()
    finally:
        for process in relays:
            process.kill()
            process.wait()
        _remove()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)  # noqa: S607


def _remove() -> None:
    for arguments in (("link", "del", f"{_NAME}0"), ("link", "del", _NAME), ("netns", "del", _NAME)):
        subprocess.run(["ip", *arguments], check=False, stderr=subprocess.DEVNULL)  # noqa: S607


async def _relay(side: str, socket: str, port: int) -> None:
    """Connect a port with a socket in the file system: its one end inside the network, its other one outside."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while block := await reader.read(65536):
                writer.write(block)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if side == "in":
                other = await asyncio.open_unix_connection(socket)
            else:
                other = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, other[1]), pump(other[0], writer))

    if side == "in":
        server = await asyncio.start_server(connected, "127.0.0.1", port)
    else:
        server = await asyncio.start_unix_server(connected, socket)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_relay(sys.argv[1], sys.argv[2], int(sys.argv[3])))
