"""The work on one mailbox: a visit to its inbox, and a run through its outgoing folders."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from nel_mesh import Identity, MeshClient, MeshError, StorageError, Transport
from nel_mesh.agent.clock_watch import ClockWatch
from nel_mesh.agent.configuration import MailboxPlan
from nel_mesh.agent.destinations import Destinations
from nel_mesh.agent.java.layout import ControlFileLayout
from nel_mesh.agent.outgoing import FileLayout, Layout, has_files
from nel_mesh.agent.receiving import Receiver
from nel_mesh.agent.sending import OutgoingFolder, Sender, Tracker
from nel_mesh.agent.tables import Defaults, SendRoute
from nel_mesh.agent.transfers import Transfers
from nel_mesh.ledger.attention import expiry_step
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.mailboxes import Fenced, LedgerMailbox

logger = logging.getLogger("nel_mesh.agent")

_HANDSHAKE_EVERY = timedelta(hours=12)
"""MESH wants one every 24 hours, and not more than one an hour."""

_VISIT_SECONDS = 285.0
"""How long a visit lasts. A transfer that takes longer goes on by itself, and holds up neither the mailbox nor others
that wait for their turn."""

_FIRST_RETRY_IN_SECONDS = 60.0
"""The wait after a visit that failed; it doubles, up to the poll interval."""


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """What the mailboxes of an agent share.

    Attributes:
        ledger: the agent's.
        transport: the connections to MESH.
        destinations: the opened destinations.
        defaults: how failures are dealt with.
        transfers: what this process is receiving and sending.
        owner: this process, as the ledger calls it.
        node: the name of this machine in a fleet; None without one.
        check_heard: raises an error if another process may have the work of this one.
    """

    ledger: Ledger
    transport: Transport
    destinations: Destinations
    defaults: Defaults
    transfers: Transfers
    owner: str
    clock_watch: ClockWatch
    node: str | None
    check_heard: Callable[[], object]


class MailboxWork:
    """Works on one mailbox. Its visit and its sending may run at the same time; each of them only once.

    Args:
        plan: the mailbox.
        shared: what it shares with the others.
        is_over: asked between messages; True ends the work soon.
    """

    def __init__(self, plan: MailboxPlan, shared: Surroundings, is_over: Callable[[], bool]) -> None:
        self.plan = plan
        self._shared = shared
        self._is_over = is_over
        self._guard = threading.Lock()
        self._client: MeshClient | None = None
        self._is_certificate_known = False
        self._folders = [
            OutgoingFolder(number, route.folder, self._layout(route), is_shared=route.shared or shared.node is None)
            for number, route in enumerate(plan.options.send)
        ]

    def _layout(self, route: SendRoute) -> Layout:
        if route.layout != "ctl":
            return FileLayout(route)
        clock, chunk_bytes = self._shared.ledger.clock, self.plan.settings.chunk_bytes
        return ControlFileLayout(route, self.plan.mailbox_id, clock.now, chunk_bytes=chunk_bytes)

    def client(self) -> MeshClient:
        """Return the client, which is made when it is first needed. Raises CertificateError."""
        with self._guard:
            if self._client is None:
                self._client = MeshClient(
                    self.plan.settings, transport=self._shared.transport, hooks=[self._shared.clock_watch]
                )
            return self._client

    def visit(self, *, if_due: bool = False) -> None:
        """Look into the inbox, deliver what is due, and follow what was sent.

        Args:
            if_due: do nothing if the mailbox was visited since this was asked for.
        """
        ledger = self._shared.ledger
        begun = ledger.mailboxes.begin_visit(self.plan.mailbox_id, self._shared.owner, if_due=if_due)
        if begun is None:
            return
        error: MeshError | None = None
        bug: Exception | None = None
        is_all = True
        end = ledger.clock.monotonic() + _VISIT_SECONDS

        def is_over() -> bool:
            return self._is_over() or ledger.clock.monotonic() >= end

        try:
            client = self.client()
            self._handshake(client, begun)
            Tracker(self.plan, self._shared.defaults, client, ledger).run(is_over)
            is_all = Receiver(
                self.plan,
                self._shared.defaults,
                client,
                ledger,
                self._shared.destinations,
                transfers=self._shared.transfers,
                owner=self._shared.owner,
                is_over=is_over,
            ).run()
        except Fenced:
            return
        except MeshError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - the next visit must not come at once, again and again
            bug, error = failure, MeshError(f"{type(failure).__name__}: a bug in nel-mesh; the log has more")
        self._shared.clock_watch.tell(ledger)
        for folder in self._folders:
            with contextlib.suppress(StorageError):
                folder.layout.polled(error)
        # After a visit that did not come to the end of the inbox the next one follows, behind those that wait.
        wait = self._wait(begun, error) if is_all or self._is_over() else 0.0
        next_visit = ledger.clock.now() + timedelta(seconds=wait)
        ledger.mailboxes.end_visit(self.plan.mailbox_id, begun.epoch, next_visit, error)
        if bug is not None:
            raise bug

    def _handshake(self, client: MeshClient, begun: LedgerMailbox) -> None:
        ledger = self._shared.ledger
        if self.plan.options.shadow:
            return
        if begun.last_handshake_at is None or ledger.clock.now() - begun.last_handshake_at >= _HANDSHAKE_EVERY:
            client.handshake()
            ledger.mailboxes.handshake_made(self.plan.mailbox_id)
            self._is_certificate_known = False
        if not self._is_certificate_known:
            expires_at = Identity.from_settings(self.plan.settings).not_after if self._is_tls() else None
            ledger.mailboxes.certificate_seen(self.plan.mailbox_id, expires_at)
            self._is_certificate_known = True
            if expires_at is not None:
                warn_of_expiry(ledger, self.plan.mailbox_id, expires_at)

    def _is_tls(self) -> bool:
        return self.plan.settings.url.startswith("https:")

    def _wait(self, begun: LedgerMailbox, error: MeshError | None) -> float:
        """Return the seconds until the next visit: somewhat spread, so that many mailboxes do not call together."""
        clock, interval = self._shared.ledger.clock, self.plan.poll_interval_in_seconds
        if error is not None:
            wait = min(interval, _FIRST_RETRY_IN_SECONDS * 2.0 ** min(begun.failures, 30))
            return wait * (0.75 + 0.25 * clock.chance())
        # Never earlier than the interval: MESH asks for that.
        return interval * (1 + 0.1 * clock.chance())

    def send(self, *, is_shared: bool) -> None:
        """Send what lies in outgoing folders, and what was given by hand, unless the mailbox is paused.

        Args:
            is_shared: out of the folders that all machines reach, or out of this machine's own. Without a fleet, all
                are of the first kind.
        """
        folders = [one for one in self._folders if one.is_shared == is_shared]
        node = None if is_shared else self._shared.node
        if self.plan.options.shadow:
            return
        if self._shared.ledger.mailboxes.get(self.plan.mailbox_id).paused_at is not None:
            return
        Sender(
            self.plan,
            self._shared.defaults,
            self.client,
            self._shared.ledger,
            folders,
            transfers=self._shared.transfers,
            owner=self._shared.owner,
            node=node,
            check_heard=self._shared.check_heard,
            is_over=self._is_over,
        ).run()

    def is_occupied(self, *, is_shared: bool) -> bool:
        """Whether there is a file in one of its outgoing folders; see `send`."""
        return any(has_files(one.folder) for one in self._folders if one.is_shared == is_shared)

    def close(self) -> None:
        """Close the client."""
        with self._guard:
            if self._client is not None:
                self._client.close()
                self._client = None


def warn_of_expiry(ledger: Ledger, mailbox_id: str, expires_at: datetime) -> None:
    """Warn of a certificate that expires, once for each step towards it, also across starts of the agent."""
    step = expiry_step(expires_at, ledger.clock.now())
    if step is None:
        return
    said = {"expires_at": expires_at.isoformat(), "days": step}
    last = ledger.search.events(kind="certificate expires", mailbox_id=mailbox_id, limit=1)
    if last and last[0].details == said:
        return
    ledger.note("certificate expires", mailbox_id=mailbox_id, expires_at=said["expires_at"], days=step)
    logger.warning("%s: the certificate expires at %s, in at most %d days", mailbox_id, expires_at, step)
