"""Mailboxes, destinations, nodes and certificates: where messages come from and go to."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse, Response

from nel_mesh import InvalidArgument
from nel_mesh.agent.membership import ALONE_HEARTBEAT_SECONDS, SILENCE_SECONDS
from nel_mesh.console import plots
from nel_mesh.console.messages import row_of
from nel_mesh.console.roles import Right
from nel_mesh.console.site import Visit
from nel_mesh.console.tables import Column, Rows, Table, form, one, plain
from nel_mesh.ledger import statistics
from nel_mesh.ledger.mailboxes import LedgerMailbox
from nel_mesh.ledger.search import Filter
from nel_mesh.ledger.states import Direction

_FEW = 20


def _state_of(mailbox: LedgerMailbox) -> str:
    if mailbox.paused_at is not None:
        return "paused"
    return "failing" if mailbox.failing_since is not None else "well"


def _mailboxes(visit: Visit, limit: int) -> Rows:
    oldest = statistics.oldest_open(visit.ledger.database)
    contacts = visit.site.contacts
    rows = [
        {
            **dataclasses.asdict(one),
            "state": _state_of(one),
            "oldest_in_at": oldest.get((one.mailbox_id, Direction.IN)),
            "oldest_out_at": oldest.get((one.mailbox_id, Direction.OUT)),
            "contact": contacts.of_mailbox(one.mailbox_id),
        }
        for one in visit.ledger.mailboxes.all()
    ]
    now = visit.ledger.clock.now()
    since: dict[str, Any] = {}
    for (mailbox_id, _), moment in oldest.items():
        since[mailbox_id] = min(moment, since.get(mailbox_id, moment))
    ranked = sorted(since.items(), key=lambda item: item[1])
    return Rows(rows=rows, values={"plot": plots.ages("Age of the oldest open message", ranked[:_FEW], now)})


def _mailbox(visit: Visit) -> Response:
    mailbox = visit.ledger.mailboxes.get(visit.request.path_params["mailbox_id"])
    effects = [(action, visit.ledger.mailbox_actions.preview(action, mailbox.mailbox_id)) for action in _ACTIONS]
    found = visit.ledger.search.messages(Filter(mailbox_id=mailbox.mailbox_id), limit=_FEW)
    events = visit.ledger.search.events(limit=_FEW, mailbox_id=mailbox.mailbox_id)
    return visit.page(
        "mailbox.html",
        title=f"Mailbox {mailbox.mailbox_id}",
        mailbox=mailbox,
        state=_state_of(mailbox),
        contact=visit.site.contacts.of_mailbox(mailbox.mailbox_id),
        effects=effects,
        rows=[row_of(one) for one in found],
        events=[one for one in events if one.message is None],
    )


_ACTIONS = ("pause", "resume", "visit")


def _mailbox_json(visit: Visit) -> Response:
    mailbox = visit.ledger.mailboxes.get(visit.request.path_params["mailbox_id"])
    said = {name: plain(value) for name, value in dataclasses.asdict(mailbox).items()}
    return JSONResponse(said | {"contact": visit.site.contacts.of_mailbox(mailbox.mailbox_id)})


def without_secrets(place: str) -> str:
    """Return a place without a name and password, and without what follows a question mark."""
    if "://" not in place:
        return place
    parts = urlsplit(place)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _destinations(visit: Visit, limit: int) -> Rows:
    contacts = visit.site.contacts
    users: dict[str, list[str]] = {}
    for plan in visit.site.configuration().mailboxes.values():
        for route in plan.options.receive:
            for place in route.into:
                users.setdefault(place, []).append(plan.mailbox_id)
    found = statistics.destinations(visit.ledger.database, list(users), visit.ledger.clock.now())
    rows = [
        {
            "place": without_secrets(use.place),
            "mailboxes": ", ".join(sorted(set(users[use.place]))),
            "stored_today": use.stored_today,
            "last_stored_at": use.last_stored_at,
            "contact": contacts.of_destination(use.place),
        }
        for use in found
    ]
    return Rows(rows=rows, values={"plot": None})


def _nodes(visit: Visit, limit: int) -> Rows:
    ledger = visit.ledger
    silence = SILENCE_SECONDS if not ledger.database.is_sqlite else 2 * ALONE_HEARTBEAT_SECONDS
    waiting = ledger.nodes.waiting_files()
    rows = [
        {
            "name": node.name,
            "state": node.state(ledger.clock.now(), silent_after=timedelta(seconds=silence)),
            "version": node.version,
            "heartbeat_at": node.heartbeat_at,
            "started_at": node.started_at,
            "tasks": len(node.doing),
            "waiting_files": waiting.get(node.name, 0),
            "drained_by": node.drained_by,
            "drain_reason": node.drain_reason,
        }
        for node in ledger.nodes.all()
    ]
    return Rows(rows=rows[:limit])


def _change_node(visit: Visit) -> Response:
    name, action, reason = visit.field("name", required=True), visit.field("action", required=True), visit.reason()
    match action:
        case "drain":
            visit.ledger.nodes.drain(name, actor=visit.user.actor, reason=reason)
        case "undrain":
            visit.ledger.nodes.undrain(name, actor=visit.user.actor, reason=reason)
        case _:
            raise InvalidArgument("action: expected drain or undrain")
    return visit.go("/nodes")


def _certificates(visit: Visit, limit: int) -> Rows:
    now = visit.ledger.clock.now()
    rows = []
    for mailbox in visit.ledger.mailboxes.all():
        expires = mailbox.certificate_expires_at
        rows.append(
            {
                "mailbox_id": mailbox.mailbox_id,
                "expires_at": expires,
                "days_left": (expires - now).days if expires is not None else None,
                "last_handshake_at": mailbox.last_handshake_at,
            }
        )
    rows.sort(key=lambda row: (row["days_left"] is None, row["days_left"] or 0))
    days = [(str(row["mailbox_id"]), int(str(row["days_left"]))) for row in rows if row["days_left"] is not None]
    return Rows(rows=rows, values={"plot": plots.days_left("Certificate days left", days[:_FEW])})


TABLES = (
    Table(
        name="mailboxes",
        title="Mailboxes",
        template="plotted.html",
        columns=(
            Column("mailbox_id", "Mailbox", "mailbox"),
            Column("state", "State", "state"),
            Column("last_success_at", "Last success", "time"),
            Column("next_visit_at", "Next visit", "time"),
            Column("inbox_count", "In inbox", "number"),
            Column("oldest_in_at", "Oldest to receive", "time"),
            Column("oldest_out_at", "Oldest to send", "time"),
            Column("failing_since", "Fails since", "time", is_shown=False),
            Column("failures", "Failures", "number", is_shown=False),
            Column("last_handshake_at", "Last handshake", "time", is_shown=False),
            Column("certificate_expires_at", "Certificate until", "time", is_shown=False),
            Column("paused_at", "Paused since", "time", is_shown=False),
            Column("paused_by", "Paused by", is_shown=False),
            Column("pause_reason", "Why paused", is_shown=False),
            Column("reason", "Reason"),
            Column("contact", "Who to call"),
        ),
        read=_mailboxes,
        empty="The agent has not run yet.",
    ),
    Table(
        name="destinations",
        title="Destinations",
        template="plotted.html",
        columns=(
            Column("place", "Destination"),
            Column("mailboxes", "Of mailboxes"),
            Column("stored_today", "Stored in 24 hours", "number"),
            Column("last_stored_at", "Last stored", "time"),
            Column("contact", "Who to call"),
        ),
        read=_destinations,
        empty="The configuration names none.",
    ),
    Table(
        name="nodes",
        title="Nodes",
        template="nodes.html",
        columns=(
            Column("name", "Node"),
            Column("state", "State", "state"),
            Column("version", "Version", "word"),
            Column("heartbeat_at", "Last heard of", "time"),
            Column("started_at", "Started", "time"),
            Column("tasks", "Tasks", "number"),
            Column("waiting_files", "Own files waiting", "number"),
            Column("drained_by", "Drained by", is_shown=False),
            Column("drain_reason", "Why drained"),
        ),
        read=_nodes,
        empty="No agent has run yet.",
    ),
    Table(
        name="certificates",
        title="Certificates",
        template="plotted.html",
        columns=(
            Column("mailbox_id", "Mailbox", "mailbox"),
            Column("expires_at", "Valid until", "time"),
            Column("days_left", "Days left", "number"),
            Column("last_handshake_at", "Last handshake", "time"),
        ),
        read=_certificates,
        empty="There is no mailbox.",
    ),
)

PAGES = [
    one("/mailboxes/{mailbox_id}", _mailbox),
    one("/api/mailboxes/{mailbox_id}", _mailbox_json),
    form("/nodes/change", _change_node, Right.ACT),
]
