"""Which gzip, and which level of it: how small it makes a clinical CSV, and how fast.

Decided: isal at level 1. Level 0 is no faster and leaves a fifth more; level 3 leaves 5 % less at a quarter of the
speed; zlib's level 6 leaves 17 % less at a thirteenth, and its level 9, the official client's, 19 % at a thirtieth.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import Any

from isal import isal_zlib

from benchmarks import environments
from benchmarks.material import MIB, Material
from benchmarks.table import markdown

_WINDOW = 31


def main() -> None:
    """Prints the table."""
    content = Material(environments.HOME / "material").csv(64).read_bytes()
    engines: list[tuple[str, Any, int]] = [
        *(("isal", isal_zlib, level) for level in range(4)),
        *(("zlib", zlib, level) for level in (1, 6, 9)),
    ]
    rows = []
    for name, engine, level in engines:
        packed, pack = _timed(lambda engine=engine, level=level: _compress(engine, content, level))  # type: ignore[misc]
        whole, unpack = _timed(lambda packed=packed: isal_zlib.decompress(packed, wbits=_WINDOW))  # type: ignore[misc]
        if whole != content:
            raise RuntimeError(f"{name} at level {level} does not give back what it was given")
        rows.append(
            [
                f"{name}, level {level}",
                f"{len(content) / len(packed):.2f}",
                f"{len(content) / pack / 1e6:,.0f}",
                f"{len(content) / unpack / 1e6:,.0f}",
            ]
        )
    print(markdown(("gzip of the CSV", "times smaller", "compress MB/s", "decompress (isal) MB/s"), rows))


def _compress(engine: Any, content: bytes, level: int) -> bytes:
    """As the client does it, a block at a time."""
    packer = engine.compressobj(level, zlib.DEFLATED, _WINDOW)
    parts = [packer.compress(content[start : start + MIB]) for start in range(0, len(content), MIB)]
    return b"".join([*parts, packer.flush()])


def _timed(work: Callable[[], bytes], rounds: int = 3) -> tuple[bytes, float]:
    times = []
    result = b""
    for _ in range(rounds):
        began = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - began)
    return result, min(times)


if __name__ == "__main__":
    main()
