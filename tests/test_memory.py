"""Memory does not grow with the message: a client in a process of its own, and a message far larger than the bound.

`make test` runs it at 128 MiB; `make memory` at 1 GiB (NEL_MESH_TEST_MEBIBYTES).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nel_mesh.sandbox import Sandbox

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.timeout(600),
]

MEBIBYTES = int(os.environ.get("NEL_MESH_TEST_MEBIBYTES", "128"))
BOUND_KIB = 64 * 1024


def probe(settings_file: Path, *arguments: str) -> int:
    command = [sys.executable, str(Path(__file__).with_name("memory_probe.py")), str(settings_file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


TRIO = pytest.param(
    "trio",
    marks=pytest.mark.skipif(
        MEBIBYTES < 1024, reason="at this size asyncio's run covers the one async source; `make memory` runs them all"
    ),
)


@pytest.mark.parametrize("compress", ["0", "1"], ids=["plain", "gzipped"])
@pytest.mark.parametrize("variant", ["sync", "asyncio", TRIO])
def test_sending_a_file_and_receiving_it_need_little_memory(
    mesh_sandbox: Sandbox, tmp_path: Path, variant: str, compress: str
) -> None:
    with (tmp_path / "big.bin").open("wb") as file:
        file.truncate(MEBIBYTES * 1024 * 1024)
    alice, bob, _ = mesh_sandbox.write_settings(tmp_path)
    used = probe(alice, variant, "send", str(tmp_path / "big.bin"), compress, str(MEBIBYTES))
    print(f"{variant} send big.bin compress={compress}: {used / 1024:.1f} MiB above idle")
    assert used < BOUND_KIB
    used = probe(bob, variant, "receive", "path", compress, str(MEBIBYTES))
    print(f"{variant} receive compress={compress}: {used / 1024:.1f} MiB above idle")
    assert used < BOUND_KIB


@pytest.mark.parametrize("compress", ["0", "1"], ids=["plain", "gzipped"])
@pytest.mark.parametrize("source", ["stream", "iterable"])
@pytest.mark.parametrize("variant", ["sync", "asyncio", TRIO])
def test_sending_what_is_no_file_needs_little_memory(
    mesh_sandbox: Sandbox, tmp_path: Path, variant: str, source: str, compress: str
) -> None:
    alice, _, _ = mesh_sandbox.write_settings(tmp_path)
    used = probe(alice, variant, "send", source, compress, str(MEBIBYTES))
    print(f"{variant} send {source} compress={compress}: {used / 1024:.1f} MiB above idle")
    assert used < BOUND_KIB
