"""Run processes, and make medians and ratios of what the workers report."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

WORKERS = Path(__file__).resolve().parent / "workers"
LIMIT_IN_SECONDS = 1800

_PR_SET_PDEATHSIG = 1
# Looked up here: after a fork there must be no more to do than to call it.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of one client.

    Attributes:
        seconds: for the work, by the worker's own clock.
        cpu_seconds: of all its threads, for the work.
        peak_mib: the highest memory, over what the process needed before; -1 where it is not known.
        server_cpu_seconds: of nginx meanwhile, to see that the clients did not wait for it.
    """

    seconds: float
    cpu_seconds: float = 0.0
    peak_mib: float = -1.0
    server_cpu_seconds: float = 0.0

    def __str__(self) -> str:
        peak = f", {self.peak_mib:.1f} MiB over idle" if self.peak_mib >= 0 else ""
        cpu = f"cpu {self.cpu_seconds:.2f} s, nginx {self.server_cpu_seconds:.2f} s"
        return f"{self.seconds:.3f} s, {cpu}{peak}"


@dataclasses.dataclass(frozen=True)
class Worker:
    """How to run one client.

    Attributes:
        python: the Python that has it.
        script: the worker's file.
        source: a folder of packages that wins over what is installed, such as an older checkout's `src`.
    """

    python: Path
    script: str
    source: Path | None = None

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Do one job in a process of its own; return its report."""
        done = subprocess.run(
            [str(self.python), str(WORKERS / self.script)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            env=environment(self.source),
            timeout=LIMIT_IN_SECONDS,
            check=False,
            preexec_fn=_end_with_parent,
        )
        if done.returncode:
            raise RuntimeError(f"{self.script} failed at {job['operation']}:\n{done.stderr.strip()}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def environment(source: Path | None = None) -> dict[str, str]:
    """An environment without proxies, settings and coverage, which could decide how a client works."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return kept if source is None else {**kept, "PYTHONPATH": str(source)}


def median_of(runs: Sequence[Run], what: str = "seconds") -> float:
    """The median of one of their figures."""
    return statistics.median(float(getattr(run, what)) for run in runs)


def ratio_of(theirs: Sequence[Run], ours: Sequence[Run], what: str = "seconds") -> float:
    """How many times as fast ours is: the median of the rounds' own ratios.

    A disturbance of the machine affects both clients of a round, and so leaves its ratio.
    """
    return statistics.median(
        float(getattr(their, what)) / max(float(getattr(our, what)), 1e-9)
        for their, our in zip(theirs, ours, strict=True)
    )


@contextlib.contextmanager
def running(
    command: Sequence[str], *, log: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for the time of the block; its output goes to `log`, or its standard output to a pipe."""
    with contextlib.ExitStack() as stack:
        output: IO[bytes] | None = stack.enter_context(log.open("wb")) if log else None
        process = stack.enter_context(
            subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output or subprocess.PIPE,
                stderr=output,
                preexec_fn=_end_with_parent,
            )
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def _end_with_parent() -> None:
    """For `preexec_fn`: the kernel terminates this process when the one that started it is gone."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
