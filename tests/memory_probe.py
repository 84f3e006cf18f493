"""A process of its own that sends or receives one big message, and prints how much memory that took above idle.

Arguments: settings file, variant, operation (send, receive), source (path, stream, iterable), compress (0 or 1), MiB.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio

from nel_mesh import AsyncMeshClient, MeshClient, MeshSettings

BLOCK = b"".join(b"%09d,2026-11-22,Haemoglobin,%d\n" % (k * 7919 % 10**9, k) for k in range(30_000))[: 1024 * 1024]
assert len(BLOCK) == 1024 * 1024


class Stream:
    """Cannot seek, and reads short."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks

    def read(self, size: int) -> bytes:
        block = next(self._blocks, b"")
        assert len(block) <= size
        return block


def blocks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield BLOCK


async def async_blocks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield BLOCK


def sixteenths(count: int) -> Iterator[bytes]:
    for block in blocks(count):
        for start in range(0, len(block), 64 * 1024):
            yield block[start : start + 64 * 1024]


def source_of(kind: str, mebibytes: int, *, is_async: bool) -> Any:
    if kind == "stream":
        return Stream(sixteenths(mebibytes))
    if kind == "iterable":
        return async_blocks(mebibytes) if is_async else blocks(mebibytes)
    return Path(kind)


def idle() -> int:
    """Memory in use now, in KiB; the peak is measured from here on."""
    # Not getrusage: its peak is inherited from the process that started this one.
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def run_sync(settings: MeshSettings, operation: str, source: Any, compress: bool, expected: int) -> int:
    with MeshClient(settings) as mesh:
        mesh.handshake()
        before = idle()
        if operation == "send":
            sent = mesh.send_message(source, to="X26ABC2", workflow_id="BIG", compress=compress)
            assert sent.bytes == expected
        else:
            (message_id,) = mesh.iter_message_ids()
            with mesh.retrieve_message(message_id) as message:
                assert sum(len(block) for block in message.iter_bytes()) == expected
        return status("VmHWM") - before


async def run_async(settings: MeshSettings, operation: str, source: Any, compress: bool, expected: int) -> int:
    async with AsyncMeshClient(settings) as mesh:
        await mesh.handshake()
        before = idle()
        if operation == "send":
            sent = await mesh.send_message(source, to="X26ABC2", workflow_id="BIG", compress=compress)
            assert sent.bytes == expected
        else:
            (message_id,) = [one async for one in mesh.iter_message_ids()]
            async with mesh.retrieve_message(message_id) as message:
                length = 0
                async for block in message.iter_bytes():
                    length += len(block)
            assert length == expected
        return status("VmHWM") - before


def main() -> None:
    settings_file, variant, operation, kind, compress, size = sys.argv[1:]
    settings = MeshSettings.from_file(settings_file)
    source = source_of(kind, int(size), is_async=variant != "sync")
    arguments = (settings, operation, source, compress == "1", int(size) * 1024 * 1024)
    used = run_sync(*arguments) if variant == "sync" else anyio.run(run_async, *arguments, backend=variant)
    print(used)


if __name__ == "__main__":
    main()
