"""SIGKILL at points where something is written or sent, while a message goes into S3; then nothing is amiss.

`python tests/test_s3_kills.py 1` tries every point, and `2` every second one.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from chaos import ROUNDS, KillServer, TrialResult, with_status
from nel_mesh.sandbox import Sandbox, sandbox
from stores import S3, s3_environment, temporary_seaweedfs

MIB = 1024 * 1024
SMALL = [os.urandom(1000) for _ in range(3)]
LARGE = [os.urandom(length) for length in (6 * MIB, 2 * MIB, 5 * MIB, 10_000)]
"""The end of the second chunk is not durable; the whole takes an upload in parts."""


def each_kill_into_s3(
    mesh: Sandbox, s3: S3, folder: Path, chunks: list[bytes], every: int, *, zipped: bool
) -> TrialResult:
    """A kill at every `every`th point, in the environment of the S3 server; started again until it is done."""
    name = f"receive (s3), {'large' if chunks is LARGE else 'small'}, {'gzipped' if zipped else 'plain'}"
    result = TrialResult(name)
    _, bob, _ = mesh.write_settings(folder)
    content = b"".join(chunks)
    job: dict[str, Any] = {
        "variant": "sync", "operation": "receive", "form": "folder", "concurrency": 1, "compress": zipped,
        "megabytes": 20, "at_once": 1, "settings": str(bob), "path": "",
    }  # fmt: skip
    with KillServer() as killers:
        for point in itertools.count(1, every):
            mesh.reset()
            bodies = [gzip.compress(chunk, 1, mtime=0) for chunk in chunks] if zipped else chunks
            message_id = mesh.deliver_message("X26ABC2", bodies, content_encoding="gzip" if zipped else "")
            job["folder"] = f"s3://{s3.bucket}/kill-{point}"
            ended = killers.run(**job, kill_at=point)
            if not ended["killed"]:
                assert ended["done"], ended["said"]
                return result
            keys = [key for key in s3.messages() if key.startswith(f"kill-{point}/")]
            if any(s3.content(key) != content for key in keys):
                result.corrupted += 1
            if with_status(mesh, "acknowledged") and not keys:
                result.early += 1
            for _ in range(ROUNDS):
                ended = killers.run(**job, kill_at=0)
                if ended["done"]:
                    break
                result.notes.append(f"point {point}: {ended['said']}")
            found = [key for key in s3.messages() if key.startswith(f"kill-{point}/")]
            result.points += 1
            result.lost += not found
            result.doubled += len(found) > 1
            result.corrupted += any(s3.content(key) != content for key in found)
            assert with_status(mesh, "acknowledged") == [message_id]
            for key in found:
                s3.client.delete_object(Bucket=s3.bucket, Key=key)
    raise AssertionError("unreachable")


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and kills what it forked")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize(("chunks", "every"), [(SMALL, 29), (LARGE, 401)], ids=["small", "large"])
def test_no_kill_loses_doubles_or_corrupts(
    mesh_sandbox: Sandbox, s3: S3, tmp_path: Path, chunks: list[bytes], every: int, zipped: bool
) -> None:
    result = each_kill_into_s3(mesh_sandbox, s3, tmp_path, chunks, every, zipped=zipped)
    assert result.is_clean, result
    assert result.points >= 2


def main() -> None:
    """Print a table."""
    with contextlib.ExitStack() as stack:
        mesh = stack.enter_context(sandbox())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nel-mesh-chaos-")))
        url = stack.enter_context(temporary_seaweedfs())
        os.environ.update(s3_environment(url))
        for chunks, zipped in itertools.product((SMALL, LARGE), (False, True)):
            every = int(sys.argv[1]) * (1 if chunks is SMALL else 10)
            print(each_kill_into_s3(mesh, S3(url), folder, chunks, every, zipped=zipped), flush=True)


if __name__ == "__main__":
    main()
