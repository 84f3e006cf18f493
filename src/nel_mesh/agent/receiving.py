"""Empty the inbox of one mailbox into the destinations of its routes.

The delivery is the library's: `receive_messages`, once for each destination that a message must go to, with the ledger
as its journal. The last one acknowledges, so a message leaves the inbox when all have it. A destination that has it
already is not asked to store it again, so each fails, and is tried again, by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice

from nel_mesh import (
    Gone,
    IntegrityError,
    MeshClient,
    MeshError,
    NotFound,
    ReceiveResult,
    StorageError,
)
from nel_mesh.agent.configuration import MailboxPlan
from nel_mesh.agent.destinations import Destinations
from nel_mesh.agent.routes import first_that_fits
from nel_mesh.agent.tables import Defaults, ReceiveRoute
from nel_mesh.agent.transfers import Transfers
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.mailboxes import Fenced
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.states import Event, State

_PAGE = 500
"""How many ids of the inbox are looked at together."""

_BATCH = 50
"""How many messages are begun in one transaction of the ledger."""


class Receiver:
    """Empties one mailbox, in one visit.

    Args:
        plan: the mailbox.
        defaults: how failures are dealt with.
        client: its client.
        ledger: where it is recorded.
        destinations: the opened destinations.
        transfers: what this process is receiving.
        owner: this process, as the ledger calls it.
        is_over: asked before each message; True ends the visit. A message that is being received by then goes on.
    """

    def __init__(
        self,
        plan: MailboxPlan,
        defaults: Defaults,
        client: MeshClient,
        ledger: Ledger,
        destinations: Destinations,
        *,
        transfers: Transfers,
        owner: str,
        is_over: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._defaults = defaults
        self._client = client
        self._ledger = ledger
        self._destinations = destinations
        self._transfers = transfers
        self._owner = owner
        self._is_over = is_over

    def run(self) -> bool:
        """Receive what is due; whether that was all.

        All of the inbox is gone through, page by page: messages that wait, or are in quarantine, hold up no others.

        Raises:
            MeshError: the inbox could not be listed, or another process has taken over.
        """
        mailbox_id = self._plan.mailbox_id
        seen: list[str] = []
        ids = self._client.iter_message_ids()
        while page := list(islice(ids, _PAGE)):
            seen += page
            if self._plan.options.receive or self._plan.options.shadow:
                self._ledger.incoming.note_listed(mailbox_id, page)
            if not self._plan.options.shadow and not self._receive(page):
                return False
        self._ledger.mailboxes.listed(mailbox_id, len(seen))
        self._ledger.incoming.vanish(mailbox_id, seen)
        return True

    def _receive(self, page: Sequence[str]) -> bool:
        """Deliver what is due of some messages; whether the visit goes on."""
        if not self._plan.options.receive:
            return True
        due = self._ledger.incoming.due(self._plan.mailbox_id, page)
        for start in range(0, len(due), _BATCH):
            if self._is_over():
                return False
            batch = due[start : start + _BATCH]
            work = partial(self._deliver, batch)
            if not self._transfers.run(f"receive into {self._plan.mailbox_id}", work, self._is_over):
                return False
        return True

    def _deliver(self, batch: Sequence[LedgerMessage]) -> None:
        numbers = [one.id for one in batch]
        with self._transfers.held(numbers):
            try:
                self._deliver_held(batch)
            finally:
                # Of those that were begun and not ended: the visit was over, or the ledger failed.
                self._ledger.messages.let_go(numbers, self._owner)

    def _deliver_held(self, batch: Sequence[LedgerMessage]) -> None:
        open_ones = [one for one in batch if one.state is not State.ACKNOWLEDGED]
        begun = self._ledger.messages.begin((one.id for one in open_ones), self._owner)
        groups: dict[tuple[str, ...], list[LedgerMessage]] = {}
        for message in (*begun, *(one for one in batch if one.state is State.ACKNOWLEDGED)):
            chosen = tuple(message.destinations or ()) or self._choose(message)
            if chosen:
                groups.setdefault(chosen, []).append(message)
        for destinations, group in groups.items():
            self._deliver_to(destinations, group)

    def _choose(self, message: LedgerMessage) -> tuple[str, ...]:
        """Choose the destinations of a message, and keep the choice; none if it cannot be made now."""
        routes = self._plan.options.receive
        metadata = None
        route: ReceiveRoute | None = routes[0]
        if not routes[0].is_for_all:
            try:
                metadata = self._client.message_metadata(message.message_id or "")
            except MeshError as error:
                self._failed(message, error)
                return ()
            route = first_that_fits(routes, metadata)
        if route is None:
            self._failed(message, StorageError("no route of the configuration takes it; add one that does"))
            return ()
        self._ledger.incoming.choose_destinations(message.id, route.into, metadata)
        return route.into

    def _deliver_to(self, destinations: Sequence[str], group: Sequence[LedgerMessage]) -> None:
        """Deliver messages to each of their destinations in turn; only those go on that the one before has."""
        pending = {one.message_id or "": one for one in group}
        for place in destinations:
            is_last = place == destinations[-1]
            try:
                result = self._client.receive_messages(
                    self._destinations.open(place),
                    message_ids=list(pending),
                    acknowledge=is_last,
                    journal=self._ledger.journal(owner=self._owner, destination=place),
                    concurrency=self._defaults.messages_at_once,
                    stop=self._is_over,
                )
            except MeshError as error:
                for message in pending.values():
                    self._failed(message, error)
                return
            self._note(result, pending, place)
            stored = _ids(result)
            pending = {message_id: one for message_id, one in pending.items() if message_id in stored}
            if is_last:
                self._ledger.incoming.acknowledged(self._plan.mailbox_id, pending)
            if not pending:
                return

    def _note(self, result: ReceiveResult, pending: dict[str, LedgerMessage], place: str) -> None:
        """Note what failed. What was stored is noted by the journal, and what was acknowledged by the caller."""
        for failed in result.failed:
            if isinstance(failed.error, Fenced):
                raise failed.error
            if isinstance(failed.error, StorageError):
                self._destinations.forget(place)
            self._failed(pending[failed.message_id], failed.error)
        for failed in result.unacknowledged:
            self._failed(pending[failed.message_id], failed.error)
        for message_id in result.gone:
            self._failed(pending[message_id], Gone("it is no longer in the inbox"))
        for message_id in result.locked:
            self._failed(pending[message_id], StorageError("another process is receiving it into the same place"))

    def _failed(self, message: LedgerMessage, error: MeshError) -> None:
        if isinstance(error, (NotFound, Gone)):
            self._ledger.messages.fail(message.id, Event.GONE, error, next_attempt_at=None)
            return
        is_its_own = is_own_failure(error)
        if is_its_own and message.own_failures + 1 >= self._defaults.quarantine_after_attempts:
            self._ledger.messages.fail(message.id, Event.CONDEMNED, error, next_attempt_at=None, is_its_own=True)
            return
        wait = retry_delay(self._defaults, message.attempts, self._ledger.clock.chance())
        now = self._ledger.clock.now()
        self._ledger.messages.fail(message.id, Event.FAILED, error, next_attempt_at=now + wait, is_its_own=is_its_own)


def is_own_failure(error: MeshError) -> bool:
    """Whether a message failed for its own sake, so that another attempt will hardly end otherwise.

    A destination that is full, a connection that is lost or a server that is busy is not the message's fault.
    """
    return isinstance(error, IntegrityError)


def retry_delay(defaults: Defaults, attempts: int, chance: float) -> timedelta:
    """Return the wait after a failed attempt: it doubles, with some jitter, up to its limit."""
    limit = defaults.retry_max_delay_in_seconds
    wait = min(limit, defaults.retry_initial_delay_in_seconds * 2.0 ** min(attempts - 1, 30))
    return timedelta(seconds=wait * (0.75 + 0.25 * chance))


def _ids(result: ReceiveResult) -> set[str]:
    """Return the messages that the destination has now, and whose acknowledgement is not open."""
    return {*result.delivered, *result.already_delivered, *(report.message_id for report in result.reports)}
