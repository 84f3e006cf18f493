"""Write docs/session.svg: a session in a terminal, with the real commands, against a sandbox that stalls once."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from pathlib import Path

from rich.console import Console
from rich.text import Text

from nel_mesh.sandbox import sandbox

TARGET = Path(__file__).resolve().parent.parent / "docs" / "session.svg"
COLUMNS = 104
_MOVES = re.compile(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]|\r")


def main() -> None:
    """Run the tool."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    with sandbox() as server, tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        alice, bob, *_ = server.write_settings(home / "settings")
        (home / "results.csv").write_bytes(b"9434765919,2026-01-31,HbA1c,48\n" * 60_000)
        send = "send results.csv --to X26ABC2 --workflow-id PATH_RESULTS"
        _show(console, home, alice, "check")
        server.add_fault("send_chunk:2:delay=20")
        _show(console, home, alice, send, interrupt_after=4)
        server.clear_faults()
        _show(console, home, alice, send)
        message_id = server.delivered("X26ABC2")[0].message_id
        _show(console, home, bob, "inbox --details")
        _show(console, home, bob, "receive --into inbox")
        _show(console, home, alice, f"track {message_id}")
        _show(console, home, alice, f"track {message_id} --json")
    # Without rich's web fonts, so that a browser that shows the drawing asks no other server.
    svg = re.sub(r"\s*@font-face\s*\{.*?\}", "", console.export_svg(title="nel-mesh"), flags=re.DOTALL)
    TARGET.write_text(svg, encoding="utf-8")


def _show(console: Console, home: Path, settings: Path, command: str, interrupt_after: float | None = None) -> None:
    who = "alice" if "ABC1" in settings.name else "bob"
    console.print(Text.assemble((f"{who}$ ", "bold green"), (f"nel-mesh {command}", "bold")))
    frames: list[str] = []
    for frame in _MOVES.split(_output(home, settings, command, interrupt_after).replace("\r\n", "\n")):
        if frame.strip("\n"):
            # A progress bar overwrites itself: keep its last state.
            if frames and "━" in frame and "━" in frames[-1]:
                frames.pop()
            frames.append(frame.strip("\n"))
    for frame in frames:
        for line in frame.split("\n"):
            console.print(Text.from_ansi(line))
    console.print()


def _output(home: Path, settings: Path, command: str, interrupt_after: float | None) -> str:
    """Run a command in a terminal; return all that it writes there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "MESH_SETTINGS": str(settings),
        "MESH_MAX_CHUNK_SIZE_IN_MEGABYTES": "0.5",
        "TERM": "xterm-256color",
        "TZ": "Europe/London",
    }
    command_line = [sys.executable, "-m", "nel_mesh.cli", *command.split()]
    seen = b""
    with subprocess.Popen(
        command_line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=home
    ) as process:
        os.close(theirs)
        if interrupt_after:
            threading.Timer(interrupt_after, process.send_signal, [signal.SIGINT]).start()
        try:
            while block := os.read(ours, 65536):
                seen += block
        except OSError:
            # On Linux, the end of a terminal whose last program has ended.
            os.close(ours)
    return seen.decode()


if __name__ == "__main__":
    main()
