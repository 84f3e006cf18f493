"""What the project tells installers, and a user without an extra is told. `make dist` tries the wheel itself."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from packaging.requirements import Requirement
from packaging.version import Version

import nel_mesh

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
EVERY = [
    Requirement(text) for text in [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]
]

sys.path.append(str(ROOT / "tools"))
from committable import fault  # noqa: E402


@pytest.mark.parametrize("requirement", EVERY, ids=str)
def test_a_requirement_has_a_lowest_version_and_no_highest(requirement: Requirement) -> None:
    assert [part.operator for part in requirement.specifier] == [">="]
    installed = importlib.metadata.version(requirement.name)
    assert requirement.specifier.contains(installed, prereleases=True)


def test_the_version_is_said_once_more_only_where_it_must_be() -> None:
    version = nel_mesh.__version__
    assert Version(version)
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", _text("CHANGELOG.md"), re.MULTILINE)


def test_public_names_are_listed_once_and_can_be_had() -> None:
    tree = ast.parse(_text("src/nel_mesh/__init__.py"))
    typed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nel_mesh.")
        for alias in node.names
    }
    assert typed == set(nel_mesh.__all__)
    assert sorted(nel_mesh.__all__) == list(nel_mesh.__all__)
    assert {name for name in nel_mesh.__all__ if not hasattr(nel_mesh, name)} == set()
    assert set(nel_mesh.__all__) <= set(dir(nel_mesh))


def test_entry_points_can_be_had() -> None:
    points = [*PROJECT["scripts"].values(), *PROJECT["entry-points"]["pytest11"].values()]
    assert len(points) == 2
    for point in points:
        assert importlib.metadata.EntryPoint("name", point, "group").load()


BLOCKED = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""
ALL = "import nel_mesh, nel_mesh.sandbox, nel_mesh.cli\nfor name in nel_mesh.__all__: getattr(nel_mesh, name)\n"
CLI = "sys.argv = ['nel-mesh', {}]\nfrom nel_mesh.cli.__main__ import main\nsys.exit(main())\n"


@pytest.mark.parametrize(
    ("missing", "program", "sentence"),
    [
        (("cli", "sandbox"), ALL, None),
        (("cli",), CLI.format("'--help'"), 'nel-mesh needs its extra: pip install "nel-mesh[cli]"'),
        (("sandbox",), CLI.format("'sandbox', 'serve'"), 'pip install "nel-mesh[sandbox]"'),
    ],
    ids=["base", "cli", "sandbox"],
)
def test_without_an_extra(missing: tuple[str, ...], program: str, sentence: str | None) -> None:
    """All that needs no extra is there, and what needs it says so in one sentence; no warning anywhere."""
    blocked = {Requirement(text).name for extra in missing for text in EXTRAS[extra]} | {"pytest"}
    code = BLOCKED.format(blocked=blocked) + program
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    if sentence is None:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    else:
        assert done.returncode != 0
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert sentence in done.stderr


def test_what_is_committed_may_be() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a work tree of git")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)  # noqa: S607
    names = [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    assert len(names) > 100
    assert {name: why for name in names if (why := fault((ROOT / name).read_bytes()))} == {}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a\n", None),
        (b"a\r\n", "lines"),
        (bytes(1_000_001), "large"),
    ],
)
def test_what_may_not_be_committed(content: bytes, why: str | None) -> None:
    said = fault(content)
    assert said is None if why is None else why in (said or "")


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_private_key_may_not_be_committed(form: PrivateFormat) -> None:
    key = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, form, NoEncryption())
    assert "private key" in (fault(b"before\n" + key) or "")
    # A text that only names the line that a key begins with is none.
    assert fault(key.splitlines(keepends=True)[0]) is None


def test_constraints_are_names_and_versions_only() -> None:
    assert [
        line for line in _text("constraints.txt").splitlines() if not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)
    ] == []


@pytest.mark.parametrize(("required", "outcome"), [("", "1 skipped"), ("1", "1 error")])
def test_a_missing_program_skips_its_test_or_fails_it(required: str, outcome: str, tmp_path: Path) -> None:
    test = "tests/test_identity.py::test_pkcs12_under_an_empty_password"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path), "NEL_MESH_REQUIRE_SERVICES": required},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert outcome in done.stdout.splitlines()[-1]
    assert "make services" in done.stdout


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")
