"""What strict mypy says of a user's program: nothing of a right one, and what is wrong of a wrong one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).with_name("typed")
ROOT = Path(__file__).resolve().parent.parent


def test_a_users_program(tmp_path: Path) -> None:
    """Outside of the tree, so that mypy finds the package where it is installed, and reads it if it is `py.typed`."""
    shutil.copy(PROGRAMS / "users_program.py", tmp_path / "right.py")
    shutil.copy(PROGRAMS / "misuse.txt", tmp_path / "wrong.py")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--hide-error-context",
        "right.py",
        "wrong.py",
    ]
    command += ["--cache-dir", str(ROOT / ".mypy_cache" / "users")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    errors = set(re.findall(r"^(\w+)\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE))
    lines = enumerate((tmp_path / "wrong.py").read_text(encoding="utf-8").splitlines(), 1)
    wanted = {("wrong", str(number), line.partition("  # ")[2]) for number, line in lines if "  # " in line}
    assert errors == wanted, done.stdout + done.stderr
    assert len(wanted) > 15
