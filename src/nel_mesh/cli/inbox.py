"""`nel-mesh inbox`, `show`, `reports` and `ack`: the messages that wait in the inbox."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from nel_mesh.cli.output import is_terminal
from nel_mesh.cli.session import session_of

if TYPE_CHECKING:
    from nel_mesh import MeshClient, MessageMetadata

STDIN = "-"

Filter = Annotated[
    str | None,
    typer.Option("--workflow-id", metavar="FILTER", help="Only these workflow ids: WF, !WF, WF*, *WF* or !*WF*."),
]
Limit = Annotated[int | None, typer.Option("--limit", metavar="NUMBER", min=1, help="Maximum number of messages.")]

_FIELDS = {
    "message_id": "Message",
    "message_type": "Type",
    "sender": "From",
    "recipient": "To",
    "workflow_id": "Workflow",
    "subject": "Subject",
    "file_name": "File name",
    "local_id": "Local id",
    "partner_id": "Partner id",
    "content_type": "Content type",
    "compressed": "Compressed",
    "encrypted": "Encrypted",
    "checksum": "Checksum",
    "chunks": "Chunks",
    "linked_message_id": "About message",
    "status_event": "Event",
    "status_code": "Code",
    "status_description": "Description",
    "status_timestamp": "Time",
}


def inbox(
    ctx: typer.Context,
    details: Annotated[
        bool, typer.Option("--details", "-l", help="Show sender, workflow and file name; one request for each message.")
    ] = False,
    workflow_id: Filter = None,
    limit: Limit = None,
) -> None:
    """List the messages in the inbox.

    Reads all pages. MESH wants an inbox to be polled at most every 5 minutes, and at least daily.

    \b
    Examples:
      nel-mesh inbox --details
      nel-mesh inbox --quiet --workflow-id 'PATH*' | head -1
    """
    session = session_of(ctx)
    with session.client() as client:
        ids = list(islice(client.iter_message_ids(workflow_filter=workflow_id), limit))
        records = (
            [one.model_dump() for one in _metadata(client, ids)] if details else [{"message_id": one} for one in ids]
        )
    columns = {"message_id": "Message"}
    if details:
        columns |= {
            "sender": "From",
            "workflow_id": "Workflow",
            "file_name": "File name",
            "chunks": "Chunks",
            "status_timestamp": "Time",
        }
    session.out.table(records, columns, empty="The inbox is empty.")


def show(
    ctx: typer.Context,
    message_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Messages in the inbox.")],
) -> None:
    """Show a message's metadata, without content.

    \b
    Example:
      nel-mesh show 20240101120000000000_0A1B2C
    """
    session = session_of(ctx)
    with session.client() as client:
        session.for_each(
            message_ids,
            lambda message_id: session.out.fields(client.message_metadata(message_id).model_dump(), _FIELDS),
        )


def reports(ctx: typer.Context, limit: Limit = None) -> None:
    """List reports of messages that failed.

    Makes one request for each message in the inbox. A report stays there until it is acknowledged (`nel-mesh ack`) or
    received with all else (`nel-mesh receive`).

    \b
    Example:
      nel-mesh reports
    """
    from nel_mesh import Report

    session = session_of(ctx)
    with session.client() as client:
        each = _metadata(client, client.iter_message_ids())
        found = [one.model_dump() for one in islice((one for one in each if isinstance(one, Report)), limit)]
    session.out.table(
        found,
        {
            "message_id": "Report",
            "linked_message_id": "About message",
            "status_event": "Event",
            "status_code": "Code",
            "status_description": "Description",
            "status_timestamp": "Time",
        },
        empty="There are no reports.",
    )


def ack(
    ctx: typer.Context,
    message_ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="Messages in the inbox; - reads ids from stdin, one per line."),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
) -> None:
    """Acknowledge messages, so that MESH deletes them.

    Do this only when their content is stored safely. Asks first at a terminal, not in a pipe.

    \b
    Examples:
      nel-mesh ack 20240101120000000000_0A1B2C
      nel-mesh reports --quiet | nel-mesh ack -
    """
    session = session_of(ctx)
    is_asking = not yes and STDIN not in message_ids and is_terminal(sys.stdin) and is_terminal(sys.stderr)
    if is_asking and not session.json:
        number = f"these {len(message_ids)} messages" if len(message_ids) > 1 else f"message {message_ids[0]}"
        typer.confirm(f"MESH will delete {number}. Continue?", abort=True, err=True)

    with session.client() as client:

        def acknowledge(message_id: str) -> None:
            client.acknowledge_message(message_id)
            session.out.result({"message_id": message_id, "acknowledged": True}, f"{message_id}: acknowledged.")

        session.for_each(_with_stdin(message_ids), acknowledge)


def _metadata(client: MeshClient, message_ids: Iterable[str]) -> Iterator[MessageMetadata]:
    from nel_mesh.errors import Gone, NotFound

    for message_id in message_ids:
        # Another process may have acknowledged it since it was listed.
        with contextlib.suppress(NotFound, Gone):
            yield client.message_metadata(message_id)


def _with_stdin(message_ids: Iterable[str]) -> Iterator[str]:
    for message_id in message_ids:
        if message_id == STDIN:
            yield from (line.strip() for line in sys.stdin if line.strip())
        else:
            yield message_id
