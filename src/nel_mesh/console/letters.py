"""The words to send to who must repair a message: its sender, or who put the file into our outgoing folder.

They hold ids, sizes and codes alone: no name of a file, no subject, no recipient, nothing of the content.
"""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import quote

from nel_mesh.agent.contacts import Contacts
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.states import Direction, State

_EMAIL = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")


@dataclasses.dataclass(frozen=True, slots=True)
class Letter:
    """What to send.

    Attributes:
        contact: to whom; None if the configuration does not say.
        subject: what it is about.
        text: the words.
    """

    contact: str | None
    subject: str = dataclasses.field(repr=False)
    text: str = dataclasses.field(repr=False)

    @property
    def link(self) -> str | None:
        """The address that opens it in a mail program; None without an e-mail address."""
        found = _EMAIL.search(self.contact or "")
        return f"mailto:{found[0]}?subject={quote(self.subject)}&body={quote(self.text)}" if found else None


def letter_about(message: LedgerMessage, contacts: Contacts) -> Letter | None:
    """Return the words about a message that others must repair; None if it is not one."""
    if message.direction is Direction.IN and message.state is State.QUARANTINED:
        contact = contacts.of_mailbox(message.sender) if message.sender else None
        return _to_sender(message, contact)
    if message.direction is Direction.OUT and message.state in (State.UNDELIVERED, State.REFUSED):
        return _to_own_side(message, contacts.of_message(message))
    return None


def _to_sender(message: LedgerMessage, contact: str | None) -> Letter:
    # Only what this program found out about content is in words of its own.
    cause = message.reason if message.error_kind == "IntegrityError" else None
    text = (
        f"The MESH message {message.message_id}, from your mailbox {message.sender or '(not known)'} "
        f"to our mailbox {message.mailbox_id}, workflow {message.workflow_id or '(not known)'}, arrived "
        f"at {_time(message)} and cannot be used: {cause or 'its content is not as announced'}.\n\n"
        "Please check how it was made, and send it again as a new message. We have not delivered it, "
        "and do not acknowledge it.\n\n"
        "Please put nothing about patients into your reply."
    )
    return Letter(contact, f"MESH message {message.message_id} cannot be used", text)


def _to_own_side(message: LedgerMessage, contact: str | None) -> Letter:
    codes = " ".join(one for one in (message.status_event, message.status_code) if one)
    what = "was refused by MESH" if message.state is State.REFUSED else "was not delivered"
    number = message.message_id or f"number {message.id}"
    text = (
        f"The MESH message {number}, which you gave us for sending from our mailbox {message.mailbox_id} "
        f"with workflow {message.workflow_id or '(not known)'}, taken at {_time(message)}, {what}"
        f"{f' (code {codes})' if codes else ''}. The recipient does not have it.\n\n"
        "Please check recipient and workflow, and tell us whether it is to be sent again.\n\n"
        "Please put nothing about patients into your reply."
    )
    return Letter(contact, f"MESH message {number} {what}", text)


def _time(message: LedgerMessage) -> str:
    return message.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
