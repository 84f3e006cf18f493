"""docs/commands.md has every command, with an example; every error has an exit code."""

from __future__ import annotations

import re
from pathlib import Path

from nel_mesh.cli.app import COMMANDS

ROOT = Path(__file__).parent.parent.parent


def test_every_command_is_there_with_an_example() -> None:
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (nel-mesh[^\n]*)\n(.*?)(?=^### |\Z)", page, re.DOTALL | re.MULTILINE))
    for name in COMMANDS:
        mine = [text for title, text in sections.items() if title.split()[1:2] == [name]]
        assert mine, name
        for text in mine:
            assert re.search(rf"Examples?:\n +.*nel-mesh {name}", text), name


def test_every_kind_of_error_has_its_exit_code() -> None:
    from nel_mesh import errors
    from nel_mesh.cli.exit_codes import ExitCode, exit_code_of

    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.MeshError):
            # The only callables of a receive are the command line's own.
            assert (exit_code_of(kind("why")) is ExitCode.BUG) == (kind is errors.HandlerError)
    unknown = errors.Outcome.UNKNOWN
    sent = errors.ConnectionLost("why", operation="send_message", outcome=unknown)
    acknowledged = errors.ConnectionLost("why", operation="acknowledge_message", outcome=unknown)
    assert (exit_code_of(sent), exit_code_of(acknowledged)) == (ExitCode.UNKNOWN, ExitCode.NETWORK)
    assert exit_code_of(FileNotFoundError()) is ExitCode.FILE
    assert exit_code_of(KeyError()) is ExitCode.BUG
