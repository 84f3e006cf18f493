"""What a person may have done with a mailbox, and why it is refused where it would do nothing or harm."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from nel_mesh.errors import InvalidArgument
from nel_mesh.io.clock import Clock
from nel_mesh.ledger.mailboxes import LedgerMailbox, Mailboxes

MAILBOX_ACTIONS = ("pause", "resume", "visit")

_SOON = timedelta(seconds=10)


@dataclasses.dataclass(frozen=True, slots=True)
class MailboxEffect:
    """What an action would do to a mailbox, or did.

    Attributes:
        mailbox_id: the mailbox.
        text: what happens, in one sentence.
        is_refused: whether it does not happen; the text says why, and the safe way.
    """

    mailbox_id: str
    text: str
    is_refused: bool = False


class MailboxActions:
    """What a person may have done with mailboxes of a ledger."""

    def __init__(self, mailboxes: Mailboxes, clock: Clock) -> None:
        self._mailboxes = mailboxes
        self._clock = clock

    def preview(self, action: str, mailbox_id: str) -> MailboxEffect:
        """Say what an action (`pause`, `resume` or `visit`) would do. Raises InvalidArgument for an unknown one."""
        if action not in MAILBOX_ACTIONS:
            raise InvalidArgument(f"action: expected one of {', '.join(MAILBOX_ACTIONS)}, not {action!r}")
        mailbox = self._mailboxes.get(mailbox_id)
        text, is_refused = self._decide(action, mailbox)
        return MailboxEffect(mailbox.mailbox_id, text, is_refused)

    def run(self, action: str, mailbox_id: str, *, actor: str, reason: str) -> MailboxEffect:
        """Do it, where it is not refused; the reason is kept."""
        effect = self.preview(action, mailbox_id)
        if not effect.is_refused:
            match action:
                case "pause":
                    self._mailboxes.pause(mailbox_id, actor=actor, reason=reason or "no reason given")
                case "resume":
                    self._mailboxes.resume(mailbox_id, actor=actor, reason=reason)
                case _:
                    self._mailboxes.visit_now(mailbox_id, actor=actor, reason=reason)
        return effect

    def _decide(self, action: str, mailbox: LedgerMailbox) -> tuple[str, bool]:
        name = mailbox.mailbox_id
        if not mailbox.is_configured:
            return f"{name} is not in the configuration any more: add it there.", True
        is_paused = mailbox.paused_at is not None
        match action:
            case "pause":
                text = (
                    f"{name} is neither looked into nor sent from, until it is resumed. Messages wait at MESH, 5 days."
                )
                return (f"{name} is paused already.", True) if is_paused else (text, False)
            case "resume":
                text = f"{name} is visited at once, and sent from again."
                return (text, False) if is_paused else (f"{name} is not paused.", True)
            case _ if is_paused:
                return f"{name} is paused: `resume` visits it at once.", True
            case _:
                due = mailbox.next_visit_at
                if due is not None and due <= self._clock.now() + _SOON:
                    return f"{name} is visited within seconds anyway.", True
                return f"{name} is visited within a second or two. MESH asks for 5 minutes between two.", False
