"""How much to read, and to make of gzip, at a time: more saves calls, until it no longer fits the processor's cache.

Decided: that it hardly matters from 64 KiB on; a quarter is lost at 16 to 32 KiB. So what gzip makes at a time has the
size that the allocator favours: `client_blocks.py`.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

from isal import isal_zlib

from benchmarks import environments
from benchmarks.material import Material
from benchmarks.table import markdown

SIZES_IN_KIB = (16, 32, 64, 128, 256, 512, 1024, 4096)
_WINDOW = 31


def main() -> None:
    """Prints the table."""
    path = Material(environments.HOME / "material").csv(64)
    content = path.read_bytes()
    packed = zlib.compress(content, 6, wbits=_WINDOW)
    zeros = zlib.compress(bytes(len(content)), 6, wbits=_WINDOW)

    def read(block: int) -> None:
        with path.open("rb", buffering=0) as file:
            while file.read(block):
                pass

    def compress(block: int) -> None:
        packer = isal_zlib.compressobj(1, zlib.DEFLATED, _WINDOW)
        with path.open("rb", buffering=0) as file:
            while part := file.read(block):
                packer.compress(part)
        packer.flush()

    works: dict[str, Callable[[int], None]] = {
        "read the file": read,
        "read and compress": compress,
        "decompress the CSV, blocks of output": lambda block: _decompress(packed, block),
        "decompress zeros, blocks of output": lambda block: _decompress(zeros, block),
    }
    rows = [
        [f"{kibibytes} KiB", *(f"{len(content) / _best(work, kibibytes * 1024) / 1e6:,.0f}" for work in works.values())]
        for kibibytes in SIZES_IN_KIB
    ]
    print(markdown(("MB/s of content, by block", *works), rows))


def _decompress(packed: bytes, block: int, wire: int = 64 * 1024) -> None:
    """As it comes from the network, in its blocks, and with what is made of each bounded."""
    unpacker = isal_zlib.decompressobj(_WINDOW)
    for start in range(0, len(packed), wire):
        waiting = packed[start : start + wire]
        while waiting:
            unpacker.decompress(waiting, block)
            waiting = unpacker.unconsumed_tail


def _best(work: Callable[[int], None], block: int, rounds: int = 5) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work(block)
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    main()
