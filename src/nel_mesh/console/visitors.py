"""Visitors who have not logged in: which of them are counted as one, and how often each may ask. Nothing is written."""

from __future__ import annotations

import ipaddress
import threading
from datetime import datetime, timedelta

_MOST_COUNTED = 10_000


def network_of(address: str) -> str:
    """Return what an address is counted as: of IPv6 its network, as one visitor has all addresses of a /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)


class Pace:
    """How often visitors may ask for what is a burden: in the memory of this process, and bounded.

    Args:
        most: how often one may ask within the time.
        within: the time.
    """

    def __init__(self, most: int, within: timedelta) -> None:
        self._most = most
        self._within = within
        self._guard = threading.Lock()
        self._counts: dict[str, tuple[datetime, int]] = {}

    def allows(self, address: str, now: datetime) -> bool:
        """Count a request; whether it is one of those that are allowed."""
        network = network_of(address)
        with self._guard:
            began, count = self._counts.get(network, (now, 0))
            if now - began >= self._within:
                began, count = now, 0
            self._counts[network] = (began, count + 1)
            if len(self._counts) > _MOST_COUNTED:
                self._forget(now)
        return count < self._most

    def _forget(self, now: datetime) -> None:
        """Forget those whose time is over; and if that is not enough, those who asked least."""
        left = {name: one for name, one in self._counts.items() if now - one[0] < self._within}
        ranked = sorted(left, key=lambda name: left[name][1], reverse=True)
        self._counts = {name: left[name] for name in ranked[: _MOST_COUNTED // 2]}
