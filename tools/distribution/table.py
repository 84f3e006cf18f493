"""What was tried, as it goes on, and as a table at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator


class Failed(Exception):
    """What was tried does not hold; the text says what was seen."""


@dataclasses.dataclass
class Row:
    """One thing that was tried."""

    where: str
    what: str
    result: str = "ok"
    told: str = ""
    seconds: float = 0.0


class Table:
    """All of it. Rows may be added from several threads."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def row(self, where: str, what: str) -> Iterator[Row]:
        """Tries something: a `Failed` within is written down and goes no further."""
        row = Row(where, what)
        begun = time.monotonic()
        try:
            yield row
        except Failed as error:
            row.result = "FAILED"
            row.told = str(error).strip()
        row.seconds = time.monotonic() - begun
        with self._lock:
            self.rows.append(row)
            print(f"{row.result:7}{row.seconds:5.1f} s  {where}: {what}", flush=True)
            if row.told:
                print("    " + row.told.replace("\n", "\n    "), flush=True)

    @property
    def failed(self) -> bool:
        """Whether anything did not hold."""
        return any(row.result == "FAILED" for row in self.rows)

    def __str__(self) -> str:
        order = list(dict.fromkeys(row.where for row in self.rows))
        rows = sorted(self.rows, key=lambda row: order.index(row.where))
        width = max((len(row.where) for row in rows), default=0)
        what = max((len(row.what) for row in rows), default=0)
        return "\n".join(
            f"{row.where if row is rows[0] or row.where != before else '':{width}}  {row.what:{what}}  {row.result}"
            for row, before in zip(rows, ["", *(row.where for row in rows)], strict=False)
        )
