"""Faults, kills and interrupts at every point: nothing may be lost, delivered twice, damaged or acknowledged early.

    python tests/chaos.py           all of it, with a table (make chaos)
    python tests/chaos.py --every 5 a fifth of the points
    python tests/chaos.py --only processes --only calls
    python tests/chaos.py --variant sync --only faults    with one client, so that two runs share the work

`test_chaos.py` runs a part of it in `make test`. The experiments:

- each fault of the sandbox, at each request of a transfer, in each variant of the client;
- a process that transfers, killed with SIGKILL at each point where something is written or sent, and started again
  until it is done: sending, and receiving into a folder, with sidecars, through a handler, by the iterator, a report,
  into S3, into Azure, and onto a server of SFTP; into S3 and Azure also a message that goes there in parts;
- the same with SIGINT, which is KeyboardInterrupt in the blocking client and a cancellation in the async one;
- several processes that receive into one folder, or share one journal, and are killed at random;
- the command `nel-mesh receive`, killed or refused (full disk, I/O error) at system calls, by strace.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import dataclasses
import functools
import gzip
import hashlib
import itertools
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from nel_mesh import MeshError, Outcome, OutcomeUnknown
from nel_mesh.destinations.urls import folder_of
from nel_mesh.sandbox import Sandbox, sandbox
from sshd import sshd
from store_messages import MIB, content_of
from stores import S3, Azure, azure_environment, s3_environment, temporary_azurite, temporary_seaweedfs
from variants import Connector

CONTENT = b"nhs_number,result\n" + os.urandom(2_000) + b"," * 1_500
LARGE = [content_of(length) for length in (6 * MIB, 2 * MIB, 5 * MIB, 10_000)]
"""Chunks that a store takes in parts. The end of the second is not durable in S3: it is too little for a part."""
ROUNDS = 8
"""How often a transfer is started again before it counts as lost."""


@dataclasses.dataclass
class TrialResult:
    """The result of one kind of trial."""

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
        """Compare what there is with what there should be: the content, once."""
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
    "cut-before-body", "cut-during-body", "cut-after-body", "lose-response", "cut-response=5", "delay=0.01",
    "respond=425", "respond=429,retry-after=1", "respond=502", "respond=503", "respond=504", "respond=504,done",
    "respond=500", "respond=500,done", "respond=403",
)  # fmt: skip
RECEIVING_FAULTS = (
    *SENDING_FAULTS, "truncate-gzip", "corrupt-gzip", "longer-length", "shorter-length", "missing-chunk", "skip-chunk",
    "repeat-chunk", "repeat-content", "wrong-range",
)  # fmt: skip


def try_sending(
    mesh: Sandbox, connect: Connector, shape: Shape, faults: list[str], result: TrialResult, where: str
) -> None:
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
                result.notes.append(f"{where}: {error.outcome}")
            if mesh.delivered("X26ABC2"):
                result.notes.append(f"{where}: said to be unsent, and delivered")
                result.doubled += 1
    if not mesh.pending_faults:  # one that found nothing to strike at proves nothing
        result.judge([mesh.content(one.message_id) for one in mesh.delivered("X26ABC2")], where)


def try_receiving(
    mesh: Sandbox, connect: Connector, shape: Shape, faults: list[str], result: TrialResult, where: str
) -> None:
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
            mesh.add_fault(f"retrieve_chunk:{k}:respond=403")
    bob = connect(mesh.settings("X26ABC2", max_attempts=2, chunks_at_once=shape.at_once))
    with tempfile.TemporaryDirectory(prefix="nel-mesh-chaos-") as name:
        folder = Path(name)
        for _ in range(ROUNDS):
            with contextlib.suppress(MeshError):
                bob.receive_messages(folder)
            acknowledged = alice.track_message(sent.message_id).status == "acknowledged"
            if acknowledged and files(folder) != [CONTENT]:
                result.early += 1
            if acknowledged:
                break
        if not mesh.pending_faults:
            result.judge(files(folder), where)


def files(folder: Path) -> list[bytes]:
    """The content of what has a final name."""
    if not folder.exists():
        return []
    return [path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def with_status(mesh: Sandbox, status: str) -> list[str]:
    """The ids of the messages and reports to the recipient that have a status."""
    return [one.message_id for one in mesh.messages(recipient="X26ABC2") if one.status == status]


def each_fault(variant: str, every: int = 1) -> Iterator[TrialResult]:
    """Each fault at each request; every `every`th of them."""
    with sandbox() as mesh:
        number = itertools.count()
        for shape in [*SHAPES, *ONE_BY_ONE]:
            sending, receiving = (
                TrialResult(f"send {shape}, faults, {variant}"),
                TrialResult(f"receive {shape}, faults, {variant}"),
            )
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
            for attempt, result, request, faults in trials:
                if result is sending and shape in ONE_BY_ONE:
                    continue
                for fault in faults:
                    if next(number) % every == 0:
                        with contextlib.ExitStack() as stack:
                            where = f"{request}:{fault}"
                            attempt(mesh, Connector(variant, stack), shape, [where], result, where)
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
        """Runs one job to its end, or to its kill, with the variables that this process has now."""
        job["environment"] = dict(os.environ)
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@functools.cache
def kill_server() -> KillServer:
    """The one of this process, which has imported what its jobs need; it ends with this process."""
    killers = KillServer().__enter__()
    atexit.register(killers.__exit__)
    return killers


@dataclasses.dataclass(frozen=True)
class Form:
    """How messages are received: `name` is folder, sidecar (a folder with sidecars), handler, iterator, report, or a
    store; one in `stride` points is tried, where there are many and each takes long."""

    name: str = "folder"
    concurrency: int = 1
    messages: int = 1
    stride: int = 1
    in_parts: bool = False

    @property
    def content(self) -> bytes:
        return b"".join(LARGE) if self.in_parts else CONTENT

    def __str__(self) -> str:
        name = f"{self.name}, in parts" if self.in_parts else self.name
        return f"{name}, {self.concurrency} at once" if self.concurrency > 1 else name


FOLDER = Form()
FORMS = [
    Form("handler"),
    Form("iterator"),
    Form("report"),
    Form("sidecar"),
    Form("folder", concurrency=4, messages=4),
    Form("handler", concurrency=4, messages=4),
    Form("s3", stride=5),
    Form("s3", in_parts=True, stride=17),
    Form("azure", stride=3),
    Form("azure", in_parts=True, stride=40),
    Form("sftp", stride=17),
]
STORES = ("s3", "azure", "sftp")


@contextlib.contextmanager
def receiving_place(form: Form, folder: str) -> Iterator[tuple[str, Callable[[str], list[bytes]]]]:
    """Where trials of a form receive: a folder or a URL, and a function that reads what is complete below it."""
    if form.name == "s3":
        with temporary_seaweedfs() as url, environment(s3_environment(url)):
            yield _of_objects(S3(url))
    elif form.name == "azure":
        with temporary_azurite() as url, environment(azure_environment(url)):
            yield _of_objects(Azure(url))
    elif form.name == "sftp":
        with sshd(Path(folder) / "sshd") as account, environment(account.environment):
            yield account.url().rstrip("/"), lambda place: files(account.folder / Path(place).name)
    elif form.name == "sidecar":
        yield Path(folder).as_uri(), lambda place: _with_sidecars(folder_of(place) or Path())
    else:
        yield folder, lambda place: files(Path(place))


def _with_sidecars(folder: Path) -> list[bytes]:
    """The content of the files, each of which must have its sidecar; a sidecar alone is no message yet."""
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.exists() else set()
    contents = []
    for name in sorted(found):
        if f"{name}.json" in found:
            is_its_own = json.loads((folder / f"{name}.json").read_bytes())["file_name"] == "extract.csv"
            contents.append((folder / name).read_bytes() if is_its_own else b"with another's sidecar")
        elif not name.endswith(".json"):
            contents.append(b"without its sidecar")
    return contents


def _of_objects(store: S3 | Azure) -> tuple[str, Callable[[str], list[bytes]]]:
    def contents(place: str) -> list[bytes]:
        return [store.content(key) for key in store.messages() if f"{store.place}/{key}".startswith(f"{place}/")]

    return store.place, contents


@contextlib.contextmanager
def environment(more: dict[str, str]) -> Iterator[None]:
    """Variables by which the trials' processes find credentials, as a user's would."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        for name in more:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in more if name in before})


