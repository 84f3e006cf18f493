"""Who to call: the contacts of the configuration, for what is wrong with a mailbox, a message or a destination."""

from __future__ import annotations

from collections.abc import Iterator

from nel_mesh.agent.configuration import AgentConfiguration
from nel_mesh.agent.tables import Mailbox
from nel_mesh.ledger.attention import Attention
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.states import Direction


class Contacts:
    """The contacts of a configuration.

    Args:
        configuration: the agent's.
    """

    def __init__(self, configuration: AgentConfiguration) -> None:
        self._configuration = configuration
        self._named = {name.casefold(): contact for name, contact in configuration.contacts.items()}

    def of_mailbox(self, mailbox_id: str) -> str | None:
        """Return whom to call about a mailbox, one of ours or another's."""
        options = self._options(mailbox_id)
        return (options.contact if options is not None else None) or self._named.get(mailbox_id.casefold())

    def of_message(self, message: LedgerMessage) -> str | None:
        """Return whom to call about a message on our side: that of its route, or of its mailbox."""
        options = self._options(message.mailbox_id)
        if options is None:
            return self.of_mailbox(message.mailbox_id)
        contact = None
        if message.direction is Direction.OUT:
            if message.route is not None and message.route < len(options.send):
                contact = options.send[message.route].contact
        else:
            into = tuple(message.destinations or ())
            contact = next((route.contact for route in options.receive if route.into == into), None)
        return contact or self.of_mailbox(message.mailbox_id)

    def of_destination(self, place: str) -> str | None:
        """Return whom to call about a destination: by its place or the beginning of it, else that of a route to it."""
        bare = place.partition("?")[0]
        for length in range(len(bare), 0, -1):
            contact = self._named.get(bare[:length].casefold())
            if contact is not None and (length == len(bare) or bare[length] == "/" or bare[length - 1] == "/"):
                return contact
        plans = self._configuration.mailboxes.values()
        routes = (route for plan in plans for route in plan.options.receive if place in route.into)
        return next((route.contact for route in routes if route.contact), None)

    def of_attention(self, found: Attention, ledger: Ledger) -> str | None:
        """Return whom to call about something that needs a person, or is retried."""
        if found.kind == "retrying":
            for place in self._places():
                if place in found.text:
                    return self._named[place.casefold()]
        if found.message is not None:
            return self.of_message(ledger.messages.get(found.message))
        return self.of_mailbox(found.mailbox_id) if found.mailbox_id is not None else None

    def _places(self) -> Iterator[str]:
        """Return the destinations among the names: the cause of a retry names one."""
        return (name for name in self._configuration.contacts if "/" in name)

    def _options(self, mailbox_id: str) -> Mailbox | None:
        plan = self._configuration.mailboxes.get(mailbox_id)
        return plan.options if plan is not None else None
