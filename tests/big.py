"""A message of 5 GiB, sent and received by processes that are killed twice on the way each (make big).

    python tests/big.py          into a folder
    python tests/big.py s3       into S3, each process on a machine of its own: gzipped, and then plain without kills;
                                 azure and sftp likewise

Every mebibyte of it is different, so that a piece lost, doubled or moved shows. Prints how much memory each process
needed above idle, and fails if that is over 64 MiB (32 MiB into a store), if content is not the same, or if it was
delivered other than once. NEL_MESH_TEST_GIBIBYTES says how long the message is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from memory_probe import idle, status
from nel_mesh import MeshClient, MeshSettings, SendProgress
from nel_mesh.sandbox import Sandbox, sandbox
from sshd import sshd
from stores import S3, Azure, azure_environment, s3_environment, temporary_azurite, temporary_seaweedfs

GIBIBYTES = float(os.environ.get("NEL_MESH_TEST_GIBIBYTES", "5"))
BOUND_KIB, STORE_BOUND_KIB = 64 * 1024, 32 * 1024
MIB = 1024 * 1024


def send(settings: str, path: str, record: str, compress: str = "compress") -> None:
    """In a process of its own: sends, and says how far it has come at each chunk."""
    with MeshClient(MeshSettings.from_file(settings)) as mesh:
        mesh.handshake()
        before = idle()

        def say(progress: SendProgress) -> None:
            if progress.bytes_done % 20_000_000 == 0:
                print("at", progress.bytes_done, flush=True)

        is_compressed = compress == "compress"
        sent = mesh.send_file(
            path, to="X26ABC2", workflow_id="BIG", compress=is_compressed, resume=record, progress=say
        )
        print("done", sent.message_id, status("VmHWM") - before, flush=True)


def receive(settings: str, folder: str) -> None:
    """In a process of its own: receives."""
    with MeshClient(MeshSettings.from_file(settings)) as mesh:
        mesh.handshake()
        before = idle()
        result = mesh.receive_messages(folder)
        assert not result.failed, result.failed
        print("done", result.delivered[0], status("VmHWM") - before, flush=True)


def run_killed(
    arguments: list[str], reached: list[int], how_far: object, *, environment: dict[str, str] | None = None
) -> int:
    """Runs a child, kills it each time it has come so far, starts it again; gives the last one's memory in KiB."""
    program = [] if arguments[0].endswith(".py") else [__file__]
    command = [sys.executable, *program, *arguments]
    while True:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
        ) as child:
            assert child.stdout
            if callable(how_far):
                while reached and child.poll() is None and how_far() < reached[0]:
                    time.sleep(0.02)
                if reached and child.poll() is None:
                    child.send_signal(signal.SIGKILL)
            for line in child.stdout:
                word, value, *rest = line.split()
                if word == "done":
                    return int(rest[0] if len(rest) == 1 and rest[0].isdigit() else value)
                if reached and int(value) >= reached[0]:
                    child.send_signal(signal.SIGKILL)
        print(f"  killed at {reached.pop(0):,} bytes")


