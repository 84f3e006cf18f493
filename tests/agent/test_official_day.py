"""The agent against NHS England's own sandbox: a small part of `make day`."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import official_day


def test_a_killed_agent_at_the_official_sandbox(official_sandbox: str, tmp_path: Path) -> None:
    reset = urllib.request.Request(f"{official_sandbox}/messageexchange/admin/reset", method="DELETE")
    with urllib.request.urlopen(reset, timeout=10):
        pass
    official_day.run(tmp_path, official_sandbox, messages=20, kills=1)
