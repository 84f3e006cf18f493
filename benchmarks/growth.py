"""How time and memory grow with the message, and with the inbox; and `docs/growth.svg`, which shows it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.comparing import Bench, Compared
from benchmarks.material import CHUNK, MIB, Material
from benchmarks.measuring import median_of
from benchmarks.plot import Panel, figure
from benchmarks.rows import AT_ONCE, PYTHONS, Row
from benchmarks.servers import Prepared
from benchmarks.table import markdown

MESSAGES_IN_MIB = (1, 8, 64, 512, 2048, 8192)
INBOXES = (10, 100, 1000, 10_000, 100_000)
_NAMES = {"official": "official client", "ours": "nel-mesh", "ours-async": "nel-mesh, async"}

Points = dict[str, list[tuple[float, float, float]]]
"""For each client: how much, seconds, MiB."""


def measure(
    bench: Bench, material: Material, messages: Sequence[int], inboxes: Sequence[int], rounds: int
) -> tuple[str, str]:
    """The figures as tables, and the figure."""
    sent = _points([bench.compare(_send(material, size), rounds) for size in messages], messages)
    received = _points([bench.compare(_receive(material, size), rounds) for size in messages], messages)
    emptied = _points([bench.compare(_inbox(material, count), rounds) for count in inboxes], inboxes)
    sizes = [(float(size), _size(size)) for size in messages]
    counts = [(float(count), f"{count:,}") for count in inboxes]
    tables = [
        _table("send one message, uncompressed", sent, sizes),
        _table("receive one message into a file, uncompressed", received, sizes),
        _table(f"empty an inbox, no latency (ours {AT_ONCE} at once)", emptied, counts),
    ]
    panels = [
        Panel("Send: time", "message size", sizes, "seconds", _series(sent, 1), 0.001),
        Panel("Send: peak memory over idle", "message size", sizes, "MiB", _series(sent, 2), 0.1),
        Panel("Receive: time", "message size", sizes, "seconds", _series(received, 1), 0.001),
        Panel("Receive: peak memory over idle", "message size", sizes, "MiB", _series(received, 2), 0.1),
        Panel("Empty an inbox: time", "messages", counts, "seconds", _series(emptied, 1), 0.001),
        Panel("Empty an inbox: peak memory over idle", "messages", counts, "MiB", _series(emptied, 2), 0.1),
    ]
    return "\n".join(tables), figure(panels)


def _send(material: Material, mebibytes: int) -> Row:
    path = material.sparse(mebibytes)
    return Row(
        name=f"growth-send-{mebibytes}",
        work="",
        job={"operation": "send", "path": str(path)},
        uploads=path.stat().st_size,
        most_rounds=_rounds(mebibytes > 1024),
    )


def _receive(material: Material, mebibytes: int) -> Row:
    chunks = _chunks(material, mebibytes)
    return Row(
        name=f"growth-receive-{mebibytes}",
        work="",
        job={"operation": "receive", "message_id": "GROWTH"},
        messages=(Prepared("GROWTH", chunks),),
        folder="disk" if mebibytes > 1024 else "memory",
        expected_bytes=sum(chunk.stat().st_size for chunk in chunks),
        most_rounds=_rounds(mebibytes > 1024),
    )


def _chunks(material: Material, mebibytes: int) -> list[Path]:
    """As many chunks as it takes; they may be the same few, since nobody looks into them."""
    count, rest = divmod(mebibytes * MIB, CHUNK)
    whole = material.chunks(material.csv(256), gzipped=False)[:-1]
    return [*itertools.islice(itertools.cycle(whole), count), material.beginning(material.csv(256), rest)]


def _inbox(material: Material, count: int) -> Row:
    return Row(
        name=f"growth-inbox-{count}",
        work="",
        job={"operation": "empty_inbox", "count": count, "at_once": AT_ONCE},
        small=material.small(),
        count=count,
        folder="memory",
        # A quarter of an hour for the others, and nothing that the smaller ones do not show.
        clients=("ours",) if count > 10_000 else PYTHONS,
        most_rounds=_rounds(count > 1000),
    )


def _rounds(is_long: bool) -> int:
    """What takes minutes is disturbed by little, and is measured once."""
    return 1 if is_long else 3


def _points(compared: Sequence[Compared], sizes: Sequence[int]) -> Points:
    points: Points = {}
    for found, size in zip(compared, sizes, strict=True):
        for client, runs in found.runs.items():
            point = (float(size), median_of(runs), median_of(runs, "peak_mib"))
            points.setdefault(client, []).append(point)
    return points


def _series(points: Points, which: int) -> dict[str, list[tuple[float, float]]]:
    return {_NAMES[client]: [(point[0], point[which]) for point in found] for client, found in points.items()}


def _table(title: str, points: Points, ticks: Sequence[tuple[float, str]]) -> str:
    rows = [[name, *(_cell(found, place) for found in points.values())] for place, (_, name) in enumerate(ticks)]
    return markdown((title, *(_NAMES[client] for client in points)), rows)


def _cell(found: Sequence[tuple[float, float, float]], place: int) -> str:
    return f"{_time(found[place][1])}, {found[place][2]:.0f} MiB" if place < len(found) else ""


def _time(seconds: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(seconds)))
    return f"{seconds:.{min(digits, 3)}f} s"


def _size(mebibytes: int) -> str:
    return f"{mebibytes // 1024} GB" if mebibytes >= 1024 else f"{mebibytes} MB"
