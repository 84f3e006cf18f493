"""Builds both distributions, tries them as a user gets them, and tells in a table what was tried.

    tools/dist.py --tools PYTHON              `make dist`
    tools/dist.py --tools PYTHON --pythons    `make pythons`: the same on every Python that is here

PYTHON is one that has what the dependency group `packaging` names. What is built goes to dist/.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path

from distribution.building import Built, build, check_sdist, check_wheel, moment, unpack
from distribution.environments import must
from distribution.interpreters import interpreters
from distribution.requirements import Requirements
from distribution.table import Failed, Table
from distribution.trials import Trials

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = ROOT / "pyproject.toml"
USERS_PROGRAM = ROOT / "tests" / "typed" / "users_program.py"


def main() -> int:
    """Runs the tool."""
    parser = argparse.ArgumentParser(prog="tools/dist.py", description="Builds, and tries what it built.")
    # Not resolved: a virtual environment's Python is a link, and would lose its packages.
    parser.add_argument("--tools", type=Path, required=True, help="the Python that has build, hatchling and twine")
    parser.add_argument("--pythons", action="store_true", help="try it on every Python that is on this machine")
    options = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory(prefix="nel-mesh-dist-") as name:
        folder = Path(name).resolve()
        try:
            built, tree = _build(table, options.tools.absolute(), folder)
        except Failed:
            built = None
        if built is not None:
            _try(table, built, tree, folder, every=options.pythons)
    print(f"\n{table}\n\n{'FAILED' if table.failed else 'All of it holds.'}")
    return 1 if table.failed else 0


def _build(table: Table, tools: Path, folder: Path) -> tuple[Built | None, Path]:
    built, tree, when = None, folder, moment(ROOT)
    with table.row("build", "wheel and source distribution") as row:
        built = build(tools, ROOT, ROOT / "dist", when)
        tree = unpack(built.sdist, folder / "sdist")
        row.told = f"{built.wheel.name}, {built.sdist.name}"
    if built is not None:
        with table.row("build", "metadata (twine check --strict)"):
            must(tools, "-m", "twine", "check", "--strict", built.wheel, built.sdist, folder=folder)
        with table.row("build", "what the wheel holds") as row:
            row.told = check_wheel(built.wheel, PYPROJECT)
        with table.row("build", "what the source distribution holds") as row:
            row.told = check_sdist(built.sdist, tree, ROOT)
        with table.row("build", "the same bytes from the source distribution, elsewhere"):
            again = build(tools, unpack(built.sdist, folder / "again"), folder / "again-built", when)
            if again.digests() != built.digests():
                raise Failed(f"{again.digests()} are not {built.digests()}")
    return built, tree


def _try(table: Table, built: Built, tree: Path, folder: Path, *, every: bool) -> None:
    oldest = Requirements.of(built.wheel).oldest_python
    here = interpreters(oldest) if every else {platform.python_version(): Path(sys.executable)}
    for version, python in here.items():
        trials = Trials(table, built.wheel, PYPROJECT, python, f"Python {version}", folder / version)
        # What fails to install is told, and the next thing tried.
        with table.row(f"Python {version}", "each extra, and all"):
            trials.extras(None if every else USERS_PROGRAM)
        if every:
            trials.tests(tree)
    if not every:
        _try_lowest(table, built, tree, folder / "lowest", oldest)


def _try_lowest(table: Table, built: Built, tree: Path, folder: Path, oldest: str) -> None:
    # Old versions have no wheels for later Pythons.
    for version, python in interpreters(oldest).items():
        if version.startswith(f"{oldest}."):
            Trials(table, built.wheel, PYPROJECT, python, f"Python {version}", folder).lowest(tree)
            return
    with table.row(f"Python {oldest}", "lowest versions") as row:
        row.result = "not tried: there is no such Python here"


if __name__ == "__main__":
    sys.exit(main())
