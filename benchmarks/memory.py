"""Peak memory over the idle process, where the content is far larger than it may become."""

from __future__ import annotations

import itertools
import math
import shutil
import sys
from pathlib import Path

from benchmarks.comparing import Bench
from benchmarks.material import CHUNK, MIB, Material
from benchmarks.measuring import median_of
from benchmarks.rows import Row, Sizes
from benchmarks.servers import Prepared
from benchmarks.table import markdown

BOUND_IN_MIB = 32


def measure(bench: Bench, material: Material, sizes: Sizes) -> str:
    """Runs each once: it is not about time."""
    lines = []
    for mebibytes in sizes.memory:
        if not _is_room(material.folder, 2 * mebibytes):
            print(f"  no room for {mebibytes} MiB: left out", file=sys.stderr)
            continue
        for row in (
            _send(material, mebibytes, gzipped=False),
            _send(material, mebibytes, gzipped=True),
            _receive(material, mebibytes, gzipped=False),
            _receive(material, mebibytes, gzipped=True),
        ):
            runs = bench.compare(row, 1).runs
            peaks = {client: median_of(done, "peak_mib") for client, done in runs.items()}
            worst = max(peaks["ours"], peaks["ours-async"])
            lines.append(
                [
                    row.work,
                    *(
                        f"{peaks[client]:.1f}" if client in peaks else ""
                        for client in ("official", "ours", "ours-async")
                    ),
                    f"under {BOUND_IN_MIB}",
                    "yes" if worst < BOUND_IN_MIB else "no",
                ]
            )
    head = ("peak memory over idle, MiB", "official", "ours", "ours, async", "target", "met")
    return markdown(head, lines)


def _send(material: Material, mebibytes: int, *, gzipped: bool) -> Row:
    path = material.repeated(mebibytes)
    return Row(
        name=f"memory-send-{mebibytes}{'-gzipped' if gzipped else ''}",
        work=f"send {_size(mebibytes)}{', compressed' if gzipped else ''}",
        job={"operation": "send", "path": str(path), "compress": gzipped},
        clients=_clients(mebibytes, slow=gzipped),
        megabytes=mebibytes * MIB / 1e6,
        uploads=0 if gzipped else mebibytes * MIB,
    )


def _receive(material: Material, mebibytes: int, *, gzipped: bool) -> Row:
    some = material.chunks(material.csv(256), gzipped=gzipped)[:-1]
    count = math.ceil(mebibytes * MIB / CHUNK)
    chunks = tuple(itertools.islice(itertools.cycle(some), count))
    return Row(
        name=f"memory-receive-{mebibytes}{'-gzipped' if gzipped else ''}",
        work=f"receive {_size(mebibytes)}{', gzipped' if gzipped else ''}",
        job={"operation": "receive", "message_id": "MEMORY"},
        clients=_clients(mebibytes),
        messages=(Prepared("MEMORY", chunks, gzipped=gzipped),),
        megabytes=count * CHUNK / 1e6,
        # In memory would be quicker, and would need all of this machine's.
        folder="disk",
        expected_bytes=count * CHUNK,
    )


def _clients(mebibytes: int, *, slow: bool = False) -> tuple[str, ...]:
    """The official client is asked where it takes bearable time; the bound is ours."""
    return ("ours", "ours-async") if slow or mebibytes > 1024 else ("official", "ours", "ours-async")


def _is_room(folder: Path, mebibytes: int) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free > 2 * mebibytes * MIB


def _size(mebibytes: int) -> str:
    return f"{mebibytes // 1024} GB" if mebibytes >= 1024 else f"{mebibytes} MB"
