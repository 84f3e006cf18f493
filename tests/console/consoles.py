"""A console over a ledger with made-up messages, served on a free port; and visitors with their sessions."""

from __future__ import annotations

import contextlib
import functools
import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pyotp
from argon2 import PasswordHasher

from nel_mesh import IntegrityError, JournalEntry, MessageMetadata, Report
from nel_mesh.agent.configuration import load
from nel_mesh.console.accounts import Accounts
from nel_mesh.console.guard import COOKIE
from nel_mesh.console.roles import Role
from nel_mesh.console.serving import console_served
from nel_mesh.io.clock import Clock
from nel_mesh.ledger.ledger import FILE_NAME, Ledger
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.outgoing import NewSend
from nel_mesh.ledger.states import Event

ALICE, BOB = "X26ABC1", "X26ABC2"
PASSWORD = "made up words of a test"
HASHER = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
"""Cheap, so that tests do not spend their time on it; one test takes the real one."""

PRIVATE = {
    "subject": "<script>alert('subject')</script> Jane Doe",
    "file_name": "\"><img src=x onerror=alert('name')>.csv",
    "local_id": "'><svg onload=alert('local')>",
    "recipient": "X26PRIV9",
}
"""What a sender could try, in what is masked."""

HOSTILE = "<script>alert('shown')</script>\"'><img src=x onerror=alert(1)>{{7*7}}${7*7}"
"""What a sender or MESH could try, in what is shown."""


class MovableClock(Clock):
    """The present time, and what a test adds to it."""

    def __init__(self) -> None:
        self.added = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.added


class Served:
    """A console that is served.

    Attributes:
        url: its address.
        ledger: another opening of its ledger.
        clock: its clock.
        config: the configuration file.
    """

    def __init__(self, url: str, ledger: Ledger, clock: MovableClock, config: Path, secrets: dict[str, str]) -> None:
        self.url = url
        self.ledger = ledger
        self.clock = clock
        self.config = config
        self.secrets = secrets
        self.accounts = Accounts(ledger, HASHER)

    def code(self, name: str) -> str:
        """Return the code of this moment; the clock goes on, so that the next one is another."""
        self.clock.added += timedelta(seconds=30)
        return self.present_code(name)

    def present_code(self, name: str) -> str:
        """Return the code of this moment."""
        return pyotp.TOTP(self.secrets[name]).at(self.clock.now())

    def add_user(self, name: str, role: Role, *, content: bool = False) -> None:
        self.secrets[name] = self.accounts.add(name, role, PASSWORD, sees_content=content, actor="test")

    @contextlib.contextmanager
    def visitor(self, name: str | None = None) -> Iterator[Visitor]:
        """Give a browser without scripts; logged in, if a name is given."""
        # There is no TLS; reading the system's authorities takes as long as ten pages.
        with httpx.Client(base_url=self.url, follow_redirects=False, timeout=20, verify=False) as client:
            visitor = Visitor(self, client)
            if name is not None:
                answer = visitor.log_in(name)
                assert answer.status_code == 303, answer.text
            yield visitor


class Visitor:
    """A browser without scripts."""

    def __init__(self, served: Served, client: httpx.Client) -> None:
        self.served = served
        self.client = client

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.client.get(path, **more)

    def log_in(self, name: str, password: str = PASSWORD, code: str | None = None) -> httpx.Response:
        token = form_token(self.get("/login").text)
        code = self.served.code(name) if code is None else code
        fields = {"name": name, "password": password, "code": code, "form_token": token}
        return self.client.post("/login", data=fields)

    def post(self, path: str, fields: dict[str, Any] | None = None, *, page: str = "/", **more: Any) -> httpx.Response:
        """Send a form of a page, with the token that is in it."""
        token = form_token(self.get(page).text)
        return self.client.post(path, data={"form_token": token, **(fields or {})}, **more)

    @property
    def cookie(self) -> str | None:
        return self.client.cookies.get(COOKIE)


def form_token(text: str) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]+)"', text)
    assert found is not None, text
    return found[1]


@contextlib.contextmanager
def served_console(
    folder: Path, *, mailboxes: str | None = None, more: str = "", database: str | None = None
) -> Iterator[Served]:
    """Serve a console with a user of each role, each with its name; over an empty database, if its URL is given."""
    config = folder / "agent.toml"
    ledger_at = f'[agent]\nledger = "{database}"\n' if database is not None else ""
    config.write_text(f"{ledger_at}{more}\n{mailboxes or _mailboxes(folder)}")
    configuration = load(config)
    clock = MovableClock()
    if database is None:
        content, secrets = _prepared_ledger()
        configuration.data.mkdir(exist_ok=True)
        (configuration.data / FILE_NAME).write_bytes(content)
    else:
        with Ledger(database) as empty:
            secrets = _add_people(empty)
    with (
        console_served(
            "127.0.0.1:0", lambda: configuration, clock=clock, accounts=lambda ledger: Accounts(ledger, HASHER)
        ) as url,
        Ledger(database or configuration.data, clock=clock) as ledger,
    ):
        yield Served(url, ledger, clock, config, dict(secrets))


@functools.cache
def _prepared_ledger() -> tuple[bytes, dict[str, str]]:
    """Return a ledger with its people, as it is made once, and the secrets of their second factors."""
    with tempfile.TemporaryDirectory(prefix="nel-mesh-console-") as name:
        folder = Path(name)
        with Ledger(folder) as ledger:
            secrets = _add_people(ledger)
        return (folder / FILE_NAME).read_bytes(), secrets


