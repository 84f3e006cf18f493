"""The command, run as people and scripts run it: as a process, piped or in a pseudo-terminal."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from command_server import forked_nel_mesh

_SCRIPT = Path(sys.executable).with_name("nel-mesh")
COMMAND = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-m", "nel_mesh.cli"]


_libc = ctypes.CDLL(None)
_PR_CAPBSET_DROP = 24
_IGNORE_PERMISSIONS = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""


@dataclasses.dataclass(frozen=True)
class Done:
    """What a run said, and what it ended with."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def record(self) -> dict[str, Any]:
        (record,) = self.records
        return record

    @property
    def error(self) -> dict[str, Any]:
        (line,) = self.err.splitlines()
        told: dict[str, Any] = json.loads(line)["error"]
        return told

    def one_paragraph(self) -> str:
        """The error, after a look at its form."""
        assert self.err.startswith("Error: "), self.err
        assert "Traceback" not in self.err
        return self.err


class Nel:
    """Runs the command, in a home of its own.

    Args:
        home: where it keeps what it keeps.
        settings: the settings file of the mailbox that it speaks for; None for none.
    """

    def __init__(self, home: Path, settings: Path | None) -> None:
        self.home = home
        self.settings = settings
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")},
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "TERM": "xterm",
            "TZ": "Europe/London",
        }
        if settings is not None:
            self._environment["MESH_SETTINGS"] = str(settings)

    def __call__(
        self,
        *arguments: str | Path,
        stdin: bytes = b"",
        env: Mapping[str, str | None] | None = None,
        stdout: IO[bytes] | int = subprocess.PIPE,
        largest_file: int | None = None,
        privileged: bool = True,
    ) -> Done:
        """Run it with pipes.

        Args:
            stdin: its standard input.
            env: more environment variables; None removes one.
            stdout: its standard output.
            largest_file: the number of bytes that the system lets it write into any file.
            privileged: whether root, if it is root, may read and write where permissions forbid it.
        """

        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
            if not privileged and os.geteuid() == 0:
                for capability in _IGNORE_PERMISSIONS:
                    assert _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0

        environment = {name: value for name, value in {**self._environment, **(env or {})}.items() if value is not None}
        # A module of the test's own has to be imported first, and limits are for programs that are started.
        is_fresh = "PYTHONPATH" in environment or not privileged or largest_file is not None
        done = subprocess.run(
            [*(COMMAND if is_fresh else [forked_nel_mesh()]), *map(str, arguments)],
            input=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=self.home,
            timeout=60,
            check=False,
            preexec_fn=limit,
        )
        return Done(done.returncode, done.stdout or b"", done.stderr.decode())

    def start(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Starts it with pipes."""
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self._environment, **(env or {})},
            cwd=self.home,
        )

    def interrupted_when(
        self, ready: Callable[[], object], *arguments: str | Path, env: Mapping[str, str] | None = None
    ) -> Done:
        """Runs it with pipes, and presses Ctrl-C as soon as something is the case."""
        with self.start(*arguments, env=env) as process:
            wait_until(ready)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
            return Done(process.returncode, out, err.decode())

    def in_terminal(
        self,
        *arguments: str | Path,
        columns: int = 100,
        answers: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Done:
        """Runs it in a terminal of its own; gives all that was seen there.

        Args:
            columns: how wide it is.
            answers: what to type when a text is seen.
        """
        ours, theirs = pty.openpty()
        os.set_blocking(ours, False)
        import fcntl
        import struct
        import termios

        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**self._environment, **(env or {})},
            cwd=self.home,
            start_new_session=True,
        )
        os.close(theirs)
        seen = b""
        waiting = dict(answers or {})
        while True:
            select.select([ours], [], [], 30)
            try:
                block = os.read(ours, 65536)
            except OSError:
                break
            if not block:
                break
            seen += block
            for cue in [cue for cue in waiting if cue.encode() in seen]:
                os.write(ours, waiting.pop(cue).encode())
        os.close(ours)
        return Done(process.wait(30), seen.replace(b"\r\n", b"\n"), "")


def wait_until(ready: Callable[[], object], seconds: float = 30) -> None:
    """Waits for another process to have done something."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
