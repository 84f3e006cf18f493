"""Compare this client with the official one and with curl (`make bench`).

Figures are kept in `.bench/results`. A complete run also writes them into `docs/performance.md`, between two comments.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import environments, growth, starts, table
from benchmarks.comparing import Bench
from benchmarks.material import Material
from benchmarks.rows import FULL, QUICK, ROWS

SECTIONS = ("memory", "starts", "growth")
DOCUMENT = environments.ROOT / "docs" / "performance.md"
MATERIAL = Material(environments.HOME / "material")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    given = _parser().parse_args(arguments)
    # A termination unwinds this process, so that it stops what it has started and removes what it has made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        official = environments.prepare()
    except environments.MissingError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    results = environments.HOME / ("quick" if given.quick else "results")
    failed = []
    for name in given.only or [*ROWS, "memory", "starts"]:
        try:
            with tempfile.TemporaryDirectory(prefix="run-", dir=environments.HOME) as folder:
                text, found = _run(name, Bench(Path(folder), official, given.before), official, given)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            # The other rows may succeed, and may have taken hours.
            sys.stderr.write(f"{name} failed: {error}\n")
            failed.append(name)
            continue
        print(text, flush=True)
        if not given.clients:
            table.save(results, name, found)
            table.save(results, "machine", {"lines": environments.describe()})
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
        return 1
    if given.write or not (given.quick or given.clients or given.only):
        _write(table.document(results, ROWS, SECTIONS))
    return 0


def _run(name: str, bench: Bench, official: Path, given: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Run one row or section; return the text to show and the figures to keep."""
    sizes = QUICK if given.quick else FULL
    if name in ROWS:
        compared = bench.compare(ROWS[name](MATERIAL, sizes), given.rounds, given.clients)
        return table.line(compared), table.as_stored(compared)
    if name == "memory":
        text = growth.memory(bench, MATERIAL, sizes.memory)
    elif name == "starts":
        text = starts.measure(official, sizes.starts)
    else:
        text = growth.growth(bench, MATERIAL, given.rounds, is_quick=given.quick)
    return text, {"text": text}


def _write(text: str) -> None:
    """Write the tables into the document, between its marks."""
    after = table.put_into(DOCUMENT.read_text(), text)
    if after is None:
        raise SystemExit(f"{text}\ndocs/performance.md has no place for it: {' '.join(table.MARKS)}")
    DOCUMENT.write_text(after)
    print(f"{text}\n(written to docs/performance.md)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = (*ROWS, *SECTIONS)
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help=f"of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often each client does each work (5)")
    parser.add_argument("--quick", action="store_true", help="less work in each row, to see that it runs")
    parser.add_argument("--clients", nargs="+", metavar="CLIENT", help="of official, ours, ours-async, curl, floor")
    parser.add_argument("--before", type=Path, metavar="SRC", help="the src of another version of ours, to run as well")
    parser.add_argument("--write", action="store_true", help="write the document, though not all was run now")
    return parser


if __name__ == "__main__":
    sys.exit(main())
