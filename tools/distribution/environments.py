"""Fresh environments that hold what pip puts there, and nothing of this tree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from distribution.table import Failed

PROBES = Path(__file__).with_name("probes")
_SECONDS = 240


def clean() -> dict[str, str]:
    """This process's environment, less what could lead to this tree or decide a test."""
    mine = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MESH_", "MESHCONFIGURATION__", "PYTEST_", "COVERAGE_")
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(mine)} | {
        "PYTHONSAFEPATH": "1",
        "NO_COLOR": "1",
    }


def run(*command: str | Path, folder: Path, more: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder. Raises Failed if it takes too long; its exit status is the caller's business."""
    words = [str(word) for word in command]
    try:
        return subprocess.run(
            words,
            cwd=folder,
            env={**clean(), **(more or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(words)[:200]}: not done after {_SECONDS} s") from None


def must(*command: str | Path, folder: Path, more: dict[str, str] | None = None) -> str:
    """As `run`, and gives what it wrote. Raises Failed, with the end of that, if its exit status is not 0."""
    done = run(*command, folder=folder, more=more)
    if done.returncode != 0:
        words = " ".join(str(word) for word in command)
        raise Failed(f"{words[:200]}: exit status {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


class Environment:
    """A virtual environment without pip, made by some interpreter and filled from outside."""

    def __init__(self, folder: Path, python: Path | str = sys.executable) -> None:
        self.folder = folder
        self.work = folder.with_name(f"{folder.name}-work")
        self.work.mkdir(parents=True)
        must(python, "-m", "venv", "--without-pip", folder, folder=self.work)
        self._commands = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.command("python")

    def command(self, name: str) -> Path:
        """Where a command of this environment lies."""
        return self._commands / (f"{name}.exe" if os.name == "nt" else name)

    def install(self, *requirements: str) -> None:
        """Installs what is named, in the newest versions that it allows."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(self.python)]
        must(*pip, "install", "--quiet", "--only-binary", ":all:", *requirements, folder=self.work)

    def installed(self) -> dict[str, str]:
        """Name and version of each package in it."""
        program = (
            "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
        )
        found: dict[str, str] = json.loads(self.run("-c", program))
        return {canonical(name): version for name, version in found.items()}

    def run(self, *arguments: str | Path, strict: bool = True) -> str:
        """Runs its Python, where every warning is an error unless told otherwise."""
        strictly = ["-W", "error"] if strict else []
        return must(self.python, "-I", *strictly, *arguments, folder=self.work)

    def probe(self, name: str, *arguments: str | Path, strict: bool = True) -> str:
        """Runs one of the programs in `probes`."""
        return self.run(PROBES / f"{name}.py", *arguments, strict=strict)

    def refuses(self, command: Sequence[str | Path], sentence: str) -> None:
        """Raises Failed unless the command fails with this one sentence on stderr, and no more."""
        done = run(*command, folder=self.work)
        said = done.stderr.strip()
        if done.returncode == 0 or done.stdout or "\n" in said or sentence not in said:
            raise Failed(f"{command[0]}: exit status {done.returncode}, said {(done.stdout + done.stderr)[-1500:]!r}")


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
