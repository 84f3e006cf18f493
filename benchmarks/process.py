"""Processes that end: by their own id when they are done with, with the one that started them, or by the clock."""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
# Looked up here: after a fork there must be no more to do than to call it.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


@contextlib.contextmanager
def running(
    command: Sequence[str], seconds: int, *, log: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the time of the block, and for no more than so many seconds.

    Args:
        command: what to run; under `timeout`, which passes a termination on, and gives one by itself in the end.
        seconds: how long at most.
        log: where its output goes; without, its standard output is a pipe.
        environment: its environment; by default this process's.
    """
    program = shutil.which("timeout")
    if program is None:
        raise FileNotFoundError("timeout, from coreutils, is not installed")
    with contextlib.ExitStack() as stack:
        output: IO[bytes] | None = stack.enter_context(log.open("wb")) if log else None
        process = stack.enter_context(
            subprocess.Popen(
                [program, "--kill-after=10", str(seconds), *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output or subprocess.PIPE,
                stderr=output,
                preexec_fn=end_with_parent,
            )
        )
        try:
            yield process
        finally:
            _stop(process)


def end_with_parent() -> None:
    """For `preexec_fn`: the kernel terminates this process when the one that started it is gone, however it went."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def leave_on_termination() -> None:
    """Lets a termination unwind this process, so that it stops what it has started, and removes what it has made."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(15)
