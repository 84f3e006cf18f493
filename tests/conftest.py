from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from colours import COLOURS, Connector
from scripted_server import Rule, ScriptedServer

from nel_mesh import MeshSettings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own environment must not decide a test."""
    for name in list(os.environ):
        if name.upper().startswith(("MESH_", "MESHCONFIGURATION__")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)


@pytest.fixture(params=COLOURS)
def connect(request: pytest.FixtureRequest) -> Iterator[Connector]:
    """Makes clients, in each colour by turns."""
    with contextlib.ExitStack() as stack:
        yield Connector(request.param, stack)


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedServer]]:
    """Starts scripted servers."""
    with contextlib.ExitStack() as stack:
        yield lambda *steps: stack.enter_context(ScriptedServer(*steps))


@pytest.fixture
def scripted(connect: Connector, serve: Callable[..., ScriptedServer]) -> Callable[..., tuple[Any, ScriptedServer]]:
    """A client, and the scripted server that it talks to."""

    def start(*steps: Rule, **keywords: Any) -> tuple[Any, ScriptedServer]:
        server = serve(*steps)
        return connect(settings_for(server.url, **keywords)), server

    return start


def settings_for(url: str, **keywords: Any) -> MeshSettings:
    return MeshSettings(
        **{"mailbox_id": "X26ABC1", "password": "password", "shared_key": "TestKey", "url": url, **keywords}
    )
