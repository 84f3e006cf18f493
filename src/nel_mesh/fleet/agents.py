"""The agent that a configuration asks for: alone with its ledger, or one of a fleet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nel_mesh.agent.configuration import AgentConfiguration
from nel_mesh.agent.runner import Runner
from nel_mesh.agent.service import Agent
from nel_mesh.errors import StorageError


def make_agent(
    path: Path,
    *,
    read: Callable[[Path], AgentConfiguration],
    on_lost: Callable[[str], object] | None = None,
) -> Agent:
    """Return the agent of a configuration file.

    Args:
        path: the file.
        read: how it is read.
        on_lost: called with the reason when the work of this process was given to others. It should end it at once.

    Raises:
        ConfigurationError: the file has faults.
        StorageError: it asks for a fleet, and the extra for that is not installed.
    """
    return Agent(path, read=read, make_runner=_runner, on_lost=on_lost)


def _runner(agent: Agent) -> Runner:
    if not agent.configuration.is_fleet:
        return agent.thread_runner()
    try:
        from nel_mesh.fleet.runner import FleetRunner
    except ImportError:
        raise StorageError("a fleet needs an extra: pip install 'nel-mesh[agent,fleet]'") from None
    return FleetRunner(
        agent.ledger.database,
        agent.configuration.agent.workers,
        agent.clock,
        agent.do,
        agent.report,
        is_drained=lambda: agent.membership.is_drained,
    )
