"""One row of the table: the server it needs, each client by turns, and a check that the work was done."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.material import CHUNK, checksum
from benchmarks.measuring import Run, Worker, empty, our_python
from benchmarks.rows import Row
from benchmarks.shaping import shaped

OURS = ("ours", "ours-async")
CLIENTS = ("official", *OURS, "curl")


@dataclasses.dataclass(frozen=True)
class Compared:
    """What came of a row: each client's runs, in the order of the rounds."""

    row: Row
    runs: dict[str, list[Run]]


class Bench:
    """Where rows are run.

    Args:
        folder: on a disk, empty, for this run alone.
        official: the Python that has the official client.
        before: the `src` of another version of ours, which the clients `before` and `before-async` are.
        source: the `src` that ours is, instead of what is installed.
    """

    def __init__(self, folder: Path, official: Path, before: Path | None = None, source: Path | None = None) -> None:
        self._folder = folder
        self._official = official
        self._before = before
        self._source = source
        self._checked: set[str] = set()

    def compare(self, row: Row, rounds: int, clients: Sequence[str] | None = None) -> Compared:
        """Every client in every round, by turns."""
        wanted = clients or (*row.clients, *(("before", "before-async") if self._before else ()))
        known = (*row.clients, "before", "before-async", "bare")
        runs: dict[str, list[Run]] = {client: [] for client in known if client in wanted}
        with self._server(row) as (server, port), self._target(row) as target:
            rounds = min(rounds, row.most_rounds)
            for number in range(rounds):
                for client in runs:
                    found = self._run(row, client, server, port, target)
                    runs[client].append(found)
                    print(f"  {row.name} {number + 1}/{rounds} {client}: {found}", file=sys.stderr)
        return Compared(row, runs)

    def profile(self, row: Row, client: str) -> str:
        """Where one client's time goes."""
        worker = self._worker(client)
        with self._server(row) as (server, port), self._target(row) as target:
            job = self._job(row, client, server, port, target)
            found = worker.run({**job, "profile": True})
            empty(target)
            shares = worker.shares(job)
        return f"{row.name}, {client}: {found['seconds']:.3f} s under the profiler\n{found['profile']}\n{shares}"

    @contextlib.contextmanager
    def _server(self, row: Row) -> Iterator[tuple[servers.Server, int]]:
        """nginx, and the port to reach it by: its own, or a slow way to it."""
        inbox = row.count if row.small is not None else 0
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nginx-", dir=self._folder)))
            server = stack.enter_context(servers.nginx(folder, row.messages, inbox=inbox, small=row.small))
            port = server.port
            if row.round_trip or row.rate:
                port = stack.enter_context(shaped(port, round_trip=row.round_trip, rate=row.rate))
            yield server, port

    @contextlib.contextmanager
    def _target(self, row: Row) -> Iterator[Path]:
        """Where files go: in memory, to see the client's own cost, or on the disk."""
        with tempfile.TemporaryDirectory(
            prefix="nel-mesh-bench-", dir="/dev/shm" if row.folder == "memory" else self._folder
        ) as folder:
            yield Path(folder)

    def _run(self, row: Row, client: str, server: servers.Server, port: int, target: Path) -> Run:
        busy = server.cpu_seconds()
        found = self._worker(client).run(self._job(row, client, server, port, target))
        busy = server.cpu_seconds() - busy
        self._check(row, client, server, target)
        empty(target)
        return Run(
            seconds=found["seconds"],
            cpu_seconds=found["cpu_seconds"],
            peak_mib=found["peak_kib"] / 1024 if found["peak_kib"] >= 0 else -1.0,
            server_cpu_seconds=busy,
            page_faults=found["page_faults"],
        )

    def _worker(self, client: str) -> Worker:
        kind = client.partition("-")[0]
        if kind == "official":
            return Worker(self._official, "official.py")
        if kind in ("curl", "bare"):
            return Worker(our_python(), f"{kind}.py")
        return Worker(our_python(), "ours.py", self._before if kind == "before" else self._source)

    def _job(self, row: Row, client: str, server: servers.Server, port: int, target: Path) -> dict[str, Any]:
        return {
            **row.job,
            "url": f"https://127.0.0.1:{port}",
            "mailbox": servers.MAILBOX,
            "password": servers.PASSWORD,
            "shared_key": servers.SHARED_KEY,
            "authority": str(server.keys.authority),
            "client": str(server.keys.client),
            "chunk": CHUNK,
            "folder": str(target),
            "into": str(target / "curl.dat") if row.folder else "/dev/null",
            "colour": "asyncio" if client.endswith("-async") else "sync",
            **row.only.get(client, {}),
        }

    def _check(self, row: Row, client: str, server: servers.Server, target: Path) -> None:
        """A run counts only if the work was done."""
        requests, arrived = server.received()
        if requests < row.count or arrived < row.uploads:
            raise RuntimeError(
                f"{client} at {row.name}: {requests:,} of {row.count:,} requests and {arrived:,} of {row.uploads:,} "
                "bytes came to the server"
            )
        files = [path for path in target.iterdir() if path.is_file() and not path.name.startswith(".")]
        if row.small is not None and sum(path.stat().st_size for path in files) != row.count * row.small.stat().st_size:
            raise RuntimeError(f"{client} at {row.name}: not all messages are there")
        if row.expected_bytes and [path.stat().st_size for path in files] != [row.expected_bytes]:
            raise RuntimeError(f"{client} at {row.name}: the file is not as long as what was sent")
        if row.expected is not None:
            if len(files) != 1 or files[0].stat().st_size != row.expected.stat().st_size:
                raise RuntimeError(f"{client} at {row.name}: the file is not as long as what was sent")
            if client not in self._checked and checksum(files[0]) != checksum(row.expected):
                raise RuntimeError(f"{client} at {row.name}: the file is not what was sent")
            self._checked.add(client)
