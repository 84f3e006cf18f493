"""Build the documentation into site/, as files that can be read from a disk without a network.

The pages are those of docs/ and of PAGES. A built site that would ask another server for anything is an error.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = ROOT / "zensical.toml"

PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "design.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
    "examples/README.md": "examples.md",
}
"""Pages outside of docs/, with their names in the site."""

_SHIM = "https://unpkg.com/iframe-worker/shim"
"""A script that Zensical would load from another server, for the search from a disk; docs/site.js replaces it."""

_LINK = re.compile(r"(?<=\]\()(?!https://|#|mailto:)([^)#\s]+)")
_ASKS = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|data)=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?![^>]*rel=["']?canonical)[^>]*?\bhref=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|url\(["']?((?:https?:)?//[^"')]+)|@import\s+["']((?:https?:)?//[^"']+)""",
    re.IGNORECASE,
)


def staged() -> dict[str, str]:
    """Every file that goes into the site: its path from the root, and its name there."""
    docs = sorted(path for path in (ROOT / "docs").iterdir() if path.suffix in (".md", ".svg", ".png", ".css", ".js"))
    return {path.relative_to(ROOT).as_posix(): path.name for path in docs} | PAGES


def navigation(entries: list[Any]) -> Iterator[str]:
    """The pages that the navigation names, in its order."""
    for entry in entries:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(target, list):
                yield from navigation(target)
            else:
                yield target


def configuration() -> dict[str, Any]:
    """The table `project` of zensical.toml."""
    project: dict[str, Any] = tomllib.loads(CONFIGURATION.read_text(encoding="utf-8"))["project"]
    return project


def turned(text: str, source: str) -> str:
    """A page with its links as they must be in the site; a link to a file that is not in it becomes plain text."""
    names = staged()

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[1]))
        return names.get(target, found[1])

    return _LINK.sub(link, _outside(text, source, names))


def _outside(text: str, source: str, names: dict[str, str]) -> str:
    def name_alone(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[2]))
        return found[0] if target in names else found[1]

    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https://|#|mailto:)([^)#\s]+)[^)]*\)", name_alone, text)


def asked_of_others(built: Path) -> list[str]:
    """The addresses that a browser would fetch from other servers when it shows the site."""
    found: list[str] = []
    for path in sorted(built.rglob("*")):
        if path.suffix in (".html", ".css", ".svg"):
            asked = _ASKS.finditer(path.read_text(encoding="utf-8"))
            found += (f"{path.relative_to(built)}: {next(filter(None, match.groups()))}" for match in asked)
    return found


def main() -> int:
    """Build the site."""
    project = configuration()
    stage, built = ROOT / project["docs_dir"], ROOT / project["site_dir"]
    for made in (stage, built):
        if made.exists():
            shutil.rmtree(made)
    stage.mkdir(parents=True)
    for source, name in staged().items():
        text = (ROOT / source).read_text(encoding="utf-8")
        (stage / name).write_text(turned(text, source) if name.endswith(".md") else text, encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(CONFIGURATION)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        return 1
    for page in built.glob("*.html"):
        page.write_text(page.read_text(encoding="utf-8").replace(_SHIM, "site.js"), encoding="utf-8")
    for found in (asked := asked_of_others(built)):
        print(f"asks another server: {found}", file=sys.stderr)
    print(f"open {built.relative_to(ROOT)}/index.html")
    return 1 if asked else 0


if __name__ == "__main__":
    sys.exit(main())
