"""A part of `make chaos`: faults at requests, and kills at points, spread over all of them."""

from __future__ import annotations

import sys

import pytest

from chaos import SHAPES, Shape, each_fault, each_kill

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(("variant", "every"), [("sync", 5), ("asyncio", 11)])
def test_no_fault_loses_doubles_or_corrupts(variant: str, every: int) -> None:
    tallies = list(each_fault(variant, every))
    assert [tally for tally in tallies if not tally.is_clean] == []
    assert sum(tally.points for tally in tallies) > 20


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and kills what it forked")
@pytest.mark.parametrize("operation", ["send", "receive"])
@pytest.mark.parametrize("shape", SHAPES[::2], ids=str)
def test_no_kill_loses_doubles_or_corrupts(operation: str, shape: Shape) -> None:
    tally = each_kill("sync", shape, operation, every=7 if operation == "send" else 17)
    assert tally.is_clean, tally
    assert tally.points >= 3
