"""Small trials of `make fleet`: of three agents one is killed and one frozen at a random moment; so is one alone."""

from __future__ import annotations

import random
import secrets
import signal
import time
from pathlib import Path

import pytest
from agents import Site, until
from trials import ALONE_KINDS, NODES, Trials
from visits import Requests, judge, steps_of, watch_visits

from nel_mesh.ledger.chain import check_chain
from nel_mesh.sandbox import Sandbox
from postgresql_server import PostgreSQL

pytest_plugins = ["ledger_fixtures"]

LONGEST_PAUSE_SECONDS = 1.5
"""By then most is done."""


def test_the_last_of_three_agents_does_what_a_killed_and_a_frozen_one_had_begun(
    mesh_sandbox: Sandbox, postgresql: PostgreSQL, postgresql_url: str, tmp_path: Path
) -> None:
    seed = secrets.randbits(32)
    print("seed", seed)  # shown if the test fails
    chance = random.Random(seed)
    site = Site(tmp_path, mesh_sandbox, postgresql_url)
    trials = Trials(site, mesh_sandbox, postgresql, None, chance, None)
    trials.configure()
    watch_visits(postgresql_url)
    requests = Requests(mesh_sandbox)
    requests.start()
    try:
        for name in NODES:
            trials.launch(name)
        trials.until_all_work()
        trials.put(0)
        time.sleep(chance.uniform(0.0, LONGEST_PAUSE_SECONDS))
        killed, frozen = chance.sample(NODES, 2)
        began = time.monotonic()
        trials.processes[killed].kill()
        trials.processes[frozen].send_signal(signal.SIGSTOP)
        # Both silences run at the same time.
        for name in (killed, frozen):
            trials.lost(name, began)
        trials.processes[frozen].send_signal(signal.SIGCONT)
        trials.wait_until_fenced(frozen)
        until(trials.look, 60)
    finally:
        site.close()
    require_all_well(trials, requests)


@pytest.mark.parametrize("kind", ALONE_KINDS[:2])
def test_an_agent_alone_goes_on_with_what_it_had_begun(kind: str, mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    site = Site(tmp_path, mesh_sandbox)
    trials = Trials(site, mesh_sandbox, None, None, random.Random(), None, [kind])
    trials.configure()
    watch_visits(trials.ledger)
    requests = Requests(mesh_sandbox)
    requests.start()
    try:
        trials.launch("one")
        trials.run(0)
    finally:
        site.close()
    require_all_well(trials, requests)


def require_all_well(trials: Trials, requests: Requests) -> None:
    assert (*trials.check(), trials.early) == (0, 0, 0)
    found = judge(steps_of(trials.ledger), requests.close())
    assert found.visits > 0
    assert (found.overlapping, found.early, found.late_sends) == (0, 0, 0)
    with trials.site.ledger() as ledger:
        checked = check_chain(ledger.database)
    assert checked is not None
    assert checked.broken is None
