"""The work that clients are compared at: issue 5's table, row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.material import CHUNK, OFFICIAL_CHUNK, Material
from benchmarks.servers import Prepared


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much work each row is; in MiB where it is content."""

    big: int = 1024
    medium: int = 256
    small_messages: int = 1000
    in_turn: int = 2000
    held_chunks: int = 8
    memory: tuple[int, ...] = (1024, 8192)
    starts: int = 21


FULL = Sizes()
QUICK = Sizes(big=128, medium=64, small_messages=200, in_turn=200, held_chunks=4, memory=(128,), starts=3)

PYTHONS = ("official", "ours", "ours-async")
WITH_CURL = (*PYTHONS, "curl")
AT_ONCE = 64
"""How many small messages are under way at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        name: what to call it on the command line.
        work: what to call it in the table.
        job: what each client is asked to do.
        clients: who does it.
        only: what a single client is asked besides, by its name.
        messages: what waits to be received.
        small: the content of the small messages that the inbox lists, if it does.
        megabytes: how much content, for the table's rate.
        count: how many messages, where that is the rate, and how many must arrive.
        base: the client that ours is compared to; ours in async to `<base>-async`, where there is one.
        target: how many times as fast as that one ours must be.
        of_curl: how much of curl's speed ours must have.
        folder: where files go that are received: "memory" or "disk"; empty if none are.
        most_rounds: where a client takes minutes, how many rounds are enough.
        expected: the file that must come out, byte for byte.
        expected_bytes: how long the file that must come out is, where there is none to compare it with.
        uploads: how many bytes must arrive at the server at least.
        round_trip: in seconds, to be added to each.
        rate: bytes a second that each connection is held to.
    """

    name: str
    work: str
    job: Mapping[str, Any]
    clients: tuple[str, ...] = PYTHONS
    only: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    messages: tuple[Prepared, ...] = ()
    small: Path | None = None
    megabytes: float = 0
    count: int = 0
    base: str = "official"
    target: float | None = None
    of_curl: float | None = None
    folder: str = ""
    most_rounds: int = 1000
    expected: Path | None = None
    expected_bytes: int = 0
    uploads: int = 0
    round_trip: float = 0.0
    rate: float = 0.0


def send_csv(material: Material, sizes: Sizes) -> Row:
    """A clinical CSV, compressed on the way."""
    path = material.csv(sizes.medium)
    return Row(
        name="send-csv",
        work=f"send a {sizes.medium} MB clinical CSV with compression",
        job={"operation": "send", "path": str(path), "compress": True},
        megabytes=_megabytes(path),
        target=15,
        # What is left of it after compression is each client's own affair, but not less than this.
        uploads=path.stat().st_size // 20,
    )


def receive_csv(material: Material, sizes: Sizes, folder: str) -> Row:
    """The same, as it arrives."""
    path = material.csv(sizes.medium)
    chunks = len(material.chunks(path, gzipped=True))
    row = _receive("csv", f"the same, gzipped, in {chunks} chunks", material, path, folder, gzipped=True)
    return dataclasses.replace(row, target=2.5)


def receive_zeros(material: Material, sizes: Sizes, folder: str) -> Row:
    """What gzip makes a thousandth of, cut where the official client cuts it."""
    path = material.sparse(sizes.medium)
    what = f"{sizes.medium} MB of zeros, gzipped, in chunks of 75 MB"
    row = _receive("zeros", what, material, path, folder, gzipped=True, cut=OFFICIAL_CHUNK)
    return dataclasses.replace(row, target=20, most_rounds=2)


def receive_zeros_in_small_chunks(material: Material, sizes: Sizes, folder: str) -> Row:
    """The same, cut where ours cuts it: then the official client has less to make of a chunk at once."""
    path = material.sparse(sizes.medium)
    what = f"{sizes.medium} MB of zeros, gzipped, in chunks of 20 MB"
    return _receive("zeros-20", what, material, path, folder, gzipped=True)


def receive_xml(material: Material, sizes: Sizes, folder: str) -> Row:
    """What gzip makes next to nothing of, cut where the official client cuts it."""
    path = material.xml(sizes.medium)
    what = f"{sizes.medium} MB of very compressible XML, gzipped, in chunks of 75 MB"
    row = _receive("xml", what, material, path, folder, gzipped=True, cut=OFFICIAL_CHUNK)
    return dataclasses.replace(row, target=20)


def send_plain(material: Material, sizes: Sizes) -> Row:
    """A big file as it is."""
    path = material.repeated(sizes.big)
    return Row(
        name="send-plain",
        work=f"send {_size(sizes.big)} uncompressed, in chunks",
        job={
            "operation": "send",
            "path": str(path),
            "parts": [str(chunk) for chunk in material.chunks(path, gzipped=False)],
        },
        clients=WITH_CURL,
        megabytes=_megabytes(path),
        target=1.5,
        of_curl=0.8,
        uploads=path.stat().st_size,
    )


def receive_plain(material: Material, sizes: Sizes, folder: str) -> Row:
    """A big file as it is, as it arrives."""
    path = material.repeated(sizes.big)
    row = _receive("plain", f"{_size(sizes.big)} uncompressed, in chunks", material, path, folder, gzipped=False)
    return dataclasses.replace(row, clients=WITH_CURL, target=1.0, of_curl=0.8)


