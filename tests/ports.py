"""Ports for the servers of tests that must be told theirs before they start.

Binding to port 0 and closing again gives a port that another process may take before the server does: two tests of
one run have met so. These ports lie below those that the system hands out, and each is locked for as long as the
process that asked for it lives, however it ends, against every other process on this machine that asks here.
"""

from __future__ import annotations

import os
import random
import socket
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where no test starts such a server
    fcntl = None  # type: ignore[assignment]

# Linux hands out 32768 and up (net.ipv4.ip_local_port_range). SeaweedFS takes for each port the one 10,000 above it.
FIRST, LAST, ABOVE = 10_240, 21_999, 10_000
_LOCKS = Path(tempfile.gettempdir()) / "nel-mesh-test-ports"


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on and no other test has been given; the one 10,000 above each is free too."""
    _LOCKS.mkdir(mode=0o777, exist_ok=True)
    found: list[int] = []
    for port in random.sample(range(FIRST, LAST + 1), LAST + 1 - FIRST):
        if len(found) == count:
            return found
        if _is_ours(port) and _is_free(port) and _is_free(port + ABOVE):
            found.append(port)
    raise RuntimeError(f"no {count} free ports between {FIRST} and {LAST}")


def _is_ours(port: int) -> bool:
    # A descriptor and no file object, which would warn of being left open when the process ends.
    lock = os.open(_LOCKS / str(port), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A port that a killed server used a moment ago is free for the next.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
