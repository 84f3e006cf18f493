"""One message: its steps, where it lies, what MESH reported; and, for those who may, its names and its content."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.responses import JSONResponse, Response, StreamingResponse

from nel_mesh import InvalidArgument
from nel_mesh.console.messages import row_of
from nel_mesh.console.roles import Right
from nel_mesh.console.site import Visit
from nel_mesh.console.tables import form, one, plain
from nel_mesh.ledger.actions import ACTIONS
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.states import Direction

NAMES = ("recipient", "subject", "file_name", "local_id")
"""What can be a person's: masked until it is asked for, and each time that is recorded."""

_MOST_SHOWN_BYTES = 100_000
_BLOCK_BYTES = 256 * 1024


def _facts(visit: Visit, message: LedgerMessage) -> dict[str, Any]:
    ledger = visit.ledger
    return {
        "copies": ledger.search.copies(message.id),
        "timeline": ledger.search.timeline(message.id),
        "reports": ledger.search.reports_about(message),
        "sent": _sent(visit, message),
        "hook_calls": ledger.hook_calls.of_message(message.id),
    }


def _sent(visit: Visit, report: LedgerMessage) -> LedgerMessage | None:
    """Return the message that a report is about."""
    if report.linked_message_id is None:
        return None
    found = visit.ledger.messages.find(report.linked_message_id)
    return next((one for one in found if one.direction is Direction.OUT), None)


def _shown(visit: Visit, *, names: bool = False, content: str | None = None) -> Response:
    message = visit.ledger.messages.get(visit.path_number())
    effects = {action: visit.ledger.actions.preview(action, [message.id])[0] for action in ACTIONS}
    return visit.page(
        "message.html",
        title=f"Message {message.id}",
        message=message,
        names={name: getattr(message, name) for name in NAMES} if names else None,
        effects=effects,
        content=content,
        has_content=_file_of(visit, message) is not None,
        **_facts(visit, message),
    )


def _page(visit: Visit) -> Response:
    return _shown(visit)


def _json(visit: Visit) -> Response:
    message = visit.ledger.messages.get(visit.path_number())
    facts = _facts(visit, message)
    more = ("own_failures", "linked_message_id", "status_event", "status_code", "status_description", "message_type")
    said = {name: plain(value) for name, value in row_of(message).items()}
    said |= {name: plain(getattr(message, name)) for name in (*more, "stored_at", "accepted_at", "finished_at")}
    said["copies"] = [{"stored_at": plain(copy.stored_at), "bytes": copy.bytes} for copy in facts["copies"]]
    said["reports"] = [report.id for report in facts["reports"]]
    said["timeline"] = [
        {name: plain(value) for name, value in dataclasses.asdict(event).items()} for event in facts["timeline"]
    ]
    return JSONResponse(said)


def _note(visit: Visit, message: LedgerMessage, kind: str) -> None:
    """Record a look, before anything is shown."""
    with visit.ledger.database.write() as connection:
        details = {"reason": visit.reason()}
        visit.ledger.messages.note(connection, message, kind, actor=visit.user.actor, details=details)


def _names(visit: Visit) -> Response:
    _note(visit, visit.ledger.messages.get(visit.path_number()), "names shown")
    return _shown(visit, names=True)


def _content(visit: Visit) -> Response:
    message, path = _readable(visit)
    _note(visit, message, "content shown")
    try:
        with path.open("rb") as file:
            head = file.read(_MOST_SHOWN_BYTES + 1)
    except OSError as error:
        raise InvalidArgument(f"its file cannot be read: {error.strerror}") from None
    text = head[:_MOST_SHOWN_BYTES].decode("utf-8", errors="replace")
    # As text, and never as HTML: the template escapes it, and control characters are made visible.
    text = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    if len(head) > _MOST_SHOWN_BYTES:
        text += "\n... and more: download it"
    return _shown(visit, names=True, content=text)


def _download(visit: Visit) -> Response:
    message, path = _readable(visit)
    _note(visit, message, "content downloaded")
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidArgument(f"its file cannot be read: {error.strerror}") from None

    def blocks() -> Iterator[bytes]:
        with file:
            while block := file.read(_BLOCK_BYTES):
                yield block

    name = quote(Path(message.file_name or path.name).name, safe="")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{name}"}
    return StreamingResponse(blocks(), media_type="application/octet-stream", headers=headers)


def _readable(visit: Visit) -> tuple[LedgerMessage, Path]:
    message = visit.ledger.messages.get(visit.path_number())
    path = _file_of(visit, message)
    if path is None:
        raise InvalidArgument("its content is not on this machine; the message's page says where it lies")
    return message, path


def _file_of(visit: Visit, message: LedgerMessage) -> Path | None:
    """Return the file of a message, if it is on this machine: the ledger names it, never the visitor."""
    if message.direction is Direction.OUT:
        places = [message.archived_as, message.source]
    else:
        places = [copy.location for copy in visit.ledger.search.copies(message.id)]
    for place in places:
        if place and "://" not in place and Path(place).is_file():
            return Path(place)
    return None


PAGES = [
    one("/messages/{number:int}", _page),
    one("/api/messages/{number:int}", _json),
    form("/messages/{number:int}/names", _names),
    form("/messages/{number:int}/content", _content, Right.CONTENT),
    form("/messages/{number:int}/download", _download, Right.CONTENT),
]
