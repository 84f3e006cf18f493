"""Everything that can go wrong, at every point at which it can: nothing may be lost, doubled, corrupted, or
acknowledged early.

    python tests/chaos.py           all of it, with a table (make chaos)

`test_chaos.py` runs a part of it in `make test`. Two experiments:

- each fault of the sandbox's, at each request of a transfer, in each variant;
- a process that transfers, killed with SIGKILL at each point where something is written or sent, and started again
  until it is done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from nel_mesh import MeshError, Outcome, OutcomeUnknown
from nel_mesh.sandbox import Sandbox, sandbox
from variants import Connector

CONTENT = b"nhs_number,result\n" + os.urandom(2_000) + b"," * 1_500
ROUNDS = 8
"""How often a transfer is begun anew before it is given up for lost."""


@dataclasses.dataclass
class Tally:
    """What came of one kind of trial."""

    name: str
    points: int = 0
    lost: int = 0
    doubled: int = 0
    corrupted: int = 0
    early: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.corrupted or self.early)

    def judge(self, contents: list[bytes], where: str) -> None:
        """Compares what there is with what there should be: the content, once."""
        self.points += 1
        bad = sum(content != CONTENT for content in contents)
        self.corrupted += bad
        self.lost += not contents
        self.doubled += len(contents) > 1
        if len(contents) != 1 or bad:
            self.notes.append(f"{where}: {len(contents)} times, {bad} damaged")


@dataclasses.dataclass(frozen=True)
class Shape:
    """How a message goes; of its chunks, how many are received at once."""

    chunked: bool
    compress: bool
    at_once: int = 4

    @property
    def megabytes(self) -> float:
        return 0.001 if self.chunked else 20

    @property
    def chunks(self) -> int:
        return -(-len(CONTENT) // 1000) if self.chunked else 1

    def __str__(self) -> str:
        name = f"{'chunked' if self.chunked else 'single'}, {'gzipped' if self.compress else 'plain'}"
        return name if self.at_once > 1 else f"{name}, one by one"


SHAPES = [Shape(chunked, compress) for chunked in (False, True) for compress in (False, True)]
ONE_BY_ONE = [Shape(True, compress, at_once=1) for compress in (False, True)]


# Faults

SENDING_FAULTS = (
    "cut-before-body", "cut-during-body", "cut-after-body", "lose-answer", "cut-answer=5", "delay=0.01",
    "answer=425", "answer=429,retry-after=1", "answer=502", "answer=503", "answer=504", "answer=504,done",
    "answer=500", "answer=500,done", "answer=403",
)  # fmt: skip
RECEIVING_FAULTS = (
    *SENDING_FAULTS, "truncate-gzip", "corrupt-gzip", "longer-length", "shorter-length", "missing-chunk", "skip-chunk",
    "repeat-chunk", "repeat-content", "wrong-range",
)  # fmt: skip


def try_sending(mesh: Sandbox, connect: Connector, shape: Shape, faults: list[str], tally: Tally, where: str) -> None:
    """Sends under faults; asks where the outcome is unknown; sends again only what was not sent."""
    mesh.reset()
    for fault in faults:
        mesh.add_fault(fault)
    alice = connect(mesh.settings("X26ABC1", max_chunk_size_in_megabytes=shape.megabytes, max_attempts=3))
    for _ in range(ROUNDS):
        try:
            alice.send_message(CONTENT, to="X26ABC2", workflow_id="WF", compress=shape.compress)
            break
        except OutcomeUnknown as error:
            if error.message_id and alice.track_message(error.message_id).status == "accepted":
                break
            if alice.resolve_send(error.local_id) is not None:
                break
        except MeshError as error:
            if error.outcome is not Outcome.NOT_SENT:
                tally.notes.append(f"{where}: {error.outcome}")
            if mesh.delivered("X26ABC2"):
                tally.notes.append(f"{where}: said to be unsent, and delivered")
                tally.doubled += 1
    if not mesh.pending_faults:  # one that found nothing to strike at proves nothing
        tally.judge([mesh.content(one.message_id) for one in mesh.delivered("X26ABC2")], where)


def try_receiving(mesh: Sandbox, connect: Connector, shape: Shape, faults: list[str], tally: Tally, where: str) -> None:
    """Receives under faults, again and again until the inbox is empty."""
    mesh.reset()
    alice = connect(mesh.settings("X26ABC1", max_chunk_size_in_megabytes=shape.megabytes))
    # With its checksum: a server that serves the wrong content in perfect order can be told by nothing else.
    sent = alice.send_message(
        CONTENT,
        to="X26ABC2",
        workflow_id="WF",
        compress=shape.compress,
        checksum=f"sha256 {hashlib.sha256(CONTENT).hexdigest()}",
    )
    for fault in faults:
        mesh.add_fault(fault)
    if where.startswith("message_metadata:"):
        # It is asked for only after an interruption.
        for k in range(1, shape.chunks):
            mesh.add_fault(f"retrieve_chunk:{k}:answer=403")
    bob = connect(mesh.settings("X26ABC2", max_attempts=2, chunks_at_once=shape.at_once))
    with tempfile.TemporaryDirectory(prefix="nel-mesh-chaos-") as name:
        folder = Path(name)
        for _ in range(ROUNDS):
            with contextlib.suppress(MeshError):
                bob.receive_messages(folder)
            acknowledged = alice.track_message(sent.message_id).status == "acknowledged"
            if acknowledged and files(folder) != [CONTENT]:
                tally.early += 1
            if acknowledged:
                break
        if not mesh.pending_faults:
            tally.judge(files(folder), where)


def files(folder: Path) -> list[bytes]:
    """The content of what has a final name."""
    if not folder.exists():
        return []
    return [path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def each_fault(variant: str, every: int = 1) -> Iterator[Tally]:
    """Each fault at each request; every `every`th of them."""
    with sandbox() as mesh:
        number = itertools.count()
        for shape in [*SHAPES, *ONE_BY_ONE]:
            sending, receiving = Tally(f"send {shape}, faults, {variant}"), Tally(f"receive {shape}, faults, {variant}")
            trials = [
                (try_sending, sending, "send_message:1", SENDING_FAULTS),
                *((try_sending, sending, f"send_chunk:{k}", SENDING_FAULTS) for k in range(1, shape.chunks)),
                (try_receiving, receiving, "list_messages:1", SENDING_FAULTS),
                (try_receiving, receiving, "list_messages:2", SENDING_FAULTS),
                *((try_receiving, receiving, "message_metadata:1", SENDING_FAULTS) for _ in range(shape.chunked)),
                (try_receiving, receiving, "retrieve_message:1", RECEIVING_FAULTS),
                *((try_receiving, receiving, f"retrieve_chunk:{k}", RECEIVING_FAULTS) for k in range(1, shape.chunks)),
                (try_receiving, receiving, "acknowledge_message:1", SENDING_FAULTS),
            ]
            for attempt, tally, request, faults in trials:
                if tally is sending and shape in ONE_BY_ONE:
                    continue
                for fault in faults:
                    if next(number) % every == 0:
                        with contextlib.ExitStack() as stack:
                            where = f"{request}:{fault}"
                            attempt(mesh, Connector(variant, stack), shape, [where], tally, where)
            if shape in SHAPES:
                yield sending
            yield receiving


# Kills


class KillServer:
    """The process that runs jobs in children, and kills them."""

    def __enter__(self) -> Self:
        command = [sys.executable, str(Path(__file__).with_name("kill_server.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(20)

    def run(self, **job: Any) -> dict[str, Any]:
        """Runs one job to its end, or to its kill."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def each_kill(variant: str, shape: Shape, operation: str, every: int = 1) -> Tally:
    """A kill at each point of one kind of transfer; every `every`th of them."""
    tally = Tally(f"{operation} {shape}, SIGKILL, {variant}")
    with sandbox() as mesh, KillServer() as killers, tempfile.TemporaryDirectory(prefix="nel-mesh-chaos-") as name:
        alice, bob, _ = mesh.write_settings(name)
        path = Path(name) / "extract.csv"
        path.write_bytes(CONTENT)
        job: dict[str, Any] = {
            "variant": variant,
            "operation": operation,
            "compress": shape.compress,
            "megabytes": shape.megabytes,
            "at_once": shape.at_once,
        }
        job |= {"settings": str(alice if operation == "send" else bob), "path": str(path)}
        for point in itertools.count(1, every):
            mesh.reset()
            job |= {"record": f"{name}/record-{point}.json", "folder": f"{name}/inbox-{point}"}
            if operation == "receive":
                pieces = [CONTENT[start : start + 1000] for start in range(0, len(CONTENT), 1000)]
                mesh.deliver_message("X26ABC2", pieces if shape.chunked else CONTENT, file_name="extract.csv")
            ended = killers.run(**job, kill_at=point)
            if not ended["killed"]:
                # There are no more points: the transfer came to its end before this one.
                assert ended["done"], ended["said"]
                break
            folder = Path(job["folder"])
            waiting = [one for one in mesh.delivered("X26ABC2") if one.status == "accepted"]
            if operation == "receive" and not waiting and files(folder) != [CONTENT]:
                tally.early += 1
            for _ in range(ROUNDS):
                ended = killers.run(**job, kill_at=0)
                if ended["done"]:
                    break
                tally.notes.append(f"point {point}: {ended['said']}")
            if operation == "send":
                contents = [mesh.content(one.message_id) for one in mesh.delivered("X26ABC2")]
            else:
                contents = files(folder)
            tally.judge(contents, f"point {point}")
    return tally


def main() -> int:
    tallies = []
    print(f"{'trial':48} {'points':>6} {'lost':>5} {'doubled':>8} {'corrupted':>10} {'acknowledged early':>19}")

    def tell(tally: Tally) -> None:
        tallies.append(tally)
        print(
            f"{tally.name:48} {tally.points:6} {tally.lost:5} {tally.doubled:8} {tally.corrupted:10} {tally.early:19}",
            flush=True,
        )
        for note in tally.notes:
            print(f"    {note}")

    for variant in ("sync", "asyncio"):
        for tally in each_fault(variant):
            tell(tally)
    for variant in ("sync", "asyncio"):
        for shape in SHAPES:
            tell(each_kill(variant, shape, "send"))
        for shape in (*SHAPES[::2], ONE_BY_ONE[0]):
            tell(each_kill(variant, shape, "receive"))
    total = Tally("all")
    for tally in tallies:
        for field in ("points", "lost", "doubled", "corrupted", "early"):
            setattr(total, field, getattr(total, field) + getattr(tally, field))
    tell(total)
    return 0 if total.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
