"""The pytest fixtures, and that whoever does not use them does not pay for them."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest
from raw_mesh import RawMesh

import nel_mesh.sandbox
from nel_mesh.sandbox import Sandbox

pytest_plugins = ["raw_fixtures"]


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_empty_mailboxes(mesh_sandbox: Sandbox, raw: RawMesh, turn: int) -> None:
    assert mesh_sandbox.messages() == []
    assert mesh_sandbox.requests() == []
    assert raw.send().status_code == 202


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_its_own_faults_and_time(mesh_sandbox: Sandbox, turn: int) -> None:
    assert mesh_sandbox.faults == ()
    assert mesh_sandbox.clock() - mesh_sandbox.configuration.clock() <= timedelta()
    mesh_sandbox.add_fault("any:lose-answer")
    mesh_sandbox.advance(timedelta(days=turn))


WITHOUT_EXTRA = """
import sys
for name in ("starlette", "uvicorn", "trustme"):
    sys.modules[name] = None
import nel_mesh.sandbox.pytest_plugin
from nel_mesh.sandbox import Mailbox, sandbox
try:
    sandbox()
except ImportError as error:
    assert 'pip install "nel-mesh[sandbox]"' in str(error), error
else:
    raise SystemExit("it did not notice")
"""

LAZY = """
import sys
import nel_mesh.sandbox.pytest_plugin
loaded = {"starlette", "uvicorn", "trustme"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize("program", [WITHOUT_EXTRA, LAZY])
def test_server_packages_are_imported_late(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = nel_mesh.sandbox.Nothing
