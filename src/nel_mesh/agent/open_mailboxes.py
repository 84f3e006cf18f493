"""The mailboxes of one configuration, with their connections and destinations, while they are worked on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from nel_mesh import Transport
from nel_mesh.agent.clock_watch import ClockWatch
from nel_mesh.agent.configuration import AgentConfiguration
from nel_mesh.agent.destinations import Destinations, budgets_of
from nel_mesh.agent.mailbox import MailboxWork, Surroundings
from nel_mesh.agent.transfers import Transfers
from nel_mesh.ledger.ledger import Ledger


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Who works on them.

    Attributes:
        owner: this process, as the ledger calls it.
        node: the name of this machine in a fleet; None without one.
        check_heard: raises an error if another process may have the work of this one.
    """

    owner: str
    node: str | None
    check_heard: Callable[[], object]


class OpenMailboxes:
    """The mailboxes of one configuration, and what they share."""

    def __init__(
        self,
        configuration: AgentConfiguration,
        ledger: Ledger,
        transfers: Transfers,
        identity: Identity,
        is_over: Callable[[], bool],
        clock_watch: ClockWatch,
    ) -> None:
        self._transport = Transport()
        self._destinations = Destinations(configuration.agent.disk_reserve_in_megabytes, budgets_of(configuration))
        shared = Surroundings(
            ledger,
            self._transport,
            self._destinations,
            configuration.defaults,
            transfers,
            owner=identity.owner,
            node=identity.node,
            check_heard=identity.check_heard,
            clock_watch=clock_watch,
        )
        self.works = {
            mailbox_id: MailboxWork(plan, shared, is_over) for mailbox_id, plan in configuration.mailboxes.items()
        }
        self.busy = 0

    def close(self) -> None:
        """Close every connection."""
        for work in self.works.values():
            work.close()
        self._transport.close()
        self._destinations.close()
