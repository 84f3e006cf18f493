"""The command `nel-mesh` as a process of its own: piped, and at a terminal where somebody answers."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command_server import forked_nel_mesh

PATIENCE = 20.0


@dataclasses.dataclass(frozen=True)
class Ended:
    """What a command said, and how it ended."""

    code: int
    output: str
    errors: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        """The steps of a check, by name."""
        return {line["step"]: line for line in self.lines}

    @property
    def states(self) -> str:
        """The steps' states, in their order, by first letter."""
        return "".join(line["state"][0] for line in self.lines)


def run(folder: Path, *arguments: str, **variables: str) -> Ended:
    """Runs it with nobody at the keyboard."""
    done = subprocess.run(
        [forked_nel_mesh(), *arguments],
        cwd=folder,
        env=_environment(folder, variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def at_a_terminal(
    folder: Path, *arguments: str, answers: Sequence[tuple[str, str]] = (), **variables: str
) -> tuple[int, str]:
    """Runs it in a pseudo-terminal, and answers each question when it comes; gives the code and all that was seen."""
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        _command(arguments),
        cwd=folder,
        env=_environment(folder, {"TERM": "xterm", **variables}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        seen, unread, left = "", "", list(answers)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if not select.select([ours], [], [], 0.2)[0]:
                continue
            try:
                block = os.read(ours, 65536).decode()
            except OSError:  # Linux's way of saying that the other end has gone
                break
            if not block:
                break
            seen += block
            unread += block
            # Not before its last character: what is typed earlier is discarded when the echo is switched off.
            if left and left[0][0] in unread and unread.endswith(": "):
                unread = ""
                os.write(ours, f"{left.pop(0)[1]}\n".encode())
        assert time.monotonic() < end, f"it waits; seen: {seen}"
        code = process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    seen = seen.replace("\r\n", "\n")
    assert not left, f"never asked: {left[0][0]}; seen: {seen}"
    assert "Traceback" not in seen
    return code, seen


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "nel_mesh.cli", *arguments]


def _environment(folder: Path, variables: dict[str, str]) -> dict[str, str]:
    # The home folder too: a developer's own settings file must not decide a test.
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "PYTHONIOENCODING": "utf-8"}
    return {**os.environ, "COLUMNS": "200", **home, **variables}
