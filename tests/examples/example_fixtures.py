from __future__ import annotations

from pathlib import Path

import pytest

from nel_mesh.sandbox import Sandbox


@pytest.fixture
def settings_file(mesh_sandbox: Sandbox, tmp_path: Path) -> Path:
    """The settings file of the mailbox X26ABC1; `X26ABC2` is in the same folder."""
    return mesh_sandbox.write_settings(tmp_path / "settings")[0]
