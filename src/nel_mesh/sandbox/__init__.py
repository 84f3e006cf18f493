"""A strict MESH server to develop and test against, on a real socket with mutual TLS.

    from nel_mesh.sandbox import sandbox

    with sandbox() as mesh:
        client = MeshClient(mesh.settings("X26ABC1"))

It needs the extra `sandbox`: `pip install "nel-mesh[sandbox]"`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nel_mesh.sandbox.clients import AsyncClientFactory, ClientFactory
    from nel_mesh.sandbox.configuration import (
        DEFAULT_MAILBOXES,
        SandboxConfiguration,
        SandboxMailbox,
        Workflow,
        read_mailboxes,
        read_workflows,
    )
    from nel_mesh.sandbox.faults import Effect, Fault, PlanFault
    from nel_mesh.sandbox.server import Sandbox, sandbox

__all__ = [
    "DEFAULT_MAILBOXES",
    "AsyncClientFactory",
    "ClientFactory",
    "Effect",
    "Fault",
    "PlanFault",
    "Sandbox",
    "SandboxConfiguration",
    "SandboxMailbox",
    "Workflow",
    "read_mailboxes",
    "read_workflows",
    "sandbox",
]

_HOMES = {
    "DEFAULT_MAILBOXES": "configuration",
    "AsyncClientFactory": "clients",
    "ClientFactory": "clients",
    "Effect": "faults",
    "Fault": "faults",
    "SandboxMailbox": "configuration",
    "PlanFault": "faults",
    "Sandbox": "server",
    "SandboxConfiguration": "configuration",
    "Workflow": "configuration",
    "read_mailboxes": "configuration",
    "read_workflows": "configuration",
    "sandbox": "server",
}

_EXTRA = 'the sandbox needs its extra: pip install "nel-mesh[sandbox]"'


def __getattr__(name: str) -> Any:
    # On demand: the pytest plugin is in this package, and so it is imported in every test run, wanted or not, and also
    # where the extra is not installed.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        raise ImportError(_EXTRA) from error
    globals()[name] = found = vars(home)[name]
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
