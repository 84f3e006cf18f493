"""A pytest plugin: the official sandbox's own tests, with our sandbox in the place of the app under test."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from nel_mesh.sandbox.asgi import SandboxApp
from nel_mesh.sandbox.configuration import SandboxConfiguration, read_mailboxes, read_workflows
from nel_mesh.sandbox.faults import FaultPlan
from nel_mesh.sandbox.store import Store

_FOUND: Any = find_spec("mesh_sandbox")
_DATA = Path(_FOUND.origin).parent / "store" / "data"
_CONFIGURATION = SandboxConfiguration(
    compatible=True,
    mailboxes=read_mailboxes(_DATA / "mailboxes.jsonl"),
    workflows=read_workflows(_DATA / "workflows.jsonl"),
)
_STORE = Store(None, _CONFIGURATION.clock)
_APP = SandboxApp(_CONFIGURATION, _STORE, FaultPlan(()))


async def _from_this_machine(scope: Any, receive: Any, send: Any) -> None:
    # Starlette's test client has no socket, and calls itself "testclient".
    await _APP({**scope, "client": ("127.0.0.1", 1)}, receive, send)


_MODULE: Any = types.ModuleType("mesh_sandbox.api")
_MODULE.app = _from_this_machine
sys.modules["mesh_sandbox.api"] = _MODULE


@pytest.fixture(autouse=True)
def _empty() -> None:
    _APP.reset()


@pytest.fixture(autouse=True, scope="session")
def _closed() -> Iterator[None]:
    yield
    _STORE.close()
