"""The list of messages: searched, paged by number, saved as views; and the lists of what is sent, and of reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from nel_mesh import InvalidArgument
from nel_mesh.console.selections import OPEN_FIELDS, read_filter, stored_filter
from nel_mesh.console.site import Visit
from nel_mesh.console.tables import Column, Row, Rows, Table, form, page_of
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.search import Filter
from nel_mesh.ledger.states import Direction, State

COLUMNS = (
    Column("number", "Number", "message"),
    Column("direction", "Way", "word"),
    Column("mailbox_id", "Mailbox", "mailbox"),
    Column("state", "State", "state"),
    Column("workflow_id", "Workflow"),
    Column("sender", "Sender"),
    Column("message_id", "Message id"),
    Column("bytes", "Size", "size"),
    Column("attempts", "Attempts", "number", is_shown=False),
    Column("next_attempt_at", "Next attempt", "time", is_shown=False),
    Column("created_at", "Created", "time", is_shown=False),
    Column("updated_at", "Since", "time"),
    Column("reason", "Reason"),
)
"""What a list shows of a message: no subject, file name, recipient or local id."""


def row_of(message: LedgerMessage) -> dict[str, Any]:
    """Return what a list shows of a message."""
    return {
        "number": message.id,
        "direction": str(message.direction),
        "mailbox_id": message.mailbox_id,
        "state": str(message.state),
        "workflow_id": message.workflow_id,
        # Of what was sent it is the mailbox itself.
        "sender": message.sender if message.direction is Direction.IN else None,
        "message_id": message.message_id,
        "bytes": message.bytes,
        "attempts": message.attempts,
        "next_attempt_at": message.next_attempt_at,
        "created_at": message.created_at,
        "updated_at": message.updated_at,
        "reason": message.reason,
    }


def wanted_by(visit: Visit) -> Filter:
    """Return the search that an address names: by its key, or by fields that may stand in an address."""
    key = visit.request.query_params.get("view")
    if key:
        return visit.site.selections.search(visit.user.name, key)
    return read_filter(visit.fields(), names=OPEN_FIELDS)


def _read(
    visit: Visit, limit: int, search: Filter, row: Callable[[LedgerMessage], Row] = row_of, **values: Any
) -> Rows:
    found = visit.ledger.search.messages(search, limit=limit + 1, before=visit.number("before"))
    return page_of(found, limit, row, lambda message: message.id, **values)


def _messages(visit: Visit, limit: int) -> Rows:
    wanted = wanted_by(visit)
    return _read(
        visit,
        limit,
        wanted,
        wanted=wanted,
        states=list(State),
        mailboxes=[one.mailbox_id for one in visit.ledger.mailboxes.all()],
        views=visit.site.selections.views(visit.user.name),
        view=visit.request.query_params.get("view", ""),
        can_search=True,
    )


def _outgoing(visit: Visit, limit: int) -> Rows:
    states = (State.WAITING, State.SENDING, State.RETRYING, State.UNKNOWN, State.ACCEPTED)
    return _read(visit, limit, Filter(direction=Direction.OUT, states=states), can_search=False, view="")


_REPORT_COLUMNS = (
    *(column for column in COLUMNS if column.name in ("number", "mailbox_id", "state", "message_id")),
    Column("linked_message_id", "About message"),
    Column("status_event", "Event"),
    Column("status_code", "Code"),
    Column("status_description", "MESH says"),
    Column("updated_at", "Since", "time"),
)


def _report(message: LedgerMessage) -> Row:
    names = ("linked_message_id", "status_event", "status_code", "status_description")
    return row_of(message) | {name: getattr(message, name) for name in names}


def _reports(visit: Visit, limit: int) -> Rows:
    return _read(visit, limit, Filter(direction=Direction.IN, message_type="REPORT"), _report)


def _search(visit: Visit) -> Response:
    """Keep the search, so that no address holds what can be a person's."""
    wanted = read_filter(visit.fields())
    content = stored_filter(wanted)
    name = visit.field("name", longest=100) if visit.field("save") else None
    if name == "":
        raise InvalidArgument("give the search a name, under “Save as a view called”")
    if name is None and set(content) <= set(OPEN_FIELDS):
        pairs = [
            (key, one) for key, value in content.items() for one in (value if isinstance(value, list) else [value])
        ]
        return visit.go(f"/messages?{urlencode(pairs)}")
    key = visit.site.selections.keep(visit.user.name, content, name=name)
    return visit.go(f"/messages?{urlencode({'view': key})}")


def _forget(visit: Visit) -> Response:
    visit.site.selections.remove(visit.user.name, visit.field("view", required=True))
    return visit.go("/messages")


_PARAMETERS = (*OPEN_FIELDS, "view", "before", "limit")

TABLES = (
    Table(
        name="messages",
        title="Messages",
        columns=COLUMNS,
        read=_messages,
        template="messages.html",
        empty="No message fits the search.",
        parameters=_PARAMETERS,
    ),
    Table(
        name="outgoing",
        title="Outgoing",
        columns=COLUMNS,
        read=_outgoing,
        template="messages.html",
        empty="Nothing waits to be sent, and everything that was sent has been collected.",
        parameters=("before", "limit"),
    ),
    Table(
        name="reports",
        title="Reports",
        columns=_REPORT_COLUMNS,
        read=_reports,
        template="table.html",
        empty="MESH has sent no report.",
        parameters=("before", "limit"),
    ),
)

PAGES = [form("/messages/search", _search), form("/messages/forget", _forget)]
