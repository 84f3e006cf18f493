"""`nel-mesh receive`: messages into files, or to stdout."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from nel_mesh.cli.inbox import Filter, Limit
from nel_mesh.cli.output import size
from nel_mesh.cli.session import Session, session_of

if TYPE_CHECKING:
    from nel_mesh import MeshClient, ReceivedFile, ReceiveProgress, ReceiveResult, Report

STDOUT = "-"


def receive(
    ctx: typer.Context,
    into: Annotated[
        str, typer.Option("--into", metavar="DIR", help="Folder for the files; - writes one message to stdout.")
    ],
    message_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Messages to receive. Default: all.")
    ] = None,
    ack: Annotated[
        bool | None,
        typer.Option(
            "--ack/--no-ack",
            help="Acknowledge each message once it is stored, so that MESH deletes it. Default: --ack without ids, "
            "--no-ack with ids.",
        ),
    ] = None,
    workflow_id: Filter = None,
    limit: Limit = None,
    concurrency: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, max=64, help="Messages to receive at the same time.")
    ] = 1,
) -> None:
    """Receive messages into files.

    Without ids: the whole inbox, with its reports. Each message is acknowledged once its file is complete, verified and
    durable; a journal in the folder records it, so none is stored twice. One that fails stays in the inbox and does not
    stop the others. With ids: only those, and without --ack they stay in the inbox. No file is ever replaced. If the
    command fails or is interrupted, run it again: it resumes.

    `--into -` writes the content of one message to stdout while it arrives. If the exit code is not 0, the content is
    incomplete or damaged and must not be used. With --ack, direct stdout to a file: it is then durable before the
    message is acknowledged. Behind a pipe, that cannot be known.

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
            raise typer.BadParameter("--no-ack needs message ids: `nel-mesh inbox --quiet` lists them")
        _all(session, Path(into), workflow_id, limit, concurrency)


def _to_stdout(session: Session, message_id: str, *, ack: bool) -> None:
    from nel_mesh import Report

    session.out.content_goes_to_stdout()
    target = sys.stdout.buffer
    done, is_complete = 0, False
    try:
        with session.client() as client:
            opened = client.retrieve_message(message_id, verify_checksum=True)
            with session.out.bar(f"Receiving {message_id}") as bar, opened as message:
                blocks = message.iter_bytes()
                if isinstance(message.metadata, Report):
                    # It has no content: its metadata is all there is to keep.
                    blocks = iter([message.metadata.model_dump_json(indent=1).encode() + b"\n"])
                for block in blocks:
                    target.write(block)
                    done += len(block)
                    bar(done)
            is_durable = _flush(target)
            is_complete = True
            if ack:
                if not is_durable:
                    session.out.note("stdout is not a file: whether its reader has stored the content is not known.")
                client.acknowledge_message(message_id)
    except BrokenPipeError:
        raise
    except BaseException as error:
        if is_complete:
            error.add_note("The content on stdout is complete.")
        elif done:
            error.add_note("The content on stdout is incomplete, and must not be used.")
        raise
    session.out.result(
        {
            **message.metadata.model_dump(),
            "path": STDOUT,
            "bytes": done,
            "verified": message.verified,
            "acknowledged": ack,
        },
        f"{message_id}: {size(done)} written to stdout{', and acknowledged' if ack else ''}.",
    )


def _flush(target: IO[bytes]) -> bool:
    """Make what was written durable. Returns whether that can be known: only of a file, not of a pipe or a terminal."""
    target.flush()
    if not stat.S_ISREG(os.fstat(target.fileno()).st_mode):
        return False
    os.fsync(target.fileno())
    return True


@contextlib.contextmanager
def _progress(session: Session, label: str) -> Iterator[Callable[[ReceiveProgress], object]]:
    """A bar for all messages that arrive in the block; an interruption gets a note on how to resume."""
    seen: dict[str, ReceiveProgress] = {}
    try:
        with session.out.bar(label) as bar:

            def show(progress: ReceiveProgress) -> None:
                seen[progress.message_id] = progress
                each = list(seen.values())
                bar(sum(one.bytes_done for one in each), sum(one.bytes_total or one.bytes_done for one in each))

            yield show
    except KeyboardInterrupt as interruption:
        interruption.add_note("What has arrived is kept: run the same command again to resume.")
        raise


def _these(session: Session, message_ids: list[str], folder: Path, *, ack: bool) -> None:
    from nel_mesh import Report

    with session.client() as client:
        for message_id in message_ids:
            metadata = client.message_metadata(message_id)
            if isinstance(metadata, Report):
                _take_report(session, client, metadata, ack=ack)
                continue
            with _progress(session, f"Receiving {message_id}") as progress:
                received = client.receive_file(message_id, folder, progress=progress)
            if ack:
                client.acknowledge_message(message_id)
            _show_file(session, received, acknowledged=ack)
    if not ack:
        session.out.note(
            "Still in the inbox: once its file is safe, `nel-mesh ack` with the id deletes a message there."
        )


def _all(session: Session, folder: Path, workflow_id: str | None, limit: int | None, concurrency: int) -> None:
    with session.client() as client:
        with _progress(session, "Receiving") as progress:
            collection = client.receive_messages(
                folder, workflow_filter=workflow_id, limit=limit, concurrency=concurrency, progress=progress
            )
        _show_collection(session, client, collection)


def _show_file(session: Session, received: ReceivedFile, *, acknowledged: bool) -> None:
    metadata = received.metadata
    checked = {True: ", checksum verified", False: ", checksum differs", None: ""}[received.verified]
    session.out.result(
        {
            **metadata.model_dump(),
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
        {**report.model_dump(), "acknowledged": acknowledged},
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
        session.out.failure(failure.about(one.message_id))
        code = code or failure.code
    if code:
        raise typer.Exit(code)