def each_kill(
    variant: str,
    shape: Shape,
    operation: str,
    every: int = 1,
    *,
    form: Form = FOLDER,
    number: signal.Signals = signal.SIGKILL,
) -> TrialResult:
    """A kill at each point of one kind of transfer; every `every`th of them."""
    what = "send" if operation == "send" else f"receive ({form})"
    result = TrialResult(f"{what} {shape}, {number.name}, {variant}")
    with (
        sandbox() as mesh,
        tempfile.TemporaryDirectory(prefix="nel-mesh-chaos-") as name,
        receiving_place(form, name) as (place, contents),
    ):
        killers = kill_server()
        alice, bob, _ = mesh.write_settings(name)
        path = Path(name) / "extract.csv"
        path.write_bytes(CONTENT)
        job: dict[str, Any] = {
            "variant": variant,
            "operation": operation,
            "form": "folder" if form.name in ("report", "sidecar", *STORES) else form.name,
            "concurrency": form.concurrency,
            "compress": shape.compress,
            "megabytes": shape.megabytes,
            "at_once": shape.at_once,
            "signal": int(number),
        }
        job |= {"settings": str(alice if operation == "send" else bob), "path": str(path)}
        for point in itertools.count(1, every):
            mesh.reset()
            job |= {"record": f"{name}/record-{point}.json", "folder": f"{place}/inbox-{point}"}
            if form.name == "sidecar":
                job["folder"] += "?sidecar=true"
            if operation == "receive":
                _deliver(mesh, shape, form)
            ended = killers.run(**job, kill_at=point)
            if not ended["killed"]:
                # There are no more points: the transfer came to its end before this one.
                assert ended["done"], ended["said"]
                break
            acknowledged = with_status(mesh, "acknowledged")
            if operation == "receive" and len(acknowledged) > len(_complete(contents(job["folder"]), form)):
                result.early += 1
            for _ in range(ROUNDS):
                ended = killers.run(**job, kill_at=0)
                if ended["done"]:
                    break
                result.notes.append(f"point {point}: {ended['said']}")
            if operation == "send":
                result.judge([mesh.content(one.message_id) for one in mesh.delivered("X26ABC2")], f"point {point}")
            else:
                _judge_received(result, contents(job["folder"]), form, f"point {point}")
    return result


