"""`nel-mesh agent`: the commands of the unattended agent."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nel_mesh.cli.app import Command, Group
from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.failures import CommandFailed, missing_extra
from nel_mesh.cli.session import Session, session_of
from nel_mesh.cli.text import local_time

if TYPE_CHECKING:
    from nel_mesh.agent.configuration import AgentConfiguration
    from nel_mesh.agent.service import Agent
    from nel_mesh.ledger.ledger import Ledger
    from nel_mesh.ledger.messages import LedgerMessage

app = typer.Typer(cls=Group, add_completion=False, rich_markup_mode=None)

VARIABLE = "NEL_MESH_AGENT"
"""The environment variable that names the configuration file."""

_Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help=f"Configuration file. Default: {VARIABLE}, or agent.toml."),
]
_Numbers = Annotated[list[str], typer.Argument(metavar="ID...", help="Messages, by number, message id or local id.")]
_Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the ledger.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
_Mailbox = Annotated[str, typer.Argument(metavar="MAILBOX", help="Mailbox id.")]


@app.callback()
def _agent() -> None:
    """Empty mailboxes and send files, unattended.

    \b
    Examples:
      nel-mesh agent check --config agent.toml
      nel-mesh agent run --config agent.toml
      nel-mesh agent status
    """


@app.command(cls=Command)
def run(
    ctx: typer.Context,
    config: _Config = None,
    java_config: Annotated[
        Path | None,
        typer.Option("--java-config", metavar="FILE", help="The Java client's meshclient.cfg, in place of --config."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Send what is there, look into each inbox once, and end.")
    ] = False,
) -> None:
    """Run the agent, until it is told to stop.

    Ctrl-C or SIGTERM end it once the messages that are under way are done, or resumable. SIGHUP loads the
    configuration again; if that has faults, the present one stays. Logs go to stderr.

    \b
    Examples:
      nel-mesh agent run
      nel-mesh agent run --config /etc/nel-mesh/agent.toml
      nel-mesh agent run --once
      nel-mesh agent run --java-config /opt/mesh/meshclient.cfg
    """
    session = session_of(ctx)
    with _extra():
        from nel_mesh.agent.java.configuration import load_any, load_java
        from nel_mesh.agent.service import Agent
    _log(session)
    agent = Agent(java_config, read=load_java) if java_config is not None else Agent(_path(config), read=load_any)
    count = len(agent.configuration.mailboxes)

    def ready() -> None:
        session.out.note(f"The agent works on {count} mailbox{'' if count == 1 else 'es'}. Ctrl-C ends it.")

    with _signals(agent):
        agent.run(once=once, on_ready=ready)
    session.out.note("The agent has ended.")


@app.command(cls=Command)
def check(ctx: typer.Context, config: _Config = None) -> None:
    """Check the configuration, and what it names.

    Every fault of the file is listed, with its line. Then folders are tried, and each mailbox is asked for a
    handshake. Exit code 14: something failed.

    \b
    Example:
      nel-mesh agent check --config agent.toml
    """
    session = session_of(ctx)
    with _extra():
        from nel_mesh.agent.checking import steps
    failed = False
    for step in steps(_configuration(config)):
        failed = failed or not step.is_good
        word, style = ("ok", "32") if step.is_good else ("failed", "31")
        text = f"{word:7} {step.name}{f': {step.text}' if step.text else ''}"
        session.out.result(dataclasses.asdict(step), text, brief=text, style=style)
    if failed:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command(cls=Command)
def status(ctx: typer.Context, config: _Config = None) -> None:
    """Say what needs a person now, and how each mailbox is.

    Exit code 14: something needs a person.

    \b
    Examples:
      nel-mesh agent status
      nel-mesh agent status --json
    """
    session = session_of(ctx)
    with _ledger(config) as ledger:
        from nel_mesh.ledger.attention import look

        found = look(ledger.database, ledger.clock.now())
        mailboxes = ledger.mailboxes.all()
        counts = ledger.messages.counts()
    needed = [one for one in found if one.needs_person]
    if needed:
        session.out.note(f"{len(needed)} thing{' needs' if len(needed) == 1 else 's need'} a person:")
    else:
        session.out.note("Nothing needs a person.")
    for one in found:
        mark = "!" if one.needs_person else "."
        session.out.result(
            {"attention": dataclasses.asdict(one)}, f"{mark} {one.text}\n    {one.advice}", brief=f"{mark} {one.text}"
        )
    rows = []
    for mailbox in mailboxes:
        mine = {(str(way), str(state)): n for (name, way, state), n in counts.items() if name == mailbox.mailbox_id}
        rows.append(
            {
                **dataclasses.asdict(mailbox),
                "received": mine.get(("in", "acknowledged"), 0),
                "sent": sum(mine.get(("out", state), 0) for state in ("accepted", "collected", "undelivered")),
                "messages": {f"{way} {state}": n for (way, state), n in mine.items()},
            }
        )
    session.out.table(
        rows,
        {
            "mailbox_id": "Mailbox",
            "last_success_at": "Last success",
            "inbox_count": "In inbox",
            "received": "Received",
            "sent": "Sent",
            "reason": "Fails because",
        },
        empty="The agent has not run yet.",
    )
    if needed:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command(cls=Command)
def messages(
    ctx: typer.Context,
    config: _Config = None,
    mailbox_id: Annotated[str | None, typer.Option("--mailbox", metavar="ID", help="Only of this mailbox.")] = None,
    direction: Annotated[str | None, typer.Option(metavar="WAY", help="in or out.")] = None,
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="STATE", help="Only in this state; repeatable.")
    ] = None,
    workflow_id: Annotated[
        str | None,
        typer.Option("--workflow-id", metavar="ID", help="Only of this workflow id, or `WF*`."),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Maximum number of messages.")] = 50,
    before: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Only messages with a lower number, for the next page.")
    ] = None,
) -> None:
    """List messages, the newest first.

    \b
    Examples:
      nel-mesh agent messages --state quarantined
      nel-mesh agent messages --mailbox X26ABC1 --direction out --json
    """
    session = session_of(ctx)
    with _ledger(config) as ledger:
        from nel_mesh.ledger.search import Filter
        from nel_mesh.ledger.states import Direction, State

        wanted = Filter(
            mailbox_id=mailbox_id.upper() if mailbox_id else None,
            direction=_one_of("direction", direction, Direction) if direction else None,
            states=tuple(_one_of("state", name, State) for name in state or ()),
            workflow_id=workflow_id,
        )
        found = ledger.search.messages(wanted, limit=limit, before=before)
    session.out.table(
        [_record(message) for message in found],
        {
            "number": "Number",
            "direction": "Way",
            "mailbox_id": "Mailbox",
            "state": "State",
            "workflow_id": "Workflow",
            "message_id": "Message id",
            "updated_at": "Since",
            "reason": "Reason",
        },
        empty="There is no such message.",
    )


@app.command(cls=Command)
def show(
    ctx: typer.Context,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="Number, message id or local id.")],
    config: _Config = None,
) -> None:
    """Show a message: its state, each step, where its copies lie, and reports about it.

    \b
    Example:
      nel-mesh agent show 20260101120000000000_0A1B2C
    """
    session = session_of(ctx)
    with _ledger(config) as ledger:
        for message in _found(ledger, [identifier]):
            copies = ledger.search.copies(message.id)
            timeline = ledger.search.timeline(message.id)
            reports = ledger.search.reports_about(message)
            record = {
                **_record(message),
                "copies": [{"location": copy.location, "stored_at": copy.stored_at} for copy in copies],
                "reports": [report.message_id for report in reports],
                "timeline": [dataclasses.asdict(event) for event in timeline],
            }
            lines = [f"{name.replace('_', ' '):20} {value}" for name, value in _record(message).items() if value]
            lines += [f"{'copy':20} {copy.location or copy.destination}" for copy in copies]
            lines += [f"{'report':20} {report.message_id}" for report in reports]
            lines += [
                f"{local_time(event.at)}  {event.kind:15} {event.actor:10} {event.details.get('reason', '')}".rstrip()
                for event in timeline
            ]
            session.out.result(record, "\n".join(lines), brief=f"{message.id} {message.state}")


@app.command(cls=Command)
def retry(
    ctx: typer.Context, ids: _Numbers, config: _Config = None, reason: _Reason = "", dry_run: _DryRun = False
) -> None:
    """Make the next attempt at once.

    A message whose response was lost is never sent blindly: MESH is asked for it first.

    \b
    Example:
      nel-mesh agent retry 4711
    """
    _act(ctx, "retry", ids, config, reason, dry_run=dry_run)


@app.command(cls=Command)
def release(
    ctx: typer.Context, ids: _Numbers, config: _Config = None, reason: _Reason = "", dry_run: _DryRun = False
) -> None:
    """Let messages out of quarantine: they are fetched again.

    \b
    Example:
      nel-mesh agent release 4711 --reason "the sender corrected the checksum"
    """
    _act(ctx, "release", ids, config, reason, dry_run=dry_run)


@app.command(cls=Command)
def resend(
    ctx: typer.Context, ids: _Numbers, config: _Config = None, reason: _Reason = "", dry_run: _DryRun = False
) -> None:
    """Send messages again that were refused or not delivered, each as a new message.

    Refused for a message that the recipient has, or may have: it would arrive twice.

    \b
    Example:
      nel-mesh agent resend 4711 --reason "the recipient has a new mailbox"
    """
    _act(ctx, "resend", ids, config, reason, dry_run=dry_run)


@app.command(cls=Command)
def seen(
    ctx: typer.Context, ids: _Numbers, config: _Config = None, reason: _Reason = "", dry_run: _DryRun = False
) -> None:
    """Mark messages that were refused or not delivered as seen to, so that `status` shows them no more.

    \b
    Example:
      nel-mesh agent seen 4711 --reason "sent by post"
    """
    _act(ctx, "seen", ids, config, reason, dry_run=dry_run)


@app.command(cls=Command)
def pause(ctx: typer.Context, mailbox_id: _Mailbox, config: _Config = None, reason: _Reason = "") -> None:
    """Neither look into a mailbox nor send from it, until it is resumed.

    \b
    Example:
      nel-mesh agent pause X26ABC1 --reason "the server of results is being moved"
    """
    session = session_of(ctx)
    with _ledger(config) as ledger:
        ledger.mailboxes.pause(mailbox_id.upper(), actor=_person(), reason=reason or "no reason given")
    session.out.result({"mailbox_id": mailbox_id.upper(), "paused": True}, f"{mailbox_id.upper()} is paused.")


@app.command(cls=Command)
def resume(ctx: typer.Context, mailbox_id: _Mailbox, config: _Config = None, reason: _Reason = "") -> None:
    """Work on a paused mailbox again, at once.

    \b
    Example:
      nel-mesh agent resume X26ABC1
    """
    session = session_of(ctx)
    with _ledger(config) as ledger:
        ledger.mailboxes.resume(mailbox_id.upper(), actor=_person(), reason=reason)
    session.out.result({"mailbox_id": mailbox_id.upper(), "paused": False}, f"{mailbox_id.upper()} is resumed.")


@app.command(cls=Command)
def visit(ctx: typer.Context, mailbox_id: _Mailbox, config: _Config = None) -> None:
    """Have a mailbox visited at once. Do not do so more often than every 5 minutes.

    \b
    Example:
      nel-mesh agent visit X26ABC1
    """
    session = session_of(ctx)
    with _ledger(config) as ledger:
        ledger.mailboxes.visit_now(mailbox_id.upper(), actor=_person())
    session.out.result({"mailbox_id": mailbox_id.upper()}, f"{mailbox_id.upper()} is visited within a second or two.")


@app.command(cls=Command)
def hooks(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="test", help="Call each hook with an event of the type `test`.")],
    config: _Config = None,
) -> None:
    """Try the hooks of the configuration.

    Exit code 14: one failed.

    \b
    Example:
      nel-mesh agent hooks test
    """
    session = session_of(ctx)
    if action != "test":
        raise typer.BadParameter(f"expected test, not {action}")
    configuration = _configuration(config)
    from nel_mesh.agent.hooks import try_all

    tried = try_all(configuration)
    for one in tried:
        word, style = ("ok", "32") if one.is_good else ("failed", "31")
        text = f"{word:7} {one.hook}: {one.text}"
        session.out.result(dataclasses.asdict(one), text, brief=text, style=style)
    if not tried:
        session.out.note("The configuration has no hooks.")
    if not all(one.is_good for one in tried):
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command(cls=Command)
def init(
    ctx: typer.Context,
    config: _Config = None,
    settings: Annotated[
        str | None, typer.Option("--mailbox-settings", metavar="FILE", help="Settings file of the mailbox.")
    ] = None,
    into: Annotated[str | None, typer.Option(metavar="PLACE", help="Folder or URL of received messages.")] = None,
    outgoing: Annotated[str | None, typer.Option("--from", metavar="DIR", help="Folder of files to be sent.")] = None,
    to: Annotated[str | None, typer.Option(metavar="MAILBOX", help="Recipient of those files.")] = None,
    workflow_id: Annotated[
        str | None, typer.Option("--workflow-id", metavar="ID", help="Workflow id of those files.")
    ] = None,
) -> None:
    """Create a configuration for one mailbox, and ask for what no option gives.

    Without a terminal it asks nothing. An existing file is not replaced.

    \b
    Examples:
      nel-mesh agent init
      nel-mesh agent init --mailbox-settings mesh.toml --into in
    """
    from nel_mesh.check.private_files import already_exists, write_private
    from nel_mesh.cli import prompts
    from nel_mesh.settings import MeshSettings

    session = session_of(ctx)
    path = _path(config)
    if path.exists():
        raise already_exists(path, "or name another with --config")
    asker = prompts.Asker(json=session.json)
    file = asker.required("--mailbox-settings", settings, "Settings file of the mailbox", Path, default="mesh.toml")
    mailbox_id = MeshSettings.from_file(file).mailbox_id
    place = asker.required("--into", into, "Folder or URL for received messages", str, default="in")
    folder = asker.optional("--from", outgoing, "Folder of files to send (empty: none)", Path)
    # Paths in the file begin at its folder.
    base = Path() if path.parent == Path() else Path.cwd()
    text = f"[mailboxes.{mailbox_id}]\nsettings = {_quoted(base / file)}\n\n"
    text += f"[[mailboxes.{mailbox_id}.receive]]\ninto = {_quoted(place if '://' in place else base / place)}\n"
    if folder is not None:
        recipient = asker.required("--to", to, "Recipient of those files", prompts.mailbox_id)
        workflow = asker.required("--workflow-id", workflow_id, "Their workflow id", str)
        text += f"\n[[mailboxes.{mailbox_id}.send]]\nfrom = {_quoted(base / folder)}\n"
        text += f"to = {_quoted(recipient)}\nworkflow_id = {_quoted(workflow)}\n"
    write_private(path, text.encode(), replace=False)
    note = f"{path} was written. Next: nel-mesh agent check --config {path}"
    session.out.result({"path": str(path), "mailbox_id": mailbox_id}, note, brief=str(path))


def _quoted(value: object) -> str:
    import json

    return json.dumps(str(value), ensure_ascii=False)


@app.command(name="import-java", cls=Command)
def import_java(
    ctx: typer.Context,
    java_config: Annotated[Path, typer.Argument(metavar="FILE", help="The Java client's meshclient.cfg.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the new files.")] = Path("nel-mesh"),
) -> None:
    """Write our configuration for the folders of a Java client.

    A settings file for each mailbox has its passwords, and only you can read it. Nothing of the Java client is changed.

    \b
    Example:
      nel-mesh agent import-java /opt/mesh/meshclient.cfg --output /etc/nel-mesh
    """
    from nel_mesh.check.private_files import already_exists, write_private

    session = session_of(ctx)
    with _extra():
        from nel_mesh.agent.java.configuration import converted, read_configuration
    files = converted(read_configuration(java_config), output)
    for name in files:
        if (output / name).exists():
            raise already_exists(output / name, "or name another folder with --output")
    for name, text in files.items():
        write_private(output / name, text.encode())
    path = output / "agent.toml"
    note = f"{path} was written. Next: nel-mesh agent check --config {path}"
    session.out.result({"path": str(path), "files": sorted(files)}, note, brief=str(path))


@app.command(cls=Command)
def audit(
    ctx: typer.Context,
    config: _Config = None,
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Maximum number of events.")] = 1000,
) -> None:
    """Check the chain of events, and list the newest.

    Each event is hashed together with the one before it. Exit code 11: one was changed, or is missing.

    \b
    Example:
      nel-mesh agent audit --json
    """
    session = session_of(ctx)
    with _ledger(config) as ledger:
        from nel_mesh.ledger.events import first_broken

        found = ledger.search.events(limit=limit)
        with ledger.database.read() as connection:
            broken = first_broken(connection)
    for event in reversed(found):
        who = event.mailbox_id or ""
        text = f"{event.number} {local_time(event.at)} {event.kind} {who} {event.actor}"
        session.out.result(dataclasses.asdict(event), text, brief=text)
    if broken is not None:
        session.out.warn(f"The chain of events is broken at event {broken}: an event was changed, or is missing.")
        raise typer.Exit(ExitCode.DAMAGED)
    session.out.note("The chain of events is whole.")


def _act(ctx: typer.Context, action: str, ids: list[str], config: Path | None, reason: str, *, dry_run: bool) -> None:
    session = session_of(ctx)
    code = ExitCode.OK
    with _ledger(config) as ledger:
        numbers = [message.id for message in _found(ledger, ids)]
        if dry_run:
            effects = ledger.actions.preview(action, numbers)
        else:
            effects = ledger.actions.run(action, numbers, actor=_person(), reason=reason)
    for effect in effects:
        if effect.is_refused:
            code = ExitCode.REFUSED
        record = {
            "number": effect.message.id,
            "action": action,
            "done": not effect.is_refused and not dry_run,
            "refused": effect.is_refused,
            "text": effect.text,
        }
        word = "refused" if effect.is_refused else "would" if dry_run else "done"
        session.out.result(record, f"{effect.message.id}: {word}: {effect.text}", brief=f"{effect.message.id} {word}")
    if code:
        raise typer.Exit(code)


def _found(ledger: Ledger, ids: list[str]) -> list[LedgerMessage]:
    from nel_mesh.errors import InvalidArgument

    found = []
    for identifier in ids:
        matching = ledger.messages.find(identifier)
        if not matching:
            raise InvalidArgument(f"the ledger has no message {identifier}; `nel-mesh agent messages` lists them")
        found += matching
    return found


def _record(message: LedgerMessage) -> dict[str, Any]:
    """Return what is shown of a message: no subject, no file name, no recipient."""
    return {
        "number": message.id,
        "direction": str(message.direction),
        "mailbox_id": message.mailbox_id,
        "state": str(message.state),
        "message_id": message.message_id,
        "workflow_id": message.workflow_id,
        "sender": message.sender,
        "bytes": message.bytes,
        "attempts": message.attempts,
        "reason": message.reason,
        "next_attempt_at": message.next_attempt_at,
        "created_at": message.created_at,
        "updated_at": message.updated_at,
    }


def _one_of(option: str, text: str, kinds: Any) -> Any:
    try:
        return kinds(text.casefold())
    except ValueError:
        known = ", ".join(str(kind) for kind in kinds)
        raise typer.BadParameter(f"--{option}: expected one of {known}, not {text}") from None


def _person() -> str:
    """Name who gives this command, for the ledger."""
    with contextlib.suppress(Exception):  # no user of that number: a container's
        return getpass.getuser()
    return f"user {os.getuid()}" if hasattr(os, "getuid") else "somebody"


def _path(config: Path | None) -> Path:
    return config or Path(os.environ.get(VARIABLE) or "agent.toml")


def _configuration(config: Path | None) -> AgentConfiguration:
    with _extra():
        from nel_mesh.agent.java.configuration import load_any
    return load_any(_path(config))


@contextlib.contextmanager
def _ledger(config: Path | None) -> Iterator[Ledger]:
    configuration = _configuration(config)
    from nel_mesh.agent.open_ledger import open_ledger

    with open_ledger(configuration) as ledger:
        yield ledger


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise CommandFailed(missing_extra("agent")) from error


@contextlib.contextmanager
def _signals(agent: Agent) -> Iterator[None]:
    """Stop the agent on SIGINT and SIGTERM, hard after its time limit; load its configuration again on SIGHUP."""
    limit = agent.configuration.agent.stop_within_in_seconds

    def stop(number: int, frame: object) -> None:
        agent.stop()
        # What is cut off there is resumed by the next agent, as after a kill.
        timer = threading.Timer(limit, os._exit, [128 + number])
        timer.daemon = True
        timer.start()

    names = {"SIGINT": stop, "SIGTERM": stop, "SIGBREAK": stop, "SIGHUP": lambda *_: agent.reload()}
    before = {}
    for name, handler in names.items():
        if hasattr(signal, name):
            number = getattr(signal, name)
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _log(session: Session) -> None:
    import logging

    logger = logging.getLogger("nel_mesh")
    if session.quiet or any(type(handler) is logging.StreamHandler for handler in logger.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
