"""The rows of the table: what clients are compared at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
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
    in_turn: int = 10_000
    held_chunks: int = 8
    memory: tuple[int, ...] = (1024, 8192)
    starts: int = 21
    store: int = 1024


FULL = Sizes()
QUICK = Sizes(big=128, medium=64, small_messages=200, in_turn=200, held_chunks=4, memory=(128,), starts=3, store=64)

PYTHONS = ("official", "ours", "ours-async")
FLOOR = "floor"
"""Not a client: the work that none can leave out (workers/floor.py), beside those that miss a target."""
WITH_FLOOR = (*PYTHONS, FLOOR)
WITH_CURL = (*PYTHONS, "curl")
CHECKED_RATE = "50m"
"""How fast each response comes at most where a core is to be free: for two at once, a sixth of what a core receives."""
AT_ONCE = 64
"""How many small messages are under way at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        name: its name on the command line.
        work: its name in the table.
        job: what each client is asked to do.
        clients: the clients that do it.
        only: what a single client is asked besides, by its name.
        messages: the messages that wait in the inbox.
        small: the content of the small messages that the inbox lists, if it does.
        megabytes: how much content, for the table's rate.
        count: how many messages, where that is the rate, and how many must arrive.
        base: the client that ours is compared to; ours in async to `<base>-async`, where there is one.
        target: how many times as fast as that one ours must be.
        async_target: the same for ours in async, where it differs.
        of_curl: how much of curl's speed ours must have.
        folder: where received files go: "memory" or "disk"; empty if none are.
        store: the store that they go into instead: s3, azure or sftp.
        most_rounds: how many rounds are enough, where a client takes minutes.
        expected: the file that must come out, byte for byte.
        expected_bytes: the size of the file that must come out, where there is none to compare it with.
        uploads: how many bytes must arrive at the server at least.
        round_trip: in seconds, to be added to each.
        rate: bytes a second that each connection is held to.
        why: what takes the time that the floor does not need, or the floor's own.
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
    async_target: float | None = None
    of_curl: float | None = None
    folder: str = ""
    store: str = ""
    most_rounds: int = 1000
    expected: Path | None = None
    expected_bytes: int = 0
    uploads: int = 0
    round_trip: float = 0.0
    rate: float = 0.0
    why: str = ""


def _send_csv(material: Material, sizes: Sizes) -> Row:
    path = material.csv(sizes.medium)
    return Row(
        name="send-csv",
        work=f"send a {sizes.medium} MB clinical CSV with compression",
        job={"operation": "send", "path": str(path), "compress": True},
        megabytes=path.stat().st_size / 1e6,
        target=19,
        # Each client compresses as it likes, but not to less than this.
        uploads=path.stat().st_size // 20,
    )


def _send_plain(material: Material, sizes: Sizes) -> Row:
    path = material.repeated(sizes.big)
    parts = [str(chunk) for chunk in material.chunks(path, gzipped=False)]
    return Row(
        name="send-plain",
        work=f"send {size_name(sizes.big)} uncompressed, in chunks",
        job={"operation": "send", "path": str(path), "parts": parts},
        clients=(*WITH_CURL, FLOOR),
        megabytes=path.stat().st_size / 1e6,
        target=1.5,
        of_curl=0.9,
        uploads=path.stat().st_size,
        why="reading the file, TLS, and copies into the kernel, one after another in one thread",
    )


def _receive_csv(material: Material, sizes: Sizes, folder: str = "memory") -> Row:
    path = material.csv(sizes.medium)
    what = f"the same, gzipped, in {len(material.chunks(path, gzipped=True))} chunks"
    target, clients = (3, WITH_FLOOR) if folder == "memory" else (None, PYTHONS)
    why = "two thirds of the processor time decompress, most of the rest writes; nginx encrypts on the same two cores"
    return _receive("csv", what, material, path, folder=folder, gzipped=True, target=target, clients=clients, why=why)


def _receive_zeros(material: Material, sizes: Sizes) -> Row:
    """Cut where the official client cuts: it unpacks a whole chunk at once."""
    what = f"{sizes.medium} MB of zeros, gzipped, in chunks of 75 MB"
    cut = OFFICIAL_CHUNK
    return _receive(
        "zeros", what, material, material.sparse(sizes.medium), gzipped=True, cut=cut, target=20, most_rounds=2
    )


def _receive_zeros_20(material: Material, sizes: Sizes) -> Row:
    what = f"{sizes.medium} MB of zeros, gzipped, in chunks of 20 MB"
    return _receive("zeros-20", what, material, material.sparse(sizes.medium), gzipped=True)


