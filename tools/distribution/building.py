"""Building both, and looking at them before anything is installed."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import tarfile
import tomllib
import zipfile
from pathlib import Path

from committable import fault
from distribution.environments import must
from distribution.requirements import metadata_of
from distribution.table import Failed

_JUNK = re.compile(r"(^|/)(__pycache__|\.venv|\.git|\.coverage|\.[a-z]+_cache|\.hypothesis|dist|build)(/|$)|\.pyc$")


@dataclasses.dataclass(frozen=True)
class Built:
    """A wheel and a source distribution."""

    wheel: Path
    sdist: Path

    def digests(self) -> list[str]:
        """SHA-256 of both."""
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.wheel, self.sdist)]


def build(tools: Path, source: Path, into: Path, moment: dict[str, str]) -> Built:
    """Builds both, the wheel from the source distribution.

    Args:
        tools: the Python that has `build` and `hatchling`.
        source: the tree.
        into: where they go; what is there is removed.
        moment: the environment that says when it was; see `moment`.
    """
    shutil.rmtree(into, ignore_errors=True)
    must(tools, "-m", "build", "--quiet", "--no-isolation", "--outdir", into, source, folder=source, more=moment)
    (wheel,), (sdist,) = into.glob("*.whl"), into.glob("*.tar.gz")
    return Built(wheel, sdist)


def unpack(sdist: Path, into: Path) -> Path:
    """Unpacks a source distribution; gives the folder of its tree."""
    with tarfile.open(sdist) as archive:
        archive.extractall(into, filter="data")
    (tree,) = into.iterdir()
    return tree


def check_wheel(wheel: Path, pyproject: Path) -> str:
    """What the wheel holds. Raises Failed for what is missing, or should not be there."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = next(archive.read(name).decode() for name in names if name.endswith("/entry_points.txt"))
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    strange = [name for name in names if not re.match(r"nel_mesh(-[^/]+\.dist-info)?/", name) or _JUNK.search(name)]
    if strange:
        raise Failed(f"in the wheel: {strange}")
    if "nel_mesh/py.typed" not in names:
        raise Failed("no py.typed")
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        raise Failed("no LICENSE")
    groups = {"console_scripts": project["scripts"], **project.get("entry-points", {})}
    wanted = {f"{name} = {place}" for group in groups.values() for name, place in group.items()}
    if not wanted <= set(entry_points.splitlines()):
        raise Failed(f"entry points: {entry_points}")
    metadata = metadata_of(wheel)
    for name in ("Summary", "License-Expression", "Requires-Python", "Description-Content-Type"):
        if not metadata[name]:
            raise Failed(f"no {name} in the metadata")
    return f"{len(names)} files, {wheel.stat().st_size // 1000} kB"


def check_sdist(sdist: Path, tree: Path, source: Path) -> str:
    """What the source distribution, unpacked in `tree`, holds: the work tree, but for hidden names."""
    present = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    if junk := [name for name in present if _JUNK.search(name)]:
        raise Failed(f"in the source distribution: {junk}")
    for name in present:
        if why := fault((tree / name).read_bytes()):
            raise Failed(f"{name}: {why}")
    if (source / ".git").exists():
        known = _listed(source, "--cached", "--others", "--exclude-standard")
        if more := sorted(present - known - {"PKG-INFO", ".gitignore"}):
            raise Failed(f"git does not know: {more}")
        if missing := sorted(name for name in _listed(source, "--cached") - present if not name.startswith(".")):
            raise Failed(f"missing: {missing}")
    return f"{len(present)} files, {sdist.stat().st_size // 1000} kB"


def moment(source: Path) -> dict[str, str]:
    """The date that all files in them get: SOURCE_DATE_EPOCH, else that of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None and (source / ".git").exists():
        given = must("git", "log", "-1", "--format=%ct", folder=source).strip()
    return {"SOURCE_DATE_EPOCH": given} if given else {}


def _listed(source: Path, *which: str) -> set[str]:
    listed = must("git", "ls-files", "-z", *which, folder=source).split("\0")
    return {name for name in listed if name and (source / name).is_file()}
