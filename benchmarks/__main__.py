"""The benchmark: our client beside the official one and beside curl (`make bench`).

Figures are kept in `.bench/results`. A complete run also puts them into `docs/performance.md`, between the comments
that are there for it.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import environments, growth, limits, machine, memory, sandboxes, starts, table
from benchmarks.comparing import Bench
from benchmarks.material import Material
from benchmarks.process import leave_on_termination
from benchmarks.rows import FULL, QUICK, ROWS, Sizes
from benchmarks.store import Store

SECTIONS = ("memory", "starts", "sandbox", "limits", "growth")
DOCUMENT = environments.ROOT / "docs" / "performance.md"
FIGURE = environments.ROOT / "docs" / "growth.svg"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for; returns its exit code."""
    given = _parser().parse_args(arguments)
    leave_on_termination()
    unknown = set(given.only or ()) - {*ROWS, *SECTIONS}
    if unknown:
        sys.stderr.write(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join((*ROWS, *SECTIONS))}\n")
        return 2
    try:
        environments.need_nginx()
        environments.need_curl()
        official = environments.need_official()
    except environments.NotThereError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    runner = Runner(official, given.rounds, QUICK if given.quick else FULL, given.before, given.source)
    wanted = given.only or [*ROWS, *(name for name in SECTIONS if name != "growth" or given.growth)]
    if given.profile:
        for name in wanted:
            runner.profile(name, given.clients or ["ours"])
        return 0
    failed = [name for name in wanted if not runner.run(name, given.clients)]
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
        return 1
    complete = not (given.quick or given.clients or given.before or given.only or given.source)
    if complete or given.write:
        print(_write(table.document(runner.store, ROWS, SECTIONS)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="ROW", help=f"of {', '.join((*ROWS, *SECTIONS))}")
    parser.add_argument("--rounds", type=int, default=5, help="how often each client does each work (5)")
    parser.add_argument(
        "--quick", action="store_true", help="less work in each row, to see that it runs; keeps nothing"
    )
    parser.add_argument(
        "--clients", nargs="+", metavar="CLIENT", help="official, ours, ours-async, curl, bare; keeps nothing"
    )
    parser.add_argument("--before", type=Path, metavar="SRC", help="the src of another version of ours, to run as well")
    parser.add_argument("--source", type=Path, metavar="SRC", help="the src that ours is; by default this checkout's")
    parser.add_argument("--growth", action="store_true", help="with all others: how it grows, which takes long")
    parser.add_argument("--write", action="store_true", help="write the document though not all was run now")
    parser.add_argument("--profile", action="store_true", help="where the time goes, instead of how much it is")
    return parser


def _write(text: str) -> str:
    """Puts the tables into the document, if it has a place for them; and, in any case, where they can be read."""
    (environments.HOME / "tables.md").write_text(text)
    before = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    after = table.put_into(before, text)
    if after is None:
        return f"{text}\n(also in .bench/tables.md; docs/performance.md has no place for it: {' '.join(table.MARKS)})"
    DOCUMENT.write_text(after)
    return f"{text}\n(written to docs/performance.md)"


class Runner:
    """Runs rows and sections by name, and keeps what comes of them.

    Attributes:
        store: where it is kept.
    """

    def __init__(self, official: Path, rounds: int, sizes: Sizes, before: Path | None, source: Path | None) -> None:
        self._official = official
        self._rounds = rounds
        self._sizes = sizes
        self._before = before
        self._source = source
        self._material = Material(environments.HOME / "material")
        self._is_quick = sizes is QUICK
        self.store = Store(environments.HOME / ("quick" if self._is_quick else "results"))
        self._sections: dict[str, Callable[[Path], str]] = {
            "memory": lambda folder: memory.measure(self._bench(folder), self._material, sizes),
            "starts": lambda _: starts.measure(official, sizes.starts),
            "sandbox": lambda folder: sandboxes.measure(folder, rounds, *((50, 2) if self._is_quick else (500, 10))),
            "limits": lambda folder: limits.measure(self._bench(folder), self._material, sizes, folder),
            "growth": self._growth,
        }

    def run(self, name: str, clients: Sequence[str] | None) -> bool:
        """Runs one, prints what came of it, and keeps it if it is the whole of it. False if it failed."""
        try:
            with self._folder() as folder:
                if name in self._sections:
                    text = self._sections[name](folder)
                    found = {"text": text}
                else:
                    row = ROWS[name](self._material, self._sizes)
                    compared = self._bench(folder).compare(row, self._rounds, clients)
                    text, found = table.line(compared), table.as_stored(compared)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            # The others may do nevertheless, and may have taken hours.
            sys.stderr.write(f"{name} failed: {error}\n")
            return False
        print(text, flush=True)
        if not (clients or self._before or self._source):
            self.store.save(name, found)
            self.store.save("machine", {"lines": machine.describe()})
        return True

    def profile(self, name: str, clients: Sequence[str]) -> None:
        """Prints where a row's time goes."""
        for client in clients:
            with self._folder() as folder:
                print(self._bench(folder).profile(ROWS[name](self._material, self._sizes), client), flush=True)

    def _bench(self, folder: Path) -> Bench:
        return Bench(folder, self._official, self._before, self._source)

    def _growth(self, folder: Path) -> str:
        messages = growth.MESSAGES_IN_MIB[: 3 if self._is_quick else None]
        inboxes = growth.INBOXES[: 2 if self._is_quick else None]
        text, svg = growth.measure(self._bench(folder), self._material, messages, inboxes, min(self._rounds, 3))
        target = environments.HOME / FIGURE.name if self._is_quick else FIGURE
        target.write_text(svg)
        return text

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        """For this run alone; on a disk."""
        with tempfile.TemporaryDirectory(prefix="run-", dir=environments.HOME) as folder:
            yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
