"""A part of `make chaos`: faults at requests, kills and interrupts at points, spread over all of them."""

from __future__ import annotations

import signal
import sys

import pytest

from chaos import FORMS, SHAPES, Form, Shape, each_fault, each_kill, several_processes
from stores import MissingServer

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(("variant", "every"), [("sync", 17), ("asyncio", 23)])
def test_no_fault_loses_doubles_or_corrupts(variant: str, every: int) -> None:
    results = list(each_fault(variant, every))
    assert [result for result in results if not result.is_clean] == []
    assert sum(result.points for result in results) > 20


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and kills what it forked")
@pytest.mark.parametrize("operation", ["send", "receive"])
@pytest.mark.parametrize("shape", SHAPES[::2], ids=str)
def test_no_kill_loses_doubles_or_corrupts(operation: str, shape: Shape) -> None:
    result = each_kill("sync", shape, operation, every=13 if operation == "send" else 29)
    assert result.is_clean, result
    assert result.points >= 3


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and kills what it forked")
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_no_kill_loses_doubles_or_corrupts_in_any_form(form: Form) -> None:
    try:
        result = each_kill("sync", SHAPES[1], "receive", every=37 * form.stride, form=form)
    except MissingServer as missing:
        pytest.skip(str(missing))
    assert result.is_clean, result
    assert result.points >= 2


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and interrupts what it forked")
@pytest.mark.parametrize("variant", ["sync", "asyncio"])
def test_no_interrupt_or_cancellation_loses_doubles_or_corrupts(variant: str) -> None:
    result = each_kill(variant, SHAPES[2], "receive", every=53, number=signal.SIGINT)
    assert result.is_clean, result
    assert result.points >= 2


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and kills what it forked")
def test_processes_that_receive_one_inbox_are_killed_at_random() -> None:
    result = several_processes("folder", rounds=1)
    assert result.is_clean, result
