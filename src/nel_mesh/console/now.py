"""The first page: what needs a person now, what is being retried, and that all else is well."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response

from nel_mesh.console import plots
from nel_mesh.console.site import Visit
from nel_mesh.console.tables import one, plain
from nel_mesh.ledger import statistics
from nel_mesh.ledger.attention import Attention, look
from nel_mesh.ledger.states import DUE, Direction, State

_STATES = {str(state): [str(state)] for state in State} | {
    "retrying": [str(state) for state in sorted({*DUE[Direction.IN], *DUE[Direction.OUT]} - {State.UNKNOWN})],
    "not collected": [str(State.ACCEPTED)],
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Link:
    address: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Item:
    found: Attention
    links: list[_Link]
    contact: str | None


def _links(found: Attention) -> list[_Link]:
    """Return where to go from there."""
    links = []
    if found.message is not None:
        links.append(_Link(f"/messages/{found.message}", "message"))
    elif found.kind in _STATES:
        query = [("mailbox_id", found.mailbox_id or ""), *(("states", state) for state in _STATES[found.kind])]
        links.append(_Link(f"/messages?{urlencode(query)}", "messages"))
    if found.message is not None and found.kind in ("quarantined", "undelivered", "refused"):
        links.append(_Link(f"/messages/{found.message}#words", "words to send"))
    if found.kind == "certificate":
        links.append(_Link("/certificates", "certificates"))
    if found.kind in ("mailbox fails", "paused") and found.mailbox_id:
        links.append(_Link(f"/mailboxes/{found.mailbox_id}", "mailbox"))
    if found.kind == "configuration":
        links.append(_Link("/settings", "settings"))
    return links


def _items(visit: Visit) -> list[_Item]:
    contacts = visit.site.contacts
    found = look(visit.ledger.database, visit.ledger.clock.now())
    return [_Item(one, _links(one), contacts.of_attention(one, visit.ledger)) for one in found]


def _summary(visit: Visit) -> dict[str, Any]:
    ledger, now = visit.ledger, visit.ledger.clock.now()
    mailboxes = ledger.mailboxes.all()
    oldest: datetime | None = min(statistics.oldest_open(ledger.database).values(), default=None)
    midnight = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    today = statistics.between(ledger.database, midnight, now + timedelta(days=1))
    return {
        "mailboxes": len(mailboxes),
        "mailboxes_well": sum(one.failing_since is None and one.paused_at is None for one in mailboxes),
        "received_today": today[Direction.IN],
        "sent_today": today[Direction.OUT],
        "oldest_open_at": oldest,
    }


def _page(visit: Visit) -> Response:
    ledger, now = visit.ledger, visit.ledger.clock.now()
    items = _items(visit)
    summary = _summary(visit)
    hours = statistics.hours(ledger.database, now)
    return visit.page(
        "now.html",
        title="Now",
        needed=[one for one in items if one.found.needs_person],
        retried=[one for one in items if not one.found.needs_person],
        summary=summary,
        oldest=now - summary["oldest_open_at"] if summary["oldest_open_at"] else None,
        plot=plots.messages_an_hour(hours),
    )


def _json(visit: Visit) -> Response:
    attention = [
        {name: plain(value) for name, value in dataclasses.asdict(one.found).items()} | {"contact": one.contact}
        for one in _items(visit)
    ]
    summary = {name: plain(value) for name, value in _summary(visit).items()}
    return JSONResponse({"looked_at": plain(visit.ledger.clock.now()), "attention": attention, "summary": summary})


PAGES = [one("/", _page), one("/api/now", _json)]
