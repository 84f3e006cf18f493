"""R14: an exception from a signal handler, at whatever moment, leaves nothing held in the blocking client."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("interrupted_client.py")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no interval timer")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("what", "count"), [("pool", 4_000), ("client", 2_000)])
def test_after_thousands_of_interrupts_every_slot_is_free_and_calls_work(what: str, count: int) -> None:
    """R14: an interrupted `threading.Semaphore` loses a slot, or keeps its lock; then a later call hangs."""
    # The connections that an interrupt leaves to the garbage collector are no leak.
    command = [sys.executable, "-W", "ignore::ResourceWarning", str(PROGRAM), what, str(count), "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["slots"] == 3
    assert found["interrupts"] >= count
