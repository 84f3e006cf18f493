"""Runs examples as programs of their own, which can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nel_mesh.sandbox import Sandbox

# Windows has no SIGTERM that a program could hear: TerminateProcess ends it without a word.
needs_sigterm = pytest.mark.skipif(sys.platform == "win32", reason="a program cannot be told to end there")

REFUSED_FOR_LONG = "respond=503,retry-after=60"
"""A fault after which a program waits, so that it can be killed at a known place: longer than it has to live."""

EXAMPLES = Path(__file__).parents[2] / "examples"


def start(*command: str | Path, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Starts Python with these arguments, in the folder of examples; what it says goes to the end of a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=EXAMPLES,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
            stdout=output,
            stderr=output,
        )


def until(condition: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits for what a process is to bring about."""
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, f"it ended with {process.returncode}: {log.read_text()}"
        assert time.monotonic() < end, f"it did not happen: {log.read_text()}"
        time.sleep(0.02)


def refused(mesh_sandbox: Sandbox, operation: str) -> bool:
    """Whether a request for an operation has been answered 503."""
    return any(request.status == 503 for request in mesh_sandbox.requests(operation))


def kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a process as a power cut would."""
    process.kill()
    process.wait(20)
