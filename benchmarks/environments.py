"""What must be installed first: nginx, from the system's packages, and the official client, in its own environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".bench"
"""Everything that a benchmark leaves behind; not in version control."""

OFFICIAL = HOME / "official"
ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
_SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"


class NotThereError(Exception):
    """Something that a benchmark needs is not there and could not be had; the text says how to get it."""


def need_nginx() -> str:
    """nginx's program, installed if need be."""
    if not _nginx():
        print("nginx is not installed; asking apt-get for nginx-light ...", file=sys.stderr)
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise NotThereError("nginx is needed: as root, run `apt-get update && apt-get install -y nginx-light`")
        # The run level is how not to have it started as a service, which would listen to everybody.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for arguments in (["update"], ["install", "-y", "nginx-light", "libnginx-mod-http-echo"]):
            done = subprocess.run(["apt-get", "-qq", *arguments], env=environment, check=False)
            if done.returncode:
                raise NotThereError(f"nginx is needed, and `apt-get {' '.join(arguments)}` failed (above)")
    found = _nginx()
    if not found:
        raise NotThereError("nginx is needed, and is not there though apt-get has installed nginx-light")
    return found


def need_curl() -> str:
    """curl's program."""
    found = shutil.which("curl")
    if not found:
        raise NotThereError("curl is needed: `apt-get install -y curl`")
    return found


def need_official() -> Path:
    """The Python that has the official client: the newest, with what it asks for itself, and nothing else."""
    python = OFFICIAL / "bin" / "python"
    ready = OFFICIAL / ".ready"
    if not ready.exists():
        print("setting up the official client in .bench/official ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(OFFICIAL)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "mesh-client"]
        if subprocess.run(command, check=False).returncode:
            raise NotThereError("the official client could not be installed (above)")
        ready.touch()
    return python


def _nginx() -> str | None:
    """nginx's program, if that and its echo module, which can wait for a whole upload, are there."""
    found = shutil.which("nginx", path=_SYSTEM)
    return found if ECHO_MODULE.exists() else None
