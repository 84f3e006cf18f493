"""The console in a real browser: for everybody, without scripts, by keyboard, and live."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsers import axe_source, chromium, context_of, faults_of
from consoles import ALICE, BOB, PASSWORD, Filled, Served, served_console

from nel_mesh.agent.service import Agent
from nel_mesh.console.guard import COOKIE
from nel_mesh.ledger.states import State
from nel_mesh.sandbox import Sandbox

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytest_plugins = ["console_fixtures"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def cookie_of(served: Served, name: str) -> tuple[str, str]:
    with served.visitor(name) as visitor:
        assert visitor.cookie is not None
        return COOKIE, visitor.cookie


def test_no_page_keeps_anybody_out(browser: Browser, served: Served, tmp_path: Path) -> None:
    axe = axe_source()
    filled = Filled(served.ledger, tmp_path)
    served.accounts.get("administrator")
    with served.ledger.database.write() as connection:
        connection.exec_driver_sql("UPDATE console_user SET sees_content = 1 WHERE name = 'administrator'")
    served.ledger.mailboxes.certificate_seen(ALICE, served.clock.now())
    message = f"/messages/{filled.undelivered.id}"
    found: list[str] = []
    with context_of(browser, served.url) as context:
        page = context.new_page()
        page.goto("/login")
        found += faults_of(page, axe)
        # It does find what it looks for.
        page.evaluate("document.querySelector('label').remove()")
        page.evaluate("document.querySelector('h1').textContent = 'x'.repeat(400)")
        wrong = "".join(faults_of(page, axe))
        assert "label: " in wrong
        assert "wider than 400" in wrong
    with context_of(browser, served.url, cookie_of(served, "administrator")) as context:
        page = context.new_page()
        for path in (
            "/", "/mailboxes", f"/mailboxes/{ALICE}", "/messages", "/messages?states=gone", "/outgoing", "/reports",
            "/destinations", "/nodes", "/certificates", "/send", "/audit", "/users", "/settings", message,
        ):  # fmt: skip
            page.goto(path)
            for details in page.locator("summary").all():
                details.click()
            found += faults_of(page, axe)
        page.goto(message)
        page.get_by_label("Reason").fill("made up")
        page.get_by_role("button", name="Show content").click()
        page.get_by_text("content of undelivered.csv").wait_for()
        found += faults_of(page, axe)
        page.get_by_role("button", name="Resend").click()
        found += faults_of(page, axe)
        page.get_by_label("Reason").fill("made up")
        page.get_by_role("button", name="Resend 1 message").click()
        page.get_by_text("1 done, 0 refused").wait_for()
        found += faults_of(page, axe)
        page.goto("/audit")
        page.get_by_role("button", name="Check the chain").click()
        page.get_by_text("Every event up to").wait_for()
        found += faults_of(page, axe)
        page.goto(f"/mailboxes/{BOB}")
        page.get_by_role("button", name="Pause").click()
        found += faults_of(page, axe)
    assert found == []


def test_everything_is_done_without_scripts(browser: Browser, served: Served, tmp_path: Path) -> None:
    filled = Filled(served.ledger, tmp_path)
    with context_of(browser, served.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/")
        page.get_by_label("Name").fill("operator")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Code").fill(served.code("operator"))
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name=re.compile("need a person")).wait_for()
        page.get_by_role("link", name="Messages", exact=True).click()
        page.get_by_text("Search", exact=True).first.click()
        page.get_by_label("undelivered").check()
        page.get_by_label("refused").check()
        page.get_by_role("button", name="Search", exact=True).click()
        page.get_by_label(f"Mark message {filled.refused.id}").check()
        page.get_by_label("Do", exact=True).select_option("seen")
        page.get_by_role("button", name="Preview").click()
        page.get_by_text("It is no longer shown as needing a person.").wait_for()
        page.get_by_label("Reason").fill("sent by post")
        page.get_by_role("button", name="Seen 1 message").click()
        page.get_by_text("1 done, 0 refused").wait_for()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("heading", name="Log in").wait_for()
    assert served.ledger.messages.get(filled.refused.id).seen_at is not None
    # Another role sees the same, and can do nothing to it.
    with context_of(browser, served.url, cookie_of(served, "viewer"), java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"/messages/{filled.undelivered.id}")
        assert page.get_by_role("button").all_inner_texts() == ["Sign out", "Show names"]
        page.goto("/messages")
        assert page.get_by_role("button", name="Preview").count() == 0
        assert page.get_by_role("link", name="Send").count() == 0


def tab_to(page: Page, text: str) -> None:
    """Press Tab until an element with a text or label has the focus, and see that the focus shows."""
    look = """() => {
        const one = document.activeElement, style = getComputedStyle(one);
        const label = one.labels && one.labels.length ? one.labels[0].textContent : "";
        const shows = style.outlineStyle !== "none" || style.boxShadow !== "none";
        return [(one.textContent || "").trim(), label.trim(), shows, one.tagName];
    }"""
    for _ in range(60):
        page.keyboard.press("Tab")
        said, label, shows, tag = page.evaluate(look)
        assert shows or tag == "BODY", f"the focus does not show at {said or label}"
        if text in (said, label):
            return
    raise AssertionError(f"{text} is not reached by the keyboard")


def test_it_is_used_by_the_keyboard_alone(browser: Browser, served: Served, tmp_path: Path) -> None:
    filled = Filled(served.ledger, tmp_path)
    with context_of(browser, served.url) as context:
        page = context.new_page()
        page.goto("/login")
        for label, value in (("Name", "operator"), ("Password", PASSWORD), ("Code", served.code("operator"))):
            tab_to(page, label)
            page.keyboard.type(value)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name=re.compile("need a person")).wait_for()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        page.locator("#main:focus").wait_for()
        page.goto(f"/messages/{filled.quarantined.id}")
        tab_to(page, "Release")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Release: preview").wait_for()
        tab_to(page, "Reason")
        page.keyboard.type("the sender corrected it")
        page.keyboard.press("Enter")
        page.get_by_text("1 done, 0 refused").wait_for()
    assert served.ledger.messages.get(filled.quarantined.id).state is State.LISTED


def test_a_page_is_live_while_an_agent_delivers(browser: Browser, mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    paths = {path.name.split(".")[1]: path for path in mesh_sandbox.write_settings(tmp_path / "settings")}
    mailboxes = (
        "[defaults]\npoll_interval_in_minutes = 0.005\n"
        f'[mailboxes.{BOB}]\nsettings = "{paths[BOB]}"\n[[mailboxes.{BOB}.receive]]\ninto = "{tmp_path}/in"\n'
    )
    with served_console(tmp_path, mailboxes=mailboxes) as served:
        agent = Agent(served.config)
        thread = threading.Thread(target=agent.run, daemon=True)
        thread.start()
        try:
            with context_of(browser, served.url, cookie_of(served, "viewer")) as context:
                page = context.new_page()
                page.goto("/messages?states=acknowledged")
                page.locator("html[data-live=yes]").wait_for(state="attached")
                page.get_by_text("No message fits the search.").wait_for()
                mesh_sandbox.deliver_message(BOB, b"made up", workflow_id="MADE_UP_WORKFLOW")
                page.get_by_text("MADE_UP_WORKFLOW").wait_for()
                # An empty list has become a list, and nobody has loaded the page.
                assert page.evaluate("performance.getEntriesByType('navigation').length") == 1
                # When the session ends, so does the page.
                served.accounts.disable("viewer", actor="test")
                page.wait_for_url("**/login")
        finally:
            agent.stop()
            thread.join(20)


def test_a_page_goes_on_after_the_console_refused_it(browser: Browser, served: Served) -> None:
    refused: list[str] = []

    def refuse_once(route: Route) -> None:
        path = route.request.url.removeprefix(served.url).partition("?")[0]
        if path in refused or route.request.is_navigation_request():
            route.continue_()
        else:
            refused.append(path)
            route.fulfill(status=503)

    context = browser.new_context(base_url=served.url)
    name, value = cookie_of(served, "viewer")
    context.add_cookies([{"name": name, "value": value, "url": served.url}])
    page = context.new_page()
    page.route(re.compile("/(live|mailboxes)"), refuse_once)
    page.goto("/mailboxes")
    page.locator("html[data-live=yes]").wait_for(state="attached", timeout=15_000)
    served.ledger.mailboxes.pause(ALICE, actor="ann", reason="made up")
    page.get_by_text("paused").wait_for(timeout=15_000)
    assert sorted(refused) == ["/live", "/mailboxes"]
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1
    context.close()
