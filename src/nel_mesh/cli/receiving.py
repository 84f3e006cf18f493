"""`nel-mesh inbox`, `show`, `receive`, `ack` and `reports`: what has come to this mailbox."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nel_mesh.cli.output import is_terminal, size
from nel_mesh.cli.session import Session, session_of

if TYPE_CHECKING:
    from nel_mesh import MeshClient, MessageMetadata, ReceivedFile, ReceiveProgress, ReceiveResult, Report

STDOUT = "-"
STDIN = "-"

_Filter = Annotated[
    str | None,
    typer.Option("--workflow-id", metavar="FILTER", help="Only such workflow ids: WF, !WF, WF*, *WF* or !*WF*."),
]
_Limit = Annotated[int | None, typer.Option("--limit", metavar="NUMBER", min=1, help="No more than so many.")]

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
        bool, typer.Option("--details", "-l", help="Say what each message is; that asks MESH once for each.")
    ] = False,
    workflow_id: _Filter = None,
    limit: _Limit = None,
) -> None:
    """Lists the messages that wait in the inbox.

    All pages are read. MESH wants an inbox to be polled no more often than every 5 minutes, and at least daily.

    \b
    Examples:
      nel-mesh inbox --details
      nel-mesh inbox --quiet --workflow-id 'PATH*' | head -1
    """
    session = session_of(ctx)
    with session.client() as client:
        ids = list(islice(client.iter_message_ids(workflow_filter=workflow_id), limit))
        records = list(map(_record, _metadata(client, ids))) if details else [{"message_id": one} for one in ids]
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
    """Shows what a message is, without its content.

    \b
    Example:
      nel-mesh show 20240101120000000000_0A1B2C
    """
    session = session_of(ctx)
    with session.client() as client:
        for message_id in message_ids:
            session.out.fields(_record(client.message_metadata(message_id)), _FIELDS)


def receive(
    ctx: typer.Context,
    into: Annotated[
        str, typer.Option("--into", metavar="DIR", help="The folder for the files; - writes one message to stdout.")
    ],
    message_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID...]", help="Which messages. Default: all.")
    ] = None,
    ack: Annotated[
        bool | None,
        typer.Option(
            "--ack/--no-ack",
            help="Acknowledge each once it is safe here, so that MESH deletes it. Default: yes without ids, else no.",
        ),
    ] = None,
    workflow_id: _Filter = None,
    limit: _Limit = None,
    concurrency: Annotated[int, typer.Option(metavar="NUMBER", min=1, max=64, help="How many at once.")] = 1,
) -> None:
    """Receives messages into files.

    Without ids: the whole inbox, reports too. Each message is acknowledged once its file is complete, checked and
    durable; a journal in the folder remembers it, so none is stored twice. One that fails stays in the inbox, and stops
    no other. With ids: those, and none is acknowledged unless you say --ack. No file is ever replaced. If it is
    interrupted, run the same command again: it goes on after what is here.

    With `--into -` the content of one message goes to stdout as it comes. If the exit code is not 0 it is incomplete or
    damaged, and must not be used.

    \b
    Examples:
      nel-mesh receive --into inbox
      nel-mesh receive 20240101120000000000_0A1B2C --into inbox --ack
      nel-mesh receive 20240101120000000000_0A1B2C --into - | gunzip > results.csv
    """
    session = session_of(ctx)
    if into == STDOUT:
        if len(message_ids or ()) != 1:
            raise typer.BadParameter("--into - takes exactly one message id")
        _to_stdout(session, (message_ids or [""])[0], ack=bool(ack))
        return
    if Path(into).exists() and not Path(into).is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), into)
    if message_ids:
        if workflow_id or limit:
            raise typer.BadParameter("--workflow-id and --limit are for receiving without ids")
        _these(session, message_ids, Path(into), ack=bool(ack))
    else:
        if ack is False:
            raise typer.BadParameter("--no-ack needs message ids: `nel-mesh inbox --quiet` gives them")
        _all(session, Path(into), workflow_id, limit, concurrency)


def ack(
    ctx: typer.Context,
    message_ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Messages in the inbox; - reads ids from stdin, one a line.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
) -> None:
    """Acknowledges messages, so that MESH deletes them.

    Do it only when the content is safe with you. On a terminal it asks first; in a pipe it does not.

    \b
    Examples:
      nel-mesh ack 20240101120000000000_0A1B2C
      nel-mesh reports --quiet | nel-mesh ack -
    """
    session = session_of(ctx)
    asks = not yes and STDIN not in message_ids and is_terminal(sys.stdin) and is_terminal(sys.stderr)
    if asks and not session.json:
        number = f"{len(message_ids)} messages" if len(message_ids) > 1 else message_ids[0]
        typer.confirm(f"Acknowledge {number}? MESH then deletes what is in the inbox.", abort=True, err=True)
    with session.client() as client:
        for message_id in _with_stdin(message_ids):
            client.acknowledge_message(message_id)
            session.out.result({"message_id": message_id, "acknowledged": True}, f"{message_id}: acknowledged.")


def reports(ctx: typer.Context, limit: _Limit = None) -> None:
    """Lists the reports in the inbox: which messages of yours failed, and why.

    It asks MESH once for each message in the inbox. A report stays until it is acknowledged (`nel-mesh ack`), or
    received with all else (`nel-mesh receive`).

    \b
    Example:
      nel-mesh reports
    """
    from nel_mesh.models import Report

    session = session_of(ctx)
    with session.client() as client:
        each = _metadata(client, client.iter_message_ids())
        found = [_record(one) for one in islice((one for one in each if isinstance(one, Report)), limit)]
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


def _record(metadata: MessageMetadata) -> dict[str, Any]:
    return metadata.model_dump()


def _metadata(client: MeshClient, message_ids: Iterable[str]) -> Iterator[MessageMetadata]:
    from nel_mesh.errors import Gone, NotFound

    for message_id in message_ids:
        # Somebody else may have acknowledged it since it was listed.
        with contextlib.suppress(NotFound, Gone):
            yield client.message_metadata(message_id)


def _with_stdin(message_ids: Iterable[str]) -> Iterator[str]:
    for message_id in message_ids:
        if message_id == STDIN:
            yield from (line.strip() for line in sys.stdin if line.strip())
        else:
            yield message_id


def _to_stdout(session: Session, message_id: str, *, ack: bool) -> None:
    session.out.content_goes_to_stdout()
    target = sys.stdout.buffer
    done = 0
    try:
        with session.client() as client:
            opened = client.retrieve_message(message_id, verify_checksum=True)
            with session.out.bar(f"Receiving {message_id}") as bar, opened as message:
                for block in message.iter_bytes():
                    target.write(block)
                    done += len(block)
                    bar(done)
                target.flush()
            if ack:
                client.acknowledge_message(message_id)
    except BrokenPipeError:
        raise
    except BaseException as error:
        if done:
            error.add_note("What was written to stdout is incomplete, and must not be used.")
        raise
    session.out.result(
        {**_record(message.metadata), "path": STDOUT, "bytes": done, "verified": message.verified, "acknowledged": ack},
        f"{message_id}: {size(done)} written to stdout{', and acknowledged' if ack else ''}.",
    )


@contextlib.contextmanager
def _shown(session: Session, label: str) -> Iterator[Callable[[ReceiveProgress], object]]:
    """A bar for all that arrives while the block runs; says how to go on if it is interrupted."""
    arrived: dict[str, ReceiveProgress] = {}
    try:
        with session.out.bar(label) as bar:

            def show(arriving: ReceiveProgress) -> None:
                arrived[arriving.message_id] = arriving
                seen = list(arrived.values())
                bar(sum(one.bytes_done for one in seen), sum(one.bytes_total or one.bytes_done for one in seen))

            yield show
    except KeyboardInterrupt as interruption:
        interruption.add_note("What has arrived is kept: run the same command again to go on.")
        raise


def _these(session: Session, message_ids: list[str], folder: Path, *, ack: bool) -> None:
    from nel_mesh.models import Report

    with session.client() as client:
        for message_id in message_ids:
            metadata = client.message_metadata(message_id)
            if isinstance(metadata, Report):
                _take_report(session, client, metadata, ack=ack)
                continue
            with _shown(session, f"Receiving {message_id}") as progress:
                received = client.receive_file(message_id, folder, progress=progress)
            if ack:
                client.acknowledge_message(message_id)
            _show_file(session, received, acknowledged=ack)
    if not ack:
        session.out.note("Still in the inbox: `nel-mesh ack` with the id removes a message once its file is safe.")


def _all(session: Session, folder: Path, workflow_id: str | None, limit: int | None, concurrency: int) -> None:
    with session.client() as client:
        with _shown(session, "Receiving") as progress:
            collection = client.receive_messages(
                folder, workflow_filter=workflow_id, limit=limit, concurrency=concurrency, progress=progress
            )
        _show_collection(session, client, collection)


def _show_file(session: Session, received: ReceivedFile, *, acknowledged: bool) -> None:
    metadata = received.metadata
    checked = {True: ", checksum verified", False: ", checksum differs", None: ""}[received.verified]
    session.out.result(
        {
            **_record(metadata),
            "path": str(received.path),
            "bytes": received.bytes,
            "verified": received.verified,
            "acknowledged": acknowledged,
        },
        f"{received.path}: {metadata.workflow_id or metadata.message_type} from {metadata.sender or 'MESH'}, "
        f"{size(received.bytes)}{checked}.",
        brief=str(received.path),
    )


def _take_report(session: Session, client: MeshClient, report: Report, *, ack: bool) -> None:
    if ack:
        client.acknowledge_message(report.message_id)
    _show_report(session, report, acknowledged=ack)


def _show_report(session: Session, report: Report, *, acknowledged: bool) -> None:
    session.out.result(
        {**_record(report), "acknowledged": acknowledged},
        f"Report {report.message_id}: message {report.linked_message_id} failed: "
        f"{report.status_description or report.status_event} (code {report.status_code}).",
    )


def _show_collection(session: Session, client: MeshClient, collection: ReceiveResult) -> None:
    failed = {failure.message_id for failure in collection.failed}
    for received in collection.files:
        _show_file(session, received, acknowledged=received.metadata.message_id not in failed)
    for report in collection.reports:
        _show_report(session, report, acknowledged=report.message_id not in failed)
    if collection.already_delivered:
        session.out.note(f"Received before, now acknowledged again: {', '.join(collection.already_delivered)}.")
    if collection.locked:
        session.out.note(f"Another process is receiving: {', '.join(collection.locked)}.")
    if not (collection.files or collection.reports or failed):
        session.out.note("Nothing new in the inbox.")
    _tell_failed(session, collection)


def _tell_failed(session: Session, collection: ReceiveResult) -> None:
    from nel_mesh.cli.failures import failure_of

    code = 0
    for one in collection.failed:
        failure = failure_of(one.error)
        session.out.error(f"{one.message_id}: {failure.text}", {**failure.record, "message_id": one.message_id})
        code = code or failure.code
    if code:
        raise typer.Exit(code)
