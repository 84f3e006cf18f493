"""The service manager's protocol: say that the agent is ready, alive, reloading or stopping.

A datagram to the socket that `NOTIFY_SOCKET` names; see sd_notify(3). Without that variable nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time


def notify(*lines: str) -> None:
    """Send lines such as `READY=1`; nothing if there is no service manager that listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto("\n".join(lines).encode(), address)


def reloading() -> tuple[str, str]:
    """Return the lines that say that a reload begins; `READY=1` ends it."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"


def watchdog_seconds() -> float | None:
    """Return how often the service manager wants to hear of us; None if it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    is_ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 2e6 if microseconds.isdecimal() and is_ours else None
