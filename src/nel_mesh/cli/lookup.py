"""`nel-mesh lookup` and `nel-mesh search`: whose mailbox takes what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.session import Session, session_of

if TYPE_CHECKING:
    from nel_mesh import Mailbox

_Workflow = Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow id.")]


def lookup(
    ctx: typer.Context,
    ods_code: Annotated[str, typer.Argument(metavar="ODS", help="The organisation's ODS code.")],
    workflow_id: _Workflow,
) -> None:
    """Finds an organisation's mailboxes for a workflow.

    Exit code 7: there is none.

    \b
    Example:
      nel-mesh lookup X26 PATH_RESULTS
    """
    session = session_of(ctx)
    with session.client() as client:
        found = client.lookup_endpoint(ods_code, workflow_id)
    _show(session, found)


def search(ctx: typer.Context, workflow_id: _Workflow) -> None:
    """Finds the mailboxes that take a workflow.

    Exit code 7: there is none.

    \b
    Example:
      nel-mesh search PATH_RESULTS
    """
    session = session_of(ctx)
    with session.client() as client:
        found = client.search_workflow(workflow_id)
    _show(session, found)


def _show(session: Session, found: list[Mailbox]) -> None:
    session.out.table(
        [mailbox.model_dump(mode="json") for mailbox in found],
        {"mailbox_id": "Mailbox", "mailbox_name": "Name"},
        empty="There is no such mailbox.",
    )
    if not found:
        raise typer.Exit(ExitCode.NOT_FOUND)
