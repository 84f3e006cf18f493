"""Writes docs/session.svg: a session in a terminal, with the real commands, against a sandbox that stalls once."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from nel_mesh.sandbox import Sandbox, sandbox

TARGET = Path(__file__).resolve().parent.parent / "docs" / "session.svg"
COLUMNS = 104
COMMAND = [sys.executable, "-m", "nel_mesh.cli"]
_MOVES = re.compile(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]|\r")


def main() -> int:
    """Runs the tool."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123
    with sandbox() as server, tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        alice, bob, *_ = server.write_settings(home / "settings")
        (home / "results.csv").write_bytes(b"9434765919,2026-01-31,HbA1c,48\n" * 60_000)
        _record(console, server, home, alice, bob)
    TARGET.write_text(_without_fonts(console.export_svg(title="nel-mesh")), encoding="utf-8")
    return 0


def _without_fonts(svg: str) -> str:
    """The drawing without rich's web fonts: whoever looks at it must not thereby call another server."""
    return re.sub(r"\s*@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)


def _record(console: Console, server: Sandbox, home: Path, alice: Path, bob: Path) -> None:
    send = ["send", "results.csv", "--to", "X26ABC2", "--workflow-id", "PATH_RESULTS"]
    _show(console, home, alice, ["check"])
    server.add_fault("send_chunk:2:delay=20")
    _show(console, home, alice, send, interrupt_after=4)
    server.clear_faults()
    _show(console, home, alice, send)
    message_id = server.delivered("X26ABC2")[0].message_id
    _show(console, home, bob, ["inbox", "--details"])
    _show(console, home, bob, ["receive", "--into", "inbox"])
    _show(console, home, alice, ["track", message_id])
    _show(console, home, alice, ["track", message_id, "--json"])


def _show(
    console: Console, home: Path, settings: Path, arguments: list[str], *, interrupt_after: float | None = None
) -> None:
    who = "alice" if "ABC1" in settings.name else "bob"
    console.print(Text.assemble((f"{who}$ ", "bold green"), ("nel-mesh " + " ".join(arguments), "bold")))
    for line in _lines(_seen(home, settings, arguments, interrupt_after)):
        console.print(Text.from_ansi(line))
    console.print()


def _seen(home: Path, settings: Path, arguments: list[str], interrupt_after: float | None) -> str:
    """What is seen of a command in a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "MESH_SETTINGS": str(settings),
        "MESH_MAX_CHUNK_SIZE_IN_MEGABYTES": "0.5",
        "TERM": "xterm-256color",
        "TZ": "Europe/London",
    }
    began, seen = time.monotonic(), b""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=home
    ) as process:
        os.close(theirs)
        while True:
            ready, _, _ = select.select([ours], [], [], 0.1)
            if interrupt_after and time.monotonic() - began > interrupt_after:
                process.send_signal(signal.SIGINT)
                interrupt_after = None
            if not ready:
                continue
            try:
                seen += os.read(ours, 65536)
            except OSError:
                break
    os.close(ours)
    return seen.decode()


def _lines(seen: str) -> list[str]:
    """The lines that stay, and of a bar, which wipes itself out, what it last looked like."""
    frames = [part for part in _MOVES.split(seen.replace("\r\n", "\n")) if part.strip("\n")]
    kept: list[str] = []
    for frame in frames:
        if kept and "━" in frame and "━" in kept[-1]:
            kept.pop()
        kept.append(frame)
    return [line for frame in kept for line in frame.strip("\n").split("\n")]


if __name__ == "__main__":
    sys.exit(main())
