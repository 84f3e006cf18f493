"""What the workers share: clock and memory. Standard library only, as each runs where its client is installed."""

from __future__ import annotations

import contextlib
import cProfile
import io
import json
import pstats
import resource
import sys
import threading
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
        self.page_faults = 0
        self.profile = ""


def job() -> dict[str, Any]:
    """What this process is to do."""
    found: dict[str, Any] = json.load(sys.stdin)
    return found


@contextlib.contextmanager
def measured(asked: dict[str, Any]) -> Iterator[Measured]:
    """Measures the block: time, and peak memory over what the process needs when it begins.

    It begins with the client made but not connected, so that each pays for its connections.
    """
    result = Measured()
    # The kernel forgets the peak so far. Not getrusage: its peak is inherited from the process that started this one.
    Path("/proc/self/clear_refs").write_text("5")
    idle = _status("VmRSS")
    cpu, faults = _cpu(), _page_faults()
    profile = Profile() if asked.get("profile") else None
    began = time.perf_counter()
    yield result
    result.seconds = time.perf_counter() - began
    result.profile = profile.text() if profile else ""
    result.cpu_seconds = _cpu() - cpu
    result.page_faults = _page_faults() - faults
    result.peak_kib = _status("VmHWM") - idle


def report(result: Measured, **more: Any) -> None:
    """Tells the one who started this process."""
    print(json.dumps({**vars(result), **more}))


class Profile:
    """Where the time goes, in each thread."""

    def __init__(self) -> None:
        self._profiles: list[cProfile.Profile] = []
        threading.setprofile(self._thread_begins)
        self._begin()

    def text(self, lines: int = 40) -> str:
        """What took most, in the functions themselves."""
        threading.setprofile(None)
        for profile in self._profiles:
            profile.disable()
        text = io.StringIO()
        stats = pstats.Stats(*self._profiles, stream=text)
        stats.sort_stats("tottime").print_stats(lines)
        kept = text.getvalue()
        for folder in (sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2])):
            kept = kept.replace(folder, "")
        return "\n".join(line[:150] for line in kept.splitlines())

    def _thread_begins(self, *_: object) -> None:
        sys.setprofile(None)
        self._begin()

    def _begin(self) -> None:
        # From Python 3.12 on only one thread can be profiled: the first.
        with contextlib.suppress(ValueError):
            profile = cProfile.Profile()
            profile.enable()
            self._profiles.append(profile)


def cpu_of_children() -> float:
    """How much of a processor the processes used that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime + cpu_of_children()


def _page_faults() -> int:
    """How often the kernel had to find memory: what is taken and given back again and again costs more than copying."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
