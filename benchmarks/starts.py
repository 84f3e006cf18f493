"""How long a process takes to start: importing and making either client, and `nel-mesh --help` as a whole."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trustme

from benchmarks.measuring import environment
from benchmarks.table import markdown

IMPORT_TARGET, HELP_TARGET = 1.2, 0.4
_OFFICIAL = "import mesh_client"
_WITH_TARGET = ("from nel_mesh import MeshClient", "from nel_mesh import AsyncMeshClient")
_OURS = (
    *_WITH_TARGET,
    "from nel_mesh import MeshClient, MeshSettings",
    "from nel_mesh import AsyncMeshClient, MeshSettings",
)
_MADE = "the same, and a client made, with a certificate"
_OFFICIAL_MADE = (
    "from mesh_client import MeshClient; MeshClient('https://localhost', 'A', 'p', shared_key=b'k', "
    "cert=('{folder}/client.pem', '{folder}/client.pem'), verify='{folder}/ca.pem')"
)
_OUR_MADE = (
    "from nel_mesh import MeshClient, MeshSettings; MeshClient(MeshSettings(mailbox_id='A', password='p', "
    "shared_key='k', url='https://localhost', proxy='none', client_signing_certificate='{folder}/client.pem', "
    "tls_root_certificates=['{folder}/ca.pem']))"
)
_TIMED = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


def measure(official: Path, rounds: int) -> str:
    """Start each by turns, `rounds` times and once before, for the files to be read and compiled."""
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(f"{folder}/ca.pem")
        certificate = authority.issue_cert("bench.mesh-client.test")
        certificate.private_key_and_cert_chain_pem.write_to_path(f"{folder}/client.pem")
        work: dict[str, Callable[[], float]] = {
            _OFFICIAL: lambda: _time(official, _OFFICIAL),
            **{name: partial(_time, Path(sys.executable), name) for name in _OURS},
            f"official: {_MADE}": lambda: _time(official, _OFFICIAL_MADE.format(folder=folder)),
            f"ours: {_MADE}": lambda: _time(Path(sys.executable), _OUR_MADE.format(folder=folder)),
            "nel-mesh --help": _help,
        }
        for number in range(rounds + 1):
            for name, timed in work.items():
                seconds = timed()
                if number:
                    times.setdefault(name, []).append(seconds)
    return markdown(
        ("to begin with", "median", "times official", "target", "met"), [_line(name, times) for name in times]
    )


def _line(name: str, times: dict[str, list[float]]) -> list[str]:
    median = statistics.median(times[name])
    cells = [name if _MADE in name else f"`{name}`", f"{1000 * median:.0f} ms"]
    if name == "nel-mesh --help":
        return [*cells, "", f"under {HELP_TARGET:g} s", "yes" if median < HELP_TARGET else "no"]
    base = f"official: {_MADE}" if _MADE in name else _OFFICIAL
    if name == base:
        return [*cells, "", "", ""]
    ratio = statistics.median(our / their for our, their in zip(times[name], times[base], strict=True))
    if name not in _WITH_TARGET:
        return [*cells, f"{ratio:.2f}", "", ""]
    return [*cells, f"{ratio:.2f}", f"within {IMPORT_TARGET:g} x", "yes" if ratio <= IMPORT_TARGET else "no"]


def _time(python: Path, statement: str) -> float:
    """Time a statement by the process's own clock: Python's own start is the same for both."""
    command = [str(python), "-W", "ignore", "-c", _TIMED.format(statement)]
    return float(subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout)


def _help() -> float:
    command = [str(Path(sys.executable).with_name("nel-mesh")), "--help"]
    began = time.perf_counter()
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
