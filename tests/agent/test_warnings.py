"""What the agent warns of: clocks that differ, and certificates that expire."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from agents import Site
from ledgers import MovableClock

from nel_mesh.agent.clock_watch import ClockWatch
from nel_mesh.agent.mailbox import warn_of_expiry
from nel_mesh.agent.metrics import Metrics
from nel_mesh.agent.service import Agent
from nel_mesh.instrumentation import RequestFinished, RequestStarted, Server
from nel_mesh.io.clock import Clock
from nel_mesh.ledger.attention import look
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.sandbox import Sandbox


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: MovableClock) -> Iterator[Ledger]:
    with Ledger(tmp_path, clock=clock) as ledger:
        yield ledger


def response(server_time: datetime | None) -> RequestFinished:
    return RequestFinished(
        operation="handshake",
        mailbox_id="X26ABC1",
        server=Server(address="mesh.example", port=443, url="https://mesh.example"),
        span_id=1,
        method="GET",
        url_template="/",
        attempt=1,
        bytes=0,
        message_id=None,
        status=200,
        server_time=server_time,
        duration_in_seconds=0.1,
        failure=None,
    )


def test_a_difference_is_shown_while_it_lasts(ledger: Ledger, clock: MovableClock) -> None:
    watch = ClockWatch(clock)
    assert watch.wants(RequestFinished)
    assert not watch.wants(RequestStarted)
    for seconds, kinds in ((None, []), (299, []), (-301, ["clock"]), (7300, ["clock"]), (2, []), (-400, ["clock"])):
        watch(response(clock.now() - timedelta(seconds=seconds) if seconds is not None else None))
        watch.tell(ledger)
        assert watch.skew_in_seconds == seconds
        assert [one.kind for one in look(ledger.database, clock.now())] == kinds
    [attention] = look(ledger.database, clock.now())
    assert "0:06:40 behind" in attention.text
    ledger.note("agent started")
    assert look(ledger.database, clock.now()) == []


def test_a_certificate_is_warned_of_at_each_step_once(
    ledger: Ledger, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.mailboxes.configure(["X26ABC1"])
    expires_at = clock.now() + timedelta(days=61)
    ledger.mailboxes.certificate_seen("X26ABC1", expires_at)
    warned, needs_person = [], []
    for day in range(63):
        for _ in range(2):  # two handshakes a day
            warn_of_expiry(ledger, "X26ABC1", expires_at)
        warned += [61 - day for record in caplog.records if record.levelname == "WARNING"]
        caplog.clear()
        needs_person += [61 - day for one in look(ledger.database, clock.now()) if one.needs_person]
        clock.advance(days=1)
    assert warned == [60, 30, 14, 7, 1]
    assert needs_person == list(range(14, -2, -1))
    warn_of_expiry(ledger, "X26ABC1", clock.now() + timedelta(days=20))
    assert len(caplog.records) == 1, "a new certificate is warned of anew"


class FastClock(Clock):
    """Ten minutes ahead."""

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=10)


def test_the_agent_learns_it_from_mesh(tmp_path: Path, mesh_sandbox: Sandbox) -> None:
    site = Site(tmp_path, mesh_sandbox)
    site.write('{bob}\n[[mailboxes.X26ABC2.receive]]\ninto = "in"\n')
    agent = Agent(site.config, clock=FastClock())
    agent.run(once=True)
    metrics = Metrics(agent.ledger, lambda: agent.configuration, lambda: 0, agent._clock_watch)
    with agent.ledger as ledger:
        [attention] = look(ledger.database, ledger.clock.now())
        text = metrics.text().decode()
    assert (attention.kind, attention.needs_person) == ("clock", True)
    assert "ahead of MESH's" in attention.text
    skew = text.partition("\nmesh_clock_skew_seconds ")[2].partition("\n")[0]
    assert 595 < float(skew) < 610
