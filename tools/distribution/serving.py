"""A MESH server, run by an environment's own command."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from distribution.environments import Environment, clean
from distribution.table import Failed

SENDER, RECIPIENT = "X26ABC1", "X26ABC2"
_START_SECONDS = 60


@contextlib.contextmanager
def serving(environment: Environment) -> Iterator[list[Path]]:
    """Runs `nel-mesh-sandbox`, with mutual TLS; gives the settings files of the sender and of the recipient."""
    folder = environment.work / "settings"
    command = [str(environment.command("nel-mesh-sandbox")), "--port", "0", "--settings-folder", str(folder)]
    with (
        (environment.work / "server.log").open("w+b") as log,
        subprocess.Popen(
            command, cwd=environment.work, env=clean(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        late = threading.Timer(_START_SECONDS, process.kill)
        late.start()
        try:
            # Its first line comes when it listens, and the settings are written.
            if not (process.stdout and process.stdout.readline()):
                log.seek(0)
                raise Failed(f"nel-mesh-sandbox did not start: {log.read().decode(errors='replace')[-2000:]}")
            late.cancel()
            yield [folder / f"appsettings.{mailbox_id}.json" for mailbox_id in (SENDER, RECIPIENT)]
        finally:
            late.cancel()
            process.terminate()
            process.communicate(timeout=30)
