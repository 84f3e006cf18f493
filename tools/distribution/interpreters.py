"""Which Pythons there are on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path


def interpreters(oldest: str) -> dict[str, Path]:
    """Each CPython of at least this version that runs, by its full version; one for each minor version.

    They are looked for on the PATH, where pyenv keeps its own, and in the folders that NEL_MESH_PYTHONS names.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    folders = [
        *os.environ.get("NEL_MESH_PYTHONS", "").split(os.pathsep),
        *os.environ.get("PATH", "").split(os.pathsep),
        *(str(folder / "bin") for folder in sorted(pyenv.glob("*"))),
    ]
    found: dict[tuple[int, int], tuple[str, Path]] = {}
    least = _minor(oldest)
    for folder in filter(None, folders):
        for path in sorted(Path(folder).glob("python3*")):
            if re.fullmatch(r"python3(\.\d+)?t?(\.exe)?", path.name) and (version := _version(path)):
                minor = _minor(version)
                if minor >= least and minor not in found:
                    found[minor] = (version, path)
    return dict(found[minor] for minor in sorted(found))


def _minor(version: str) -> tuple[int, int]:
    major, minor, *_ = version.split(".")
    return int(major), int(minor)


def _version(python: Path) -> str | None:
    """Its version, if it runs, is CPython, and can make environments."""
    program = (
        "import platform, venv, sys; assert sys.implementation.name == 'cpython'; print(platform.python_version())"
    )
    if shutil.which(python) is None:
        return None
    try:
        done = subprocess.run(
            [python, "-I", "-c", program], capture_output=True, text=True, timeout=30, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
