"""Look into the ledger: what needs a person, messages, one message, the events."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from nel_mesh.cli.agent.app import ConfigOption, app, configuration_in_use, found_of, open_ledger_of, record_of
from nel_mesh.cli.app import Command
from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.cli.session import session_of
from nel_mesh.cli.text import local_time


@app.command(cls=Command)
def status(ctx: typer.Context, config: ConfigOption = None) -> None:
    """Say what needs a person now, and how each mailbox is.

    Exit code 14: something needs a person.

    \b
    Examples:
      nel-mesh agent status
      nel-mesh agent status --json
    """
    session = session_of(ctx)
    with open_ledger_of(config) as ledger:
        from nel_mesh.agent.contacts import Contacts
        from nel_mesh.ledger.attention import look

        found = look(ledger.database, ledger.clock.now())
        contacts = Contacts(configuration_in_use(config))
        called = [contacts.of_attention(one, ledger) for one in found]
        mailboxes = ledger.mailboxes.all()
        counts = ledger.messages.counts()
    needed = [one for one in found if one.needs_person]
    if needed:
        session.out.note(f"{len(needed)} thing{' needs' if len(needed) == 1 else 's need'} a person:")
    else:
        session.out.note("Nothing needs a person.")
    for one, contact in zip(found, called, strict=True):
        mark = "!" if one.needs_person else "."
        text = f"{mark} {one.text}\n    {one.advice}" + (f"\n    Who to call: {contact}" if contact else "")
        record = {"attention": {**dataclasses.asdict(one), "contact": contact}}
        session.out.result(record, text, brief=f"{mark} {one.text}")
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
    config: ConfigOption = None,
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
        int | None,
        typer.Option(metavar="NUMBER", help="Only messages older than that of this number, for the next page."),
    ] = None,
) -> None:
    """List messages, the newest first.

    \b
    Examples:
      nel-mesh agent messages --state quarantined
      nel-mesh agent messages --mailbox X26ABC1 --direction out --json
    """
    session = session_of(ctx)
    with open_ledger_of(config) as ledger:
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
        [record_of(message) for message in found],
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
    config: ConfigOption = None,
) -> None:
    """Show a message: its state, each step, where its copies lie, and reports about it.

    \b
    Example:
      nel-mesh agent show 20260101120000000000_0A1B2C
    """
    session = session_of(ctx)
    with open_ledger_of(config) as ledger:
        for message in found_of(ledger, [identifier]):
            copies = ledger.search.copies(message.id)
            timeline = ledger.search.timeline(message.id)
            reports = ledger.search.reports_about(message)
            record = {
                **record_of(message),
                "copies": [{"location": copy.location, "stored_at": copy.stored_at} for copy in copies],
                "reports": [report.message_id for report in reports],
                "timeline": [dataclasses.asdict(event) for event in timeline],
            }
            lines = [f"{name.replace('_', ' '):20} {value}" for name, value in record_of(message).items() if value]
            lines += [f"{'copy':20} {copy.location or copy.destination}" for copy in copies]
            lines += [f"{'report':20} {report.message_id}" for report in reports]
            lines += [
                f"{local_time(event.at)}  {event.kind:15} {event.actor:10} {event.details.get('reason', '')}".rstrip()
                for event in timeline
            ]
            session.out.result(record, "\n".join(lines), brief=f"{message.id} {message.state}")


@app.command(cls=Command)
def audit(
    ctx: typer.Context,
    config: ConfigOption = None,
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Maximum number of events.")] = 1000,
) -> None:
    """Check the chain of events, and list the newest.

    Each event is hashed together with the one before it. Exit code 11: one was changed, or is missing.

    \b
    Example:
      nel-mesh agent audit --json
    """
    session = session_of(ctx)
    with open_ledger_of(config) as ledger:
        from nel_mesh.ledger.chain import check_chain

        found = ledger.search.events(limit=limit)
        checked = check_chain(ledger.database)
    broken = checked.broken if checked is not None else None
    for event in reversed(found):
        who = event.mailbox_id or ""
        text = f"{event.number} {local_time(event.at)} {event.kind} {who} {event.actor}"
        session.out.result(dataclasses.asdict(event), text, brief=text)
    if broken is not None:
        session.out.warn(f"The chain of events is broken at event {broken}: an event was changed, or is missing.")
        raise typer.Exit(ExitCode.DAMAGED)
    session.out.note("The chain of events is whole.")


def _one_of(option: str, text: str, kinds: Any) -> Any:
    try:
        return kinds(text.casefold())
    except ValueError:
        known = ", ".join(str(kind) for kind in kinds)
        raise typer.BadParameter(f"--{option}: expected one of {known}, not {text}") from None
