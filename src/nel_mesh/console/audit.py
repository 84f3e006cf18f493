"""The audit: every event, whether their chain is whole, and all of them as JSON lines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from nel_mesh.console.roles import Right
from nel_mesh.console.site import Visit
from nel_mesh.console.tables import Column, Rows, Table, form, one, page_of, plain
from nel_mesh.ledger.search import LedgerEvent

_AT_ONCE = 1000


def _events(visit: Visit, limit: int) -> Rows:
    kind, mailbox_id = visit.request.query_params.get("kind"), visit.request.query_params.get("mailbox_id")
    found = visit.ledger.search.events(
        limit=limit + 1,
        before=visit.number("before"),
        kind=kind or None,
        mailbox_id=mailbox_id.upper() if mailbox_id else None,
    )
    values = {"kind": kind or "", "mailbox_id": mailbox_id or "", "chain": _chain(visit)}
    return page_of(found, limit, _row, lambda event: event.number, **values)


def _row(event: LedgerEvent) -> dict[str, object]:
    details = json.dumps(event.details, ensure_ascii=False, sort_keys=True) if event.details else ""
    return {**dataclasses.asdict(event), "details": details, "event": event.number, "number": event.message}


def _check(visit: Visit) -> Response:
    """Begin a check, which no page waits for."""
    visit.site.chain_checks.begin(actor=visit.user.actor, is_whole=bool(visit.field("whole")))
    return visit.go("/audit")


def _chain(visit: Visit) -> dict[str, Any]:
    """Say what the last check has found, and whether one is being made."""
    verdict = visit.site.chain_checks.last()
    text = "It has not been checked yet."
    if verdict is not None and verdict.broken is None:
        number = verdict.verified.number if verdict.verified is not None else 0
        text = f"Every event up to {number} follows from the one before it: none was changed, put in or removed."
    elif verdict is not None and verdict.broken == 0:
        text = "The last event is missing: it was removed."
    elif verdict is not None:
        text = f"Event {verdict.broken} does not follow from the one before it: something was changed or removed there."
    return {
        "text": text,
        "is_whole": verdict.broken is None if verdict is not None else None,
        "checked_at": verdict.at if verdict is not None else None,
        "checked_by": verdict.actor if verdict is not None else None,
        "being_checked_at": visit.site.chain_checks.reached,
    }


def _chain_json(visit: Visit) -> Response:
    return JSONResponse({name: plain(value) for name, value in _chain(visit).items()})


def _export(visit: Visit) -> Response:
    visit.ledger.note("audit exported", actor=visit.user.actor)
    search = visit.ledger.search

    def lines() -> Iterator[str]:
        before: int | None = None
        while found := search.events(limit=_AT_ONCE, before=before):
            for event in found:
                yield json.dumps({name: plain(value) for name, value in dataclasses.asdict(event).items()}) + "\n"
            before = found[-1].number

    headers = {"content-disposition": 'attachment; filename="audit.jsonl"'}
    return StreamingResponse(lines(), media_type="application/jsonl", headers=headers)


TABLES = (
    Table(
        name="audit",
        title="Audit",
        template="audit.html",
        right=Right.AUDIT,
        columns=(
            Column("event", "Event", "number"),
            Column("at", "At", "time"),
            Column("kind", "What", "word"),
            Column("actor", "Who"),
            Column("mailbox_id", "Mailbox", "mailbox"),
            Column("number", "Message", "message"),
            Column("details", "Details"),
            Column("previous", "Follows", is_shown=False),
            Column("hash", "Hash", is_shown=False),
        ),
        read=_events,
        empty="There is no such event.",
        parameters=("kind", "mailbox_id", "before", "limit"),
    ),
)

PAGES = [
    form("/audit/check", _check, Right.AUDIT),
    one("/api/audit/chain", _chain_json, Right.AUDIT),
    form("/audit.jsonl", _export, Right.AUDIT),
]
