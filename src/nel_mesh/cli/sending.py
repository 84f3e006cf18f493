"""`nel-mesh send` and `nel-mesh track`: messages of this mailbox to others."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nel_mesh.cli.exit_codes import ExitCode, exit_code_of
from nel_mesh.cli.notices import without_record
from nel_mesh.cli.session import Session, session_of, transfers_folder
from nel_mesh.cli.text import local_time, size
from nel_mesh.errors import MeshError, Outcome, StorageError

if TYPE_CHECKING:
    from nel_mesh import MeshClient, SendReceipt, Tracking, Transfer, TransferState

STDIN = "-"

_FIVE_DAYS_IN_SECONDS = 5 * 24 * 3600.0


def send(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Files, or URLs with s3://, azure:// or sftp://; - reads stdin."),
    ],
    to: Annotated[
        str | None, typer.Option("--to", metavar="MAILBOX", help="Mailbox id of the recipient. Default: default_to.")
    ] = None,
    workflow_id: Annotated[
        str | None, typer.Option("--workflow-id", metavar="ID", help="Workflow id. Default: default_workflow_id.")
    ] = None,
    subject: Annotated[str | None, typer.Option(metavar="TEXT", help="Subject, for the recipient.")] = None,
    local_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Your own unique id for it. Default: a new one.")
    ] = None,
    file_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="File name for the recipient. Default: the file's own.")
    ] = None,
    partner_id: Annotated[str | None, typer.Option(metavar="ID", help="Partner id, for the recipient.")] = None,
    content_type: Annotated[str | None, typer.Option(metavar="TYPE", help="Media type of the content.")] = None,
    checksum: Annotated[str | None, typer.Option(metavar="TEXT", help="Checksum of the content, passed on.")] = None,
    compress: Annotated[bool, typer.Option("--compress", help="Gzip the content in transit.")] = False,
    compressed: Annotated[bool, typer.Option("--compressed", help="Mark the content as compressed already.")] = False,
    encrypted: Annotated[bool, typer.Option("--encrypted", help="Mark the content as encrypted already.")] = False,
    transfers: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for records of unfinished sends. Default: your state folder."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Send as a new message; do not resume.")] = False,
) -> None:
    """Send files, each as a message.

    If the command fails or is interrupted, run it again: it resumes after the part that MESH has, and does not repeat
    what has been sent. Standard input and named pipes cannot be read twice, so they are always sent from the start.
    Several files are sent in order, until one fails.

    \b
    Examples:
      nel-mesh send results.csv --to X26ABC2 --workflow-id PATH_RESULTS --compress
      nel-mesh send s3://extracts/results.csv --to X26ABC2 --workflow-id PATH_RESULTS
      pg_dump lab | nel-mesh send - --to X26ABC2 --workflow-id BACKUP
    """
    session = session_of(ctx)
    if len(files) > 1 and (STDIN in files or local_id or file_name or checksum):
        raise typer.BadParameter("-, --local-id, --file-name and --checksum are for one file at a time")
    for file in files:
        _check_readable(file)
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
    if transfers is not None:
        transfers.mkdir(mode=0o700, parents=True, exist_ok=True)
    with session.client() as client:
        sent = [
            _send(session, client, files, number, options, transfers, restart=restart) for number in range(len(files))
        ]
    # Not before the whole command has succeeded: the same command again must not send any of it twice.
    for transfer in sent:
        if transfer is not None:
            _forget(session, transfer)


def _required(option: str, value: str | None) -> str:
    if value is None:
        setting = f"default_{option.replace('-', '_')}"
        raise typer.BadParameter(f"--{option} is required, or {setting} in the settings")
    return value


def track(
    ctx: typer.Context,
    message_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Messages that this mailbox sent.")],
    by_local_id: Annotated[bool, typer.Option("--local-id", help="The ids are your own local ids.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is acknowledged or has failed.")] = False,
    timeout_in_seconds: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=0, show_default=False, help="Longest wait. Default: 5 days."),
    ] = _FIVE_DAYS_IN_SECONDS,
    poll_in_seconds: Annotated[
        float,
        typer.Option("--poll", metavar="SECONDS", min=1, show_default="30", help="First interval; it doubles."),
    ] = 30.0,
) -> None:
    """Show the status of sent messages.

    The status is accepted (waiting in the recipient's inbox), acknowledged (the recipient has it) or error. MESH asks
    clients not to poll it often. Exit code 12: it failed; 13: it was not collected in time (with --wait).

    \b
    Examples:
      nel-mesh track 20240101120000000000_0A1B2C
      nel-mesh track 20240101120000000000_0A1B2C --wait --timeout 3600
    """
    session = session_of(ctx)
    code = ExitCode.OK
    with session.client() as client:

        def track_one(message_id: str) -> None:
            nonlocal code
            if by_local_id:
                message_id = _message_id_of(client, message_id)
            if wait:
                session.out.note("Waiting for the recipient. Ctrl-C ends the wait and changes nothing.")
                tracking = client.wait_for_delivery(
                    message_id, first_wait_in_seconds=poll_in_seconds, deadline_in_seconds=timeout_in_seconds
                )
            else:
                tracking = client.track_message(message_id)
            _show_tracking(session, tracking)
            code = code or _code_of(tracking, waited=wait)

        session.for_each(message_ids, track_one)
    if code:
        raise typer.Exit(code)


def _message_id_of(client: MeshClient, local_id: str) -> str:
    from nel_mesh.errors import NotFound

    tracking = client.resolve_send(local_id)
    if tracking is None:
        raise NotFound("MESH knows no message, or several, with this local id", operation="resolve_send")
    return tracking.message_id


def _is_url(file: str) -> bool:
    return "://" in file


def _check_readable(file: str) -> None:
    """Raise OSError for a file that cannot be sent, before any is."""
    if file == STDIN or _is_url(file):
        return
    mode = os.stat(file).st_mode  # noqa: PTH116  a Path would forget a trailing slash
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), file)
    if stat.S_ISREG(mode):
        with open(file, "rb"):  # noqa: PTH123
            pass
    elif not os.access(file, os.R_OK):
        # To open a named pipe and close it again would end its writer.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), file)


def _send(
    session: Session,
    client: MeshClient,
    files: list[str],
    number: int,
    options: dict[str, Any],
    transfers: Path | None,
    *,
    restart: bool,
) -> Transfer | None:
    """Send one of the files and print its receipt. Returns its transfer, of which there is still a record."""
    file = files[number]
    receipt: SendReceipt | None = None
    transfer = _transfer(session, client, files, number, options, transfers)
    try:
        state = transfer.state() if transfer else None
        if transfer and state and (restart or (state.sent and _has_changed(file, state))):
            transfer.forget()
            state = None
        if state is not None:
            session.out.note(f"{file}: {_resuming(state)}.")
        with session.out.bar(f"Sending {'stdin' if file == STDIN else Path(file).name}") as bar:
            given = {**options, "progress": lambda progress: bar(progress.bytes_done, progress.bytes_total)}
            if file == STDIN:
                receipt = client.send_message(sys.stdin.buffer, **given)
            else:
                receipt = client.send_file(file, **given, resume=transfer)
        _show_receipt(session, file, receipt, options, resumed=state is not None)
    except BaseException as error:
        if receipt is not None:
            again = " Run the same command again for the receipt; it is not sent again." if transfer else ""
            error.add_note(f"{file} was sent, as {receipt.message_id}.{again}")
        elif transfer is not None:
            _explain(error, transfer)
        elif isinstance(error, MeshError) and exit_code_of(error) is ExitCode.UNKNOWN:
            error.add_note(f"`nel-mesh track --local-id {error.local_id}` asks MESH whether it has arrived.")
        if rest := files[number + 1 :]:
            error.add_note(f"Not started: {', '.join(rest)}.")
        raise
    return transfer


def _transfer(
    session: Session,
    client: MeshClient,
    files: list[str],
    number: int,
    options: dict[str, Any],
    transfers: Path | None,
) -> Transfer | None:
    """Return the transfer that the same command finds again; None for content that cannot be read twice."""
    from nel_mesh import Transfers

    file = files[number]
    if file == STDIN or not (_is_url(file) or Path(file).is_file()):
        return None
    folder = transfers or transfers_folder()
    if folder is None:
        session.out.warn(without_record("You have no home folder for a record of the send"))
        return None
    # The client warns if no record can be written, and sends all the same.
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    copies = files[:number].count(file)
    where = file if _is_url(file) else str(Path(file).absolute())
    what = json.dumps([client.mailbox_id, where, options, copies], sort_keys=True)
    return Transfers(folder).transfer(hashlib.sha256(what.encode()).hexdigest()[:32])


def _has_changed(file: str, state: TransferState) -> bool:
    if _is_url(file):
        # The client compares it, and refuses to take it for the one that was sent.
        return False
    status = Path(file).stat()
    return (status.st_size, status.st_mtime_ns) != (state.bytes_total, state.modified_ns)


def _resuming(state: TransferState) -> str:
    if state.sent:
        when = local_time(state.began)
        return f"already sent by an earlier run ({when}), so not sent again; --restart sends it as a new message"
    return f"resuming an interrupted send{f' ({_progress(state)})' if state.bytes_done else ''}"


def _progress(state: TransferState) -> str:
    return f"{size(state.bytes_done)} of {size(state.bytes_total)}"


def _explain(error: BaseException, transfer: Transfer) -> None:
    """Add to an error how to resume; forget a send of which MESH has nothing."""
    try:
        state = transfer.state()
        if state is None:
            return
        if isinstance(error, MeshError) and error.outcome is Outcome.NOT_SENT and not state.bytes_done:
            transfer.forget()
            return
    except StorageError:
        return
    if isinstance(error, KeyboardInterrupt):
        # The library's note is for those who have no record.
        error.__notes__ = []
    if isinstance(error, MeshError) and error.outcome is Outcome.UNKNOWN:
        error.add_note("Run the same command again: it asks MESH whether the message has arrived before it sends.")
    else:
        done = f"MESH has {_progress(state)}. " if state.bytes_done else ""
        error.add_note(f"{done}Run the same command again to resume.")
    error.add_note("--restart sends it as a new message.")


def _forget(session: Session, transfer: Transfer) -> None:
    try:
        transfer.forget()
    except StorageError as error:
        session.out.warn(f"The record of the send cannot be removed, so the same command sends nothing: {error.reason}")


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
