"""How long a process takes to start: importing either client, and `nel-mesh --help` as a whole."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measuring import environment
from benchmarks.table import markdown

IMPORT_TARGET, HELP_TARGET = 1.3, 0.4
_OURS = (
    "import nel_mesh",
    "from nel_mesh import MeshClient, MeshSettings",
    "from nel_mesh import AsyncMeshClient, MeshSettings",
)
_TIMED = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


def measure(official: Path, rounds: int) -> str:
    """Start each by turns, `rounds` times and once before, for the files to be read and compiled."""
    pythons = {"import mesh_client": official, **dict.fromkeys(_OURS, Path(sys.executable))}
    times: dict[str, list[float]] = {name: [] for name in (*pythons, "nel-mesh --help")}
    for number in range(rounds + 1):
        found = {statement: _import(python, statement) for statement, python in pythons.items()}
        found["nel-mesh --help"] = _help()
        if number:
            for name, seconds in found.items():
                times[name].append(seconds)
    return markdown(
        ("to begin with", "median", "times official", "target", "met"), [_line(name, times) for name in times]
    )


def _line(name: str, times: dict[str, list[float]]) -> list[str]:
    median = statistics.median(times[name])
    cells = [f"`{name}`", f"{1000 * median:.0f} ms"]
    if name == "nel-mesh --help":
        return [*cells, "", f"under {HELP_TARGET:g} s", "yes" if median < HELP_TARGET else "no"]
    if name == "import mesh_client":
        return [*cells, "", "", ""]
    both = zip(times[name], times["import mesh_client"], strict=True)
    ratio = statistics.median(our / their for our, their in both)
    return [*cells, f"{ratio:.2f}", f"within {IMPORT_TARGET:g} x", "yes" if ratio <= IMPORT_TARGET else "no"]


def _import(python: Path, statement: str) -> float:
    """Time an import by the process's own clock: Python's own start is the same for both."""
    command = [str(python), "-W", "ignore", "-c", _TIMED.format(statement)]
    return float(subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout)


def _help() -> float:
    command = [str(Path(sys.executable).with_name("nel-mesh")), "--help"]
    began = time.perf_counter()
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
