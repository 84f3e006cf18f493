"""An agent for mailboxes of the sandbox: its configuration in a folder, and its process."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from command_server import forked_nel_mesh
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.sandbox import Sandbox

ALICE, BOB = "X26ABC1", "X26ABC2"
PATIENCE_SECONDS = 30.0


class Site:
    """A folder with an agent's configuration.

    Args:
        folder: the folder.
        sandbox: whose mailboxes; without one, the configuration says all.
        url: of a database on PostgreSQL: then its agents are a fleet, each with a name and data folder of its own.
    """

    def __init__(self, folder: Path, sandbox: Sandbox | None, url: str | None = None) -> None:
        self.folder = folder
        self.url = url
        self.config = folder / "agent.toml"
        written = sandbox.write_settings(folder / "settings") if sandbox is not None else ()
        self.settings = {path.name.split(".")[1]: path for path in written}
        self.program: list[str] | None = None
        """What is run as the agent; by default the command."""
        self.processes: list[subprocess.Popen[bytes]] = []

    def write(self, text: str, *, agent: str = "", defaults: str = "") -> Path:
        """Write the configuration; `{alice}` and `{bob}` in it stand for their tables, with their settings."""
        for name, mailbox in (("alice", ALICE), ("bob", BOB)):
            table = f'[mailboxes.{mailbox}]\nsettings = "{self.settings.get(mailbox)}"'
            text = text.replace(f"{{{name}}}", table)
        quick = "poll_interval_in_minutes = 0.005\nretry_initial_delay_in_seconds = 0.05\n"
        self.config.write_text(f"[agent]\n{agent}\n[defaults]\n{quick}{defaults}\n{text}")
        return self.config

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        with Ledger(self.url or self.folder / "nel-mesh-agent") as ledger:
            yield ledger

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "nel_mesh.cli", "agent", *arguments]

    def run(self, *arguments: str, config: Path | None = None) -> tuple[int, list[dict[str, Any]], str]:
        """Run a command of the agent; return its exit code, its records and what it said."""
        command = [str(forked_nel_mesh()), "agent", *arguments, "--config", str(config or self.config), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def node(self, name: str, url: str | None = None) -> Path:
        """Write the configuration of one machine of the fleet: what all have, and its own name, data and database."""
        own = f'[agent]\nledger = "{url or self.url}"\nnode = "{name}"\ndata = "{self.folder / f"data-{name}"}"\n'
        path = self.folder / f"agent-{name}.toml"
        path.write_text(self.config.read_text(encoding="utf-8").replace("[agent]\n", own, 1))
        return path

    def launch(
        self, name: str | None = None, *, before: tuple[str, ...] = (), url: str | None = None
    ) -> subprocess.Popen[bytes]:
        """Start an agent. What it says goes into a file: nobody has to read it meanwhile."""
        config = self.config if self.url is None else self.node(name or "one", url)
        command = self.program or [*before, *self.command("run"), "--config", str(config)]
        with self._log(len(self.processes)).open("wb") as log:
            process = subprocess.Popen(command, stderr=log, cwd=self.folder)
        self.processes.append(process)
        return process

    def start(self, name: str | None = None) -> subprocess.Popen[bytes]:
        """Start an agent, and wait until it works."""
        process = self.launch(name)
        while "works on" not in self.said(process):
            if process.poll() is not None:
                raise AssertionError(f"the agent did not start: {self.said(process)}")
            time.sleep(0.02)
        return process

    def said(self, process: subprocess.Popen[bytes]) -> str:
        """Return what an agent has said so far."""
        return self._log(self.processes.index(process)).read_text(encoding="utf-8")

    def _log(self, number: int) -> Path:
        return self.folder / f"agent-{number}.log"

    def stop(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> tuple[int, str]:
        process.send_signal(number)
        return process.wait(PATIENCE_SECONDS), self.said(process)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def until(is_so: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something is so; it must be within some seconds."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