def _deliver(mesh: Sandbox, shape: Shape, form: Form) -> None:
    if form.name == "report":
        mesh.deliver_report("X26ABC2", linked_message_id="M0")
        return
    content: bytes | list[bytes] = CONTENT
    if form.in_parts:
        content = LARGE
    elif shape.chunked:
        content = [CONTENT[start : start + 1000] for start in range(0, len(CONTENT), 1000)]
    if shape.compress:
        parts = [content] if isinstance(content, bytes) else content
        content = [gzip.compress(part, 1) for part in parts]
    for _ in range(form.messages):
        mesh.deliver_message(
            "X26ABC2", content, file_name="extract.csv", content_encoding="gzip" if shape.compress else ""
        )


def _complete(found: list[bytes], form: Form) -> list[bytes]:
    """The messages that are whole."""
    if form.name == "report":
        return [content for content in found if json.loads(content)["linked_message_id"] == "M0"]
    return [content for content in found if content == form.content]


def _judge_received(result: TrialResult, found: list[bytes], form: Form, where: str) -> None:
    complete = _complete(found, form)
    result.points += 1
    result.corrupted += len(found) - len(complete)
    result.lost += max(0, form.messages - len(complete))
    result.doubled += max(0, len(complete) - form.messages)
    if len(complete) != form.messages or len(found) != form.messages:
        result.notes.append(f"{where}: {len(complete)} of {form.messages}, {len(found) - len(complete)} damaged")


# Several processes


