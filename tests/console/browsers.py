"""Debian's Chromium for the tests of the console, and axe-core, which looks for what keeps people out."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / ".services/axe/node_modules/axe-core/axe.min.js"
ALL = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
BY_COLOUR = {"type": "rule", "values": ["color-contrast"]}
BY_SIZE = {"type": "rule", "values": ["target-size", "scrollable-region-focusable"]}
LOOKS: tuple[tuple[int, int, Literal["light", "dark"], dict[str, Any]], ...] = (
    (400, 800, "light", ALL),
    (400, 800, "dark", BY_COLOUR),
    (1280, 900, "light", BY_SIZE),
)
"""By all rules; then by those whose answer can be another: of colours in the dark, of sizes in a wide window."""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser while the block runs; skip the test where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        # With NEL_MESH_REQUIRE_SERVICES=1 the skip is a failure (conftest.py).
        pytest.skip("`make services` brings chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:  # it is not made for this Python
        pytest.skip("playwright is not made for this Python")
    # Its own sandbox does not work as root; the only pages are ours.
    flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    flags += ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def context_of(
    browser: Browser, url: str, cookie: tuple[str, str] | None = None, **more: Any
) -> Iterator[BrowserContext]:
    """Give a window's memory of its own, with a session's cookie; whatever its pages complain of fails the test."""
    complaints: list[str] = []
    context = browser.new_context(base_url=url, **more)
    context.set_default_timeout(10_000)
    context.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    if cookie is not None:
        name, value = cookie
        context.add_cookies([{"name": name, "value": value, "url": url, "httpOnly": True, "sameSite": "Strict"}])
    try:
        yield context
    finally:
        context.close()
    assert not complaints, complaints


def axe_source() -> str:
    """Return axe-core; skip the test where it is not here."""
    if not AXE.exists():
        pytest.skip("`make services test` brings axe-core")
    return AXE.read_text(encoding="utf-8")


def faults_of(page: Page, source: str) -> list[str]:
    """Return what axe finds on a page, in both schemes and both widths; and where the page is wider than its window."""
    page.evaluate(source)
    found: list[str] = []
    for width, height, scheme, rules in LOOKS:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        result = page.evaluate("rules => axe.run({runOnly: rules, resultTypes: ['violations']})", rules)
        found += [
            f"{page.url} {width} {scheme} {fault['id']}: {node['target']} {node['failureSummary']}"
            for fault in result["violations"]
            for node in fault["nodes"]
        ]
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            found.append(f"{page.url} is wider than {width}")
    return found
