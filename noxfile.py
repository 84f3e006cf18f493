"""Try the built wheel in fresh environments (`make dist`), and on every Python of this machine (`make pythons`)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import nox
from packaging.requirements import Requirement

from nel_mesh.sandbox import sandbox

nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.envdir = "build/nox"
nox.options.error_on_missing_interpreters = False
os.environ["PIP_ONLY_BINARY"] = ":all:"
for variable in [name for name in os.environ if name.upper().startswith(("MESH_", "MESHCONFIGURATION__"))]:
    del os.environ[variable]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
BASE: list[str] = PROJECT["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
ALL = ",".join(EXTRAS)

TESTS = (
    "protocol",
    "test_settings*.py",
    "test_identity*.py",
    "test_client_*ing.py",
    "test_durable_*.py",
    "sandbox/test_sandbox_operations.py",
    "cli/test_cli_sending.py",
)
"""The client's tests that need only the wheel and the development group."""

TESTS_OF_EXTRAS = (
    "agent/test_ledger.py",
    "agent/test_agent.py",
    "console/test_console_[oprs]*.py",
    "test_object_stores.py",
    "test_s3.py",
    "test_sftp.py",
    "test_store_sources.py",
    "test_telemetry.py",
)
"""Tests of what only an extra brings, with its lowest versions too."""

NOT_FOR_TESTS = ("fastapi", "mesh-client", "mesh-sandbox", "mypy", "nox", "ruff")
"""Development packages that those tests do without; they may require other versions of what is tried."""

PYTEST = ("python", "-m", "pytest", "-q", "-p", "no:cacheprovider")


def wheel(extras: str) -> str:
    """Name the wheel as pip wants it."""
    (path,) = Path("dist").absolute().glob("*.whl")
    return f"{path}[{extras}]" if extras else str(path)


@nox.session
@nox.parametrize("extras", ["", *EXTRAS, ALL])
def installed(session: nox.Session, extras: str) -> None:
    """Install the wheel without extras, with each, and with all; use it over mutual TLS as its user would."""
    session.install(wheel(extras))
    missing = {Requirement(one).name for extra in EXTRAS if extra not in extras.split(",") for one in EXTRAS[extra]}
    if extras == "":
        # `pip show` succeeds if it finds any of them.
        session.run("python", "-m", "pip", "show", "--quiet", *missing, success_codes=[1])
    folder = Path(session.create_tmp())
    with sandbox() as server:
        alice, bob, *_ = map(str, server.write_settings(folder / "settings"))
        session.run("python", "-I", "-W", "error", "tools/round_trip.py", alice, bob, *extras.split(","))
        if "cli" in extras or "agent" in extras:  # the agent is a part of the command
            send = ("send", "README.md", "--to", "X26ABC2", "--workflow-id", "PATH_RESULTS")
            session.run("nel-mesh", "--settings", alice, *send, "--transfers", str(folder / "transfers"))
            session.run("nel-mesh", "--settings", bob, "receive", "--into", str(folder / "inbox"))
            assert (folder / "inbox/README.md").read_bytes() == Path("README.md").read_bytes()
        else:
            session.run("nel-mesh", "--help", success_codes=[3])
    session.install("pytest")
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (folder / "test_plain.py").write_text("def test_plain():\n    pass\n")
    (folder / "test_fixture.py").write_text("def test_fixture(mesh_client):\n    mesh_client('X26ABC1').handshake()\n")
    pytest = (*PYTEST, "-c", str(folder / "pytest.ini"))
    session.run(*pytest, str(folder / "test_plain.py"))
    session.run(*pytest, str(folder / "test_fixture.py"), success_codes=[0 if "sandbox" in extras else 1])
    if extras == ALL:
        session.install("mypy")
        session.run("mypy", "--strict", "--config-file=", f"--cache-dir={folder}", "tests/typed/users_program.py")


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest version that each requirement allows, on the oldest Python."""
    requirements = [Requirement(one) for one in (*BASE, *(one for extra in EXTRAS.values() for one in extra))]
    pins = [f"{one.name}{str(one.specifier).replace('>=', '==')}" for one in requirements]
    _client_tests(session, pins, (*TESTS, *TESTS_OF_EXTRAS))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the client's tests on each Python, with the newest versions."""
    _client_tests(session, (), TESTS)


def _client_tests(session: nox.Session, pins: Iterable[str], names: Iterable[str]) -> None:
    ours = {Requirement(one).name for one in (*BASE, *(one for extra in EXTRAS.values() for one in extra))}
    group = nox.project.dependency_groups(PROJECT, "dev")
    tools = [one for one in group if Requirement(one).name not in {*ours, *NOT_FOR_TESTS}]
    session.install(wheel(ALL), *pins, *tools)
    found = {name: sorted(Path("tests").glob(name)) for name in names}
    assert all(found.values()), found
    paths = [str(path) for one in found.values() for path in one]
    environment = {"NEL_MESH_TEST_WARNINGS": "ignore"}
    session.run(*PYTEST, "-n", "2", "-W", "ignore", "-k", "not official", *paths, env=environment)
