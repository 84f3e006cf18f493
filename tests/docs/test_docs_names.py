"""What the documentation names is there; what is public is in the documentation."""

from __future__ import annotations

import builtins
import dataclasses
import importlib
import inspect
import pkgutil
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import typer
from pages import PAGES, ROOT, Page
from tools_of_docs import tool

import nel_mesh
import nel_mesh.instrumentation
import nel_mesh.sandbox
import nel_mesh.settings
from nel_mesh import MeshSettings
from nel_mesh.agent.console_options import ConsoleOptions, OpenIdOptions
from nel_mesh.agent.tables import Defaults, Hook, Mailbox, Options, ReceiveRoute, SendRoute
from nel_mesh.agent.templates import FIELDS
from nel_mesh.cli.app import COMMANDS, app
from nel_mesh.instrumentation import opentelemetry
from nel_mesh.instrumentation.logs import LogFields
from nel_mesh.ledger.states import State
from nel_mesh.sandbox import pytest_plugin
from nel_mesh.sandbox.operations import Operation
from nel_mesh.sandbox.request import RequestSeen
from nel_mesh.settings.sources import OLD_DOTNET_NAMES, dotnet_name, variable_name

READ = [page for page in PAGES if page.name != "CHANGELOG.md"]

OTHERS = {
    *("SSL_CERT_FILE", "NO_COLOR", "MESH_CLIENT_SHARED_KEY", "X509Certificate2", "MeshConfiguration"),
    # what `check --json` says, the sandbox's shared key, and ourselves
    *("days_left", "seconds_ahead", "TestKey", "nel_mesh"),
    # what boto3 and AWS call their own
    *("GetObject", "DeleteObject", "ListBucket", "GenerateDataKey"),
    *(
        "when_required",
        "when_supported",
        "AWS_ENDPOINT_URL",
        "AZURE_STORAGE_CONNECTION_STRING",
        "DefaultAzureCredential",
        "mesh_sha256",
    ),
    # a claim of OpenID Connect
    "preferred_username",
    # what CONTRIBUTING says of the inside
    *("in_thread", "AsyncClock"),
}
"""Names that the documentation may use, and that no look at the package finds."""


@cache
def ours() -> frozenset[str]:
    """Every name that somebody who uses the package can meet."""
    found = {*Operation, *dir(builtins)}
    for module in (nel_mesh, nel_mesh.instrumentation, nel_mesh.sandbox, nel_mesh.settings, pytest_plugin):
        for name in getattr(module, "__all__", None) or vars(module):
            found |= {name, *_names_in(getattr(module, name))}
    found |= set(_names_in(RequestSeen))
    for name in MeshSettings.model_fields:
        found |= {name, dotnet_name(name), variable_name(name)}
    # The agent's configuration.
    for table in (Options, ConsoleOptions, OpenIdOptions, Defaults, Mailbox, ReceiveRoute, SendRoute, Hook):
        found |= {name for field, info in table.model_fields.items() for name in (field, info.alias or field)}
    found |= {*FIELDS, *State}
    metrics = (ROOT / "src/nel_mesh/agent/metrics.py").read_text(encoding="utf-8")
    found |= {name + end for name in re.findall(r'"(mesh_[a-z_]+)"', metrics) for end in ("", "_total")}
    # Elements of the Java client's files.
    for source in (ROOT / "src/nel_mesh/agent/java").glob("*.py"):
        found |= set(re.findall(r"\b[A-Z][A-Za-z]+\b", source.read_text(encoding="utf-8")))
    # What a command says with --json.
    said = (ROOT / "tools/commands.md").read_text(encoding="utf-8").partition("## JSON")[2]
    found |= set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", said))
    found |= {f"mesh_{name}" for name in LogFields.__annotations__}
    found |= {word for name in told() for word in name.split(".")}
    found |= set(OLD_DOTNET_NAMES)
    # Modules of the package, and files of the source tree, which the pages for its developers name.
    found |= {one.name.rpartition(".")[2] for one in pkgutil.walk_packages(nel_mesh.__path__, "nel_mesh.")}
    found |= {path.stem for folder in ("tools", "tests", "examples") for path in (ROOT / folder).rglob("*.py")}
    found |= {path.name for path in (ROOT / "examples").iterdir()}
    return frozenset(found)


@cache
def told() -> frozenset[str]:
    """The names of attributes and metrics for OpenTelemetry."""
    source = inspect.getsource(opentelemetry)
    return frozenset(re.findall(r'"((?:messaging|nhs_mesh|http|url|server|network|error)\.[a-z_.]+)"', source))


def test_all_that_is_told_is_in_the_documentation_and_nothing_else() -> None:
    code = " ".join(Page("docs/telemetry.md").code)
    assert {name for name in told() if name not in code.split()} == set()
    assert set(re.findall(r"\b(?:messaging|nhs_mesh|http|url|network)\.[a-z_.]+", code)) <= told()
    assert {f"mesh_{name}" for name in LogFields.__annotations__} <= set(code.split())


def _names_in(thing: Any) -> Iterator[str]:
    if isinstance(thing, type):
        yield from (name for name in dir(thing) if not name.startswith("_"))
        yield from getattr(thing, "model_fields", ())
        # What only instances have is in the docstring's list of attributes.
        for names in re.findall(r"^ {4}([a-z_, ]+): ", inspect.getdoc(thing) or "", re.MULTILINE):
            yield from names.split(", ")
        if dataclasses.is_dataclass(thing):
            yield from (field.name for field in dataclasses.fields(thing))
        for member in vars(thing).values():
            yield from _parameters(member)
    yield from _parameters(thing)


