"""Background tasks and loops over workers, and what exceptions from signal handlers leave of them (R14)."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import contextvars
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import anyio
import anyio.lowlevel
import pytest

from nel_mesh.io import async_concurrency, worker_threads
from nel_mesh.io.async_concurrency import in_thread
from nel_mesh.io.concurrency import BackgroundTasks, for_each
from nel_mesh.io.worker_threads import WorkerThreads

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
        for_each(itertools.count(), work, max_workers=max_workers)  # would not end otherwise
    assert done[:2] == [0, 1] or max_workers > 1


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


# Worker threads of the async client


def test_calls_run_at_once_in_as_few_threads_as_will_do() -> None:
    both = threading.Barrier(2)

    def work() -> int:
        both.wait(SECONDS)
        return threading.get_ident()

    async def run() -> tuple[set[int], set[int]]:
        at_once = set(await asyncio.gather(in_thread(work), in_thread(work)))
        return at_once, {await in_thread(threading.get_ident) for _ in range(20)}

    at_once, in_turn = asyncio.run(run())
    assert len(at_once) == 2
    assert threading.get_ident() not in at_once | in_turn
    assert len(in_turn) < 20


def test_short_calls_have_a_few_threads_however_many_there_are() -> None:
    threads = WorkerThreads()
    left = threading.Semaphore(0)
    for _ in range(1000):
        threads.submit(lambda: left.release)
    for _ in range(1000):
        assert left.acquire(timeout=SECONDS)
    assert threads.count() <= 4


def test_calls_that_wait_for_one_another_get_more_threads() -> None:
    """A network, a pipe or a slow disk; or a call that another task's call ends."""
    all_of_them = threading.Barrier(30)

    async def run() -> None:
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(in_thread(all_of_them.wait, SECONDS) for _ in range(30)))

    asyncio.run(run())


def test_calls_that_wait_a_little_get_more_threads_where_the_process_is_not_busy() -> None:
    """More of them are begun in 10 ms than there are threads."""

    def wait() -> int:
        time.sleep(0.004)
        return threading.get_ident()

    async def run() -> set[int]:
        return set(await asyncio.gather(*(in_thread(wait) for _ in range(1000))))

    assert len(asyncio.run(run())) > 4


def test_calls_that_have_only_just_come_get_no_more_threads() -> None:
    """Each thread keeps memory of its own."""
    threads = WorkerThreads()
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def wait() -> Callable[[], object]:
        begun.release()
        go_on.wait(SECONDS)
        return int

    for _ in range(4):
        threads.submit(wait)
    for _ in range(4):
        assert begun.acquire(timeout=SECONDS)
    threads.look()
    time.sleep(0.02)
    threads.submit(wait)
    assert threads.look()
    assert threads.count() == 4
    time.sleep(0.02)
    threads.look()
    assert threads.count() == 5
    go_on.set()


def test_threads_end_that_are_not_needed_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "_IDLE_SECONDS", 0.05)
    threads = WorkerThreads()
    go_on = threading.Event()

    def wait() -> Callable[[], object]:
        go_on.wait(SECONDS)
        return int

    for _ in range(20):
        threads.submit(wait)
    while threads.look():
        time.sleep(0.01)
    assert threads.count() >= 20
    go_on.set()
    until = time.monotonic() + SECONDS
    while threads.count() > 4 and time.monotonic() < until:
        time.sleep(0.01)
    assert threads.count() <= 4


def test_more_calls_than_threads_are_all_made() -> None:
    async def run() -> list[int]:
        return await asyncio.gather(*(in_thread(pow, number, 2) for number in range(500)))

    assert asyncio.run(run()) == [number**2 for number in range(500)]


def test_a_call_has_the_callers_context_and_its_error_is_raised() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def fail() -> None:
        raise ValueError(variable.get())

    async def run() -> None:
        variable.set("set")
        await in_thread(fail)

    with pytest.raises(ValueError, match="^set$"):
        asyncio.run(run())


def test_a_cancelled_caller_waits_for_the_end_of_its_call() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(SECONDS)
        ended.set()

    async def run() -> None:
        task = asyncio.ensure_future(in_thread(work))
        await asyncio.to_thread(begun.wait, SECONDS)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(run())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    asyncio.run(in_thread_once())
    child = os.fork()
    if not child:
        asyncio.run(in_thread_once())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_in_a_thread_is_made_in_a_cancelled_task_too(backend: str) -> None:
    """What closes a file, or waits for parts on their way, must not be left out."""
    called: list[int] = []

    async def close_when_cancelled() -> None:
        with anyio.CancelScope() as scope:
            try:
                scope.cancel()
                await anyio.lowlevel.checkpoint()
            finally:
                await in_thread(lambda: called.append(threading.get_ident()))
        assert scope.cancelled_caught

    anyio.run(close_when_cancelled, backend=backend)
    assert len(called) == 1
    assert called != [threading.get_ident()]


def test_a_call_of_an_interrupted_caller_does_not_begin_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller may have let go of the lock that the call relies on."""
    monkeypatch.setattr(worker_threads, "_MAX_THREADS", 1)
    monkeypatch.setattr(async_concurrency, "_workers", WorkerThreads())
    go_on = threading.Event()
    called: list[str] = []

    async def run() -> None:
        first = asyncio.ensure_future(in_thread(go_on.wait, SECONDS))
        await asyncio.sleep(0)
        interrupted = in_thread(called.append, "interrupted")
        interrupted.send(None)
        with pytest.raises(Interrupted):
            interrupted.throw(Interrupted())
        go_on.set()
        await first
        await in_thread(called.append, "next")

    asyncio.run(run())
    assert called == ["next"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_look_in_a_forked_process_begins_nothing_of_the_parents() -> None:
    threads = WorkerThreads()
    go_on = threading.Event()

    def wait() -> Callable[[], object]:
        go_on.wait(SECONDS)
        return int

    for _ in range(6):
        threads.submit(wait)
    child = os.fork()
    if not child:
        os._exit(threads.look() or threads.count())
    assert os.waitpid(child, 0)[1] == 0
    assert threads.look(), "two calls wait"
    go_on.set()


async def in_thread_once() -> None:
    async with asyncio.timeout(SECONDS):
        assert await in_thread(threading.get_ident) != threading.get_ident()