def several_processes(form: str, rounds: int) -> TrialResult:
    """Three processes that receive the same inbox, each killed at random, until all is there."""
    result = TrialResult(f"receive ({form}), three processes, SIGKILL at random")
    chance = random.Random(1)
    with sandbox() as mesh, tempfile.TemporaryDirectory(prefix="nel-mesh-chaos-") as name:
        _, bob, _ = mesh.write_settings(name)
        for trial in range(rounds):
            mesh.reset()
            ids = [mesh.deliver_message("X26ABC2", CONTENT, file_name="extract.csv") for _ in range(12)]
            folder = Path(name) / f"inbox-{trial}"
            job = {
                "variant": "sync",
                "operation": "receive",
                "form": form,
                "concurrency": 2,
                "compress": False,
                "megabytes": 20,
                "at_once": 1,
                "settings": str(bob),
                "folder": str(folder),
            }
            with contextlib.ExitStack() as stack:
                killers = [stack.enter_context(KillServer()) for _ in range(3)]
                threads = [
                    threading.Thread(target=killer.run, kwargs={**job, "kill_at": chance.randrange(1, 400)})
                    for killer in killers
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                for _ in range(ROUNDS):
                    if killers[0].run(**job, kill_at=0)["done"] and not with_status(mesh, "accepted"):
                        break
            _judge_received(result, files(folder), Form(form, messages=len(ids)), f"trial {trial}")
    return result


# System calls

SYSTEM_CALLS = ("fsync", "link,linkat", "rename,renameat,renameat2", "unlink,unlinkat", "ftruncate", "sendto", "write")
"""Those that the interpreter does not make when it starts."""
INJECTIONS = ("signal=SIGKILL", "error=ENOSPC", "error=EIO")
PARTS = ("faults", "kills", "interrupts", "processes", "calls")
VARIANTS = ("sync", "asyncio")


def each_system_call(injection: str, every: int = 1, most: int = 60) -> TrialResult:
    """The command, with one system call after another killed or refused by strace."""
    result = TrialResult(f"nel-mesh receive, {injection} at system calls")
    with sandbox() as mesh, tempfile.TemporaryDirectory(prefix="nel-mesh-chaos-") as name:
        _, bob, _ = mesh.write_settings(name)
        trial = itertools.count()
        for calls in SYSTEM_CALLS:
            if calls == "sendto" and injection != "signal=SIGKILL":
                continue  # a disk's error is none of a connection
            for when in range(1, most, every):
                mesh.reset()
                mesh.deliver_message("X26ABC2", CONTENT, file_name="extract.csv")
                folder = Path(name) / f"inbox-{next(trial)}"
                command = [
                    sys.executable, "-m", "nel_mesh.cli", "--settings", str(bob), "receive", "--into", str(folder),
                ]  # fmt: skip
                trace = ["strace", "-f", "-qq", "-o", f"{name}/strace", f"--inject={calls}:{injection}:when={when}"]
                done = subprocess.run([*trace, *command], capture_output=True, text=True, timeout=60, check=False)
                if "INJECTED" not in Path(f"{name}/strace").read_text() and done.returncode >= 0:
                    break
                acknowledged = with_status(mesh, "acknowledged")
                if acknowledged and not _complete(files(folder), FOLDER):
                    result.early += 1
                for _ in range(ROUNDS):
                    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
                    if done.returncode == 0 and not with_status(mesh, "accepted"):
                        break
                _judge_received(result, files(folder), FOLDER, f"{calls} {when}")
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try one in N points (all)")
    parser.add_argument("--only", choices=PARTS, action="append", help="a kind of trial, in place of all")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="a client, in place of both")
    given = parser.parse_args()
    every: int = given.every
    parts: list[str] = given.only or list(PARTS)
    variants: list[str] = given.variant or list(VARIANTS)
    logging.getLogger("nel_mesh").addHandler(logging.NullHandler())
    results = []
    print(f"{'trial':58} {'points':>6} {'lost':>5} {'doubled':>8} {'corrupted':>10} {'acknowledged early':>19}")

    def tell(result: TrialResult) -> None:
        results.append(result)
        print(
            f"{result.name:58} {result.points:6} {result.lost:5} {result.doubled:8} {result.corrupted:10}"
            f" {result.early:19}",
            flush=True,
        )
        for note in result.notes:
            print(f"    {note}")

    if "faults" in parts:
        for variant in variants:
            for result in each_fault(variant, every):
                tell(result)
    for part, number in (("kills", signal.SIGKILL), ("interrupts", signal.SIGINT)):
        for variant in variants if part in parts else ():
            for shape in SHAPES:
                tell(each_kill(variant, shape, "send", every, number=number))
            for shape in (*SHAPES, *ONE_BY_ONE):
                tell(each_kill(variant, shape, "receive", every, number=number))
            for form in FORMS:
                shape = SHAPES[2 if form.messages == 1 else 0]
                tell(each_kill(variant, shape, "receive", every * form.stride, form=form, number=number))
    if "processes" in parts:
        for name in ("folder", "handler", "iterator"):
            tell(several_processes(name, rounds=10))
    if "calls" in parts and shutil.which("strace") is None:
        print("kills at system calls: not tried, as there is no strace; `make services` brings it")
    elif "calls" in parts:
        for injection in INJECTIONS:
            tell(each_system_call(injection))
    total = TrialResult("all")
    for result in results:
        for field in ("points", "lost", "doubled", "corrupted", "early"):
            setattr(total, field, getattr(total, field) + getattr(result, field))
    tell(total)
    return 0 if total.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
