"""The shape of the package, as tests: who may import whom, what is generated, what is public."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nel_mesh

PACKAGE = Path(nel_mesh.__file__).parent
ROOT = PACKAGE.parent.parent

CLIENT = {
    "blocks",
    "destinations",
    "errors",
    "http",
    "instrumentation",
    "io",
    "models",
    "protocol",
    "settings",
    "sources",
    "stores",
    "tls",
    "tracebacks",
}

MAY_IMPORT = {
    "_version": set[str](),
    "blocks": set[str](),
    "errors": set[str](),
    "tracebacks": set[str](),
    "models": {"errors"},
    "settings": {"errors", "tracebacks", "_version"},
    "tls": {"errors", "settings"},
    "protocol": {"blocks", "errors", "models"},
    "io": {"blocks", "errors", "models"},
    "http": {"blocks", "errors"},
    "instrumentation": {"errors", "_version"},
    "stores": {"errors"},
    "destinations": {"blocks", "errors", "models", "protocol", "io", "stores"},
    "sources": {"errors", "io", "stores"},
    "_async": CLIENT,
    "_sync": CLIENT,
    "check": {"errors", "settings", "tls", "protocol", "io", "http", "_sync"},
    "sandbox": {"errors", "protocol", "settings", "io", "_sync", "_async"},
    "ledger": {"errors", "io", "models"},
    "agent": {
        "destinations",
        "errors",
        "io",
        "ledger",
        "models",
        "settings",
        "sources",
        "tls",
        "check",
        "instrumentation",
    },
    "witness": {"errors", "instrumentation", "io", "settings", "_sync"},
    "console": {"agent", "errors", "io", "ledger", "_version"},
    "fleet": {"agent", "errors", "io", "ledger"},
    "cli": {
        "agent",
        "console",
        "fleet",
        "errors",
        "models",
        "instrumentation",
        "ledger",
        "settings",
        "tls",
        "check",
        "sandbox",
        "witness",
    },
    "__main__": {"cli"},
    "transfers": {"errors", "protocol", "io"},
    "__init__": {
        "destinations",
        "errors",
        "io",
        "models",
        "settings",
        "tls",
        "transfers",
        "_async",
        "_sync",
        "_version",
    },
}
"""Downwards only, as the drawing in ARCHITECTURE.md has it."""

PURE = {
    "socket",
    "ssl",
    "os",
    "io",
    "time",
    "random",
    "secrets",
    "uuid",
    "threading",
    "asyncio",
    "anyio",
    "pathlib",
    "tempfile",
    "logging",
}
"""What `protocol` has no business with."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path


@functools.cache
def imported(path: Path) -> tuple[str, ...]:
    """Absolute names of what a module imports, wherever in it."""
    inside = ["nel_mesh", *path.relative_to(PACKAGE).parts[:-1]]
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(inside[: len(inside) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            names += (f"{name}.{alias.name}" for alias in node.names)
    return tuple(names)


@functools.cache
def ours(path: Path) -> frozenset[Path]:
    """The files of the package that a file imports; packages are their `__init__.py`."""
    found: set[Path] = set()
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "nel_mesh":
            continue
        # `from a.b import c`: c is a module, or a name in a.b.
        for end in (len(parts), len(parts) - 1):
            place = PACKAGE.joinpath(*parts[1:end])
            if place.with_suffix(".py").is_file() and end > 1:
                found.add(place.with_suffix(".py"))
                break
            if (place / "__init__.py").is_file():
                found.add(place / "__init__.py")
                break
    # The public package imports on demand: for its users it is no circle.
    return frozenset(found - {path, PACKAGE / "__init__.py"})


@pytest.mark.parametrize(("area", "path"), list(modules()), ids=lambda value: str(getattr(value, "name", value)))
def test_imports_point_down_only(area: str, path: Path) -> None:
    areas = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in ours(path)}
    assert areas - {area} <= MAY_IMPORT[area]


PUBLIC_PACKAGES = {PACKAGE / name / "__init__.py" for name in ("settings", "tls", "instrumentation", "sandbox")}


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda path: path.name)
def test_the_command_line_sees_the_public_package_and_check(path: Path) -> None:
    """Of the other rooms it knows the names that their package gives, and none of their files."""
    faces = {PACKAGE / name for name in ("cli", "check", "agent", "console", "fleet", "ledger", "witness")}
    others = {file for file in ours(path) if not faces & set(file.parents)}
    assert others - PUBLIC_PACKAGES <= {PACKAGE / "errors.py", PACKAGE / "models.py"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "agent").rglob("*.py")), ids=lambda path: path.name)
def test_the_agent_sees_the_public_package_the_ledger_destinations_sources_checks_and_files(path: Path) -> None:
    """Of the modules below it knows those that every program would need: durable files, and time."""
    rooms = {PACKAGE / name for name in ("agent", "check", "ledger", "destinations", "sources")}
    others = {file for file in ours(path) if not rooms & set(file.parents)}
    assert {file for file in others - PUBLIC_PACKAGES if file.parent != PACKAGE / "io"} <= {
        PACKAGE / "errors.py",
        PACKAGE / "models.py",
    }


