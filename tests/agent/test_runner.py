"""The runner of one process: how often a task is done that was asked for again."""

from __future__ import annotations

import threading

from nel_mesh.agent.runner import Task, ThreadRunner
from nel_mesh.io.clock import Clock


def test_a_task_that_waits_is_done_once_and_one_that_runs_once_more() -> None:
    begun, may_end, is_over = threading.Event(), threading.Event(), threading.Event()
    done: list[str] = []

    def do(task: Task) -> None:
        done.append(task.subject)
        if task.subject == "first":
            begun.set()
            assert may_end.wait(30)
        if task.subject == "last":
            is_over.set()

    runner = ThreadRunner(1, Clock(), do, lambda key, error: done.append(f"{key} {error}"))
    runner.enqueue([Task("visit", "first")])
    assert begun.wait(30)
    # Its only thread is taken: these wait, and are found due again by the next look.
    for _ in range(3):
        runner.enqueue([Task("visit", "second")])
    runner.enqueue([Task("visit", "first"), Task("visit", "last")])
    may_end.set()
    runner.run(is_over.is_set)
    assert done.count("second") == 1
    assert done.count("first") == 2
