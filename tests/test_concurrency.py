"""Background tasks and loops over workers, and what exceptions from signal handlers leave of them (R14)."""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from nel_mesh.io.concurrency import BackgroundTasks, for_each

SECONDS = 20


class Interrupted(Exception):
    """Raised by a signal handler, as KeyboardInterrupt is."""


@contextlib.contextmanager
def interrupts(seed: int) -> Iterator[None]:
    """Interrupt the main thread after a random, very short time."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, random.Random(seed).uniform(1e-5, 3e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_each_item_is_worked_on_once_by_no_more_than_the_workers() -> None:
    running, most, done = 0, 0, []
    guard = threading.Lock()

    def work(item: int) -> None:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with guard:
            running -= 1
            done.append(item)

    for_each(iter(range(50)), work, max_workers=4)
    assert sorted(done) == list(range(50))
    assert 1 < most <= 4


@pytest.mark.parametrize("max_workers", [1, 3])
def test_an_error_ends_the_taking_and_is_raised_when_the_others_are_done(max_workers: int) -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 2:
            raise ValueError(item)
        done.append(item)

    with pytest.raises(ValueError, match="2"):
        for_each(iter(range(1000)), work, max_workers=max_workers)
    assert len(done) < 20


def test_work_runs_in_a_copy_of_the_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")
    seen: list[str] = []
    for_each(iter(range(3)), lambda _: seen.append(variable.get()), max_workers=2)
    with BackgroundTasks() as background:
        assert background.start(variable.get).result() == "set"
    assert seen == ["set"] * 3


def test_a_task_gives_its_value_or_its_error() -> None:
    def fail() -> None:
        raise ValueError("no")

    with BackgroundTasks() as background:
        assert background.start(max, 1, 2).result() == 2
        task = background.start(fail)
        with pytest.raises(ValueError, match="no"):
            task.result()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no interval timers")
def test_an_interrupt_at_any_moment_leaves_nothing_hanging_r14() -> None:
    """R14: thousands of interrupts at random points; no later call hangs, and no thread is left."""
    threads = _thread._count()
    interrupted = 0
    for seed in range(3000):
        try:
            with interrupts(seed):
                for_each(iter(range(40)), lambda _: time.sleep(1e-5), max_workers=4)
                with BackgroundTasks() as background:
                    tasks = [background.start(time.sleep, 1e-4) for _ in range(3)]
                    for task in tasks:
                        task.result()
        except Interrupted:
            interrupted += 1
    assert interrupted > 100
    done: list[int] = []
    for_each(iter(range(10)), done.append, max_workers=4)
    assert sorted(done) == list(range(10))
    until = time.monotonic() + SECONDS
    while _thread._count() > threads and time.monotonic() < until:
        time.sleep(0.01)
    assert _thread._count() <= threads, "the interrupted threads have ended"
