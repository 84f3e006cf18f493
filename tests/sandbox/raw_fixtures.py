"""The fixtures of these tests. Not in a conftest.py: the tests above import from theirs by that name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from raw_mesh import RawMesh

from nel_mesh.sandbox import Sandbox


@pytest.fixture(scope="session")
def raw_session(mesh_sandbox_server: Sandbox) -> Iterator[RawMesh]:
    with RawMesh(mesh_sandbox_server) as raw:
        yield raw


@pytest.fixture
def raw(mesh_sandbox: Sandbox, raw_session: RawMesh) -> RawMesh:
    """Plain HTTP to a sandbox with empty mailboxes."""
    return raw_session
