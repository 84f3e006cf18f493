"""The site: every page is in its navigation, links lead within it, and it asks nobody else for anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import DOCS, ROOT, Page, page_at
from tools_of_docs import tool


def test_the_navigation_has_every_page_once() -> None:
    website = tool("website")
    named = list(website.navigation(website.configuration()["nav"]))
    assert sorted(named) == sorted(name for name in website.staged().values() if name.endswith(".md"))


def test_a_link_is_turned_to_where_its_page_is_in_the_site() -> None:
    turned = tool("website").turned
    assert turned("[a](docs/sending.md#options)", "README.md") == "[a](sending.md#options)"
    assert turned("[a](../SECURITY.md)", "docs/security.md") == "[a](reporting.md)"
    assert turned("![a](docs/mesh.svg)", "README.md") == "![a](mesh.svg)"
    assert turned("[a](https://example.com/docs/sending.md)", "README.md") == "[a](https://example.com/docs/sending.md)"
    assert turned("[a](#here)", "docs/sending.md") == "[a](#here)"


def test_a_link_to_what_is_not_in_the_site_becomes_its_name() -> None:
    assert tool("website").turned("see [the demo](examples/demo.py).", "README.md") == "see the demo."


def test_what_would_be_asked_of_others_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text('<script src="https://cdn.example.com/a.js"></script><a href="https://x.uk">')
    (tmp_path / "style.css").write_text("@font-face{src:url(//fonts.example.com/a.woff)} a{background:url(b.png)}")
    asked = tool("website").asked_of_others(tmp_path)
    assert asked == ["page.html: https://cdn.example.com/a.js", "style.css: //fonts.example.com/a.woff"]


def test_the_drawings_ask_nobody() -> None:
    assert tool("website").asked_of_others(ROOT / "docs") == []


def test_the_readme_fits_on_two_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


WIDEST = 86
"""Columns of code that fit beside the navigation on a screen of 1,280 pixels."""


@pytest.mark.parametrize("page", [*DOCS, page_at("README.md"), page_at("ARCHITECTURE.md")], ids=lambda page: page.name)
def test_no_block_is_cut_on_a_common_screen(page: Page) -> None:
    """A33."""
    lines = [line for block in page.blocks for line in block.text.splitlines()]
    assert [line for line in lines if len(line) > WIDEST] == []
