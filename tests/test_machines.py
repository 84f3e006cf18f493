"""A message that one machine has begun to store is continued by another, with nothing but the store."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nel_mesh.sandbox import Sandbox
from stores import S3, s3_environment

PROGRAM = Path(__file__).with_name("receiving_process.py")
MIB = 1024 * 1024
CHUNK = 20 * MIB


def start(machine: Path, settings: Path, place: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A process with a home and a temporary folder of its own, both empty."""
    machine.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(settings), place],
        stdout=subprocess.PIPE,
        text=True,
        cwd=machine,
        env={**kept, **environment, "HOME": str(machine), "TMPDIR": str(machine)},
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and kills")
@pytest.mark.timeout(300)
def test_a_killed_machine_is_continued_by_another(mesh_sandbox: Sandbox, s3: S3, tmp_path: Path) -> None:
    """Only the chunks are fetched again that were not durable, and the sender's checksum holds for the whole."""
    chunks = [number.to_bytes(1, "big") * CHUNK for number in range(6)]
    content = b"".join(chunks)
    message_id = mesh_sandbox.deliver_message(
        "X26ABC2", chunks, checksum=f"sha256 {hashlib.sha256(content).hexdigest()}"
    )
    _, bob, _ = mesh_sandbox.write_settings(tmp_path)
    environment = s3_environment(s3.url)
    place = f"s3://{s3.bucket}/in"
    with start(tmp_path / "first", bob, place, environment) as first:
        assert first.stdout
        for line in first.stdout:
            if int(line.split()[1]) >= 4 * CHUNK + MIB:
                first.send_signal(signal.SIGKILL)
                break
    assert s3.messages() == []
    before = len(mesh_sandbox.requests("retrieve_chunk"))
    with start(tmp_path / "second", bob, place, environment) as second:
        assert second.stdout
        *_, last = second.stdout.read().splitlines()
    word, memory, location = last.split()
    assert (word, location, second.returncode) == ("done", f"s3://{s3.bucket}/in/{message_id}", 0)
    assert int(memory) < 40 * 1024
    assert s3.content(f"in/{message_id}") == content
    assert s3.uploads() == []
    fetched = {int(one.path.rsplit("/", 1)[1]) for one in mesh_sandbox.requests("retrieve_chunk")[before:]}
    # The end of the fourth chunk was reported when the part after it had arrived.
    assert fetched
    assert min(fetched) >= 4
    assert mesh_sandbox.messages(recipient="X26ABC2")[0].status == "acknowledged"
    for machine in ("first", "second"):
        assert list((tmp_path / machine).iterdir()) == [], "nothing is left on the machine"
