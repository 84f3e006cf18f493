"""The programs that a benchmark needs, installed where possible, and the machine that it runs on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".bench"
"""Everything that a benchmark leaves behind; not in version control."""

OFFICIAL = HOME / "official" / "bin" / "python"
ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
"""nginx's module that can wait for a whole upload."""

_SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"


class MissingError(Exception):
    """A program is missing and could not be installed; the text says how to get it."""


def prepare() -> Path:
    """Return the Python that has the official client, once nginx and curl are there too."""
    HOME.mkdir(exist_ok=True)
    nginx()
    if not shutil.which("curl"):
        raise MissingError("curl is needed: `apt-get install -y curl`")
    ready = HOME / "official" / ".ready"
    if not ready.exists():
        # The newest release, with its own requirements and nothing else.
        print("setting up the official client in .bench/official ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME / "official")], check=True)
        command = [str(OFFICIAL), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "mesh-client"]
        if subprocess.run(command, check=False).returncode:
            raise MissingError("the official client could not be installed (above)")
        ready.touch()
    return OFFICIAL


def nginx() -> str:
    """Return nginx's program, installed if necessary."""
    found = shutil.which("nginx", path=_SYSTEM)
    if found and ECHO_MODULE.exists():
        return found
    packages = ["nginx-light", "libnginx-mod-http-echo"]
    print(f"nginx is not installed; asking apt-get for {' '.join(packages)} ...", file=sys.stderr)
    # With this run level it is not started as a service, which would listen on every address.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for arguments in (["update"], ["install", "-y", *packages]):
        try:
            subprocess.run(["apt-get", "-qq", *arguments], env=environment, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise MissingError(
                f"nginx is needed: as root, `apt-get install -y {' '.join(packages)}` ({error})"
            ) from None
    return shutil.which("nginx", path=_SYSTEM) or "nginx"


def describe() -> list[str]:
    """Describe the machine in general terms, never by its name, and the versions of all that takes part."""
    program = "import sys, importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    theirs = _output(str(OFFICIAL), "-c", program, "mesh-client", "requests", "urllib3").strip()
    cpu = _found("model name\\s*: (.*)", Path("/proc/cpuinfo").read_text())
    gigabytes = round(int(_found("MemTotal: *([0-9]+)", Path("/proc/meminfo").read_text())) / 1024 / 1024)
    servers = f"nginx {_found('nginx/([0-9.]+)', _output(nginx(), '-v'))}"
    commit = _output("git", "-C", str(ROOT), "describe", "--always", "--dirty").strip()
    return [
        f"{datetime.now(UTC):%d %B %Y}",
        f"{cpu}, {os.cpu_count()} cores, {gigabytes} GB of memory, {platform.machine()}; "
        f"{platform.system()} {platform.release()}",
        f"{platform.python_implementation()} {platform.python_version()}, {' '.join(ssl.OPENSSL_VERSION.split()[:2])}",
        f"{servers}, curl {_found('curl ([0-9.]+)', _output('curl', '--version'))}",
        f"nel-mesh {version('nel-mesh')} ({commit}), isal {version('isal')}; official: {theirs}",
    ]


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match.group(1) if match else "?"
