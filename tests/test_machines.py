"""A message that one machine has begun to store is continued by another, with nothing but the store."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nel_mesh.sandbox import Sandbox
from sshd import SftpAccount
from stores import S3, s3_environment

PROGRAM = Path(__file__).with_name("receiving_process.py")
MIB = 1024 * 1024
CHUNK = 20 * MIB
MEMORY_KIB = 32 * 1024
"""What is promised above idle, for a message of any length; in S3 more from 12 GB on, where parts are longer."""


def start(machine: Path, settings: Path, place: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A process with a home and a temporary folder of its own, both empty."""
    machine.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(settings), place],
        stdout=subprocess.PIPE,
        text=True,
        cwd=machine,
        env={**kept, "HOME": str(machine), **environment, "TMPDIR": str(machine)},
    )


@dataclasses.dataclass(frozen=True)
class Store:
    """A store that two machines share.

    Attributes:
        place: the destination's URL.
        environment: where its credentials are found.
        contents: gives the messages that are complete, by their place.
        leftovers: gives what is unfinished.
    """

    place: str
    environment: dict[str, str]
    contents: Callable[[], dict[str, bytes]]
    leftovers: Callable[[], list[str]]


@pytest.fixture(params=["s3", "sftp"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "s3":
        s3: S3 = request.getfixturevalue("s3")
        place = f"s3://{s3.bucket}"
        return Store(
            f"{place}/in",
            s3_environment(s3.url),
            lambda: {f"{place}/{key}": s3.content(key) for key in s3.messages()},
            s3.uploads,
        )
    account: SftpAccount = request.getfixturevalue("sftp")
    # The keys are in its home, which both machines have for that.
    return Store(
        account.url("in"),
        account.environment,
        lambda: {account.url(name): one for name, one in account.files().items() if ".incoming/" not in name},
        lambda: [name for name in account.files() if ".incoming/" in name],
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and kills")
@pytest.mark.timeout(300)
def test_a_killed_machine_is_continued_by_another(mesh_sandbox: Sandbox, store: Store, tmp_path: Path) -> None:
    """Only the chunks are fetched again that were not durable, and the sender's checksum holds for the whole."""
    chunks = [number.to_bytes(1, "big") * CHUNK for number in range(6)]
    content = b"".join(chunks)
    message_id = mesh_sandbox.deliver_message(
        "X26ABC2", chunks, checksum=f"sha256 {hashlib.sha256(content).hexdigest()}"
    )
    _, bob, _ = mesh_sandbox.write_settings(tmp_path)
    with start(tmp_path / "first", bob, store.place, store.environment) as first:
        assert first.stdout
        for line in first.stdout:
            if int(line.split()[1]) >= 4 * CHUNK + MIB:
                first.send_signal(signal.SIGKILL)
                break
    assert store.contents() == {}
    before = len(mesh_sandbox.requests("retrieve_chunk"))
    with start(tmp_path / "second", bob, store.place, store.environment) as second:
        assert second.stdout
        *_, last = second.stdout.read().splitlines()
    word, memory, location = last.split()
    assert (word, second.returncode) == ("done", 0)
    assert location.endswith(f"/in/{message_id}")
    assert int(memory) < MEMORY_KIB
    ((where, found),) = store.contents().items()
    assert (where.rpartition("/")[2], found) == (message_id, content)
    assert store.leftovers() == []
    fetched = {int(one.path.rsplit("/", 1)[1]) for one in mesh_sandbox.requests("retrieve_chunk")[before:]}
    # The end of the fourth chunk was reported when the part after it had arrived.
    assert fetched
    assert min(fetched) >= 4
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "acknowledged"
    for machine in ("first", "second"):
        assert list((tmp_path / machine).iterdir()) == [], "nothing is left on the machine"
