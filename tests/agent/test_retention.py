"""Received files: how much of them may lie in a folder, and for how long."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from agents import BOB, Site
from ledgers import MovableClock

from nel_mesh.agent.configuration import load
from nel_mesh.agent.destinations import Destinations, budgets_of
from nel_mesh.agent.retention import _kept_for_days, remove_received
from nel_mesh.agent.service import Agent
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.states import State
from nel_mesh.sandbox import Sandbox

RECEIVES = '{bob}\n[[mailboxes.X26ABC2.receive]]\ninto = "in"\n'
DAY = 86400


@pytest.fixture
def site(mesh_sandbox: Sandbox, tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, mesh_sandbox)
    yield site
    site.close()


def test_messages_wait_in_the_inbox_while_a_folder_is_over_its_budget(site: Site, mesh_sandbox: Sandbox) -> None:
    site.write(f"{RECEIVES}budget_in_megabytes = 0.5")
    folder = site.folder / "in"
    (folder / "below").mkdir(parents=True)
    (folder / "below/big.bin").write_bytes(bytes(600_000))
    mesh_sandbox.deliver_message(BOB, b"x", file_name="a.csv")
    Agent(site.config).run(once=True)
    assert not (folder / "a.csv").exists()
    with site.ledger() as ledger:
        [message] = ledger.messages.find("1")
        assert message.state is State.RETRYING
        assert "budget_in_megabytes" in str(message.reason)
        (folder / "below/big.bin").unlink()
        ledger.actions.run("retry", [message.id], actor="ann", reason="")
    Agent(site.config).run(once=True)
    assert (folder / "a.csv").read_bytes() == b"x"


def test_a_folder_is_measured_at_most_every_few_seconds(site: Site) -> None:
    site.write(f"{RECEIVES}budget_in_megabytes = 1\n[[mailboxes.X26ABC2.receive]]\ninto = ['in', 's3://b']\n")
    configuration = load(site.config)
    now = 100.0
    assert budgets_of(configuration) == {site.folder / "in": 1}
    destinations = Destinations(0, budgets_of(configuration), lambda: now)
    destinations.open(str(site.folder / "in"))
    (site.folder / "in").mkdir()
    (site.folder / "in/a").write_bytes(bytes(2_000_000))
    destinations.open(str(site.folder / "in"))
    now += 6
    with pytest.raises(Exception, match="messages wait"):
        destinations.open(str(site.folder / "in"))
    destinations.close()


@pytest.mark.parametrize(("place", "more"), [("in", "sidecar = true\n"), ("java:in", "")])
def test_only_what_the_agent_stored_and_nobody_changed_is_removed(
    site: Site, mesh_sandbox: Sandbox, place: str, more: str
) -> None:
    site.write(RECEIVES.replace('"in"', f'"{place}"') + f"{more}keep_for_days = 2")
    for name in ("a.csv", "b.csv"):
        mesh_sandbox.deliver_message(BOB, name.encode(), file_name=name)
    Agent(site.config).run(once=True)
    folder = site.folder / "in"
    (folder / "of-others.csv").write_text("x")
    (folder / "of-others.csv.json").write_text("x")
    stored = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    assert len(stored) == 6
    kept = next(path for path in stored if path.is_file() and path.read_bytes() == b"b.csv")
    for path in stored:
        os.utime(path, (time.time() - 3 * DAY,) * 2)
    configuration = load(site.config)
    with site.ledger() as ledger:
        assert remove_received(configuration, ledger) == 0, "the ledger says that they are new"
    clock = MovableClock()
    clock.time = datetime.now(UTC) + timedelta(days=2.5)
    os.utime(kept, (clock.time.timestamp(),) * 2)
    with Ledger(site.folder / "nel-mesh-agent", clock=clock) as ledger:
        assert remove_received(configuration, ledger) == 1
        assert remove_received(configuration, ledger) == 0
    left = [path.name for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    assert left == sorted(["of-others.csv", "of-others.csv.json", kept.name, _companion(kept).name])


def _companion(path: Path) -> Path:
    return path.with_suffix(".ctl") if path.suffix == ".dat" else path.with_name(f"{path.name}.json")


def test_a_folder_that_another_route_keeps_for_ever(site: Site) -> None:
    site.write(f"{RECEIVES}keep_for_days = 2\n[[mailboxes.X26ABC2.receive]]\ninto = 'in'\n")
    assert _kept_for_days(load(site.config)) == {}
