"""A reader who searches for a common word finds the page about it."""

from __future__ import annotations

import re

import pytest
from pages import page_at

ABOUT = {
    "retry": "docs/errors.md",
    "resume": "docs/large-files.md",
    "duplicate": "docs/promises.md",
    "typo": "docs/settings.md",
    "async": "docs/clients.md",
    "poll": "docs/receiving.md",
    "certificate expired": "docs/going-live.md",
    "certificate authority": "docs/authorities.md",
    "RootCA": "docs/authorities.md",
    "windows service": "docs/windows.md",
    "version": "docs/versions.md",
    "prefetch": "docs/large-files.md",
}
"""Searches, each with the page that is about it."""


@pytest.mark.parametrize("search", ABOUT)
def test_the_page_about_a_word_has_it_at_its_start_or_in_a_heading(search: str) -> None:
    page = page_at(ABOUT[search])
    texts = [text for _, text in page.headings] + [page.first_paragraph]
    # As the site's search does: every word of the search is the start of a word of the text.
    found = [text for text in texts if all(re.search(rf"\b{word}", text, re.IGNORECASE) for word in search.split())]
    assert found, f"{page.name}: no heading and no first paragraph has {search!r}"
