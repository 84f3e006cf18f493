"""The ledger of a configuration. By itself, so that a command that looks into it loads no more of the agent."""

from __future__ import annotations

from nel_mesh.agent.configuration import AgentConfiguration
from nel_mesh.agent.stored_copies import presences
from nel_mesh.io.clock import Clock
from nel_mesh.ledger.ledger import Ledger


def open_ledger(configuration: AgentConfiguration, clock: Clock | None = None) -> Ledger:
    """Return the ledger of a configuration, not opened yet."""
    agent = configuration.agent
    password_file = configuration.path.parent / agent.ledger_password_file if agent.ledger_password_file else None
    return Ledger(agent.ledger or configuration.data, password_file=password_file, clock=clock, ask=presences)
