"""What the workers share: clock and memory. Standard library only, as each runs where its client is installed."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Measured:
    """How long the work took, and by how much memory grew meanwhile."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.peak_kib = -1


def job() -> dict[str, Any]:
    """What this process is to do."""
    found: dict[str, Any] = json.load(sys.stdin)
    os.environ.update(found.get("environment", {}))
    return found


@contextlib.contextmanager
def measured() -> Iterator[Measured]:
    """Measures the block: time, and peak memory over what the process needs when it begins.

    It begins with the client made but not connected, so that each pays for its connections.
    """
    result = Measured()
    # The kernel forgets the peak so far. Not getrusage: its peak is inherited from the process that started this one.
    Path("/proc/self/clear_refs").write_text("5")
    idle = _status("VmRSS")
    cpu = _cpu()
    began = time.perf_counter()
    yield result
    result.seconds = time.perf_counter() - began
    result.cpu_seconds = _cpu() - cpu
    result.peak_kib = _status("VmHWM") - idle


def report(result: Measured, **more: Any) -> None:
    """Tells the one who started this process."""
    print(json.dumps({**vars(result), **more}))


def cpu_of_children() -> float:
    """How much of a processor the processes used that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime + cpu_of_children()


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
