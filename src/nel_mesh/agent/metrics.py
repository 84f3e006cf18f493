"""The agent's metrics for Prometheus. Counters count since the start; gauges are read from the ledger when asked.

No label holds a message id, a name or a patient's data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, func, select

from nel_mesh.agent.clock_watch import ClockWatch
from nel_mesh.agent.configuration import AgentConfiguration
from nel_mesh.agent.destinations import free_megabytes
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.schema import messages
from nel_mesh.ledger.states import DUE, Direction, Event, State

_STAGES = (5e-2, 0.1, 0.5, 1, 5, 10, 60, 300, 1800, 3600, 6 * 3600, 86400, 5 * 86400)


class Metrics:
    """The metrics of one agent.

    Args:
        ledger: what they are about.
        configuration: returns the present one.
        hook_failures: returns how many calls of hooks have failed since the start.
        clock_watch: knows how far the clocks differ.
    """

    def __init__(
        self,
        ledger: Ledger,
        configuration: Callable[[], AgentConfiguration],
        hook_failures: Callable[[], int],
        clock_watch: ClockWatch,
    ) -> None:
        self._registry = CollectorRegistry()
        self._messages = Counter(
            "mesh_messages", "Steps of messages.", ("direction", "state", "workflow"), registry=self._registry
        )
        self._bytes = Counter(
            "mesh_message_bytes", "Bytes of content, stored or sent.", ("direction",), registry=self._registry
        )
        self._stages = Histogram(
            "mesh_stage_duration_seconds",
            "Time from one state to another.",
            ("stage",),
            buckets=_STAGES,
            registry=self._registry,
        )
        self._retries = Counter("mesh_retries", "Attempts that failed.", ("reason",), registry=self._registry)
        self._reports = Counter("mesh_reports", "Reports of MESH.", ("code",), registry=self._registry)
        self._destination_errors = Counter(
            "mesh_destination_errors", "Attempts that a destination failed.", ("destination",), registry=self._registry
        )
        self._registry.register(_Gauges(ledger, configuration, hook_failures, clock_watch))

    def listen(self, connection: Connection, message: LedgerMessage, event: Event) -> None:
        """Count a step of a message: a listener of the ledger."""
        self._messages.labels(message.direction, message.state, message.workflow_id or "").inc()
        match event:
            case Event.STORED:
                self._observe("listed to stored", message.created_at, message.updated_at)
                if message.message_type == "REPORT":
                    self._reports.labels(message.status_code or "").inc()
                else:
                    self._bytes.labels("in").inc(message.bytes or 0)
            case Event.ACKNOWLEDGED if message.stored_at:
                self._observe("stored to acknowledged", message.stored_at, message.updated_at)
            case Event.ACCEPTED:
                self._bytes.labels("out").inc(message.bytes or 0)
                self._observe("found to accepted", message.created_at, message.updated_at)
            case Event.COLLECTED if message.accepted_at:
                self._observe("accepted to collected", message.accepted_at, message.updated_at)
            case Event.FAILED | Event.LOST_RESPONSE:
                self._retries.labels(message.error_kind or "").inc()
                if message.error_kind == "StorageError" and message.destinations:
                    self._destination_errors.labels(message.destinations[0].partition("?")[0]).inc()

    def _observe(self, stage: str, start: object, end: object) -> None:
        self._stages.labels(stage).observe((end - start).total_seconds())  # type: ignore[operator] # two datetimes

    def text(self) -> bytes:
        """Return all of them, in Prometheus's text format."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(
        self,
        ledger: Ledger,
        configuration: Callable[[], AgentConfiguration],
        hook_failures: Callable[[], int],
        clock_watch: ClockWatch,
    ) -> None:
        self._ledger = ledger
        self._configuration = configuration
        self._hook_failures = hook_failures
        self._clock_watch = clock_watch

    def describe(self) -> list[Metric]:
        """Say nothing beforehand: the ledger is not open yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the ledger."""
        yield from self._of_mailboxes()
        yield from self._of_messages()
        free = GaugeMetricFamily("mesh_disk_free_bytes", "Free space of the ledger's disk.")
        megabytes = free_megabytes(Path(self._configuration().data))
        if megabytes is not None:
            free.add_metric([], megabytes * 1e6)
        yield free
        failures = GaugeMetricFamily("mesh_hook_failures_total", "Calls of hooks that failed since the start.")
        failures.add_metric([], self._hook_failures())
        yield failures
        skew = GaugeMetricFamily("mesh_clock_skew_seconds", "How far this machine's clock is ahead of MESH's.")
        if self._clock_watch.skew_in_seconds is not None:
            skew.add_metric([], self._clock_watch.skew_in_seconds)
        yield skew

    def _of_mailboxes(self) -> Iterator[Metric]:
        columns = {
            "mesh_mailbox_last_success_timestamp_seconds": ("last_success_at", "When a visit last ended well."),
            "mesh_handshake_timestamp_seconds": ("last_handshake_at", "When the last handshake was made."),
            "mesh_certificate_expiry_timestamp_seconds": ("certificate_expires_at", "When the certificate expires."),
        }
        mailboxes = self._ledger.mailboxes.all()
        for name, (column, text) in columns.items():
            family = GaugeMetricFamily(name, text, labels=["mailbox"])
            for mailbox in mailboxes:
                moment = getattr(mailbox, column)
                if moment is not None:
                    family.add_metric([mailbox.mailbox_id], moment.timestamp())
            yield family
        waiting = GaugeMetricFamily("mesh_inbox_messages", "Messages in the inbox.", labels=["mailbox"])
        paused = GaugeMetricFamily("mesh_paused", "Whether it is paused.", labels=["mailbox"])
        failing = GaugeMetricFamily(
            "mesh_mailbox_failures", "Visits that failed in a row.", labels=["mailbox", "reason"]
        )
        for mailbox in mailboxes:
            waiting.add_metric([mailbox.mailbox_id], mailbox.inbox_count or 0)
            paused.add_metric([mailbox.mailbox_id], mailbox.paused_at is not None)
            failing.add_metric([mailbox.mailbox_id, mailbox.error_kind or ""], mailbox.failures)
        yield from (waiting, paused, failing)

    def _of_messages(self) -> Iterator[Metric]:
        now = self._ledger.clock.now()
        oldest = func.min(messages.c.created_at, type_=messages.c.created_at.type)
        columns = (messages.c.mailbox_id, messages.c.direction)
        open_ones = [*DUE[Direction.IN], *DUE[Direction.OUT]]
        query = select(*columns, func.count().label("number"), oldest.label("oldest")).group_by(*columns)
        age = GaugeMetricFamily("mesh_inbox_oldest_age_seconds", "Age of the oldest open message.", labels=["mailbox"])
        waiting = GaugeMetricFamily("mesh_outgoing_waiting", "Messages to be sent.", labels=["mailbox"])
        old = GaugeMetricFamily("mesh_outgoing_oldest_age_seconds", "Age of the oldest to be sent.", labels=["mailbox"])
        with self._ledger.database.read() as connection:
            for row in connection.execute(query.where(messages.c.state.in_(open_ones))):
                seconds = (now - row.oldest).total_seconds()
                if row.direction == Direction.IN:
                    age.add_metric([row.mailbox_id], seconds)
                else:
                    waiting.add_metric([row.mailbox_id], row.number)
                    old.add_metric([row.mailbox_id], seconds)
            states = (State.QUARANTINED, State.UNKNOWN)
            count = select(messages.c.state, func.count().label("number")).where(messages.c.state.in_(states))
            counts = {row.state: row.number for row in connection.execute(count.group_by(messages.c.state))}
        yield from (age, waiting, old)
        for name, state, text in (
            ("mesh_quarantined", State.QUARANTINED, "Messages in quarantine."),
            ("mesh_unknown_outcome", State.UNKNOWN, "Messages that were perhaps sent."),
        ):
            family = GaugeMetricFamily(name, text)
            family.add_metric([], counts.get(state, 0))
            yield family
