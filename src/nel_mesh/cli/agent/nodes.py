"""Look at the machines of a fleet, and take one out of it for a while."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from nel_mesh.cli.agent.app import ConfigOption, ReasonOption, app, open_ledger_of, person
from nel_mesh.cli.app import Command
from nel_mesh.cli.session import session_of

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Name of a machine, as `agent nodes` shows it.")]


@app.command(cls=Command)
def nodes(ctx: typer.Context, config: ConfigOption = None) -> None:
    """List the machines that work on the ledger: what each does, its version, and when it was last heard of.

    \b
    Examples:
      nel-mesh agent nodes
      nel-mesh agent nodes --json
    """
    session = session_of(ctx)
    with open_ledger_of(config) as ledger:
        from nel_mesh.agent.membership import ALONE_HEARTBEAT_SECONDS, SILENCE_SECONDS

        silence = SILENCE_SECONDS if not ledger.database.is_sqlite else 2 * ALONE_HEARTBEAT_SECONDS
        now = ledger.clock.now()
        waiting = ledger.nodes.waiting_files()
        rows = [
            {
                "name": node.name,
                "state": node.state(now, silent_after=timedelta(seconds=silence)),
                "version": node.version,
                "started_at": node.started_at,
                "heartbeat_at": node.heartbeat_at,
                "doing": node.doing,
                "tasks": len(node.doing),
                "waiting_files": waiting.get(node.name, 0),
                "drained_at": node.drained_at,
                "drained_by": node.drained_by,
                "drain_reason": node.drain_reason,
                "configuration": node.configuration,
            }
            for node in ledger.nodes.all()
        ]
    session.out.table(
        rows,
        {
            "name": "Node",
            "state": "State",
            "version": "Version",
            "heartbeat_at": "Last heard of",
            "tasks": "Tasks",
            "waiting_files": "Own files waiting",
        },
        empty="No agent has run yet.",
    )


@app.command(cls=Command)
def drain(ctx: typer.Context, node: NodeArgument, config: ConfigOption = None, reason: ReasonOption = "") -> None:
    """Let a machine begin nothing more. What it does now goes on; the others take what comes.

    It stays so, also when its agent is started again, until `agent undrain`.

    \b
    Example:
      nel-mesh agent drain mesh-2 --reason "a new disk"
    """
    session = session_of(ctx)
    with open_ledger_of(config) as ledger:
        ledger.nodes.drain(node, actor=person(), reason=reason or "no reason given")
    session.out.result(
        {"name": node, "drained": True}, f"{node} begins nothing more; `nel-mesh agent nodes` shows what it still does."
    )


@app.command(cls=Command)
def undrain(ctx: typer.Context, node: NodeArgument, config: ConfigOption = None, reason: ReasonOption = "") -> None:
    """Let a drained machine work again.

    \b
    Example:
      nel-mesh agent undrain mesh-2
    """
    session = session_of(ctx)
    with open_ledger_of(config) as ledger:
        ledger.nodes.undrain(node, actor=person(), reason=reason)
    session.out.result({"name": node, "drained": False}, f"{node} works again.")