@pytest.mark.parametrize("path", sorted((PACKAGE / "console").rglob("*.py")), ids=lambda path: path.name)
def test_the_console_sees_the_public_package_the_agent_and_the_ledger(path: Path) -> None:
    """It has no way of its own to MESH, and of the modules below it knows files and time."""
    rooms = {PACKAGE / name for name in ("console", "agent", "ledger", "io")}
    others = {file for file in ours(path) if not rooms & set(file.parents)}
    assert others <= {PACKAGE / name for name in ("errors.py", "models.py", "_version.py")}


def test_no_files_import_one_another() -> None:
    """Not two, and not several in a circle; a file of a package may import its siblings through no `__init__`."""
    left = {path: ours(path) for _, path in modules()}
    while free := {path for path, targets in left.items() if not targets & left.keys()}:
        for path in free:
            del left[path]
    circles = {
        str(path.relative_to(PACKAGE)): sorted(str(target.relative_to(PACKAGE)) for target in targets & left.keys())
        for path, targets in left.items()
    }
    assert circles == {}


def loaded_by(program: str) -> set[str]:
    """Return the modules that a program loads, those of other packages by the name of their package."""
    text = f"import sys\n{program}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", text], capture_output=True, text=True, check=True)
    names = done.stdout.split()
    packages = {name.partition(".")[0] for name in names if name[0] != "_"} - {"nel_mesh"} - sys.stdlib_module_names
    return packages | {name for name in names if name.startswith("nel_mesh.") or name in ("sqlite3", "ssl", "logging")}


SETTINGS = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
MADE = (
    "mesh = {client}(MeshSettings(mailbox_id='A', password='p', shared_key='k', url='http://127.0.0.1', proxy='none'))"
)


@pytest.mark.parametrize("client", ["MeshClient", "AsyncMeshClient"])
def test_what_is_not_needed_is_not_loaded(client: str) -> None:
    at_start = loaded_by("")
    name = loaded_by(f"from nel_mesh import {client}") - at_start
    assert {module for module in name if not module.startswith("nel_mesh.")} == set()
    settings = loaded_by(f"from nel_mesh import {client}, MeshSettings") - at_start
    assert {module for module in settings if not module.startswith("nel_mesh.")} <= SETTINGS
    made = loaded_by(f"from nel_mesh import {client}, MeshSettings\n{MADE.format(client=client)}") - at_start
    assert "cryptography" not in made, "it is for TLS only"


@pytest.mark.parametrize(("client", "other"), [("MeshClient", "_async"), ("AsyncMeshClient", "_sync")])
def test_one_client_does_not_load_the_other(client: str, other: str) -> None:
    loaded = loaded_by(f"from nel_mesh import {client}, MeshSettings\n{MADE.format(client=client)}")
    own = "_sync" if other == "_async" else "_async"
    assert {f"nel_mesh.{own}.{name}" for name in ("client", "upload", "delivery", "http")} <= loaded
    assert {name for name in loaded if name.startswith(f"nel_mesh.{other}")} == set()
    if other == "_async":
        assert "anyio" not in loaded, "the blocking client needs no event loop's library"


def test_the_protocol_does_no_io() -> None:
    for area, path in modules():
        if area == "protocol":
            assert not {name.split(".")[0] for name in imported(path)} & PURE


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("h11", "exchange.py"),
        ("isal", "gzip.py"),
        ("sqlite3", "journal.py"),
        ("opentelemetry", "opentelemetry.py"),
        ("asyncssh", "sftp.py"),
        ("boto3", "s3.py"),
        ("botocore", "s3.py"),
        ("azure", "azure.py"),
        ("argon2", "accounts.py"),
        ("pyotp", "accounts.py"),
        ("authlib", "openid.py"),
        ("joserfc", "openid.py"),
        ("requests", "openid.py"),
        ("jinja2", "site.py"),
        ("sse_starlette", "live.py"),
        ("procrastinate", "engine.py"),
        ("psycopg", "postgresql.py"),
    ],
)
def test_one_module_knows_the_package(package: str, module: str) -> None:
    client = [path for area, path in modules() if area not in ("sandbox", "cli", "check")]
    assert [path.name for path in client if any(name.split(".")[0] == package for name in imported(path))] == [module]


def test_the_base_needs_no_extra() -> None:
    extras = {"starlette", "uvicorn", "trustme", "pytest", "typer", "rich", "opentelemetry.sdk"}
    extras |= {"sqlalchemy", "alembic", "prometheus_client", "watchfiles", "defusedxml", "procrastinate", "psycopg"}
    for area, path in modules():
        if area not in ("sandbox", "cli", "check", "agent", "console", "fleet", "ledger"):
            assert not {name.split(".")[0] for name in imported(path)} & extras


def test_the_sync_client_is_what_the_generator_makes() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "unasync.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_colours_have_the_same_names() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(nel_mesh.MeshClient) == public(nel_mesh.AsyncMeshClient)
    assert public(nel_mesh.Message) == public(nel_mesh.AsyncMessage)


def test_every_public_name_says_what_it_is() -> None:
    for name in nel_mesh.__all__:
        if name != "__version__":
            kind = getattr(nel_mesh, name)
            assert kind.__doc__, name
            for member, value in vars(kind).items():
                if callable(value) and not member.startswith("_") and member != "model_post_init":
                    assert value.__doc__, f"{name}.{member}"
