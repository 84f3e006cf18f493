"""The measurement of many mailboxes, where an agent has ended."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from agents import Site
from load import LAST_LINES, NODES, AgentEnded, wait


def test_the_agent_that_has_ended_is_named_with_its_last_lines(tmp_path: Path) -> None:
    site = Site(tmp_path, None, "postgresql://mesh@localhost/mesh")
    site.config.write_text("[agent]\n")
    says = "import sys, time; [print(f'line {n}', file=sys.stderr) for n in range(99)]"
    try:
        for end in ("time.sleep(60)", "sys.exit(14)"):
            site.program = [sys.executable, "-c", f"{says}; {end}"]
            site.launch(NODES[len(site.processes)])
        with pytest.raises(AgentEnded, match=r"agent two has ended with exit code 14; .*\n  line 89\n") as raised:
            wait(site, 30)
        assert str(raised.value).endswith("\n  line 98")
        assert len(str(raised.value).splitlines()) == LAST_LINES + 1
    finally:
        site.close()
