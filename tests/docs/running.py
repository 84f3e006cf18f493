"""Run the blocks of a page in their order, as a reader would: in one folder, in one Python, against a MESH server."""

from __future__ import annotations
import __future__

import ast
import asyncio
import contextlib
import dataclasses
import inspect
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pages import Block, Page

from command_server import forked_nel_mesh
from nel_mesh import MeshClient, MeshSettings
from nel_mesh.agent.configuration import load
from nel_mesh.sandbox import Sandbox
from nel_mesh.settings import profiles
from nel_mesh.settings.sources import dotnet_name

SHELL = shutil.which("bash") or "/bin/sh"
CONFIGURATION_FOLDER = "/etc/nel-mesh"
"""Where pages have an agent's configuration: the reader has it in his folder."""
_IDS = re.compile(r"\b\d{20}_[0-9A-F]{6,}\b")
_MOVING = re.compile(r"\d+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """What has to be there before a page's blocks can run; whoever reads the page has it, or has just made it.

    Attributes:
        settings: files of settings for the MESH server, each with its mailbox.
        files: other files, with their content.
        environment: variables.
        prepare: puts something into mailboxes, or into the folder.
        mail: puts messages into mailboxes before each block.
        names: names that Python knows from the start.
    """

    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    prepare: Callable[[Sandbox, Path], object] = lambda _server, _folder: None
    mail: Callable[[Sandbox], object] = lambda _server: None
    names: Callable[[Sandbox], dict[str, Any]] = lambda _: {}


class Reader:
    """Somebody who follows a page.

    Args:
        folder: where he works; empty at first, and his home.
        server: the MESH server that his settings are for.
        needs: what he has.
    """

    def __init__(self, folder: Path, server: Sandbox, needs: Needs) -> None:
        self.folder = folder
        self.needs = needs
        self.printed = ""
        self._server = server
        self.names: dict[str, Any] = {"__name__": "__main__", **needs.names(server)}
        self._handler = signal.getsignal(signal.SIGTERM)
        self._exported: dict[str, str] = {}
        self._output = ""
        self._servers: list[subprocess.Popen[str]] = []
        for name, content in needs.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        written = dict(zip(server.mailbox_ids, server.write_settings(folder / "home" / "given"), strict=True))
        for name, mailbox_id in needs.settings.items():
            given = written[mailbox_id].read_text(encoding="utf-8")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(as_toml(given) if name.endswith(".toml") else given, encoding="utf-8")
        needs.prepare(server, folder)

    def follow(self, page: Page) -> None:
        """Runs every block that is not marked."""
        for block in page.blocks:
            if block.reason is None:
                self.needs.mail(self._server)
                try:
                    getattr(self, f"_{block.language}", self._unknown)(block)
                except Exception as error:
                    error.add_note(f"in the block at {block}")
                    raise

    def test(self) -> None:
        """Runs the reader's own tests: the blocks that are files named test_... They have our fixtures."""
        for folder in sorted({path.parent for path in self.folder.rglob("test_*.py")}):
            command = [sys.executable, "-m", "pytest", "-q", "-p", "anyio.pytest_plugin"]
            command += [
                "-p",
                "nel_mesh.sandbox.pytest_plugin",
                "-p",
                "no:cacheprovider",
                *map(str, folder.glob("test_*.py")),
            ]
            # What else is installed here is not installed there, and takes time.
            environment = self._environment() | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
            )
            assert done.returncode == 0, done.stdout + done.stderr

    def close(self) -> None:
        """Ends what still runs."""
        for client in self.names.values():
            if isinstance(client, MeshClient):
                client.close()
        signal.signal(signal.SIGTERM, self._handler)  # a page sets one of its own
        for server in self._servers:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=20)

    def _unknown(self, block: Block) -> None:
        raise AssertionError(f"{block}: a block is python, sh, toml, json or text, not {block.language!r}")

    def _text(self, block: Block) -> None:
        if block.title == "Output":
            compare(f"{block}: output of the block before", block.text.splitlines(), self._output)
            return
        assert not re.search(r"^(\$ |import |from \w+ import )", block.text, re.MULTILINE), f"{block}: it can be run"

    def _python(self, block: Block) -> None:
        if block.title:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            return
        # The blank lines make a traceback's line that of the page.
        source = "\n" * (block.line - 1) + block.text
        # The annotations of the Python reference's signatures are names to read, not to find.
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | __future__.annotations.compiler_flag
        code = compile(source, str(block.page), "exec", flags=flags, dont_inherit=True)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            result = eval(code, self.names)  # noqa: S307 - our own documentation
            if inspect.iscoroutine(result):
                asyncio.run(result)
        self.printed += said.getvalue()
        for promised in re.findall(r"^ *print\(.*\)  # (.+)$", block.text, re.MULTILINE):
            assert promised in said.getvalue().splitlines(), f"{block}: it did not print {promised!r}"

    def _toml(self, block: Block) -> None:
        self._read(block)

    def _json(self, block: Block) -> None:
        self._read(block)

    def _read(self, block: Block) -> None:
        assert block.title, f'{block}: say which file it is: ```{block.language} title="..."'
        path = self.folder / "home" / "shown" / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        if "[mailboxes." in block.text:
            # An agent's: it names settings files beside it, and is checked there.
            (self.folder / block.title).write_text(block.text, encoding="utf-8")
            load(self.folder / block.title)
            return
        chosen: list[str | None] = [*profiles(path)]
        for profile in chosen or [None]:
            MeshSettings.from_file(path, profile=profile, password="invented", shared_key="invented")
        if not (self.folder / block.title).exists():
            shutil.copy(path, self.folder / block.title)

    def _sh(self, block: Block) -> None:
        self._output = ""
        for command in commands(block.text):
            if command == ". .venv/bin/activate":
                continue
            if command.startswith("export "):
                name, _, value = command.removeprefix("export ").partition("=")
                self._exported[name] = value
                continue
            self.run(command, str(block))

    def run(self, command: str, where: str) -> None:
        """Run one command; it must succeed, or serve until the page ends."""
        if command.startswith("nel-mesh sandbox serve "):
            # On a free port, as the usual one may be taken.
            self._serve(f"{command} --port 0", "Ctrl-C")
            return
        if command == "nel-mesh agent run":
            self._serve(command, "works on")
            return
        done = subprocess.run(
            [SHELL, "-c", command.replace(CONFIGURATION_FOLDER, str(self.folder))],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{where}: {command}\n{done.stdout}{done.stderr}"
        self._output += done.stdout + done.stderr

    def _serve(self, command: str, ready: str) -> None:
        """Start what works until the page ends, and wait until it says that it does."""
        server = subprocess.Popen(
            [SHELL, "-c", f"exec {command}"],
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._servers.append(server)
        assert server.stdout
        seen = ""
        until = time.monotonic() + 30
        while ready not in seen and time.monotonic() < until:
            line = server.stdout.readline()
            assert line, seen
            seen += line

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MESH", "PYTEST", "COV"))}
        home = self.folder / "home"
        return {
            **kept,
            "PATH": os.pathsep.join(
                [str(forked_nel_mesh().parent), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "NO_COLOR": "1",
            "COLUMNS": "100",
            "TZ": "Europe/London",
            **self.needs.environment,
            **self._exported,
        }


def commands(text: str) -> list[str]:
    """Return the commands of a block, each on one line."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return [line.strip() for line in joined.splitlines() if line.strip()]


def compare(where: str, expected: list[str], said: str) -> None:
    """Require the lines that a page shows, in order; ids and numbers may differ, `...` is anything."""
    left = [_IDS.sub("ID", line.rstrip()) for line in said.splitlines()]
    for line in expected:
        pattern = re.escape(_IDS.sub("ID", line.rstrip()))
        pattern = _MOVING.sub(r"\\d+", pattern).replace(re.escape("..."), ".*")
        while left and not re.fullmatch(pattern, left[0]):
            left.pop(0)
        assert left, f"{where}\nit did not say: {line}\nbut:\n{said}"
        left.pop(0)


def as_toml(appsettings: str) -> str:
    """A file of NEL.MESH's settings, as a file of ours."""
    given = json.loads(appsettings)["MeshConfiguration"]
    names = {dotnet_name(name): name for name in MeshSettings.model_fields}
    return "".join(f"{names[key]} = {json.dumps(value)}\n" for key, value in given.items())
