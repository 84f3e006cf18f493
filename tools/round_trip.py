"""Import all of an installed package, then send and receive with both clients, over mutual TLS.

round_trip.py SENDER RECIPIENT EXTRA...     the settings files of two mailboxes, and the extras that are installed
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import sys
import tempfile
from pathlib import Path

import anyio

import nel_mesh
from nel_mesh import AsyncMeshClient, MeshClient, MeshSettings

NEEDED = {
    "agent": {"agent"},
    "cli": {"cli"},
    "console": {"agent", "console"},
    "fleet": {"agent", "fleet"},
    "ledger": {"agent"},
    "sandbox": {"sandbox"},
}
"""The extras that a room of the package needs."""

CONTENT = b"id,value\n" + bytes(range(256)) * 8000


def check(holds: bool, what: str) -> None:
    """End the program if something does not hold."""
    if not holds:
        sys.exit(f"round trip: {what}")


def import_all(extras: list[str]) -> None:
    """Import every public name, and every module but those of missing extras."""
    package = Path(nel_mesh.__file__).parent
    check(Path(sys.prefix) in package.parents, f"not the installed package, but {package}")
    check(nel_mesh.__version__ == importlib.metadata.version("nel-mesh"), "the version is not that of the metadata")
    for name in nel_mesh.__all__:
        getattr(nel_mesh, name)
    without = tuple(f"nel_mesh.{room}." for room, needed in NEEDED.items() if not needed <= set(extras))
    for module in pkgutil.walk_packages(nel_mesh.__path__, "nel_mesh."):
        if not module.name.startswith(without) and not module.name.endswith("pytest_plugin"):
            importlib.import_module(module.name)


def sync(sender: MeshSettings, recipient: MeshSettings, folder: Path) -> None:
    """Send a file in chunks, gzipped, and receive it."""
    (folder / "results.csv").write_bytes(CONTENT)
    with MeshClient(sender) as alice, MeshClient(recipient) as bob:
        alice.handshake()
        sent = alice.send_file(folder / "results.csv", to=bob.mailbox_id, workflow_id="PATH_RESULTS", compress=True)
        check(alice.track_message(sent.message_id).status == "accepted", "not accepted")
        received = bob.receive_file(sent.message_id, folder / "inbox")
        check(received.path.read_bytes() == CONTENT, "the file is another")
        bob.acknowledge_message(sent.message_id)


async def unblocking(sender: MeshSettings, recipient: MeshSettings) -> None:
    """Send and receive with the async client."""
    async with AsyncMeshClient(sender) as alice, AsyncMeshClient(recipient) as bob:
        sent = await alice.send_message(CONTENT, to=bob.mailbox_id, workflow_id="PATH_RESULTS")
        check([one async for one in bob.iter_message_ids()] == [sent.message_id], "not in the inbox")
        async with bob.retrieve_message(sent.message_id) as message:
            check(await message.read() == CONTENT, "the message is another")
        await bob.acknowledge_message(sent.message_id)


def main() -> None:
    """Run the tool."""
    sender, recipient = (MeshSettings.from_file(path, max_chunk_size_in_megabytes=0.5) for path in sys.argv[1:3])
    check(sender.url.startswith("https:"), "no TLS")
    import_all(sys.argv[3:])
    with tempfile.TemporaryDirectory() as folder:
        sync(sender, recipient, Path(folder))
    anyio.run(unblocking, sender, recipient)


if __name__ == "__main__":
    main()
