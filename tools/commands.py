"""Writes docs/commands.md, the reference of the command line, from the commands themselves and commands.md here.

tools/commands.py           writes it
tools/commands.py --check   says whether it is current
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from nel_mesh.cli.app import COMMANDS, app
from nel_mesh.cli.exit_codes import ExitCode

TEMPLATE = Path(__file__).with_suffix(".md")
TARGET = Path(__file__).resolve().parent.parent / "docs" / "commands.md"


def reference() -> str:
    """The whole page."""
    root: Any = typer.main.get_command(app)
    with root.make_context("nel-mesh", [], resilient_parsing=True) as ctx:
        sections = [_section("nel-mesh", root, ctx)]
        for name in COMMANDS:
            command = root.get_command(ctx, name)
            sections += (_section(title, one, ctx) for title, one in _with_subcommands(f"nel-mesh {name}", command))
    template = TEMPLATE.read_text(encoding="utf-8")
    # Not format(): the page has braces of its own.
    return template.replace("{exit_codes}\n", "".join(_codes())).replace("{commands}", "\n".join(sections))


def _with_subcommands(title: str, command: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield title, command
    else:
        for name, one in below.items():
            yield f"{title} {name}", one


def _section(title: str, command: Any, parent: Any) -> str:
    ctx = parent if title == "nel-mesh" else type(parent)(command, info_name=title, parent=None, max_content_width=100)
    ctx.terminal_width = 100
    text = command.get_help(ctx).replace("nel-mesh nel-mesh", "nel-mesh")
    return f"### {title}\n\n```text\n{_steady(text)}\n```\n"


def _steady(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _codes() -> Iterator[str]:
    source = inspect.getsource(ExitCode)
    for code in ExitCode:
        for said in re.findall(rf'    {code.name} = \d+\n    """(.+?)"""', source, re.DOTALL):
            yield f"| {int(code)} | {' '.join(said.split())} |\n"


def main() -> int:
    """Runs the tool."""
    made = reference()
    if "--check" in sys.argv:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == made:
            return 0
        print(f"{TARGET.name} is not what the commands say: run `make reference`")
        return 1
    TARGET.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
