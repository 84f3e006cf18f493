"""How long a process takes to begin: importing either client, and `nel-mesh --help` as a whole."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measuring import Worker, our_python
from benchmarks.table import markdown

IMPORT_TARGET, HELP_TARGET = 1.3, 0.4

_TIMED = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


def measure(official: Path, rounds: int) -> str:
    """Starts each by turns, `rounds` times and once before, for the files to be read and compiled."""
    command = our_python().with_name("nel-mesh")
    imports = {
        "import mesh_client": (official, "import mesh_client"),
        "import nel_mesh": (our_python(), "import nel_mesh"),
        "from nel_mesh import MeshClient, MeshSettings": (
            our_python(),
            "from nel_mesh import MeshClient, MeshSettings",
        ),
        "from nel_mesh import AsyncMeshClient, MeshSettings": (
            our_python(),
            "from nel_mesh import AsyncMeshClient, MeshSettings",
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in (*imports, "nel-mesh --help")}
    for number in range(rounds + 1):
        found = {name: _import(python, statement) for name, (python, statement) in imports.items()}
        found["nel-mesh --help"] = _whole([str(command), "--help"])
        if number:
            for name, seconds in found.items():
                times[name].append(seconds)
    return markdown(("to begin with", "median", "times official", "target", "met"), _lines(times))


def _lines(times: Mapping[str, Sequence[float]]) -> list[list[str]]:
    official = times["import mesh_client"]
    lines = []
    for name, found in times.items():
        ratio = statistics.median(our / their for our, their in zip(found, official, strict=True))
        median = statistics.median(found)
        cells = [f"`{name}`", f"{1000 * median:.0f} ms"]
        if name.startswith("nel-mesh"):
            cells += ["", f"under {HELP_TARGET:g} s", "yes" if median < HELP_TARGET else "no"]
        elif name == "import mesh_client":
            cells += ["", "", ""]
        else:
            cells += [f"{ratio:.2f}", f"within {IMPORT_TARGET:g} x", "yes" if ratio <= IMPORT_TARGET else "no"]
        lines.append(cells)
    return lines


def _import(python: Path, statement: str) -> float:
    """By the process's own clock: what Python itself takes to begin is nobody's doing."""
    command = [str(python), "-W", "ignore", "-c", _TIMED.format(statement)]
    environment = Worker(python, "").environment()
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def _whole(command: list[str]) -> float:
    environment = Worker(our_python(), "").environment()
    began = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
