"""What is tried of the installed wheel: without extras, with each, with all, and at the lowest versions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from distribution.environments import Environment, must, run
from distribution.requirements import Requirements
from distribution.serving import RECIPIENT, SENDER, serving
from distribution.table import Failed, Table

CLIENT_TESTS = (
    "test_protocol.py",
    "test_settings.py",
    "test_identity.py",
    "test_client_sending.py",
    "test_client_receiving.py",
    "test_durable_receiving.py",
    "test_telemetry.py",
    "sandbox/test_sandbox_operations.py",
    "cli/test_cli_sending.py",
)
NOT_FOR_THEM = ("fastapi", "mesh-client", "mesh-sandbox", "mypy", "ruff")
"""What of the development group these tests do without; it may ask for other versions of what is tried."""

_NEEDS_CLI = 'nel-mesh needs its extra: pip install "nel-mesh[cli]"'
_NEEDS_SANDBOX = 'pip install "nel-mesh[sandbox]"'

_PLAIN_SUITE = "def test_plain():\n    assert True\n"
_SANDBOX_SUITE = """\
from nel_mesh import MeshClient

def test_with_a_server(mesh_sandbox):
    with MeshClient(mesh_sandbox.settings("X26ABC1")) as client:
        client.handshake()
"""


class Trials:
    """All that is tried with one Python.

    Args:
        table: where it is written down.
        wheel: what is installed.
        pyproject: the project's, which says what belongs to development.
        python: the interpreter; `name` is what it is called in the table.
        folder: where environments are made.
    """

    def __init__(self, table: Table, wheel: Path, pyproject: Path, python: Path | str, name: str, folder: Path) -> None:
        self._table = table
        self._wheel = wheel
        self._pyproject = pyproject
        self._python = python
        self._name = name
        self._folder = folder
        self._requirements = Requirements.of(wheel)

    def extras(self, users_program: Path | None = None) -> None:
        """The base, each extra, and all; each talks to the server that the extra `sandbox` gives."""
        with self._made("sandbox", "sandbox") as environment, serving(environment) as settings:
            others = [extra for extra in self._requirements.extras if extra not in ("sandbox", "cli")]
            with ThreadPoolExecutor(2) as pool:
                work = [
                    pool.submit(self._all, settings, users_program),
                    pool.submit(self._base, settings),
                    pool.submit(self._sandbox, environment, settings),
                    pool.submit(self._cli, settings),
                    *(pool.submit(self._other, extra, settings) for extra in others),
                ]
            for one in work:
                one.result()

    def lowest(self, tree: Path) -> None:
        """Every direct requirement at its lowest version; `tree` is the unpacked source distribution."""
        where = f"{self._name}, lowest versions"
        environment = Environment(self._folder / "lowest", self._python)
        pins = self._requirements.lowest()
        with self._table.row(where, "installs") as row:
            if unbounded := self._requirements.unbounded():
                raise Failed(f"without a lowest version: {unbounded}")
            environment.install(str(self._wheel), *pins)
            installed = environment.installed()
            row.told = ", ".join(f"{pin.partition('==')[0]} {pin.partition('==')[2]}" for pin in pins)
            if len(installed) < len(pins):
                raise Failed(str(installed))
        with self._table.row(where, "imports"):
            environment.probe("names", *self._requirements.extras, strict=False)
        with self._table.row(where, "commands and a round trip"), serving(environment) as settings:
            environment.probe("round_trip", *settings, strict=False)
            self._command_round_trip(environment, settings)
        with self._table.row(where, "the client's tests") as row:
            environment.install(*pins, *self._requirements.development(self._pyproject, but=NOT_FOR_THEM))
            row.told = self._tests(environment, tree)

    def tests(self, tree: Path) -> None:
        """The client's tests, those of the source distribution, with the newest versions."""
        environment = Environment(self._folder / "tests", self._python)
        with self._table.row(self._name, "the client's tests") as row:
            environment.install(
                self._of(*self._requirements.extras), *self._requirements.development(self._pyproject, but=NOT_FOR_THEM)
            )
            row.told = self._tests(environment, tree)

    def _base(self, settings: list[Path]) -> None:
        with self._made("base") as environment:
            where = f"{self._name}, base"
            with self._table.row(where, "no package of an extra or of development") as row:
                installed = environment.installed()
                if surplus := set(installed) & self._requirements.not_in_base(self._pyproject):
                    raise Failed(f"in the base install: {sorted(surplus)}")
                row.told = ", ".join(sorted(installed))
            with self._table.row(where, "every public name, every warning an error"):
                environment.probe("names")
            with self._table.row(where, "a round trip, both colours, mutual TLS"):
                environment.probe("round_trip", *settings)
            with self._table.row(where, "a missing extra is one sentence"):
                environment.refuses([environment.command("nel-mesh")], _NEEDS_CLI)
                environment.refuses([environment.command("nel-mesh"), "--help"], _NEEDS_CLI)
                environment.refuses([environment.python, "-m", "nel_mesh.cli"], _NEEDS_CLI)
                environment.refuses([environment.command("nel-mesh-sandbox"), "--port", "0"], _NEEDS_SANDBOX)
                environment.refuses([environment.python, "-m", "nel_mesh.sandbox", "--port", "0"], _NEEDS_SANDBOX)
                done = run(
                    environment.python, "-c", "from nel_mesh.sandbox import sandbox; sandbox()", folder=environment.work
                )
                if done.returncode == 0 or not done.stderr.strip().endswith(_NEEDS_SANDBOX):
                    raise Failed(done.stderr)
            with self._table.row(where, "the pytest plugin disturbs no test run"):
                environment.install("pytest")
                self._users_suite(environment, _PLAIN_SUITE, "1 passed")
                said = self._users_suite(environment, _SANDBOX_SUITE, "1 error")
                if _NEEDS_SANDBOX not in said:
                    raise Failed(said)

    def _sandbox(self, environment: Environment, settings: list[Path]) -> None:
        where = f"{self._name}, [sandbox]"
        with self._table.row(where, "imports, --help, a round trip"):
            environment.probe("names", "sandbox")
            must(environment.command("nel-mesh-sandbox"), "--help", folder=environment.work)
            environment.probe("round_trip", *settings)
        with self._table.row(where, "a missing extra is one sentence"):
            environment.refuses([environment.command("nel-mesh")], _NEEDS_CLI)

    def _cli(self, settings: list[Path]) -> None:
        with self._made("cli", "cli") as environment:
            where = f"{self._name}, [cli]"
            with self._table.row(where, "imports, --help, a round trip by commands"):
                environment.probe("names", "cli")
                self._command_round_trip(environment, settings)
            with self._table.row(where, "a missing extra is one sentence"):
                environment.refuses([environment.command("nel-mesh"), "sandbox", "serve"], _NEEDS_SANDBOX)

    def _other(self, extra: str, settings: list[Path]) -> None:
        with self._made(extra, extra) as environment, self._table.row(f"{self._name}, [{extra}]", "a round trip"):
            environment.probe("names")
            environment.probe("round_trip", *settings)

    def _all(self, settings: list[Path], users_program: Path | None) -> None:
        extras = tuple(self._requirements.extras)
        with self._made("all", *extras) as environment:
            where = f"{self._name}, [{','.join(extras)}]"
            with self._table.row(where, "imports, --help, a round trip"):
                environment.probe("names", *extras)
                environment.probe("round_trip", *settings)
                self._command_round_trip(environment, settings)
            with self._table.row(where, "the pytest fixtures"):
                environment.install("pytest")
                self._users_suite(environment, _SANDBOX_SUITE, "1 passed")
            if users_program is not None:
                with self._table.row(where, "a user's program, strictly typed"):
                    environment.install("mypy")
                    command = ("-m", "mypy", "--strict", "--config-file=", f"--cache-dir={environment.work / 'types'}")
                    environment.run(*command, users_program, strict=False)

    def _command_round_trip(self, environment: Environment, settings: list[Path]) -> None:
        command, (sender, recipient) = environment.command("nel-mesh"), settings
        # Their own, so that nothing waits in an inbox for others.
        folder = environment.work / "by-command"
        folder.mkdir()
        (folder / "results.csv").write_bytes(b"id,value\n1,2\n")
        must(command, "--help", folder=folder)
        arguments = ("send", "results.csv", "--to", RECIPIENT, "--workflow-id", "PATH_RESULTS")
        home = {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "LOCALAPPDATA": str(folder)}
        sent = json.loads(must(command, "--json", "--settings", sender, *arguments, folder=folder, more=home))
        receive = ("receive", str(sent["message_id"]), "--into", "inbox")
        must(command, "--json", "--settings", recipient, *receive, folder=folder, more=home)
        (received,) = (path for path in (folder / "inbox").iterdir() if path.suffix == ".csv")
        if received.read_bytes() != b"id,value\n1,2\n":
            raise Failed(f"{SENDER} sent something else")

    def _users_suite(self, environment: Environment, text: str, wanted: str) -> str:
        folder = environment.work / "suite"
        folder.mkdir(exist_ok=True)
        (folder / "test_users.py").write_text(text, encoding="utf-8")
        said = run(environment.python, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", folder=folder)
        if wanted not in said.stdout:
            raise Failed(said.stdout + said.stderr)
        return said.stdout

    def _tests(self, environment: Environment, tree: Path) -> str:
        paths = [str(tree / "tests" / name) for name in CLIENT_TESTS]
        options = ["-q", "-n", "2", "-p", "no:cacheprovider", "-o", "addopts=", "-W", "ignore", "-k", "not official"]
        said = must(environment.python, "-m", "pytest", *options, *paths, folder=tree / "tests")
        return said.strip().splitlines()[-1].strip("= ")

    @contextlib.contextmanager
    def _made(self, name: str, *extras: str) -> Iterator[Environment]:
        environment = Environment(self._folder / name, self._python)
        environment.install(self._of(*extras))
        yield environment

    def _of(self, *extras: str) -> str:
        return f"{self._wheel}[{','.join(extras)}]" if extras else str(self._wheel)
