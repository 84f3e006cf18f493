"""`nel-mesh send` and `nel-mesh track`: what leaves this mailbox, and what becomes of it."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.output import local_time, size
from nel_mesh.cli.session import Session, session_of

if TYPE_CHECKING:
    from nel_mesh import MeshClient, SendReceipt, Tracking

STDIN = "-"


def send(
    ctx: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="The files; - reads stdin.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="MAILBOX", help="Mailbox id of the recipient. Default: default_to.")
    ] = None,
    workflow_id: Annotated[
        str | None, typer.Option("--workflow-id", metavar="ID", help="Workflow id. Default: default_workflow_id.")
    ] = None,
    subject: Annotated[str | None, typer.Option(metavar="TEXT", help="For the recipient.")] = None,
    local_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Your own id for it, unique. Default: one is made.")
    ] = None,
    file_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the recipient is told. Default: the file's own name.")
    ] = None,
    partner_id: Annotated[str | None, typer.Option(metavar="ID", help="For the recipient.")] = None,
    content_type: Annotated[str | None, typer.Option(metavar="TYPE", help="The content's media type.")] = None,
    checksum: Annotated[str | None, typer.Option(metavar="TEXT", help="The content's checksum, passed on.")] = None,
    compress: Annotated[bool, typer.Option("--compress", help="Gzip it on its way.")] = False,
    compressed: Annotated[bool, typer.Option("--compressed", help="Tell that it was compressed before.")] = False,
    encrypted: Annotated[bool, typer.Option("--encrypted", help="Tell that it was encrypted before.")] = False,
    transfers: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to remember unfinished sends. Default: your state folder."),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, though an interrupted send could go on.")
    ] = False,
) -> None:
    """Sends files, each as a message.

    If a send is interrupted, run the same command again: it goes on after what MESH has. Standard input cannot be
    read twice, so that is always sent from its beginning. Several files are sent in order, until one fails.

    \b
    Examples:
      nel-mesh send results.csv --to X26ABC2 --workflow-id PATH_RESULTS --compress
      pg_dump lab | nel-mesh send - --to X26ABC2 --workflow-id BACKUP
    """
    session = session_of(ctx)
    if len(files) > 1 and (STDIN in files or local_id or file_name or checksum):
        raise typer.BadParameter("-, --local-id, --file-name and --checksum are for one file at a time")
    for file in files:
        _check(file)
    settings = session.load_settings()
    options = {
        "to": _required("to", to or settings.default_to),
        "workflow_id": _required("workflow-id", workflow_id or settings.default_workflow_id),
        "subject": subject,
        "local_id": local_id,
        "file_name": file_name,
        "partner_id": partner_id,
        "content_type": content_type,
        "checksum": checksum,
        "compress": compress,
        "compressed": compressed,
        "encrypted": encrypted,
    }
    with session.client() as client:
        for number, file in enumerate(files, start=1):
            try:
                _send(session, client, file, options, transfers, restart=restart)
            except BaseException as error:
                if rest := files[number:]:
                    error.add_note(f"Not begun: {', '.join(rest)}.")
                raise


def _required(option: str, value: str | None) -> str:
    if value is None:
        setting = f"default_{option.replace('-', '_')}"
        raise typer.BadParameter(f"--{option} is required, or {setting} in the settings")
    return value


def track(
    ctx: typer.Context,
    message_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Messages that this mailbox sent.")],
    wait: Annotated[bool, typer.Option("--wait", help="Ask until it is acknowledged or has failed.")] = False,
    timeout_in_seconds: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait. Default: 5 days.")
    ] = 5 * 24 * 3600.0,
    poll_in_seconds: Annotated[
        float,
        typer.Option("--poll", metavar="SECONDS", min=1, help="Between the first two times of asking; it doubles."),
    ] = 30.0,
) -> None:
    """Says what has become of a message that was sent.

    Its status is accepted (it waits in the recipient's inbox), acknowledged (the recipient has it) or error. MESH asks
    not to be asked often. Exit code 12: it failed; 13: it was not collected in time (with --wait).

    \b
    Examples:
      nel-mesh track 20240101120000000000_0A1B2C
      nel-mesh track 20240101120000000000_0A1B2C --wait --timeout 3600
    """
    session = session_of(ctx)
    code = ExitCode.OK
    with session.client() as client:
        for message_id in message_ids:
            if wait:
                session.out.note("Waiting for the recipient. Ctrl-C ends the waiting, and changes nothing.")
                tracking = client.wait_for_delivery(
                    message_id, first_wait_in_seconds=poll_in_seconds, deadline_in_seconds=timeout_in_seconds
                )
            else:
                tracking = client.track_message(message_id)
            _show_tracking(session, tracking)
            code = code or _code_of(tracking, waited=wait)
    if code:
        raise typer.Exit(code)


def _check(file: str) -> None:
    """Raises OSError for what cannot be sent, before anything is."""
    if file == STDIN:
        return
    mode = os.stat(file).st_mode  # noqa: PTH116  a Path would forget a trailing slash
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), file)
    with open(file, "rb"):  # noqa: PTH123
        pass


def _send(
    session: Session,
    client: MeshClient,
    file: str,
    options: dict[str, Any],
    transfers: Path | None,
    *,
    restart: bool,
) -> None:
    from nel_mesh.cli.unfinished import Unfinished

    is_stdin = file == STDIN
    unfinished = None if is_stdin else Unfinished.of(session, client.mailbox_id, Path(file), options, transfers)
    resumed = False
    if unfinished is not None:
        if restart:
            unfinished.forget()
        resumed = unfinished.exists
        if resumed:
            session.out.note(f"{file}: going on with a send that was interrupted{unfinished.progress()}.")
    try:
        with session.out.bar(f"Sending {'stdin' if is_stdin else Path(file).name}") as bar:
            given = {**options, "progress": lambda progress: bar(progress.bytes_done, progress.bytes_total)}
            if is_stdin:
                receipt = client.send_message(sys.stdin.buffer, **given)
            else:
                receipt = client.send_file(file, **given, resume=unfinished.path if unfinished else None)
    except BaseException as error:
        if unfinished is not None:
            unfinished.explain(error)
        raise
    if unfinished is not None:
        unfinished.forget()
    _show_receipt(session, file, receipt, options, resumed=resumed)


def _show_receipt(session: Session, file: str, receipt: SendReceipt, options: dict[str, Any], *, resumed: bool) -> None:
    wire = "" if receipt.bytes == receipt.bytes_on_wire else f", {size(receipt.bytes_on_wire)} on the wire"
    chunks = "" if receipt.chunks == 1 else f" in {receipt.chunks} chunks"
    session.out.result(
        {
            "file": file,
            "message_id": receipt.message_id,
            "local_id": receipt.local_id,
            "to": options["to"],
            "workflow_id": options["workflow_id"],
            "bytes": receipt.bytes,
            "bytes_on_wire": receipt.bytes_on_wire,
            "chunks": receipt.chunks,
            "resumed": resumed,
        },
        f"{file}: sent to {options['to']} as {receipt.message_id} ({size(receipt.bytes)}{chunks}{wire}).",
        brief=receipt.message_id,
    )


def _show_tracking(session: Session, tracking: Tracking) -> None:
    words = [tracking.message_id + ":", tracking.status or "unknown"]
    if tracking.status_timestamp:
        words.append(f"since {local_time(tracking.status_timestamp)}")
    if tracking.recipient:
        name = f" ({tracking.recipient_name})" if tracking.recipient_name else ""
        words.append(f"for {tracking.recipient}{name}")
    failure = " ".join(
        word for word in (tracking.status_event, tracking.status_code, tracking.status_description) if word
    )
    if failure and tracking.failed:
        words.append(f"- MESH says: {failure}")
    text = " ".join(words)
    session.out.result(tracking.model_dump(mode="json"), f"{text}.", brief=tracking.status)


def _code_of(tracking: Tracking, *, waited: bool) -> ExitCode:
    if tracking.failed:
        return ExitCode.NOT_DELIVERED
    return ExitCode.NOT_YET if waited and tracking.status != "acknowledged" else ExitCode.OK