def write_extract(path: Path, length: int) -> str:
    """Writes the content; gives its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(length // MIB):
            block = number.to_bytes(8, "big") * (MIB // 8)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Store:
    """Where a message goes, and how its content is read there.

    Attributes:
        place: the destination's URL.
        environment: where its credentials are found.
        digest: gives the SHA-256 of the only message in it.
        leftovers: gives what is unfinished in it.
    """

    place: str
    environment: dict[str, str]
    digest: Callable[[], str]
    leftovers: Callable[[], list[str]]


@contextlib.contextmanager
def opened_store(kind: str, folder: Path) -> Iterator[Store]:
    """Start the server of a kind of store."""
    if kind == "s3":
        with temporary_seaweedfs() as url:
            s3 = S3(url)

            def read_object() -> Iterator[bytes]:
                (key,) = s3.messages()
                return iter(s3.client.get_object(Bucket=s3.bucket, Key=key)["Body"].iter_chunks(MIB))

            yield Store(f"{s3.place}/in", s3_environment(url), lambda: _sha256(read_object()), s3.uploads)
    elif kind == "azure":
        with temporary_azurite() as url:
            azure = Azure(url)

            def read_blob() -> Iterator[bytes]:
                (key,) = azure.messages()
                return iter(azure.client.get_blob_client(key).download_blob().chunks())

            # What is not in the blob Azure has dropped when it was made.
            yield Store(f"{azure.place}/in", azure_environment(url), lambda: _sha256(read_blob()), list)
    else:
        with sshd(folder / "sshd") as account:

            def read_file() -> Iterator[bytes]:
                (path,) = _files(account.folder / "in", hidden=False)
                with path.open("rb") as file:
                    while block := file.read(MIB):
                        yield block

            def leftovers() -> list[str]:
                return [path.name for path in _files(account.folder, hidden=True) if path.suffix in (".part", ".new")]

            yield Store(account.url("in"), account.environment, lambda: _sha256(read_file()), leftovers)


def _files(folder: Path, *, hidden: bool) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in found if hidden == any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _sha256(blocks: Iterator[bytes]) -> str:
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    return found.hexdigest()


def into_store(mesh: Sandbox, folder: Path, path: Path, digest: str, length: int, kind: str) -> None:
    """Receives into a store, with nothing but the store between one process and the next."""
    alice, bob, _ = mesh.write_settings(folder)
    program = str(Path(__file__).with_name("receiving_process.py"))
    for compress, kills in (("compress", [length // 3, 2 * length // 3]), ("plain", [])):
        with opened_store(kind, folder / compress) as store:
            run_killed(["send", str(alice), str(path), str(folder / f"{compress}.json"), compress], [], None)
            began = time.monotonic()
            print(f"receiving {length:,} bytes into {kind}, {compress}", flush=True)
            with tempfile.TemporaryDirectory(prefix="nel-mesh-machine-") as home:
                environment = {"HOME": home, **store.environment, "TMPDIR": home}
                memory = run_killed([program, str(bob), store.place], kills, None, environment=environment)
            print(f"  received in {time.monotonic() - began:.0f} s; {memory / 1024:.1f} MiB above idle")
            assert memory < STORE_BOUND_KIB
            assert store.digest() == digest, "other content"
            print("  the content is the same, and there once")
            assert store.leftovers() == []


def main() -> int:
    length = int(GIBIBYTES * 1024) * MIB
    with tempfile.TemporaryDirectory(prefix="nel-mesh-big-") as name, sandbox() as mesh:
        folder = Path(name)
        alice, bob, _ = mesh.write_settings(folder)
        path = folder / "extract.bin"
        digest = write_extract(path, length)
        if sys.argv[1:]:
            into_store(mesh, folder, path, digest, length, sys.argv[1])
            return 0
        thirds = [length // 3, 2 * length // 3]
        print(f"sending {length:,} bytes, gzipped, in chunks of 20 MB")
        began = time.monotonic()
        memory = run_killed(["send", str(alice), str(path), str(folder / "record.json")], [*thirds], None)
        print(f"  sent in {time.monotonic() - began:.0f} s; {memory / 1024:.1f} MiB above idle")
        assert memory < BOUND_KIB
        assert len(mesh.delivered("X26ABC2")) == 1
        inbox = folder / "inbox"
        began = time.monotonic()
        print("receiving it")

        def arrived() -> int:
            return sum(part.stat().st_size for part in inbox.glob(".*.part")) if inbox.exists() else 0

        memory = run_killed(["receive", str(bob), str(inbox)], [*thirds], arrived)
        print(f"  received in {time.monotonic() - began:.0f} s; {memory / 1024:.1f} MiB above idle")
        assert memory < BOUND_KIB
        (received,) = [found for found in inbox.iterdir() if not found.name.startswith(".")]
        with received.open("rb") as arrived_file:
            assert hashlib.file_digest(arrived_file, "sha256").hexdigest() == digest, "other content"
        print("  the content is the same, and there once")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["send"]:
        send(*sys.argv[2:])
    elif sys.argv[1:2] == ["receive"]:
        receive(*sys.argv[2:])
    elif sys.argv[1:] not in ([], ["s3"], ["azure"], ["sftp"]):
        sys.exit("python tests/big.py [s3 | azure | sftp]")
    else:
        sys.exit(main())
