"""A network of its own for one machine of a fleet, which can be cut off without a word and healed. Needs root and `ip`.

The machine reaches the database over a bridge. Out of the bridge, its packets go nowhere, and nobody says so: no reset,
no "unreachable". What it needs besides, MESH and S3, it reaches by relays over sockets in the file system, which a cut
does not touch.

Each run has a number of its own, and names and addresses by it. A process of its own takes all of it away when the run
has ended, also if that was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

_LOCKS = Path(tempfile.gettempdir()) / "nel-mesh-test-networks"


def can_be_cut() -> bool:
    """Whether this machine can make networks."""
    return sys.platform == "linux" and os.getuid() == 0 and shutil.which("ip") is not None


class Network:
    """The network of one machine.

    Args:
        number: no other run on this machine has it.

    Attributes:
        number: that number.
        name: of the bridge and of the namespace.
        host: the address of this machine in it.
        guest: the address of the machine that has it.
        before: what a command is run in it with.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"nmfleet{number}"
        self.host, self.guest = f"10.211.{number}.1", f"10.211.{number}.2"
        self.before = ("ip", "netns", "exec", self.name)

    def make(self) -> None:
        """Make it, in place of one whose run left it."""
        self.remove()
        ours, theirs = f"{self.name}a", f"{self.name}b"
        host_mac, guest_mac = (f"02:00:00:77:{self.number:02x}:{side}" for side in ("01", "02"))
        _ip("netns", "add", self.name)
        _ip("link", "add", self.name, "address", host_mac, "type", "bridge")
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs)
        _ip("link", "set", theirs, "netns", self.name, "address", guest_mac)
        _ip("link", "set", ours, "master", self.name, "up")
        _ip("addr", "add", f"{self.host}/24", "dev", self.name)
        _ip("link", "set", self.name, "up")
        for arguments in (
            ("addr", "add", f"{self.guest}/24", "dev", theirs),
            ("link", "set", theirs, "up"),
            ("link", "set", "lo", "up"),
            # Else the machine that looks for the other's address in vain would hear of it.
            ("neigh", "replace", self.host, "lladdr", host_mac, "dev", theirs, "nud", "permanent"),
        ):
            _ip("-n", self.name, *arguments)
        _ip("neigh", "replace", self.guest, "lladdr", guest_mac, "dev", self.name, "nud", "permanent")

    def cut(self) -> None:
        """Let every packet to and from the machine vanish."""
        _ip("link", "set", f"{self.name}a", "nomaster")

    def heal(self) -> None:
        """Let packets through again."""
        _ip("link", "set", f"{self.name}a", "master", self.name)

    def remove(self) -> None:
        """Take it away, with the processes that run in it."""
        found = subprocess.run(["ip", "netns", "pids", self.name], check=False, capture_output=True)  # noqa: S607
        for pid in found.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for arguments in (("link", "del", f"{self.name}a"), ("link", "del", self.name), ("netns", "del", self.name)):
            subprocess.run(["ip", *arguments], check=False, stderr=subprocess.DEVNULL)  # noqa: S607


@contextlib.contextmanager
def network(folder: Path, ports: Sequence[int]) -> Iterator[Network]:
    """A network while the block runs.

    Args:
        folder: where the relays have their sockets.
        ports: ports of this machine that are reached in it under the same numbers.
    """
    lock, number = _take_number()
    made = Network(number)
    own = [sys.executable, __file__]
    with lock, contextlib.ExitStack() as stack:
        # It has the number until it has taken the network away. Ctrl-C is not for it.
        command = [*own, "remove", str(number)]
        stack.enter_context(_until_the_end(command, pass_fds=[lock.fileno()], start_new_session=True))
        made.make()
        for port in ports:
            socket = str(folder / f"{port}.sock")
            stack.enter_context(_until_the_end([*own, "out", socket, str(port)]))
            stack.enter_context(_until_the_end([*made.before, *own, "in", socket, str(port)]))
        yield made


@contextlib.contextmanager
def _until_the_end(command: Sequence[str], **options: Any) -> Iterator[None]:
    """A process that ends when its input does: with the block, or with this process, however that ends."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, **options):
        yield


def _take_number() -> tuple[IO[bytes], int]:
    """Return a number that no other run on this machine has, and the file that is locked for it while it is open."""
    import fcntl

    _LOCKS.mkdir(mode=0o777, exist_ok=True)
    for number in range(1, 255):
        lock = (_LOCKS / str(number)).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return lock, number
    raise RuntimeError(f"every number of a network is taken: {_LOCKS}")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)  # noqa: S607


async def _relay(side: str, socket: str, port: int) -> None:
    """Connect a port with a socket in the file system: its one end inside the network, its other one outside."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while not writer.is_closing() and (block := await reader.read(65536)):
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
    assert server.is_serving()
    await asyncio.to_thread(sys.stdin.buffer.read)


def _main() -> None:
    """Be one of the processes of a network, until the input ends."""
    side, *rest = sys.argv[1:]
    if side == "remove":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.stdin.buffer.read()
        Network(int(rest[0])).remove()
    else:
        asyncio.run(_relay(side, rest[0], int(rest[1])))


if __name__ == "__main__":
    _main()
