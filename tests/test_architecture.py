"""The shape of the package, as tests: who may import whom, what is generated, what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nel_mesh

PACKAGE = Path(nel_mesh.__file__).parent
ROOT = PACKAGE.parent.parent

CLIENT = {
    "destinations",
    "errors",
    "http",
    "instrumentation",
    "io",
    "models",
    "protocol",
    "settings",
    "tls",
    "tracebacks",
}

MAY_IMPORT = {
    "_version": set[str](),
    "errors": set[str](),
    "tracebacks": set[str](),
    "models": {"errors"},
    "settings": {"errors", "tracebacks", "_version"},
    "tls": {"errors", "settings"},
    "protocol": {"errors", "models"},
    "io": {"errors"},
    "http": {"errors"},
    "instrumentation": {"errors", "_version"},
    "destinations": {"errors", "models", "protocol", "io"},
    "_async": CLIENT,
    "_sync": CLIENT,
    "check": {"errors", "settings", "tls", "protocol", "io", "http", "_sync"},
    "sandbox": {"errors", "protocol", "settings", "io", "_sync", "_async"},
    "cli": {"errors", "instrumentation", "settings", "tls", "check", "protocol", "io", "sandbox"},
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


def imported(path: Path) -> Iterator[str]:
    """Absolute names of what a module imports, wherever in it."""
    inside = ["nel_mesh", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(inside[: len(inside) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            yield from (f"{name}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("area", "path"), list(modules()), ids=lambda value: str(getattr(value, "name", value)))
def test_imports_point_down_only(area: str, path: Path) -> None:
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("nel_mesh.")}
    areas = {name for name in ours if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()}
    assert areas - {area} <= MAY_IMPORT[area]


def test_the_protocol_does_no_io() -> None:
    for area, path in modules():
        if area == "protocol":
            assert not {name.split(".")[0] for name in imported(path)} & PURE


@pytest.mark.parametrize(
    ("package", "module"),
    [("h11", "exchange.py"), ("isal", "gzip.py"), ("sqlite3", "journal.py"), ("opentelemetry", "opentelemetry.py")],
)
def test_one_module_knows_the_package(package: str, module: str) -> None:
    client = [path for area, path in modules() if area not in ("sandbox", "cli", "check")]
    assert [path.name for path in client if any(name.split(".")[0] == package for name in imported(path))] == [module]


def test_the_base_needs_no_extra() -> None:
    extras = {"starlette", "uvicorn", "trustme", "pytest", "typer", "rich", "opentelemetry.sdk"}
    for area, path in modules():
        if area not in ("sandbox", "cli", "check"):
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
