"""Where the command speaks: for people in sentences, tables and bars, for scripts in JSON lines.

Results go to stdout; notes, progress and errors to stderr. What MESH or a sender wrote is never trusted with the
terminal: control characters do not get there.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from nel_mesh.cli.progress import Bar

Record = Mapping[str, Any]


class Output:
    """One run's output.

    Args:
        json: results as JSON lines, and nothing for people.
        quiet: results in brief, and no notes.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self._results = sys.stdout

    def content_goes_to_stdout(self) -> None:
        """From here on stdout is a message's content, and results go to stderr."""
        self._results = sys.stderr

    def result(self, record: Record, text: str, *, brief: str | None = None, style: str = "") -> None:
        """Gives a result.

        Args:
            record: for scripts; as it is documented.
            text: for people.
            brief: for people who said `--quiet`; None: nothing.
            style: how a terminal shows the first word (SGR), such as "32" for green.
        """
        if self.json:
            self._line(as_json(record))
        elif not self.quiet:
            self._line(_first_word_styled(clean(text, keep="\n"), style, self._results))
        elif brief is not None:
            self._line(_first_word_styled(clean(brief, keep="\n"), style, self._results))

    def table(self, records: Sequence[Record], columns: Mapping[str, str], *, empty: str) -> None:
        """Gives several results: a JSON line for each, or a table; with `--quiet` the first column alone.

        Args:
            records: the rows.
            columns: the heading of each field that people see.
            empty: what to say if there is none.
        """
        if self.json:
            for record in records:
                self._line(as_json(record))
            return
        rows = [[clean(shown(record.get(name))) for name in columns] for record in records]
        if self.quiet:
            for row in rows:
                self._line(row[0])
        elif not rows:
            self.note(empty)
        elif is_terminal(self._results):
            self._draw(list(columns.values()), rows)
        else:
            self._align([list(columns.values()), *rows])

    def fields(self, record: Record, names: Mapping[str, str]) -> None:
        """Gives one result with many fields: a JSON line, or one line for each field that there is."""
        present = {label: record[name] for name, label in names.items() if record.get(name) is not None}
        width = max(map(len, present), default=0)
        lines = (f"{label:{width}}  {clean(shown(value))}" for label, value in present.items())
        text = "\n".join(lines)
        self.result(record, text, brief=text)

    def note(self, text: str) -> None:
        """Tells people something by the way, on stderr."""
        if not (self.json or self.quiet):
            self._speak(text)

    def warn(self, text: str) -> None:
        """Tells people what they must know, on stderr, also with `--quiet`; scripts get a JSON object there."""
        self._speak(json.dumps({"warning": text}) if self.json else text)

    def error(self, text: str, record: Record) -> None:
        """Tells a failure, on stderr: a paragraph, or a JSON object."""
        if self.json:
            self._speak(as_json({"error": record}))
            return
        width = terminal_width(sys.stderr)
        mark = "Error:"
        lines = clean(f"{mark} {text}", keep="\n").splitlines()
        if width:
            lines = [part for line in lines for part in _wrap(line, width)]
        if is_terminal(sys.stderr) and not os.environ.get("NO_COLOR"):
            lines[0] = f"\x1b[31;1m{mark}\x1b[0m{lines[0].removeprefix(mark)}"
        _write(sys.stderr, "\n".join(lines) + "\n")

    def bar(self, label: str) -> contextlib.AbstractContextManager[Bar]:
        """A progress bar, which shows itself if the block takes over a second, and stderr is a terminal."""
        from nel_mesh.cli.progress import Bar

        return Bar(clean(label), shown=is_terminal(sys.stderr) and not (self.json or self.quiet))

    def _speak(self, text: str) -> None:
        _write(sys.stderr, clean(text, keep="\n") + "\n")

    def _line(self, text: str) -> None:
        _write(self._results, text + "\n")

    def _align(self, rows: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            self._line("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())

    def _draw(self, headings: list[str], rows: list[list[str]]) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for number, heading in enumerate(headings):
            # Half an id is of no use to anybody; the other columns give way first.
            table.add_column(heading, no_wrap=number == 0, overflow="fold", min_width=6 if number else None)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console(file=self._results).print(table)


def as_json(record: Record) -> str:
    """One line of JSON; times in UTC, ISO 8601."""
    return json.dumps(record, default=_plain)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def shown(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return local_time(value) if isinstance(value, datetime) else str(value)


def local_time(moment: datetime) -> str:
    """A moment as the clock on the wall has it, with its zone."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}".rstrip()


def size(number: int) -> str:
    """A number of bytes as people read it."""
    if number < 1000:
        return f"{number} byte{'' if number == 1 else 's'}"
    amount = float(number)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 1000 or unit == "GB":
            break
    return f"{amount:.1f} {unit}"


def clean(text: str, *, keep: str = "") -> str:
    """Text without what could command a terminal."""
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether people are looking at it, and it can do more than print."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def _first_word_styled(text: str, style: str, stream: TextIO) -> str:
    if not style or not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    word, blank, rest = text.partition(" ")
    return f"\x1b[{style}m{word}\x1b[0m{blank}{rest}"


def terminal_width(stream: TextIO) -> int | None:
    """How many columns the terminal has; None if it is none."""
    if not is_terminal(stream):
        return None
    with contextlib.suppress(OSError):
        return os.get_terminal_size(stream.fileno()).columns or None
    return None


def _wrap(line: str, width: int) -> Iterator[str]:
    hanging = "  " if line.startswith("- ") else ""
    yield from textwrap.wrap(
        line, max(20, width - 1), subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
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
