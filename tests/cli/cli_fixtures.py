"""The fixtures of these tests. Not in a conftest.py: the tests above import from theirs by that name."""

from __future__ import annotations

from pathlib import Path

import pytest
from nel_command import Nel

from nel_mesh.sandbox import Sandbox


@pytest.fixture(scope="session")
def settings_files(mesh_sandbox_server: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A settings file for each mailbox of the sandbox; over mutual TLS."""
    written = mesh_sandbox_server.write_settings(tmp_path_factory.mktemp("settings"))
    return dict(zip(mesh_sandbox_server.mailbox_ids, written, strict=True))


@pytest.fixture
def alice(mesh_sandbox: Sandbox, settings_files: dict[str, Path], tmp_path: Path) -> Nel:
    """The command, for the mailbox X26ABC1."""
    return Nel(tmp_path, settings_files["X26ABC1"])


@pytest.fixture
def bob(mesh_sandbox: Sandbox, settings_files: dict[str, Path], tmp_path: Path) -> Nel:
    """The command, for the mailbox X26ABC2."""
    return Nel(tmp_path, settings_files["X26ABC2"])


@pytest.fixture
def nobody(tmp_path: Path) -> Nel:
    """The command, without settings."""
    return Nel(tmp_path, None)
