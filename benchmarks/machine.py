"""What it was measured on: the machine in general terms, never its name, and the versions of all that took part."""

from __future__ import annotations

import os
import platform
import re
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import environments


def describe() -> list[str]:
    """A line for each."""
    packages = ("mesh-client", "requests", "urllib3")
    theirs = _output([str(environments.OFFICIAL / "bin" / "python"), "-c", _VERSIONS, *packages])
    nginx = _output([environments.need_nginx(), "-v"])
    return [
        f"{datetime.now(UTC):%d %B %Y}",
        f"{_from('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores, {_gigabytes()} GB of memory, "
        f"{platform.machine()}; {platform.system()} {platform.release()}",
        f"{platform.python_implementation()} {platform.python_version()}, {' '.join(ssl.OPENSSL_VERSION.split()[:2])}",
        f"nginx {_found('nginx/', nginx)}, curl {_found('curl ', _output([environments.need_curl(), '--version']))}",
        f"nel-mesh {version('nel-mesh')}{_commit()}, isal {version('isal')}; official: {theirs.strip()}",
    ]


_VERSIONS = (
    "import sys; from importlib.metadata import version;"
    "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
)


def _commit() -> str:
    """Which state of the repository, where that can be told."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=environments.ROOT, capture_output=True, text=True, check=False
    )
    return f" ({found.stdout.strip()})" if found.returncode == 0 else ""


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _found(before: str, text: str) -> str:
    """The word that follows."""
    match = re.search(re.escape(before) + r"(\S+)", text)
    return match.group(1) if match else "?"


def _from(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "?")


def _gigabytes() -> int:
    return round(int(_from("/proc/meminfo", "MemTotal").split()[0]) / 1024 / 1024)


if __name__ == "__main__":
    sys.stdout.write("\n".join(describe()) + "\n")
