"""`nel-mesh handshake` and `token`, for this mailbox; `lookup` and `search`, for those of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.session import Session, session_of

if TYPE_CHECKING:
    from nel_mesh import Mailbox

_Workflow = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Workflow id.")]

_CAUTION = (
    "This is a secret: with it, anyone can make one request as mailbox {mailbox_id}. It is valid for one request, and"
    " for two hours at most. Do not put it into a ticket, a chat or a log."
)


def handshake(ctx: typer.Context) -> None:
    """Validate access to the mailbox.

    MESH wants a handshake every 24 hours: it shows that the mailbox is in use.

    \b
    Example:
      nel-mesh handshake
    """
    session = session_of(ctx)
    with session.client() as client:
        client.handshake()
    session.out.result({"mailbox_id": client.mailbox_id, "ok": True}, f"{client.mailbox_id}: the handshake succeeded.")


def lookup(
    ctx: typer.Context,
    ods_code: Annotated[str, typer.Argument(metavar="ODS", help="ODS code of the organisation.")],
    workflow_id: _Workflow,
) -> None:
    """Find an organisation's mailboxes.

    Exit code 7: it has none for this workflow.

    \b
    Example:
      nel-mesh lookup X26 PATH_RESULTS
    """
    session = session_of(ctx)
    with session.client() as client:
        found = client.lookup_endpoint(ods_code, workflow_id)
    _show(session, found)


def search(ctx: typer.Context, workflow_id: _Workflow) -> None:
    """Find the mailboxes of a workflow.

    Exit code 7: there is none.

    \b
    Example:
      nel-mesh search PATH_RESULTS
    """
    session = session_of(ctx)
    with session.client() as client:
        found = client.search_workflow(workflow_id)
    _show(session, found)


def token(ctx: typer.Context) -> None:
    """Print an Authorization header for curl.

    The header is a secret, valid for one request of this mailbox within two hours; stderr says so. With --json: one
    object with mailbox_id and authorization.

    \b
    Example:
      curl --cacert root.pem --cert mesh.pem --key mesh.key -H "$(nel-mesh token)" \\
        https://msg.intspineservices.nhs.uk/messageexchange/X26ABC1/inbox
    """
    from nel_mesh.check.token import authorization_of

    session = session_of(ctx)
    settings = session.load_settings()
    value = authorization_of(settings)
    header = f"Authorization: {value}"
    session.out.note(_CAUTION.format(mailbox_id=settings.mailbox_id))
    session.out.result({"mailbox_id": settings.mailbox_id, "authorization": value}, header, brief=header)


def _show(session: Session, found: list[Mailbox]) -> None:
    session.out.table(
        [mailbox.model_dump(mode="json") for mailbox in found],
        {"mailbox_id": "Mailbox", "mailbox_name": "Name"},
        empty="There is no such mailbox.",
    )
    if not found:
        raise typer.Exit(ExitCode.NOT_FOUND)