def _receive_xml(material: Material, sizes: Sizes) -> Row:
    what = f"{sizes.medium} MB of very compressible XML, gzipped, in chunks of 75 MB"
    path = material.xml(sizes.medium)
    why = "decompression runs at 2.3 GB/s a core, and writing 256 MB into a file in memory takes 0.1 to 0.16 s of one"
    return _receive(
        "xml", what, material, path, gzipped=True, cut=OFFICIAL_CHUNK, target=20, clients=WITH_FLOOR, why=why
    )


def _receive_plain(material: Material, sizes: Sizes, folder: str = "memory") -> Row:
    path, what = material.repeated(sizes.big), f"{size_name(sizes.big)} uncompressed, in chunks"
    # On a disk ours is durable, and curl is not.
    target, of_curl = (1.1, 0.8) if folder == "memory" else (1.2, None)
    why = (
        "TLS, copies from and to the kernel, and nginx's encryption on the same two cores"
        if folder == "memory"
        else "the disk: to write and sync 1 GB takes it 1.16 s; the official client returns before anything is on it"
    )
    return _receive(
        "plain",
        what,
        material,
        path,
        folder=folder,
        clients=(*WITH_CURL, FLOOR),
        target=target,
        of_curl=of_curl,
        why=why,
    )


def _receive_checked(material: Material, sizes: Sizes) -> Row:
    """With the sender's checksum, compared, beside the same without a look at it."""
    path = material.repeated(sizes.medium)
    row = _receive(
        "checked",
        "",
        material,
        path,
        headers={"Mex-Content-Checksum": f"SHA-256 {material.sha256(path)}"},
        clients=("ours-unchecked", "ours-unchecked-async", "ours", "ours-async", "floor-unchecked", FLOOR),
        only={
            **{name: {"verify_checksum": False} for name in ("ours-unchecked", "ours-unchecked-async")},
            FLOOR: {"digest": True},
        },
        base="ours-unchecked",
    )
    work = f"receive {sizes.medium} MB uncompressed and compare its SHA-256, against not to"
    return dataclasses.replace(row, work=f"{work}, where no core is free")


def _receive_checked_free(material: Material, sizes: Sizes) -> Row:
    """The same from a server that is slow enough to leave a core to it."""
    row = _receive_checked(material, sizes)
    (message,) = row.messages
    return dataclasses.replace(
        row,
        name="receive-checked-free",
        work=row.work.replace("no core is free", f"one is: each connection is held to {CHECKED_RATE[:-1]} MB/s"),
        messages=(dataclasses.replace(message, rate=CHECKED_RATE),),
        clients=tuple(client for client in row.clients if FLOOR not in client),
        target=0.9,
    )


def _receive_held(material: Material, sizes: Sizes) -> Row:
    """Where each connection is slow, as over the internet, and the line is not."""
    path = material.beginning(material.csv(sizes.medium), sizes.held_chunks * CHUNK)
    row = _receive("held", "", material, path, target=3.3, round_trip=0.05, rate=20e6)
    work = f"receive {sizes.held_chunks} chunks of 20 MB, each connection held to 20 MB/s at 50 ms, into a file"
    return dataclasses.replace(row, work=work)


def _receive_held_8(material: Material, sizes: Sizes) -> Row:
    """The same, with as many chunks at once as there are."""
    row = _receive_held(material, sizes)
    return dataclasses.replace(
        row,
        name="receive-held-8",
        work=f"{row.work}, `chunks_at_once=8`",
        job={**row.job, "settings": {"chunks_at_once": 8}},
        target=5,
    )


def _into(material: Material, sizes: Sizes, store: str) -> Row:
    """Beside the store's own library, which has the same bytes in a file: it fetches nothing."""
    path = material.repeated(sizes.store)
    row = _receive(
        "into",
        "",
        material,
        path,
        clients=("library", "ours", "ours-async"),
        base="library",
        target=0.8,
        store=store,
        most_rounds=2,
    )
    return dataclasses.replace(
        row,
        name=f"into-{store}",
        work=f"receive {size_name(sizes.store)} uncompressed into {_STORES[store]}, against {_LIBRARIES[store]}",
        job={**row.job, "path": str(path)},
        folder="",
        expected=None,
        expected_bytes=path.stat().st_size,
    )


