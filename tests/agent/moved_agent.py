"""An agent whose clock a file moves on: python moved_agent.py CLOCK CONFIG, where CLOCK holds seconds.

The agent takes its clock as an argument, so nothing is patched. Requests are signed by the real time, as always: the
sandbox verifies tokens by it, and lets messages expire by its own clock, which `advance` moves.
"""

from __future__ import annotations

import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nel_mesh.agent.service import Agent
from nel_mesh.io.clock import Clock


class MovedClock(Clock):
    """The real time, and what the file says.

    Args:
        file: how many seconds it is moved on; not at all while there is no file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def moved(self) -> timedelta:
        return timedelta(seconds=float(self._file.read_text())) if self._file.exists() else timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.moved

    def move(self, by: timedelta) -> None:
        """Move it on, for every process that reads the file."""
        new = self._file.with_suffix(".new")
        new.write_text(str((self.moved + by).total_seconds()))
        new.replace(self._file)


def main() -> None:
    agent = Agent(Path(sys.argv[2]), clock=MovedClock(Path(sys.argv[1])))
    signal.signal(signal.SIGTERM, lambda *_: agent.stop())
    signal.signal(signal.SIGHUP, lambda *_: agent.reload())
    agent.run(on_ready=lambda: print("the agent works on, with a moved clock", file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
