"""The pages of the documentation, taken apart: their blocks, headings, links and inline code."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]

_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+?) -->", re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: where it stands.
        line: of the page, from 1; that of the code's first line.
        language: as its fence says; empty for an indented block.
        title: the file that it shows, if it is one.
        text: the code.
        reason: why it is not run, if a comment before it says so.
    """

    page: str
    line: int
    language: str
    title: str | None
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclasses.dataclass(frozen=True)
class Page:
    """A page, by its path from the root."""

    name: str

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @functools.cached_property
    def text(self) -> str:
        """As it is written: tests are chosen by it, since every worker would take every page apart otherwise."""
        return self.path.read_text(encoding="utf-8")

    @functools.cached_property
    def tokens(self) -> list[Token]:
        markdown = MarkdownIt("commonmark").enable("table")
        return markdown.parse(self.text)

    @property
    def inlines(self) -> Iterator[Token]:
        """Every piece of running text."""
        return (child for token in self.tokens for child in token.children or ())

    @property
    def code(self) -> Iterator[str]:
        """What stands in backticks within a line."""
        return (token.content for token in self.inlines if token.type == "code_inline")

    @property
    def code_of_ours(self) -> Iterator[str]:
        """The same, less the first column of tables that compare others with us."""
        column = 0
        compares = False
        for token in self.tokens:
            if token.type == "tr_open":
                column = 0
            elif token.type in ("th_open", "td_open"):
                column += 1
            elif token.type == "table_close":
                compares, column = False, 0
            elif token.type == "inline":
                compares = compares or (column == 2 and token.content == "here")
                if not (compares and column == 1):
                    yield from (child.content for child in token.children or () if child.type == "code_inline")

    @property
    def links(self) -> Iterator[str]:
        """Where the page's links and images lead."""
        for token in self.inlines:
            target = token.attrGet("href") or token.attrGet("src")
            if target:
                yield str(target)

    @property
    def headings(self) -> Iterator[tuple[str, str]]:
        """Each heading's level (h1) and its text."""
        for opening, inline in zip(self.tokens, self.tokens[1:], strict=False):
            if opening.type == "heading_open":
                yield opening.tag, "".join(child.content for child in inline.children or ())

    @property
    def first_paragraph(self) -> str:
        """Return the text of the first paragraph."""
        for opening, inline in zip(self.tokens, self.tokens[1:], strict=False):
            if opening.type == "paragraph_open":
                return inline.content
        return ""

    @functools.cached_property
    def anchors(self) -> set[str]:
        """The headings' anchors, where the sites that show Markdown and the site that we build agree on them."""
        seen: dict[str, int] = {}
        both = set()
        for _, text in self.headings:
            kept = re.sub(r"[^\w\s-]", "", text.strip().lower())
            slug = kept.replace(" ", "-")
            if slug == re.sub(r"[-\s]+", "-", kept) and slug not in seen:
                both.add(slug)
            seen[slug] = 1
        return both

    @property
    def blocks(self) -> Iterator[Block]:
        """Its blocks of code, in order."""
        reason = None
        for token in self.tokens:
            if token.type == "html_block":
                found = _NOT_RUN.search(token.content)
                reason = " ".join(found["reason"].split()) if found else None
            elif token.type in ("fence", "code_block"):
                language, _, rest = token.info.partition(" ")
                title = _TITLE.search(rest)
                assert token.map
                line = token.map[0] + (2 if token.type == "fence" else 1)
                yield Block(self.name, line, language, title[1] if title else None, token.content, reason)
                reason = None
            elif token.nesting >= 0 and token.type != "inline":
                reason = None


@functools.cache
def page_at(name: str) -> Page:
    """The page of this path, taken apart once."""
    return Page(name)


DOCS = [page_at(str(path.relative_to(ROOT))) for path in sorted((ROOT / "docs").glob("*.md"))]
"""The documentation."""

TOP = [page_at(path.name) for path in sorted(ROOT.glob("*.md"))]
"""README, ARCHITECTURE and their like."""

PAGES = [*DOCS, *TOP]
