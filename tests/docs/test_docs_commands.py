"""The first command of a page works as it is written: it is run, or it installs from a checkout."""

from __future__ import annotations

import re
import tomllib

import pytest
from inline_commands import fault_of, is_complete
from pages import PAGES, ROOT, Page
from running import commands

INSTALLING = re.compile(
    r"make (?:demo|test)|python3 -m venv \.venv|\. \.venv/bin/activate|pip install \"\.\[[\w,]+\]\"",
)
"""Commands that set up an environment: `make dist` and `.ci/run` run these, in fresh ones."""

COMMANDED = [page for page in PAGES if "```sh" in page.text]


@pytest.mark.parametrize("page", COMMANDED, ids=lambda page: page.name)
def test_the_first_command_of_a_page_is_run_or_installs(page: Page) -> None:
    first = next(block for block in page.blocks if block.language == "sh")
    if first.reason is not None:
        odd = [command for command in commands(first.text) if not INSTALLING.fullmatch(command)]
        assert odd == [], f"{first}: it is not run, and does not only install"


@pytest.mark.parametrize("page", [page for page in PAGES if "`nel-mesh " in page.text], ids=lambda page: page.name)
def test_a_command_within_a_line_is_there_with_its_options(page: Page) -> None:
    wrong = {code: fault for code in page.code_of_ours if code.startswith("nel-mesh ") and (fault := fault_of(code))}
    assert wrong == {}


def test_an_option_of_another_command_is_seen() -> None:
    assert fault_of("nel-mesh send --into folder") == "send has no --into"
    assert fault_of("nel-mesh agent nodess") == "agent has no command nodess"
    assert fault_of("nel-mesh --json receive --into folder") is None


def test_a_command_is_complete_with_all_that_it_must_have() -> None:
    assert is_complete("nel-mesh check")
    assert is_complete("nel-mesh --profile lab receive --into folder")
    assert is_complete("nel-mesh agent nodes")
    for name in (
        "nel-mesh receive",
        "nel-mesh send",
        "nel-mesh agent drain NODE",
        "nel-mesh agent",
        "nel-mesh nothing",
        "nel-mesh>=0.1,<0.2",
    ):
        assert not is_complete(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_package_is_installed_from_a_checkout_or_a_wheel(page: Page) -> None:
    """Until its name is registered, somebody else could take it: `pip install nel-mesh` would be theirs."""
    lines = [*page.code, *(command for block in page.blocks for command in commands(block.text))]
    installed = [line for line in lines if re.search(r"pip install .*nel[-_]mesh", line)]
    assert [line for line in installed if ".whl" not in line] == []


@pytest.mark.parametrize("name", ["README.md", "docs/tutorial.md"])
def test_the_page_that_installs_says_where(name: str) -> None:
    page = next(page for page in PAGES if page.name == name)
    assert "In a checkout" in page.path.read_text(encoding="utf-8")


def test_the_page_about_versions_names_the_pythons_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pythons = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    lowest = project["requires-python"].removeprefix(">=")
    text = (ROOT / "docs/versions.md").read_text(encoding="utf-8")
    assert f"Python {lowest} and later, up to {pythons[-1]}." in text


def test_the_page_about_windows_names_all_that_is_tried() -> None:
    text = (ROOT / "docs/windows.md").read_text(encoding="utf-8")
    assert "**None of it has been run on Windows by us.**" in text
    source = (ROOT / "tests/test_windows.py").read_text(encoding="utf-8")
    assert len(re.findall(r"^[A-Z]+ = \"\"\"", source, re.MULTILINE)) == 1 + 6, "then the page's table has one more"
