"""Act on messages and mailboxes of the ledger."""

from __future__ import annotations

from pathlib import Path

import typer

from nel_mesh.cli.agent.app import (
    ConfigOption,
    DryRunOption,
    MailboxArgument,
    NumbersArgument,
    ReasonOption,
    app,
    found_of,
    open_ledger_of,
    person,
)
from nel_mesh.cli.app import Command
from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.session import session_of


@app.command(cls=Command)
def retry(
    ctx: typer.Context,
    ids: NumbersArgument,
    config: ConfigOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
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
    ctx: typer.Context,
    ids: NumbersArgument,
    config: ConfigOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Let messages out of quarantine: they are fetched again.

    \b
    Example:
      nel-mesh agent release 4711 --reason "the sender corrected the checksum"
    """
    _act(ctx, "release", ids, config, reason, dry_run=dry_run)


@app.command(cls=Command)
def resend(
    ctx: typer.Context,
    ids: NumbersArgument,
    config: ConfigOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Send messages again that were refused or not delivered, each as a new message.

    Refused for a message that the recipient has, or may have: it would arrive twice.

    \b
    Example:
      nel-mesh agent resend 4711 --reason "the recipient has a new mailbox"
    """
    _act(ctx, "resend", ids, config, reason, dry_run=dry_run)


@app.command("deliver-again", cls=Command)
def deliver_again(
    ctx: typer.Context,
    ids: NumbersArgument,
    config: ConfigOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Store received messages again, once MESH lists them again.

    For a copy that was lost: the service desk puts the message back into the inbox. Refused while its copy is, or may
    be, where it was stored, in a folder or a store: a program that reads there could get it twice.

    \b
    Example:
      nel-mesh agent deliver-again 4711 --reason "the disk of the file server was lost"
    """
    _act(ctx, "deliver again", ids, config, reason, dry_run=dry_run)


@app.command(cls=Command)
def acknowledge(
    ctx: typer.Context,
    ids: NumbersArgument,
    config: ConfigOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Tell MESH at once of messages that are stored.

    Refused for a message that is not stored here: MESH would remove it, and it would be lost.

    \b
    Example:
      nel-mesh agent acknowledge 4711
    """
    _act(ctx, "acknowledge", ids, config, reason, dry_run=dry_run)


@app.command(cls=Command)
def seen(
    ctx: typer.Context,
    ids: NumbersArgument,
    config: ConfigOption = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Mark messages that were refused or not delivered as seen to, so that `status` shows them no more.

    \b
    Example:
      nel-mesh agent seen 4711 --reason "sent by post"
    """
    _act(ctx, "seen", ids, config, reason, dry_run=dry_run)


@app.command(cls=Command)
def pause(
    ctx: typer.Context, mailbox_id: MailboxArgument, config: ConfigOption = None, reason: ReasonOption = ""
) -> None:
    """Neither look into a mailbox nor send from it, until it is resumed.

    \b
    Example:
      nel-mesh agent pause X26ABC1 --reason "the server of results is being moved"
    """
    session = session_of(ctx)
    with open_ledger_of(config) as ledger:
        ledger.mailboxes.pause(mailbox_id.upper(), actor=person(), reason=reason or "no reason given")
    session.out.result({"mailbox_id": mailbox_id.upper(), "paused": True}, f"{mailbox_id.upper()} is paused.")


@app.command(cls=Command)
def resume(
    ctx: typer.Context, mailbox_id: MailboxArgument, config: ConfigOption = None, reason: ReasonOption = ""
) -> None:
    """Work on a paused mailbox again, at once.

    \b
    Example:
      nel-mesh agent resume X26ABC1
    """
    session = session_of(ctx)
    with open_ledger_of(config) as ledger:
        ledger.mailboxes.resume(mailbox_id.upper(), actor=person(), reason=reason)
    session.out.result({"mailbox_id": mailbox_id.upper(), "paused": False}, f"{mailbox_id.upper()} is resumed.")


@app.command(cls=Command)
def visit(ctx: typer.Context, mailbox_id: MailboxArgument, config: ConfigOption = None) -> None:
    """Have a mailbox visited at once. Do not do so more often than every 5 minutes.

    \b
    Example:
      nel-mesh agent visit X26ABC1
    """
    session = session_of(ctx)
    with open_ledger_of(config) as ledger:
        ledger.mailboxes.visit_now(mailbox_id.upper(), actor=person())
    session.out.result({"mailbox_id": mailbox_id.upper()}, f"{mailbox_id.upper()} is visited within a second or two.")


def _act(ctx: typer.Context, action: str, ids: list[str], config: Path | None, reason: str, *, dry_run: bool) -> None:
    session = session_of(ctx)
    code = ExitCode.OK
    with open_ledger_of(config) as ledger:
        numbers = [message.id for message in found_of(ledger, ids)]
        if dry_run:
            effects = ledger.actions.preview(action, numbers)
        else:
            effects = ledger.actions.run(action, numbers, actor=person(), reason=reason)
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
