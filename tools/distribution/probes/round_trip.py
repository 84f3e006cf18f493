"""Sends and receives in both colours, over mutual TLS: the arguments are the settings files of two mailboxes."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import anyio

from nel_mesh import AsyncMeshClient, MeshClient, MeshSettings, NotFound

CONTENT = b"id,value\n" + bytes(range(256)) * 8000


def check(holds: bool, what: str) -> None:
    """Ends the program if something does not hold."""
    if not holds:
        sys.exit(f"round trip: {what}")


def sync(sender: MeshSettings, recipient: MeshSettings, folder: Path) -> None:
    """There and back with the sync client; in chunks, gzipped, and through files."""
    source = folder / "results.csv"
    source.write_bytes(CONTENT)
    with MeshClient(sender) as alice, MeshClient(recipient) as bob:
        alice.handshake()
        sent = alice.send_file(source, to=bob.mailbox_id, workflow_id="PATH_RESULTS", compress=True)
        check(alice.track_message(sent.message_id).status == "accepted", "not accepted")
        received = bob.receive_file(sent.message_id, folder / "inbox")
        check(received.path.read_bytes() == CONTENT, "the file is another")
        bob.acknowledge_message(sent.message_id)
        try:
            bob.message_metadata("20200101000000000000_000000")
        except NotFound:
            pass
        else:
            check(False, "found what is not there")


async def both(sender: MeshSettings, recipient: MeshSettings) -> None:
    """There and back with the async client."""
    async with AsyncMeshClient(sender) as alice, AsyncMeshClient(recipient) as bob:
        sent = await alice.send_message(CONTENT, to=bob.mailbox_id, workflow_id="PATH_RESULTS")
        # Others use these mailboxes at the same time.
        waiting = [message_id async for message_id in bob.iter_message_ids()]
        check(sent.message_id in waiting, "not in the inbox")
        async with bob.retrieve_message(sent.message_id) as message:
            check(await message.read() == CONTENT, "the message is another")
        await bob.acknowledge_message(sent.message_id)


def main() -> None:
    """Runs it."""
    sender, recipient = (MeshSettings.from_file(path, max_chunk_size_in_megabytes=0.5) for path in sys.argv[1:3])
    check(sender.url.startswith("https:"), "no TLS")
    with tempfile.TemporaryDirectory() as folder:
        sync(sender, recipient, Path(folder))
    anyio.run(both, sender, recipient)


if __name__ == "__main__":
    main()
