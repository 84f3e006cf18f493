"""Runs workers, and makes medians and ratios of what they say."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.process import end_with_parent

WORKERS = Path(__file__).resolve().parent / "workers"
LIMIT_IN_SECONDS = 1800


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of one client.

    Attributes:
        seconds: for the work, by the worker's own clock.
        cpu_seconds: of all its threads, for the work.
        peak_mib: memory at its highest, over what the process needed before; -1 where it is not known.
        server_cpu_seconds: of nginx meanwhile, to see that it was not what all waited for.
        page_faults: how often the kernel had to find memory for it.
    """

    seconds: float
    cpu_seconds: float = 0.0
    peak_mib: float = -1.0
    server_cpu_seconds: float = 0.0
    page_faults: int = 0

    def __str__(self) -> str:
        peak = f", {self.peak_mib:.1f} MiB over idle" if self.peak_mib >= 0 else ""
        cpu = f"cpu {self.cpu_seconds:.2f} s, nginx {self.server_cpu_seconds:.2f} s"
        return f"{self.seconds:.3f} s, {cpu}, {self.page_faults:,} page faults{peak}"


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

    def command(self) -> list[str]:
        return [str(self.python), str(WORKERS / self.script)]

    def environment(self) -> dict[str, str]:
        """Nothing of this shell's may decide how a client works: no proxy, no settings, no coverage."""
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        return kept if self.source is None else {**kept, "PYTHONPATH": str(self.source)}

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Does one job in a process of its own, and gives what it reports."""
        found: dict[str, Any] = json.loads(self._output(self.command(), job))
        return found

    def shares(self, job: Mapping[str, Any], lines: int = 25) -> str:
        """Which machine code a process is busy with, its imports included, by `perf`; empty where there is none."""
        program = shutil.which("perf")
        if program is None:
            return ""
        with tempfile.NamedTemporaryFile(prefix="perf-") as data:
            self._output([program, "record", "-q", "-F", "499", "-o", data.name, *self.command()], job)
            command = [program, "report", "-q", "--stdio", "-i", data.name, "--no-children"]
            texts = [
                subprocess.run([*command, "-F", fields], capture_output=True, text=True, check=False).stdout
                for fields in ("overhead,dso", "overhead,dso,symbol")
            ]
        kept = [[line.rstrip() for line in text.splitlines() if "%" in line][:lines] for text in texts]
        return "\n".join([*kept[0][:10], "", *kept[1]])

    def _output(self, command: Sequence[str], job: Mapping[str, Any]) -> str:
        done = subprocess.run(
            command,
            input=json.dumps(job),
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=LIMIT_IN_SECONDS,
            check=False,
            preexec_fn=end_with_parent,
        )
        if done.returncode:
            raise RuntimeError(f"{self.script} failed at {job['operation']}:\n{done.stderr.strip()}")
        return done.stdout


def median_of(runs: Sequence[Run], what: str = "seconds") -> float:
    """The median of one of their figures."""
    return statistics.median(float(getattr(run, what)) for run in runs)


def ratio_of(theirs: Sequence[Run], ours: Sequence[Run], what: str = "seconds") -> float:
    """How many times as fast ours is: the median of the rounds' own ratios.

    What disturbs the machine for a while disturbs both of a round, and so leaves its ratio.
    """
    return statistics.median(
        float(getattr(their, what)) / max(float(getattr(our, what)), 1e-9)
        for their, our in zip(theirs, ours, strict=True)
    )


def empty(folder: Path) -> None:
    """Removes what a client has received into the folder."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def our_python() -> Path:
    """The Python that this runs under, which has our client."""
    return Path(sys.executable)
