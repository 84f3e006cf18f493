"""The output: sentences, tables and bars for people, JSON lines for scripts.

Results go to stdout; notes, progress and errors to stderr. Text of MESH or of a sender is not trusted: control
characters do not reach the terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from nel_mesh.cli.progress import Bar
from nel_mesh.cli.text import local_time

if TYPE_CHECKING:
    from nel_mesh.cli.failures import Failure

Record = Mapping[str, Any]

_GAP = "  "


class Output:
    """One run's output.

    Args:
        json: print results as JSON lines, and nothing for people.
        quiet: print results in brief, and no notes.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self._results = sys.stdout

    def content_goes_to_stdout(self) -> None:
        """From here on stdout is a message's content, and results go to stderr."""
        self._results = sys.stderr

    def result(self, record: Record, text: str, *, brief: str | None = None, style: str = "") -> None:
        """Print a result.

        Args:
            record: for scripts; its fields are documented.
            text: for people.
            brief: for `--quiet`; None prints nothing.
            style: how a terminal shows the first word (SGR), such as "32" for green.
        """
        if self.json:
            self._print(as_json(record))
        elif not self.quiet:
            self._print(_first_word_styled(clean(text, keep="\n"), style, self._results))
        elif brief is not None:
            self._print(_first_word_styled(clean(brief, keep="\n"), style, self._results))

    def table(self, records: Sequence[Record], columns: Mapping[str, str], *, empty: str) -> None:
        """Print several results: a JSON line for each, or a table; with `--quiet` the first column alone.

        Where a table is wider than the terminal, each result becomes a block of lines.

        Args:
            records: the rows.
            columns: the heading of each field that people see.
            empty: the note if there is none.
        """
        if self.json:
            for record in records:
                self._print(as_json(record))
            return
        rows = [[clean(shown(record.get(name))) for name in columns] for record in records]
        if self.quiet:
            for row in rows:
                self._print(row[0])
        elif not rows:
            self.note(empty)
        else:
            headings = list(columns.values())
            lines = list(_aligned([headings, *rows]))
            width = terminal_width(self._results)
            if width is not None and max(map(len, lines)) > width:
                blocks = ("\n".join(_pairs(zip(headings, row, strict=True), width)) for row in rows)
                self._print("\n\n".join(blocks))
            else:
                lines[0] = _styled(lines[0], "1", self._results)
                self._print("\n".join(lines))

    def fields(self, record: Record, names: Mapping[str, str]) -> None:
        """Print one result with many fields: a JSON line, or one line for each field that is present."""
        present = [(label, clean(shown(record[name]))) for name, label in names.items() if record.get(name) is not None]
        text = "\n".join(_pairs(present, terminal_width(self._results)))
        self.result(record, text, brief=text)

    def note(self, text: str) -> None:
        """Print a remark for people, on stderr."""
        if not (self.json or self.quiet):
            self._remark(text)

    def warn(self, text: str) -> None:
        """Print a warning on stderr, also with `--quiet`; for scripts a JSON object."""
        self._remark(json.dumps({"warning": text}) if self.json else text)

    def failure(self, failure: Failure) -> None:
        """Report a failure, on stderr: a paragraph, or a JSON object."""
        if self.json:
            self._remark(as_json({"error": failure.record}))
            return
        label = failure.label
        lines = clean(f"{label} {failure.text}".lstrip(), keep="\n").splitlines()
        width = terminal_width(sys.stderr)
        if width:
            lines = [
                part for line in lines for part in _wrap(line, width, indent="  " if line.startswith("- ") else "")
            ]
        if label:
            lines[0] = _styled(label, "31;1", sys.stderr) + lines[0].removeprefix(label)
        _write(sys.stderr, "\n".join(lines) + "\n")

    def bar(self, label: str) -> contextlib.AbstractContextManager[Bar]:
        """A progress bar. It appears if the block takes over a second and stderr is a terminal."""
        from nel_mesh.cli.progress import Bar

        return Bar(clean(label), enabled=is_terminal(sys.stderr) and not (self.json or self.quiet))

    def _remark(self, text: str) -> None:
        _write(sys.stderr, clean(text, keep="\n") + "\n")

    def _print(self, text: str) -> None:
        _write(self._results, text + "\n")


def as_json(record: Record) -> str:
    """One line of JSON; times in UTC, ISO 8601."""
    return json.dumps(record, default=_plain)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def shown(value: object) -> str:
    """A value for people."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return local_time(value) if isinstance(value, datetime) else str(value)


def clean(text: str, *, keep: str = "") -> str:
    """Text without control characters."""
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal that can move its cursor."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def _first_word_styled(text: str, style: str, stream: TextIO) -> str:
    word, blank, rest = text.partition(" ")
    return f"{_styled(word, style, stream)}{blank}{rest}" if style else text


def terminal_width(stream: TextIO) -> int | None:
    """The number of columns, as COLUMNS says or else the terminal; None for a pipe or a file."""
    if not stream.isatty():
        return None
    if os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    with contextlib.suppress(OSError):
        return os.get_terminal_size(stream.fileno()).columns or None
    return None


def _styled(text: str, style: str, stream: TextIO) -> str:
    plain = not is_terminal(stream) or os.environ.get("NO_COLOR")
    return text if plain else f"\x1b[{style}m{text}\x1b[0m"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield _GAP.join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _pairs(pairs: Iterable[tuple[str, str]], width: int | None) -> Iterator[str]:
    """A line for each label and value; on a terminal a long value goes on below its beginning."""
    pairs = [(label, value) for label, value in pairs if value]
    indent = max((len(label) for label, _ in pairs), default=0) + len(_GAP)
    for label, value in pairs:
        line = f"{label:{indent}}{value}"
        yield from _wrap(line, width, indent=" " * indent) if width else [line]


def _wrap(line: str, width: int, *, indent: str = "") -> Iterator[str]:
    yield from textwrap.wrap(
        line, max(20, width - 1), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [""]


def _write(stream: TextIO, text: str) -> None:
    # Flushed at once, so that a full disk or a closed pipe is met here and not when the interpreter ends.
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        error.filename = "standard output" if stream is sys.stdout else "standard error"
        raise