def receive_checked(material: Material, sizes: Sizes, folder: str) -> Row:
    """The same with the sender's checksum, compared, beside the same without looking at it."""
    path = material.repeated(sizes.medium)
    headers = {"Mex-Content-Checksum": f"SHA-256 {material.sha256(path)}"}
    row = _receive("checked", "uncompressed, SHA-256 compared", material, path, folder, gzipped=False, headers=headers)
    return dataclasses.replace(
        row,
        work=f"receive {sizes.medium} MB uncompressed and compare its SHA-256, against not to",
        clients=("ours-unchecked", "ours-unchecked-async", "ours", "ours-async"),
        only={name: {"verify_checksum": False} for name in ("ours-unchecked", "ours-unchecked-async")},
        base="ours-unchecked",
        target=0.9,
    )


def receive_held(material: Material, sizes: Sizes, folder: str) -> Row:
    """Where each connection is slow, as over the internet, and the line is not."""
    path = material.beginning(material.csv(sizes.medium), sizes.held_chunks * CHUNK)
    row = _receive("held", "", material, path, folder, gzipped=False)
    return dataclasses.replace(
        row,
        work=f"receive {sizes.held_chunks} chunks of 20 MB, each connection held to 20 MB/s at 50 ms, into a file",
        target=3,
        round_trip=0.05,
        rate=20e6,
    )


def send_far(material: Material, sizes: Sizes) -> Row:
    """Many small messages to a server that is not next door."""
    row = _send_small(material, sizes.small_messages, "send_many")
    return dataclasses.replace(
        row,
        name="send-far",
        work=f"send {sizes.small_messages:,} messages of 2 kB at 20 ms round trip",
        target=10,
        round_trip=0.02,
    )


def empty_inbox(material: Material, sizes: Sizes, folder: str) -> Row:
    """List, get, acknowledge, where the server is not next door."""
    return Row(
        name=_name("empty-inbox", folder),
        work=f"empty an inbox of {sizes.small_messages:,} messages of 2 kB at 20 ms, into files{_where(folder)}",
        job={"operation": "empty_inbox", "count": sizes.small_messages, "at_once": AT_ONCE},
        small=material.small(),
        count=sizes.small_messages,
        target=10,
        folder=folder,
        round_trip=0.02,
    )


def send_in_turn(material: Material, sizes: Sizes) -> Row:
    """Small messages, each after the last."""
    row = _send_small(material, sizes.in_turn, "send_in_turn")
    return dataclasses.replace(row, name="send-in-turn", work="one message after another, no latency", target=1.5)


ROWS: dict[str, Callable[[Material, Sizes], Row]] = {
    "send-csv": send_csv,
    "receive-csv": partial(receive_csv, folder="memory"),
    "receive-csv-disk": partial(receive_csv, folder="disk"),
    "receive-zeros": partial(receive_zeros, folder="memory"),
    "receive-zeros-20": partial(receive_zeros_in_small_chunks, folder="memory"),
    "receive-xml": partial(receive_xml, folder="memory"),
    "send-plain": send_plain,
    "receive-plain": partial(receive_plain, folder="memory"),
    "receive-plain-disk": partial(receive_plain, folder="disk"),
    "receive-checked": partial(receive_checked, folder="memory"),
    "send-far": send_far,
    "empty-inbox": partial(empty_inbox, folder="memory"),
    "empty-inbox-disk": partial(empty_inbox, folder="disk"),
    "send-in-turn": send_in_turn,
    "receive-held": partial(receive_held, folder="memory"),
}


def _receive(
    kind: str,
    what: str,
    material: Material,
    path: Path,
    folder: str,
    *,
    gzipped: bool,
    cut: int = CHUNK,
    headers: Mapping[str, str] | None = None,
) -> Row:
    message_id = kind.upper()
    message = material.message(message_id, path, gzipped=gzipped, cut=cut, headers=headers)
    return Row(
        name=_name(f"receive-{kind}", folder),
        work=f"receive {what}, into a file{_where(folder)}",
        job={
            "operation": "receive",
            "message_id": message_id,
            "parts": [message_id, *(f"{message_id}/{number}" for number in range(2, len(message.chunks) + 1))],
        },
        messages=(message,),
        megabytes=_megabytes(path),
        folder=folder,
        expected=path,
    )


def _send_small(material: Material, count: int, operation: str) -> Row:
    path = material.small()
    return Row(
        name="",
        work="",
        job={"operation": operation, "path": str(path), "count": count, "at_once": AT_ONCE},
        count=count,
        uploads=count * path.stat().st_size,
    )


def _name(name: str, folder: str) -> str:
    return name if folder == "memory" else f"{name}-{folder}"


def _where(folder: str) -> str:
    """Ours makes a file durable before it says that it is there, which in memory costs nothing; the others never do."""
    return " in memory" if folder == "memory" else " on disk (ours: durable)"


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6


def _size(mebibytes: int) -> str:
    return f"{mebibytes // 1024} GB" if mebibytes >= 1024 else f"{mebibytes} MB"
