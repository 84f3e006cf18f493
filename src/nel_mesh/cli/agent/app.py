"""What the commands of the agent share: the group, their options, the configuration and the ledger."""

from __future__ import annotations

import contextlib
import getpass
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nel_mesh.cli.app import Group
from nel_mesh.cli.failures import CommandFailed, missing_extra

if TYPE_CHECKING:
    from nel_mesh.agent.configuration import AgentConfiguration
    from nel_mesh.ledger.ledger import Ledger
    from nel_mesh.ledger.messages import LedgerMessage

app = typer.Typer(cls=Group, add_completion=False, rich_markup_mode=None)

VARIABLE = "NEL_MESH_AGENT"
"""The environment variable that names the configuration file."""

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help=f"Configuration file. Default: {VARIABLE}, or agent.toml."),
]
NumbersArgument = Annotated[
    list[str], typer.Argument(metavar="ID...", help="Messages, by number, message id or local id.")
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the ledger.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
MailboxArgument = Annotated[str, typer.Argument(metavar="MAILBOX", help="Mailbox id.")]


@app.callback()
def _agent() -> None:
    """Empty mailboxes and send files, unattended.

    \b
    Examples:
      nel-mesh agent check --config agent.toml
      nel-mesh agent run --config agent.toml
      nel-mesh agent status
    """


def path_of(config: Path | None) -> Path:
    return config or Path(os.environ.get(VARIABLE) or "agent.toml")


def configuration_of(config: Path | None) -> AgentConfiguration:
    with agent_extra():
        from nel_mesh.agent.java.configuration import load_any
    return load_any(path_of(config))


def configuration_in_use(config: Path | None) -> AgentConfiguration:
    """Return what an agent with this file would work by: also a version of the configuration in the ledger."""
    configuration = configuration_of(config)
    from nel_mesh.agent.versions import chosen

    return chosen(configuration)[0]


@contextlib.contextmanager
def open_ledger_of(config: Path | None) -> Iterator[Ledger]:
    configuration = configuration_of(config)
    from nel_mesh.agent.open_ledger import open_ledger

    with open_ledger(configuration) as ledger:
        yield ledger


@contextlib.contextmanager
def agent_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise CommandFailed(missing_extra("agent")) from error


def found_of(ledger: Ledger, ids: list[str]) -> list[LedgerMessage]:
    from nel_mesh.errors import InvalidArgument

    found = []
    for identifier in ids:
        matching = ledger.messages.find(identifier)
        if not matching:
            raise InvalidArgument(f"the ledger has no message {identifier}; `nel-mesh agent messages` lists them")
        found += matching
    return found


def record_of(message: LedgerMessage) -> dict[str, Any]:
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


def person() -> str:
    """Name who gives this command, for the ledger."""
    with contextlib.suppress(Exception):  # no user of that number: a container's
        return getpass.getuser()
    return f"user {os.getuid()}" if hasattr(os, "getuid") else "somebody"
