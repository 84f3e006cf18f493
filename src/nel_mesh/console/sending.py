"""Sending a file, looking a mailbox up, tracking a message, as in MESH's web mailbox: by the library's one path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from starlette.responses import Response

from nel_mesh import InvalidArgument, MeshClient
from nel_mesh.agent.composing import compose
from nel_mesh.agent.configuration import MailboxPlan
from nel_mesh.agent.sending import Tracker
from nel_mesh.console.roles import Right
from nel_mesh.console.site import Visit
from nel_mesh.console.tables import form, one
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.states import Direction

MAX_UPLOAD_BYTES = 200_000_000
"""How long a file may be that is sent from here; a larger one goes into an outgoing folder."""


_ONE_SEND = {"send": True}
"""Kept for each form, and taken when it is sent: a form that is sent twice sends once."""


def _page(visit: Visit, **values: Any) -> Response:
    given = {"found": None, "looked_for": "", "sent": None} | values
    return visit.page(
        "send.html",
        title="Send a file",
        mailboxes=list(visit.site.configuration().mailboxes),
        most=MAX_UPLOAD_BYTES,
        once=visit.site.selections.keep(visit.user.name, _ONE_SEND),
        **given,
    )


def _send(visit: Visit) -> Response:
    selections, once = visit.site.selections, visit.field("once", required=True)
    try:
        selections.take(visit.user.name, once, holding="send")
    except InvalidArgument:
        text = "this form was sent already, or is too old: see under Outgoing whether the message is there, and if it "
        raise InvalidArgument(f"{text}is not, open Send again") from None
    try:
        message = _composed(visit)
    except InvalidArgument:
        # Nothing was noted: what was wrong can be put right, and the same form sent again. After a failure of the
        # ledger that is not so sure.
        selections.keep(visit.user.name, _ONE_SEND, key=once)
        raise
    return visit.go(f"/messages/{message.id}")


def _composed(visit: Visit) -> LedgerMessage:
    upload = visit.upload("file")
    # Some browsers give a path.
    name = PureWindowsPath(PurePosixPath(upload.filename or "").name).name[:300]
    return compose(
        visit.ledger,
        visit.site.configuration(),
        visit.field("mailbox_id", required=True).upper(),
        upload.file,
        to=visit.field("to", required=True, longest=100).upper(),
        workflow_id=visit.field("workflow_id", required=True, longest=300),
        file_name=name,
        subject=visit.field("subject", longest=500) or None,
        compress=bool(visit.field("compress")),
        actor=visit.user.actor,
    )


def _look_up(visit: Visit) -> Response:
    workflow_id = visit.field("workflow_id", required=True, longest=300)
    ods_code = visit.field("ods_code", longest=20)
    with _client(_plan(visit, visit.field("mailbox_id", required=True).upper())) as client:
        found = client.lookup_endpoint(ods_code, workflow_id) if ods_code else client.search_workflow(workflow_id)
    looked_for = f"{ods_code.upper()} and {workflow_id}" if ods_code else workflow_id
    return _page(visit, found=found, looked_for=looked_for)


def _track(visit: Visit) -> Response:
    message = visit.ledger.messages.get(visit.path_number())
    if message.direction is not Direction.OUT or message.message_id is None:
        raise InvalidArgument("only a message that MESH has taken from here can be tracked")
    plan = _plan(visit, message.mailbox_id)
    with _client(plan) as client:
        tracking = Tracker(plan, visit.site.configuration().defaults, client, visit.ledger).track(message)
    with visit.ledger.database.write() as connection:
        visit.ledger.messages.note(connection, message, "tracked", actor=visit.user.actor, details={})
    return visit.page("tracked.html", title=f"Message {message.id}: tracked", message=message, tracking=tracking)


def _plan(visit: Visit, mailbox_id: str) -> MailboxPlan:
    plan = visit.site.configuration().mailboxes.get(mailbox_id)
    if plan is None:
        raise InvalidArgument(f"the configuration has no mailbox {mailbox_id}")
    return plan


@contextmanager
def _client(plan: MailboxPlan) -> Iterator[MeshClient]:
    with MeshClient(plan.settings) as client:
        yield client


PAGES = [
    one("/send", _page, Right.ACT),
    form("/send", _send, Right.ACT, max_bytes=MAX_UPLOAD_BYTES),
    form("/send/lookup", _look_up, Right.ACT),
    form("/messages/{number:int}/track", _track, Right.ACT),
]