def _add_people(ledger: Ledger) -> dict[str, str]:
    ledger.mailboxes.configure([ALICE, BOB])
    accounts = Accounts(ledger, HASHER)
    people = [(str(role), role, False) for role in Role] + [("reader", Role.VIEWER, True)]
    return {who: accounts.add(who, role, PASSWORD, sees_content=content, actor="test") for who, role, content in people}


def _mailboxes(folder: Path) -> str:
    return "\n".join(
        f"""[mailboxes.{name}]
settings = {{ url = "http://127.0.0.1:9", password = "canary-password", shared_key = "canary-key" }}
[[mailboxes.{name}.receive]]
into = "{folder}/in-{name}"
[[mailboxes.{name}.send]]
from = "{folder}/out-{name}"
to = "{BOB}"
workflow_id = "PATH_RESULTS"
"""
        for name in (ALICE, BOB)
    )


class Filled:
    """A ledger with a message in each state that a page has to show."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.folder = folder
        self.refused = self._refused()
        self.undelivered = self._undelivered()
        self.quarantined = self._quarantined()
        self.stored = self._acknowledged()
        self.unknown = self._send("unknown.csv")
        ledger.messages.begin([self.unknown.id])
        ledger.messages.fail(self.unknown.id, Event.LOST_RESPONSE, IntegrityError("cut"), next_attempt_at=None)
        self.waiting = self._send("waiting.csv")

    def _send(self, name: str) -> LedgerMessage:
        path = self.folder / name
        path.write_text(f"content of {name} <b>bold</b>")
        options = {
            "to": PRIVATE["recipient"],
            "workflow_id": "PATH_RESULTS",
            "subject": PRIVATE["subject"],
            "local_id": PRIVATE["local_id"],
        }
        send = NewSend(
            source=str(path),
            stamp=name,
            options=options,
            route=0,
            file_name=PRIVATE["file_name"],
            length=path.stat().st_size,
        )
        return self.ledger.outgoing.add(ALICE, [send])[0]

    def _refused(self) -> LedgerMessage:
        message = self._send("refused.csv")
        self.ledger.messages.begin([message.id])
        error = IntegrityError(HOSTILE, event="SEND", code="14", description=HOSTILE)
        self.ledger.messages.fail(message.id, Event.REFUSED, error, next_attempt_at=None)
        self.ledger.outgoing.filed(message.id, str(self.folder / "refused.csv"))
        return message

    def _undelivered(self) -> LedgerMessage:
        message = self._send("undelivered.csv")
        self.ledger.messages.begin([message.id])
        self.ledger.outgoing.accepted(message.id, message_id="SENT1", length=1, track_after_in_seconds=600)
        self.ledger.outgoing.filed(message.id, str(self.folder / "undelivered.csv"))
        report = Report(
            message_id="REPORT1",
            message_type="REPORT",
            linked_message_id="SENT1",
            status_event="TRANSFER",
            status_code="15",
            status_description=HOSTILE,
            workflow_id="PATH_RESULTS",
        )
        self._receive("REPORT1", report)
        return message

    def _receive(self, message_id: str, metadata: MessageMetadata) -> LedgerMessage:
        messages = self.ledger.messages
        self.ledger.incoming.note_listed(ALICE, [message_id])
        with self.ledger.database.read() as connection:
            message = self.ledger.incoming.get(connection, ALICE, message_id)
        messages.begin([message.id])
        self.ledger.incoming.choose_destinations(message.id, [f"{self.folder}/in-{ALICE}"], metadata)
        path = self.folder / f"{message_id}.dat"
        path.write_text(f"content of {message_id} {HOSTILE}")
        entry = JournalEntry(
            mailbox_id=ALICE,
            message_id=message_id,
            delivered_at=self.ledger.clock.now(),
            location=str(path),
            bytes=path.stat().st_size,
            metadata=metadata,
        )
        with self.ledger.database.write() as connection:
            self.ledger.incoming.copy_stored(connection, f"{self.folder}/in-{ALICE}", entry)
        return messages.get(message.id)

    def _quarantined(self) -> LedgerMessage:
        messages = self.ledger.messages
        self.ledger.incoming.note_listed(ALICE, ["BROKEN1"])
        with self.ledger.database.read() as connection:
            message = self.ledger.incoming.get(connection, ALICE, "BROKEN1")
        metadata = MessageMetadata(message_id="BROKEN1", workflow_id=HOSTILE, sender=HOSTILE[:90], **_masked())
        self.ledger.incoming.choose_destinations(message.id, [f"{self.folder}/in-{ALICE}"], metadata)
        messages.begin([message.id])
        error = IntegrityError("the checksum differs from the sender's")
        messages.fail(message.id, Event.CONDEMNED, error, next_attempt_at=None, is_its_own=True)
        return message

    def _acknowledged(self) -> LedgerMessage:
        metadata = MessageMetadata(message_id="GOOD1", workflow_id="PATH_RESULTS", sender=BOB, **_masked())
        message = self._receive("GOOD1", metadata)
        self.ledger.incoming.acknowledged(ALICE, ["GOOD1"])
        return message


def _masked() -> dict[str, str]:
    return {name: PRIVATE[name] for name in ("subject", "file_name", "local_id", "recipient")}
