"""Say what an agent would do with what is there now: list and compare, and change nothing.

Neither a file nor the ledger nor the inbox is changed: inboxes are listed, metadata is asked for where a route needs
it, and outgoing folders are read. What the ledger knows, such as a message that waits for its next attempt, is left
aside.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from nel_mesh import MeshClient, MeshError
from nel_mesh.agent.configuration import AgentConfiguration, MailboxPlan
from nel_mesh.agent.java.layout import ControlFileLayout
from nel_mesh.agent.outgoing import FileLayout, Layout
from nel_mesh.agent.routes import first_that_fits


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """What would happen with one message, or why nothing would.

    Attributes:
        mailbox_id: the mailbox.
        action: `receive`, `send`, `leave` (no route takes it, or another client does), `refuse` (the file has a fault),
            or `fail` (the inbox or folder could not be read).
        message_id: the message of the inbox, if it is one.
        folder: the outgoing folder, if it is a file.
        length: the length of the file in bytes.
        places: where it would be received.
        text: why it would not be done.
    """

    mailbox_id: str
    action: str
    message_id: str | None = None
    folder: str | None = None
    length: int | None = None
    places: tuple[str, ...] = ()
    text: str = ""


def plan_of(configuration: AgentConfiguration) -> Iterator[Planned]:
    """Look at each mailbox and each outgoing folder, one after another."""
    for plan in configuration.mailboxes.values():
        yield from _outgoing(plan)
        try:
            yield from _incoming(plan)
        except MeshError as error:
            yield Planned(plan.mailbox_id, "fail", text=str(error))


def _incoming(plan: MailboxPlan) -> Iterator[Planned]:
    routes = plan.options.receive
    with MeshClient(plan.settings) as client:
        for message_id in client.iter_message_ids():
            if plan.options.shadow or not routes:
                why = "it is a shadow" if plan.options.shadow else "the mailbox has no routes"
                yield Planned(plan.mailbox_id, "leave", message_id, text=why)
                continue
            route = routes[0]
            if not route.is_for_all:
                found = first_that_fits(routes, client.message_metadata(message_id))
                if found is None:
                    yield Planned(plan.mailbox_id, "leave", message_id, text="no route takes it")
                    continue
                route = found
            yield Planned(plan.mailbox_id, "receive", message_id, places=route.into)


def _outgoing(plan: MailboxPlan) -> Iterator[Planned]:
    for route in plan.options.send:
        layout: Layout = FileLayout(route)
        if route.layout == "ctl":
            layout = ControlFileLayout(
                route, plan.mailbox_id, lambda: datetime.now(UTC), chunk_bytes=plan.settings.chunk_bytes
            )
        # The first look learns what is there; by the second, files count as settled.
        now = time.monotonic()
        list(layout.find(now))
        for file in layout.find(now + route.settle_in_seconds + 1):
            folder = str(route.folder)
            if plan.options.shadow:
                yield Planned(plan.mailbox_id, "leave", folder=folder, length=file.length, text="it is a shadow")
            elif file.fault is not None:
                yield Planned(plan.mailbox_id, "refuse", folder=folder, length=file.length, text=str(file.fault))
            else:
                yield Planned(plan.mailbox_id, "send", folder=folder, length=file.length)
