"""How time and memory grow with the message and with the inbox; the bound on memory; and `docs/growth.svg`."""

from __future__ import annotations

import itertools
import math
import shutil
import sys
from collections.abc import Sequence

from benchmarks.comparing import Bench, Compared
from benchmarks.material import CHUNK, MIB, Material
from benchmarks.measuring import median_of
from benchmarks.plot import Panel, figure
from benchmarks.rows import PYTHONS, Row, size_name
from benchmarks.servers import Prepared
from benchmarks.table import markdown

MESSAGES_IN_MIB = (1, 64, 1024, 8192)
INBOXES = (100, 1000, 10_000, 100_000)
BOUND_IN_MIB = 32
_NAMES = {"official": "official client", "ours": "nel-mesh", "ours-async": "nel-mesh, async"}

Points = dict[str, list[tuple[float, float, float]]]
"""For each client: how much, seconds, MiB."""


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


def growth(bench: Bench, material: Material, rounds: int, *, is_quick: bool) -> tuple[str, str]:
    """Measure how time and memory grow; return the tables, and the figure."""
    messages, inboxes = (MESSAGES_IN_MIB[:2], INBOXES[:2]) if is_quick else (MESSAGES_IN_MIB, INBOXES)
    sizes = [(float(size), size_name(size)) for size in messages]
    counts = [(float(count), f"{count:,}") for count in inboxes]
    measured = (
        ("Send", "message size", sizes, [_send(material, size) for size in messages]),
        ("Receive", "message size", sizes, [_receive(material, size, exact=True) for size in messages]),
        ("Empty an inbox", "messages", counts, [_inbox(material, count) for count in inboxes]),
    )
    titles = {
        "Send": "send one message, uncompressed",
        "Receive": "receive one message into a file, uncompressed",
        "Empty an inbox": "empty an inbox, no latency, one message after another",
    }
    tables, panels = [], []
    for name, axis, ticks, rows in measured:
        points = _points([bench.compare(row, min(rounds, 3)) for row in rows], ticks)
        tables.append(_table(titles[name], points, ticks))
        panels.append(Panel(f"{name}: time", axis, ticks, "seconds", _series(points, 1), 0.001))
        panels.append(Panel(f"{name}: peak memory over idle", axis, ticks, "MiB", _series(points, 2), 0.1))
    return "\n".join(tables), figure(panels)


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


def _points(compared: Sequence[Compared], ticks: Sequence[tuple[float, str]]) -> Points:
    points: Points = {}
    for found, (place, _) in zip(compared, ticks, strict=True):
        for client, runs in found.runs.items():
            points.setdefault(client, []).append((place, median_of(runs), median_of(runs, "peak_mib")))
    return points


def _series(points: Points, which: int) -> dict[str, list[tuple[float, float]]]:
    return {_NAMES[client]: [(point[0], point[which]) for point in found] for client, found in points.items()}


def _table(title: str, points: Points, ticks: Sequence[tuple[float, str]]) -> str:
    rows = [
        [name, *(_cell(found[place : place + 1]) for found in points.values())] for place, (_, name) in enumerate(ticks)
    ]
    return markdown((title, *(_NAMES[client] for client in points)), rows)


def _cell(found: Sequence[tuple[float, float, float]]) -> str:
    return "".join(
        f"{seconds:.{min(3, max(0, 2 - math.floor(math.log10(seconds))))}f} s, {mib:.0f} MiB"
        for _, seconds, mib in found
    )
