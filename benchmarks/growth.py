"""How time and memory grow with the message and with the inbox; and the bound on memory."""

from __future__ import annotations

import itertools
import math
import shutil
import sys
from collections.abc import Sequence

from benchmarks.comparing import Bench
from benchmarks.material import CHUNK, MIB, Material
from benchmarks.measuring import Run, median_of
from benchmarks.rows import PYTHONS, Row, size_name
from benchmarks.servers import Prepared
from benchmarks.table import markdown

MESSAGES_IN_MIB = (1, 64, 1024, 8192)
INBOXES = (100, 1000, 10_000, 100_000)
BOUND_IN_MIB = 32


def memory(bench: Bench, material: Material, sizes: Sequence[int]) -> str:
    """Measure the peak memory over the idle process, once each: it is not about time."""
    lines = []
    for mebibytes in sizes:
        material.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(material.folder).free < 4 * mebibytes * MIB:
            print(f"  no room for {mebibytes} MiB: left out", file=sys.stderr)
            continue
        for make, gzipped in itertools.product((_send, _receive), (False, True)):
            row = make(material, mebibytes, gzipped=gzipped)
            runs = bench.compare(row, 1).runs
            peaks = {client: median_of(done, "peak_mib") for client, done in runs.items()}
            met = "yes" if max(peaks["ours"], peaks["ours-async"]) < BOUND_IN_MIB else "no"
            cells = (f"{peaks[client]:.1f}" if client in peaks else "" for client in PYTHONS)
            lines.append([row.work, *cells, f"under {BOUND_IN_MIB}", met])
    return markdown(("peak memory over idle, MiB", "official", "ours", "ours, async", "target", "met"), lines)


def growth(bench: Bench, material: Material, rounds: int, *, is_quick: bool) -> str:
    """Measure how time and memory grow; return the tables."""
    messages, inboxes = (MESSAGES_IN_MIB[:2], INBOXES[:2]) if is_quick else (MESSAGES_IN_MIB, INBOXES)
    measured = {
        "send one message, uncompressed": [(size_name(size), _send(material, size)) for size in messages],
        "receive one message into a file, uncompressed": [
            (size_name(size), _receive(material, size, exact=True)) for size in messages
        ],
        "empty an inbox, no latency, one message after another": [
            (f"{count:,}", _inbox(material, count)) for count in inboxes
        ],
    }
    tables = []
    for title, rows in measured.items():
        found = [(name, bench.compare(row, min(rounds, 3)).runs) for name, row in rows]
        lines = [[name, *(_cell(runs.get(client)) for client in PYTHONS)] for name, runs in found]
        tables.append(markdown((title, "official", "ours", "ours, async"), lines))
    return "\n".join(tables)


def _send(material: Material, mebibytes: int, *, gzipped: bool = False) -> Row:
    path = material.repeated(mebibytes) if gzipped else material.sparse(mebibytes)
    return Row(
        name=f"send-{mebibytes}{'-gzipped' if gzipped else ''}",
        work=f"send {size_name(mebibytes)}{', compressed' if gzipped else ''}",
        job={"operation": "send", "path": str(path), "compress": gzipped},
        # The official client takes part where it takes bearable time.
        clients=PYTHONS[1:] if gzipped or mebibytes > 1024 else PYTHONS,
        uploads=0 if gzipped else path.stat().st_size,
        most_rounds=1 if mebibytes > 1024 else 3,
    )


def _receive(material: Material, mebibytes: int, *, gzipped: bool = False, exact: bool = False) -> Row:
    """The chunks may be the same few, since their content does not matter."""
    some = material.chunks(material.csv(256), gzipped=gzipped)[:-1]
    count, rest = divmod(mebibytes * MIB, CHUNK)
    chunks = list(itertools.islice(itertools.cycle(some), count if exact else count + 1))
    chunks += [material.beginning(material.csv(256), rest)] if exact else []
    return Row(
        name=f"receive-{mebibytes}{'-gzipped' if gzipped else ''}",
        work=f"receive {size_name(mebibytes)}{', gzipped' if gzipped else ''}",
        job={"operation": "receive", "message_id": "GROWTH"},
        messages=(Prepared("GROWTH", chunks, gzipped=gzipped),),
        folder="memory" if exact and mebibytes <= 1024 else "disk",
        expected_bytes=mebibytes * MIB if exact else (count + 1) * CHUNK,
        clients=PYTHONS[1:] if mebibytes > 1024 else PYTHONS,
        most_rounds=1 if mebibytes > 1024 else 3,
    )


def _inbox(material: Material, count: int) -> Row:
    return Row(
        name=f"inbox-{count}",
        work="",
        job={"operation": "empty_inbox", "count": count, "at_once": 1},
        small=material.small(),
        count=count,
        folder="memory",
        # Minutes each, and the others would show nothing that the smaller ones do not.
        clients=("ours",) if count > 10_000 else PYTHONS,
        most_rounds=1 if count > 1000 else 3,
    )


def _cell(runs: Sequence[Run] | None) -> str:
    if not runs:
        return ""
    seconds = median_of(runs)
    digits = min(3, max(0, 2 - math.floor(math.log10(seconds))))
    return f"{seconds:.{digits}f} s, {median_of(runs, 'peak_mib'):.0f} MiB"