def _parameters(thing: Any) -> Iterator[str]:
    if callable(thing):
        try:
            yield from inspect.signature(thing).parameters
        except (TypeError, ValueError):
            return


@cache
def options() -> frozenset[str]:
    """Every option of every command."""
    found: set[str] = set()
    root = typer.main.get_command(app)
    with root.make_context("nel-mesh", [], resilient_parsing=True) as context:
        for name in COMMANDS:
            command = root.get_command(context, name)  # type: ignore[attr-defined]
            for one in (command, *getattr(command, "commands", {}).values()):
                for parameter in (*root.params, *one.params):
                    found |= {*parameter.opts, *parameter.secondary_opts}
    return frozenset(found | {"--help"})


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_what_is_named_is_there(page: Page) -> None:
    wrong = {f"{name} in `{code}`" for code in page.code_of_ours for name in _unknown(code)}
    assert wrong == set()


def _unknown(code: str) -> Iterator[str]:
    known = ours() | OTHERS
    if re.match(r"(?:https?:|\.{0,2}/|~|%|\$XDG|itoc)|.*\.(?:svg|md|toml|json|py|cfg|key|csr|yaml)\b", code):
        return  # an address, or a file
    if re.match(r"(?:pip|make|curl|git|python|uv) ", code):
        return
    yield from (option for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]+", code) if option not in options())
    yield from (name for name in re.findall(r"\bMESH_[A-Z_]+", code) if name not in known | {"MESH_SETTINGS"})
    yield from (name for name in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", code) if name not in known)
    yield from (name for name in re.findall(r"\b([a-z]\w*)\(", code) if name not in known)
    for name in re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b", code):
        if name not in known and name.lower() not in OLD_DOTNET_NAMES:
            yield name
    command = re.match(r"nel-mesh (?:--\w+ \w+ )*([a-z]+)", code)
    if command and command[1] not in COMMANDS:
        yield f"the command {command[1]}"


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_targets_and_extras_are_there(page: Page) -> None:
    rules = re.findall(r"^([a-z][a-z ]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    targets = {target for rule in rules for target in rule.split()}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    code = [*page.code, *(block.text for block in page.blocks if block.language in ("sh", "text"))]
    for text in code:
        assert set(re.findall(r"(?:^|\n|  |`)make ([a-z]+)", text)) <= targets
        for named in re.findall(r"pip install [\"']?(?:nel-mesh|\.|nel_mesh\S+\.whl)\[([\w,]+)\]", text):
            assert set(named.split(",")) <= set(extras)


def test_every_public_name_is_in_the_reference() -> None:
    headings = {text for _, text in Page("docs/api.md").headings}
    text = Page("docs/api.md").path.read_text(encoding="utf-8")
    assert {name for name in nel_mesh.__all__ if name not in headings} == {"__version__"}
    assert "`nel_mesh.__version__`" in text
    inside = {name for name in nel_mesh.sandbox.__all__ if not {name, f"sandbox.{name}"} & headings}
    assert [name for name in inside if f"`{name}`" not in text] == []


def test_every_method_of_the_clients_is_in_the_reference() -> None:
    headings = {text for _, text in Page("docs/api.md").headings}
    for kind in (nel_mesh.MeshClient, nel_mesh.Message, nel_mesh.sandbox.Sandbox):
        for name in vars(kind):
            assert name.startswith("_") or f"{kind.__name__}.{name}" in headings


def test_every_error_says_what_to_do() -> None:
    page = Page("docs/errors.md").path.read_text(encoding="utf-8")
    errors = importlib.import_module("nel_mesh.errors")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, nel_mesh.MeshError)]
    assert [kind.__name__ for kind in kinds[1:] if f"| `{kind.__name__}`" not in page] == []
    assert [one.name for one in nel_mesh.Outcome if f"| `{one.name}` |" not in page] == []


def test_every_effect_of_a_fault_is_in_the_table() -> None:
    page = Page("docs/testing.md").path.read_text(encoding="utf-8")
    assert [effect for effect in nel_mesh.sandbox.Effect if f"| `{effect}` |" not in page] == []


def test_every_fixture_is_in_the_table_and_in_the_reference() -> None:
    page = Page("docs/testing.md").path.read_text(encoding="utf-8")
    headings = {text for _, text in Page("docs/api.md").headings}
    names = [name for name in vars(pytest_plugin) if name.startswith(("mesh_", "async_mesh_"))]
    assert len(names) > 3
    assert [name for name in names if f"| `{name}` |" not in page or name not in headings] == []


def test_options_are_found() -> None:
    assert {"--workflow-id", "--inbox-life", "--report", "--no-ack"} <= options()


def test_a_made_up_name_is_seen() -> None:
    assert list(_unknown("mesh.send_massage(content)")) != []
    assert list(_unknown("nel-mesh sned --to X26ABC1")) == ["the command sned"]
    assert list(_unknown("nel-mesh send --too X26ABC1")) == ["--too"]
    assert list(_unknown("MESH_MAILBOX")) == ["MESH_MAILBOX"]


@pytest.mark.parametrize("name", tool("reference").PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    page = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    assert page == tool("reference").page(name), "run `make reference`"


@pytest.mark.parametrize(("page", "draw"), tool("state_tables").PAGES.items())
def test_a_state_table_is_current(page: str, draw: Callable[[], str]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert text == tool("state_tables").page(text, draw), "run `make reference`"
