"""Every link leads somewhere."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, urlsplit

import pytest
from pages import DOCS, PAGES, ROOT, Page, page_at

MARKDOWN = [
    *PAGES,
    *(
        page_at(path.relative_to(ROOT).as_posix())
        for folder in ("examples", "benchmarks", ".github", "tools")
        for path in sorted((ROOT / folder).rglob("*.md"))
        if not any(part in (".venv", "node_modules", "out") for part in path.parts)
    ),
]


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Page) -> None:
    # The templates of generated pages are read as if they stood where those do.
    home = "docs" if page.name.startswith("tools/") else posixpath.dirname(page.name)
    wrong = [link for link in page.links if not _leads_somewhere(link, page, home)]
    assert wrong == []


def _leads_somewhere(link: str, page: Page, home: str) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        # Nothing is asked of the network: only the form is looked at.
        host = parts.hostname or ""
        return parts.scheme == "https" and bool(re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", host)) and " " not in link
    target = posixpath.normpath(posixpath.join(home, unquote(parts.path))) if parts.path else page.name
    if not (ROOT / target).exists():
        return False
    return not parts.fragment or (target.endswith(".md") and parts.fragment in page_at(target).anchors)


def test_the_site_has_every_page_that_the_documentation_links_to() -> None:
    from tools_of_docs import tool

    staged = {posixpath.normpath(name) for name in tool("website").staged()}
    for page in DOCS:
        for link in page.links:
            if not urlsplit(link).scheme and urlsplit(link).path:
                target = posixpath.normpath(posixpath.join("docs", urlsplit(link).path))
                assert target in staged, f"{page.name}: {link} is not part of the site"
