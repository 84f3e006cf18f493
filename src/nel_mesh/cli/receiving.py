"""`nel-mesh receive`: messages into files, or to stdout; `nel-mesh received`: those of earlier runs."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import queue
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.failures import CommandFailed, Failure, failure_of, not_in_inbox, simple
from nel_mesh.cli.inbox import Filter, Limit
from nel_mesh.cli.session import Session, session_of
from nel_mesh.cli.text import size

if TYPE_CHECKING:
    from nel_mesh import (
        Destination,
        JournalEntry,
        ListableJournal,
        Message,
        ReceivedFile,
        ReceiveProgress,
        ReceiveResult,
        Report,
    )

STDOUT = "-"

_Journal = Annotated[
    Path | None,
    typer.Option(
        "--journal", metavar="FILE", help="Journal of received messages, best on a local disk. Default: where they go."
    ),
]


def receive(
    ctx: typer.Context,
    into: Annotated[
        str,
        typer.Option(
            "--into",
            metavar="DIR",
            help="Folder for the files, s3://bucket/key, azure://account/container/name or sftp://host/folder; - "
            "writes one message to stdout.",
        ),
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
    sidecar: Annotated[
        bool, typer.Option("--sidecar", help="Also write the metadata of each, as JSON, to its name with .json added.")
    ] = False,
    journal: _Journal = None,
    concurrency: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, max=64, help="Messages to receive at the same time.")
    ] = 1,
) -> None:
    """Receive messages into files.

    Without ids: the whole inbox, with its reports. With ids: only those, and without --ack they stay in the inbox. A
    message is acknowledged once its file is complete, verified and durable, and recorded in the journal; so none is
    stored twice. One that fails stays in the inbox and does not stop the others. No file is ever replaced. If the
    command fails or is interrupted, run it again: it resumes.

    `--into -` writes the content of one message to stdout while it arrives. If the exit code is not 0, the content is
    incomplete or damaged and must not be used. With --ack, direct stdout to a file: it is then durable before the
    message is acknowledged. Behind a pipe, that cannot be known.

    With `--into` a URL messages become objects in a store, as docs/destinations.md says; the key is a template such as
    mesh/{workflow_id}/{message_id}.

    --sidecar writes subject, recipient and file name too, which may be patient data: results.csv.json is there before
    results.csv is.

    \b
    Examples:
      nel-mesh receive --into inbox
      nel-mesh receive --into s3://results/mesh
      nel-mesh receive 20240101120000000000_0A1B2C --into inbox --ack
      nel-mesh receive 20240101120000000000_0A1B2C --into - | gunzip > results.csv
    """
    session = session_of(ctx)
    if message_ids and (workflow_id or limit):
        raise typer.BadParameter("--workflow-id and --limit are for receiving without ids")
    if into == STDOUT:
        if len(message_ids or ()) != 1:
            raise typer.BadParameter("--into - takes exactly one message id")
        if sidecar:
            raise typer.BadParameter("--sidecar is for files; --json shows the metadata")
        _to_stdout(session, (message_ids or [""])[0], ack=bool(ack))
        return
    if ack is False and not message_ids:
        raise typer.BadParameter("--no-ack needs message ids: `nel-mesh inbox --quiet` lists them")
    if Path(into).exists() and not Path(into).is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), into)
    acknowledge = ack if ack is not None else not message_ids
    with session.client() as client, _opened(into, journal, sidecar=sidecar) as (destination, book):
        with _progress(session, into) as progress:
            receive_all = partial(
                client.receive_messages,
                destination,
                message_ids=message_ids,
                acknowledge=acknowledge,
                journal=book,
                workflow_filter=workflow_id,
                limit=limit,
                concurrency=concurrency,
                progress=progress,
            )
            result = receive_all() if concurrency == 1 else _in_thread(receive_all)
        entries = _entries(book, client.mailbox_id, result)
    _show_result(session, result, entries, by_id=bool(message_ids), acknowledged=acknowledge)


def received(
    ctx: typer.Context,
    into: Annotated[str, typer.Option("--into", metavar="DIR", help="Folder of the files, or a URL.")] = ".",
    journal: _Journal = None,
) -> None:
    """List the messages that were received.

    Reads the journal of `nel-mesh receive`: sender, workflow id, time and file of each message, whether or not the
    file is still there.

    \b
    Example:
      nel-mesh received --into inbox
    """
    session = session_of(ctx)
    entries: list[JournalEntry] = []
    with _opened(into, journal) as (_, book):
        if book.exists():
            with contextlib.closing(book):
                book.open()
                entries = book.entries()
    session.out.table(
        [dataclasses.asdict(entry) for entry in entries],
        {
            "message_id": "Message",
            "sender": "From",
            "workflow_id": "Workflow",
            "bytes": "Bytes",
            "delivered_at": "Received",
            "location": "File",
        },
        empty="Nothing was received there.",
    )


@contextlib.contextmanager
def _opened(into: str, journal: Path | None, *, sidecar: bool = False) -> Iterator[tuple[Destination, ListableJournal]]:
    """The destination of a folder or URL, and the journal of what is there."""
    from nel_mesh import SqliteJournal, open_destination

    with contextlib.closing(open_destination(into, sidecar=sidecar)) as destination:
        yield destination, SqliteJournal(journal) if journal else destination.journal()


def _to_stdout(session: Session, message_id: str, *, ack: bool) -> None:
    session.out.content_goes_to_stdout()
    content = _Stdout(session, ack=ack)
    try:
        with session.client() as client, session.out.bar(f"Receiving {message_id}") as content.progress:
            result = client.receive_messages(
                content.take, message_ids=[message_id], acknowledge=ack, on_report=content.take_report
            )
    except KeyboardInterrupt as interruption:
        content.annotate(interruption)
        raise
    for one in (*result.failed, *result.unacknowledged):
        # The result holds no errors of a handler, only their kind.
        error = content.error or one.error
        content.annotate(error)
        raise error
    if result.gone or content.metadata is None:
        raise CommandFailed(not_in_inbox())
    session.out.result(
        {
            **content.metadata,
            "path": STDOUT,
            "bytes": content.bytes,
            "verified": content.verified,
            "acknowledged": ack,
        },
        f"{message_id}: {size(content.bytes)} written to stdout{', and acknowledged' if ack else ''}.",
    )


class _Stdout:
    """A message's content on its way to stdout."""

    def __init__(self, session: Session, *, ack: bool) -> None:
        self._session = session
        self._ack = ack
        self._is_complete = False
        self.error: OSError | None = None
        self.progress: Callable[[int], object] = lambda done: None
        self.bytes = 0
        self.metadata: dict[str, object] | None = None
        self.verified: bool | None = None

    def take(self, message: Message) -> None:
        """Write the content."""
        self._write(message.iter_bytes())
        self.metadata, self.verified = message.metadata.model_dump(), message.verified

    def take_report(self, report: Report) -> None:
        """Write a report as JSON: its metadata is all there is to keep."""
        self._write([report.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"])
        self.metadata = report.model_dump()

    def annotate(self, error: BaseException) -> None:
        """Add to an error what there is on stdout."""
        if self._is_complete:
            error.add_note("The content on stdout is complete.")
        elif self.bytes:
            error.add_note("The content on stdout is incomplete, and must not be used.")

    def _write(self, blocks: Iterable[bytes]) -> None:
        self._is_complete = False
        for block in blocks:
            with self._written():
                sys.stdout.buffer.write(block)
            self.bytes += len(block)
            self.progress(self.bytes)
        with self._written():
            is_durable = _flush(sys.stdout.buffer)
        self._is_complete = True
        if self._ack and not is_durable:
            self._session.out.note("stdout is not a file: whether its reader has stored the content is not known.")

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = "standard output"
            self.error = error
            raise


def _flush(target: IO[bytes]) -> bool:
    """Make what was written durable. Returns whether that can be known: only of a file, not of a pipe or a terminal."""
    target.flush()
    if not stat.S_ISREG(os.fstat(target.fileno()).st_mode):
        return False
    os.fsync(target.fileno())
    return True


def _in_thread(work: Callable[[], ReceiveResult]) -> ReceiveResult:
    """Run the work in a thread that ends with the process.

    A signal then ends the command at once. In the main thread, the client would first wait for all messages that it is
    receiving.
    """
    results: queue.SimpleQueue[tuple[ReceiveResult | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the main thread
            results.put((None, error))

    threading.Thread(target=run, name="nel-mesh-receive", daemon=True).start()
    while True:
        # On Windows a wait without a limit hears no signal.
        with contextlib.suppress(queue.Empty):
            result, error = results.get(timeout=0.25)
            break
    if result is None:
        raise error or RuntimeError("there is no result")
    return result


@contextlib.contextmanager
def _progress(session: Session, into: str) -> Iterator[Callable[[ReceiveProgress], object]]:
    """A bar for all messages that arrive in the block; an interruption gets a note on how to resume."""
    seen: dict[str, ReceiveProgress] = {}
    try:
        with session.out.bar("Receiving") as bar:

            def show(progress: ReceiveProgress) -> None:
                seen[progress.message_id] = progress
                each = list(seen.values())
                bar(sum(one.bytes_done for one in each), sum(one.bytes_total or one.bytes_done for one in each))

            yield show
    except KeyboardInterrupt as interruption:
        interruption.add_note(
            "What has arrived is kept: run the same command again to resume. "
            f"`nel-mesh received --into {into}` lists what is complete."
        )
        raise


def _entries(journal: ListableJournal, mailbox_id: str, result: ReceiveResult) -> dict[str, JournalEntry]:
    """Look up the messages of which the result has no file."""
    message_ids = [
        *(report.message_id for report in result.reports),
        *(one.message_id for one in result.unacknowledged),
        *result.already_delivered,
    ]
    if not message_ids:
        return {}
    with contextlib.closing(journal):
        journal.open()
        found = (journal.find(mailbox_id, message_id) for message_id in message_ids)
        return {entry.message_id: entry for entry in found if entry is not None}


def _show_result(
    session: Session, result: ReceiveResult, entries: dict[str, JournalEntry], *, by_id: bool, acknowledged: bool
) -> None:
    unacknowledged = {one.message_id for one in result.unacknowledged}
    for file in result.files:
        _show_file(session, file, acknowledged=acknowledged and file.metadata.message_id not in unacknowledged)
    for report in result.reports:
        _show_report(session, report, entries.get(report.message_id), acknowledged=acknowledged)
    for message_id in result.already_delivered:
        _show_already_received(session, message_id, entries.get(message_id), acknowledged=acknowledged)
    if not acknowledged and (result.files or result.reports):
        session.out.note(
            "Still in the inbox: once its file is safe, `nel-mesh ack` with the id deletes a message there."
        )
    failures = list(_failures(result, entries))
    if by_id:
        failures += (not_in_inbox().about(message_id) for message_id in result.gone)
        failures += (_is_locked().about(message_id) for message_id in result.locked)
    elif result.gone:
        session.out.note(f"Taken by another process meanwhile, or expired: {', '.join(result.gone)}.")
    if result.locked and not by_id:
        session.out.note(f"Another process is receiving: {', '.join(result.locked)}.")
    if not (result.files or result.reports or result.already_delivered or failures):
        session.out.note("Nothing new in the inbox.")
    for failure in failures:
        session.out.failure(failure)
    if failures:
        raise typer.Exit(failures[0].code)


def _failures(result: ReceiveResult, entries: dict[str, JournalEntry]) -> Iterator[Failure]:
    for one in result.failed:
        yield failure_of(one.error).about(one.message_id)
    for one in result.unacknowledged:
        entry = entries.get(one.message_id)
        path = entry.location if entry else None
        sentence = (
            f"It was received{f', as {path}' if path else ''}; only its acknowledgement is open, and the next run "
        )
        sentence += "makes it without receiving the message again."
        yield failure_of(one.error).about(one.message_id, sentence, received=True, path=path)
    if result.error is not None:
        yield failure_of(result.error)


def _is_locked() -> Failure:
    text = "Another process is receiving it. Run the same command again when that has ended."
    return simple(ExitCode.TRY_LATER, "locked", text)


def _show_file(session: Session, received: ReceivedFile, *, acknowledged: bool) -> None:
    metadata = received.metadata
    checked = {True: ", checksum verified", False: ", checksum differs", None: ""}[received.verified]
    session.out.result(
        {
            **metadata.model_dump(),
            "path": received.location,
            "bytes": received.bytes,
            "verified": received.verified,
            "acknowledged": acknowledged,
            "already_received": False,
        },
        f"{received.location}: {metadata.workflow_id or metadata.message_type} from {metadata.sender or 'MESH'}, "
        f"{size(received.bytes)}{checked}.",
        brief=received.location,
    )


def _show_report(session: Session, report: Report, entry: JournalEntry | None, *, acknowledged: bool) -> None:
    path = entry.location if entry else None
    session.out.result(
        {**report.model_dump(), "path": path, "acknowledged": acknowledged, "already_received": False},
        f"{path}: report that message {report.linked_message_id} failed: "
        f"{report.status_description or report.status_event} (code {report.status_code}).",
        brief=path,
    )


def _show_already_received(
    session: Session, message_id: str, entry: JournalEntry | None, *, acknowledged: bool
) -> None:
    fields = dataclasses.asdict(entry) if entry else {"message_id": message_id, "location": None}
    path = fields.pop("location")
    session.out.result(
        {**fields, "path": path, "acknowledged": acknowledged, "already_received": True},
        f"{path or message_id}: received before{', and acknowledged now' if acknowledged else ''}.",
        brief=path,
    )
