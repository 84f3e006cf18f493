"""One message: its steps, where it lies, what MESH reported; and, for those who ask, its names."""

from __future__ import annotations

import dataclasses
from typing import Any

from starlette.responses import JSONResponse, Response

from nel_mesh.agent.stored_copies import copies_of
from nel_mesh.console.letters import letter_about
from nel_mesh.console.messages import row_of
from nel_mesh.console.site import Visit
from nel_mesh.console.tables import form, one, plain
from nel_mesh.ledger.actions import ACTIONS
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.states import Direction

NAMES = ("recipient", "subject", "file_name", "local_id")
"""What can be a person's: masked until it is asked for, and each time that is recorded."""


def _facts(visit: Visit, message: LedgerMessage) -> dict[str, Any]:
    ledger = visit.ledger
    return {
        "copies": ledger.search.copies(message.id),
        "timeline": ledger.search.timeline(message.id),
        "reports": ledger.search.reports_about(message),
        "sent": _sent(visit, message),
        "contact": visit.site.contacts.of_message(message),
        "letter": letter_about(message, visit.site.contacts),
        "hook_calls": ledger.hook_calls.of_message(message.id),
    }


def _sent(visit: Visit, report: LedgerMessage) -> LedgerMessage | None:
    """Return the message that a report is about."""
    if report.linked_message_id is None:
        return None
    found = visit.ledger.messages.find(report.linked_message_id)
    return next((one for one in found if one.direction is Direction.OUT), None)


def shown(visit: Visit, *, names: bool = False, content: str | None = None) -> Response:
    """Return the page of a message, with its names or the beginning of its content if they were asked for."""
    message = visit.ledger.messages.get(visit.path_number())
    effects = {action: visit.ledger.actions.preview(action, [message.id], asks_stores=False)[0] for action in ACTIONS}
    return visit.page(
        "message.html",
        title=f"Message {message.id}",
        message=message,
        names={name: getattr(message, name) for name in NAMES} if names else None,
        recipient_contact=visit.site.contacts.of_mailbox(message.recipient) if names and message.recipient else None,
        effects=effects,
        content=content,
        has_content=bool(copies_of(visit.ledger, message)),
        **_facts(visit, message),
    )


def _page(visit: Visit) -> Response:
    return shown(visit)


def _json(visit: Visit) -> Response:
    message = visit.ledger.messages.get(visit.path_number())
    facts = _facts(visit, message)
    more = ("own_failures", "linked_message_id", "status_event", "status_code", "status_description", "message_type")
    said = {name: plain(value) for name, value in row_of(message).items()}
    said |= {name: plain(getattr(message, name)) for name in (*more, "stored_at", "accepted_at", "finished_at")}
    said["copies"] = [{"stored_at": plain(copy.stored_at), "bytes": copy.bytes} for copy in facts["copies"]]
    said["contact"] = facts["contact"]
    letter = facts["letter"]
    said["words"] = {"to": letter.contact, "subject": letter.subject, "text": letter.text} if letter else None
    said["reports"] = [report.id for report in facts["reports"]]
    said["timeline"] = [
        {name: plain(value) for name, value in dataclasses.asdict(event).items()} for event in facts["timeline"]
    ]
    return JSONResponse(said)


def note_look(visit: Visit, message: LedgerMessage, kind: str) -> None:
    """Record a look, before anything is shown."""
    with visit.ledger.database.write() as connection:
        details = {"reason": visit.reason()}
        visit.ledger.messages.note(connection, message, kind, actor=visit.user.actor, details=details)


def _names(visit: Visit) -> Response:
    note_look(visit, visit.ledger.messages.get(visit.path_number()), "names shown")
    return shown(visit, names=True)


PAGES = [
    one("/messages/{number:int}", _page),
    one("/api/messages/{number:int}", _json),
    form("/messages/{number:int}/names", _names),
]
