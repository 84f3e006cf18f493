"""The first program of the README, on a disk that is full (A34)."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES

from nel_mesh.sandbox import Sandbox

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a limit of file sizes stands for the full disk")


def _allow_small_files_only() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


@pytest.mark.parametrize(("length", "succeeds"), [(1_000, True), (1_000_000, False)])
def test_a34_a_message_that_could_not_be_stored_ends_the_first_program(
    mesh_sandbox: Sandbox, tmp_path: Path, length: int, succeeds: bool
) -> None:
    (readme,) = (page for page in PAGES if page.name == "README.md")
    program = next(block.text for block in readme.blocks if block.language == "python")
    written = mesh_sandbox.write_settings(tmp_path / "given")
    settings = dict(zip(mesh_sandbox.mailbox_ids, written, strict=True))
    (tmp_path / "appsettings.Development.json").write_bytes(settings["X26ABC1"].read_bytes())
    (tmp_path / "results.csv").write_bytes(b"1,2\n")
    mesh_sandbox.deliver_message("X26ABC1", bytes(length))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=_allow_small_files_only,
    )
    assert (done.returncode == 0) is succeeds, done.stderr
    if not succeeds:
        assert "StorageError" in done.stderr
        assert not [path for path in (tmp_path / "inbox").iterdir() if not path.name.startswith(".")]
