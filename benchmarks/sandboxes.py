"""Our sandbox beside the official one, under the same plain requests: tests and demos run on it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import Run, Worker, median_of, our_python, ratio_of
from benchmarks.process import running
from benchmarks.servers import free_port
from benchmarks.table import markdown
from nel_mesh.sandbox import sandbox

_LIFE_IN_SECONDS = 3600
_KEY = "TestKey"


@dataclasses.dataclass(frozen=True)
class Work:
    """What is asked of a sandbox.

    Attributes:
        what: what to call it in the table.
        job: what the worker does.
        unit: of the rate.
        amount: how much of that unit it is.
    """

    what: str
    job: dict[str, Any]
    unit: str
    amount: float


def works(count: int, uploads: int) -> list[Work]:
    """What is compared: `count` small messages, and `uploads` of 20 MB."""
    small = {"size": 2000, "count": count}
    return [
        Work("send 2 kB, one connection", {"operation": "send", "at_once": 1, **small}, "messages/s", count),
        Work("send 2 kB, eight connections", {"operation": "send", "at_once": 8, **small}, "messages/s", count),
        Work("send, list, get, acknowledge 2 kB", {"operation": "converse", **small}, "messages/s", count),
        Work(
            "upload 20 MB at a time",
            {"operation": "send", "at_once": 1, "size": 20_000_000, "count": uploads},
            "MB/s",
            uploads * 20,
        ),
    ]


def measure(folder: Path, rounds: int, count: int = 500, uploads: int = 10) -> str:
    """Each work on each sandbox, fresh for each run, by turns."""
    lines = []
    for work in works(count, uploads):
        runs: dict[str, list[Run]] = {"official": [], "ours": [], "ours, mutual TLS": []}
        for number in range(rounds):
            for name, done in runs.items():
                with _server(name, folder) as given:
                    found = Worker(our_python(), "raw.py").run({**work.job, **given})
                done.append(Run(found["seconds"], found["cpu_seconds"]))
                rate = work.amount / found["seconds"]
                print(f"  sandbox {number + 1}/{rounds} {name}, {work.what}: {rate:,.0f} {work.unit}", file=sys.stderr)
        rates = [f"{work.amount / median_of(done):,.0f}" for done in runs.values()]
        lines.append([f"{work.what}, {work.unit}", *rates, f"{ratio_of(runs['official'], runs['ours']):.2f}"])
    return markdown(("sandbox", "official", "ours", "ours, mutual TLS", "times official"), lines)


@contextlib.contextmanager
def _server(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """A sandbox of that name, and what a worker must know to reach it."""
    common = {"shared_key": _KEY, "password": "password"}
    with tempfile.TemporaryDirectory(prefix="sandbox-", dir=folder) as home:
        if name == "official":
            with _official(Path(home)) as url:
                yield {**common, "url": url}
        else:
            with _ours(Path(home), tls="TLS" in name) as given:
                yield {**common, **given}


@contextlib.contextmanager
def _official(home: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "uvicorn", "mesh_sandbox.api:app", "--port", str(port)]
    environment = {**os.environ, "AUTH_MODE": "full", "SHARED_KEY": _KEY, "STORE_MODE": "memory"}
    command += ["--log-level", "warning"]
    with running(command, _LIFE_IN_SECONDS, log=home / "log.txt", environment=environment):
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/health")
        yield url


@contextlib.contextmanager
def _ours(home: Path, *, tls: bool) -> Iterator[dict[str, Any]]:
    """In a process of its own as well, and without TLS as the official one is, or with."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.sandboxes", "tls" if tls else "plain", str(home)]
    with running(command, _LIFE_IN_SECONDS, log=home / "log.txt"):
        ready = home / "ready"
        for _ in range(300):
            if ready.exists():
                break
            time.sleep(0.1)
        given = {"url": ready.read_text()}
        if tls:
            given |= {"authority_pem": (home / "authority.pem").read_text(), "client": str(home / "client.pem")}
        yield given


def _wait_for(url: str) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback
            return
        time.sleep(0.1)
    raise RuntimeError("the sandbox does not answer")


def _serve(kind: str, home: Path) -> None:
    with sandbox(tls=kind == "tls", shared_key=_KEY) as server:
        # The folder is its owner's alone.
        for name, content in (("authority", server.root_certificate), ("client", server.client_certificate)):
            if content is not None:
                (home / f"{name}.pem").write_text(content)
        unfinished = home / "unready"
        unfinished.write_text(server.url)
        unfinished.replace(home / "ready")
        # Until the one who started it stops it.
        time.sleep(_LIFE_IN_SECONDS)


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]))
