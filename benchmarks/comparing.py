"""One row of the table: the server it needs, each client by turns, and a check that the work was done."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import servers
from benchmarks.material import CHUNK, checksum
from benchmarks.measuring import Run, Worker
from benchmarks.rows import Row
from benchmarks.shaping import shaped

if TYPE_CHECKING:
    from benchmarks.stores import Store

OURS = ("ours", "ours-async")


@dataclasses.dataclass(frozen=True)
class Compared:
    """The figures of a row: each client's runs, in the order of the rounds."""

    row: Row
    runs: dict[str, list[Run]]


class Bench:
    """Run rows.

    Args:
        folder: on a disk, empty, for this run alone.
        official: the Python that has the official client.
        before: the `src` of another version of ours: the clients `before` and `before-async`.
    """

    def __init__(self, folder: Path, official: Path, before: Path | None = None) -> None:
        self._folder = folder
        self._official = official
        self._before = before
        self._checked: set[str] = set()

    def compare(self, row: Row, rounds: int, clients: Sequence[str] | None = None) -> Compared:
        """Run every client in every round, by turns."""
        known = (*row.clients, *(("before", "before-async") if self._before else ()))
        runs: dict[str, list[Run]] = {client: [] for client in known if client in (clients or known)}
        # Received files go into memory, to see the client's own cost, or onto the disk.
        target_home = "/dev/shm" if row.folder == "memory" else self._folder
        with (
            self._server(row) as (server, port),
            self._store(row) as store,
            tempfile.TemporaryDirectory(dir=target_home) as target,
        ):
            rounds = min(rounds, row.most_rounds)
            for number in range(rounds):
                for client, done in runs.items():
                    # A folder of its own for each run, so that nothing is left of the run before. Many small files
                    # stay until the end: for minutes after files are removed, ext4 takes longer to make new ones.
                    own = Path(tempfile.mkdtemp(dir=target))
                    _take_memory(row.megabytes)
                    done.append(self._run(row, client, server, port, own, store))
                    if row.small is None:
                        shutil.rmtree(own)
                    print(f"  {row.name} {number + 1}/{rounds} {client}: {done[-1]}", file=sys.stderr)
        return Compared(row, runs)

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
    def _store(self, row: Row) -> Iterator[Store | None]:
        """The store that messages go into, if there is one."""
        if not row.store:
            yield None
            return
        # Only here, as it takes what only the developers' environment has.
        from benchmarks.stores import STORES

        with tempfile.TemporaryDirectory(dir=self._folder) as folder, STORES[row.store](Path(folder)) as store:
            yield store

    def _run(self, row: Row, client: str, server: servers.Server, port: int, target: Path, store: Store | None) -> Run:
        kind = client.partition("-")[0]
        worker = {
            "official": Worker(self._official, "official.py"),
            "curl": Worker(Path(sys.executable), "curl.py"),
            "floor": Worker(Path(sys.executable), "floor.py"),
            "library": Worker(Path(sys.executable), "library.py"),
            "before": Worker(Path(sys.executable), "ours.py", self._before),
            "ours": Worker(Path(sys.executable), "ours.py"),
        }[kind]
        busy = server.cpu_seconds()
        job = self._job(row, client, server, port, target)
        if store is not None:
            job.update(place=store.place, environment=store.environment)
        found = worker.run(job)
        busy = server.cpu_seconds() - busy
        self._check(row, client, server, target, store)
        return Run(
            seconds=found["seconds"],
            cpu_seconds=found["cpu_seconds"],
            peak_mib=found["peak_kib"] / 1024 if found["peak_kib"] >= 0 else -1.0,
            server_cpu_seconds=busy,
        )

    def _job(self, row: Row, client: str, server: servers.Server, port: int, target: Path) -> dict[str, Any]:
        return {
            **row.job,
            "url": f"https://127.0.0.1:{port}",
            "mailbox": servers.MAILBOX,
            "password": servers.PASSWORD,
            "shared_key": servers.SHARED_KEY,
            "authority": str(server.authority),
            "client": str(server.client),
            "chunk": CHUNK,
            "folder": str(target),
            "into": str(target / "curl.dat") if row.folder else "/dev/null",
            "is_async": client.endswith("-async"),
            **row.only.get(client, {}),
        }

    def _check(self, row: Row, client: str, server: servers.Server, target: Path, store: Store | None) -> None:
        """Refuse a run that did not do its work."""
        requests, arrived = server.received()
        if requests < row.count or arrived < row.uploads:
            raise RuntimeError(
                f"{client} at {row.name}: only {requests:,} requests, {arrived:,} bytes, came to the server"
            )
        if store is not None:
            if store.take() != [row.expected_bytes]:
                raise RuntimeError(f"{client} at {row.name}: the store has not what was sent")
            return
        files = [path for path in target.iterdir() if path.is_file() and not path.name.startswith(".")]
        size = sum(path.stat().st_size for path in files)
        if row.small is not None and size != row.count * row.small.stat().st_size:
            raise RuntimeError(f"{client} at {row.name}: not all messages are there")
        expected = row.expected.stat().st_size if row.expected else row.expected_bytes
        if expected and (len(files), size) != (1, expected):
            raise RuntimeError(f"{client} at {row.name}: the file has not the size of what was sent")
        if row.expected and client not in self._checked:
            if checksum(files[0]) != checksum(row.expected):
                raise RuntimeError(f"{client} at {row.name}: the file is not what was sent")
            self._checked.add(client)


def _take_memory(megabytes: float) -> None:
    """Have the machine's memory there: what was free for two seconds, a hypervisor may have given to others.

    A client that is the first to use it again waits for it: up to 1.7 s for 1 GB, seen here.
    """
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        for _ in range(round(2 * megabytes)):
            file.write(bytes(1_000_000))