def _send_far(material: Material, sizes: Sizes) -> Row:
    work = f"send {sizes.small_messages:,} messages of 2 kB at 20 ms round trip"
    return _send_small("send-far", work, material, sizes.small_messages, AT_ONCE, target=25, round_trip=0.02)


def _send_in_turn(material: Material, sizes: Sizes) -> Row:
    work = "one message after another, no latency"
    why = (
        "Python, under a profiler: 1/3 HTTP and its sockets, 1/4 the steps and the record of a send, "
        "1/10 protocol, 1/10 TLS and system calls"
    )
    targets = {"target": 2.5, "async_target": 2}
    return _send_small("send-in-turn", work, material, sizes.in_turn, 1, clients=WITH_FLOOR, why=why, **targets)


def _empty_inbox(material: Material, sizes: Sizes, folder: str = "memory") -> Row:
    """List, get, acknowledge, where the server is not next door."""
    return Row(
        name=_name("empty-inbox", folder),
        work=f"empty an inbox of {sizes.small_messages:,} messages of 2 kB at 20 ms, into files{_where(folder)}",
        job={"operation": "empty_inbox", "count": sizes.small_messages, "at_once": AT_ONCE},
        clients=WITH_FLOOR,
        why="Python, the locks, the record and the journal; on disk three to five syncs, where the floor has one",
        small=material.small(),
        count=sizes.small_messages,
        target=20 if folder == "memory" else 14,
        folder=folder,
        round_trip=0.02,
    )


_STORES = {"s3": "S3 (SeaweedFS)", "azure": "Azure (Azurite)", "sftp": "SFTP (sshd)"}
_LIBRARIES = {"s3": "boto3's own upload", "azure": "azure-storage-blob's own", "sftp": "asyncssh's own"}

ROWS: dict[str, Callable[[Material, Sizes], Row]] = {
    "send-csv": _send_csv,
    "receive-csv": _receive_csv,
    "receive-csv-disk": lambda material, sizes: _receive_csv(material, sizes, "disk"),
    "receive-zeros": _receive_zeros,
    "receive-zeros-20": _receive_zeros_20,
    "receive-xml": _receive_xml,
    "send-plain": _send_plain,
    "receive-plain": _receive_plain,
    "receive-plain-disk": lambda material, sizes: _receive_plain(material, sizes, "disk"),
    "receive-checked": _receive_checked,
    "receive-checked-free": _receive_checked_free,
    "send-far": _send_far,
    "empty-inbox": _empty_inbox,
    "empty-inbox-disk": lambda material, sizes: _empty_inbox(material, sizes, "disk"),
    "send-in-turn": _send_in_turn,
    "receive-held": _receive_held,
    "receive-held-8": _receive_held_8,
    "into-s3": lambda material, sizes: _into(material, sizes, "s3"),
    "into-azure": lambda material, sizes: _into(material, sizes, "azure"),
    "into-sftp": lambda material, sizes: _into(material, sizes, "sftp"),
}


def size_name(mebibytes: int) -> str:
    """How the tables name a size."""
    return f"{mebibytes // 1024} GB" if mebibytes >= 1024 else f"{mebibytes} MB"


def _receive(
    kind: str,
    what: str,
    material: Material,
    path: Path,
    *,
    folder: str = "memory",
    gzipped: bool = False,
    cut: int = CHUNK,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Row:
    message_id, chunks = kind.upper(), material.chunks(path, gzipped=gzipped, cut=cut)
    parts = [message_id, *(f"{message_id}/{number}" for number in range(2, len(chunks) + 1))]
    return Row(
        name=_name(f"receive-{kind}", folder),
        work=f"receive {what}, into a file{_where(folder)}",
        job={"operation": "receive", "message_id": message_id, "parts": parts, "cut": cut, "gzipped": gzipped},
        messages=(Prepared(message_id, chunks, gzipped=gzipped, headers=headers or {}),),
        megabytes=path.stat().st_size / 1e6,
        folder=folder,
        expected=path,
        **more,
    )


def _send_small(name: str, work: str, material: Material, count: int, at_once: int, **more: Any) -> Row:
    path = material.small()
    job = {"operation": "send_many", "path": str(path), "count": count, "at_once": at_once}
    return Row(name=name, work=work, job=job, count=count, uploads=count * path.stat().st_size, **more)


def _name(name: str, folder: str) -> str:
    return name if folder == "memory" else f"{name}-{folder}"


def _where(folder: str) -> str:
    """Ours makes a file durable before it reports it, which in memory costs nothing; the others never do."""
    return " in memory" if folder == "memory" else " on disk (ours: durable)"
