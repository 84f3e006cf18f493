"""Make the pictures of docs/console.md: `make screenshots`. Everything in them is made up."""

from __future__ import annotations

import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from browsers import ROOT, chromium, context_of
from consoles import ALICE, BOB, Served, served_console

from nel_mesh import ConnectionFailed, IntegrityError, JournalEntry, MessageMetadata
from nel_mesh.console.guard import COOKIE
from nel_mesh.ledger.outgoing import NewSend
from nel_mesh.ledger.states import Event

WORKFLOWS = ("PATH_RESULTS", "DISCHARGE_LETTERS", "SCREENING_LIST")


def fill(served: Served, folder: Path) -> int:
    """Make up a day of two mailboxes; return the message in quarantine."""
    clock, ledger = served.clock, served.ledger
    clock.added = timedelta(hours=-22)
    for hour in range(22):
        for number in range(2 + (hour * 7) % 5):
            metadata = MessageMetadata(
                message_id=f"2026112600000000{hour:02}{number:02}_0A1B2C",
                message_type="DATA",
                workflow_id=WORKFLOWS[number % 3],
                sender=BOB,
            )
            _receive(served, metadata)
            if number % 2:
                _send(served, folder, f"results-{hour}-{number}.csv", f"SENT{hour:02}{number:02}")
        clock.added += timedelta(hours=1)
    messages = ledger.messages
    ledger.incoming.note_listed(ALICE, ["20261126140000000000_BAD001"])
    with ledger.database.read() as connection:
        bad = ledger.incoming.get(connection, ALICE, "20261126140000000000_BAD001")
    metadata = MessageMetadata(message_id=bad.message_id or "", workflow_id="PATH_RESULTS", sender=BOB)
    ledger.incoming.choose_destinations(bad.id, ["/srv/mesh/in"], metadata)
    messages.begin([bad.id])
    error = IntegrityError("the checksum differs from the sender's")
    messages.fail(bad.id, Event.CONDEMNED, error, next_attempt_at=None, is_its_own=True)
    ledger.incoming.note_listed(BOB, _slow())
    for one in messages.begin(one.id for one in ledger.incoming.due(BOB, _slow())):
        later = clock.now() + timedelta(minutes=2)
        messages.fail(one.id, Event.FAILED, ConnectionFailed("s3://results: 503 SlowDown"), next_attempt_at=later)
    begun = ledger.mailboxes.begin_visit(ALICE, "node-1:4711")
    assert begun is not None
    ledger.mailboxes.end_visit(ALICE, begun.epoch, clock.now() + timedelta(minutes=5), None)
    ledger.mailboxes.certificate_seen(ALICE, clock.now() + timedelta(days=12))
    ledger.mailboxes.certificate_seen(BOB, clock.now() + timedelta(days=240))
    return bad.id


def _slow() -> list[str]:
    return [f"20261126150000000000_SLOW{number:02}" for number in range(12)]


def _receive(served: Served, metadata: MessageMetadata) -> None:
    ledger = served.ledger
    ledger.incoming.note_listed(ALICE, [metadata.message_id])
    with served.ledger.database.read() as connection:
        message = ledger.incoming.get(connection, ALICE, metadata.message_id)
    ledger.messages.begin([message.id])
    ledger.incoming.choose_destinations(message.id, ["/srv/mesh/in"], metadata)
    entry = JournalEntry(
        mailbox_id=ALICE,
        message_id=metadata.message_id,
        delivered_at=served.clock.now(),
        location=f"/srv/mesh/in/{metadata.message_id}",
        bytes=48_211,
        metadata=metadata,
    )
    with served.ledger.database.write() as connection:
        ledger.incoming.copy_stored(connection, "/srv/mesh/in", entry)
    ledger.incoming.acknowledged(ALICE, [metadata.message_id])


def _send(served: Served, folder: Path, name: str, message_id: str) -> None:
    options = {"to": BOB, "workflow_id": "PATH_RESULTS"}
    send = NewSend(source=str(folder / name), stamp=name, options=options, route=0, file_name=name, length=1024)
    [message] = served.ledger.outgoing.add(ALICE, [send])
    served.ledger.messages.begin([message.id])
    served.ledger.outgoing.accepted(message.id, message_id=message_id, length=1024, track_after_in_seconds=600)
    served.ledger.outgoing.filed(message.id, None)
    served.ledger.outgoing.tracked(message.id, Event.COLLECTED, wait_in_seconds=600)


def main() -> int:
    """Run by `make screenshots`."""
    with (
        tempfile.TemporaryDirectory(prefix="nel-mesh-console-") as name,
        served_console(Path(name)) as served,
        chromium() as browser,
    ):
        bad = fill(served, Path(name))
        with served.visitor("operator") as visitor:
            assert visitor.cookie is not None
            cookie = (COOKIE, visitor.cookie)
        size = {"width": 960, "height": 620}
        with context_of(browser, served.url, cookie, viewport=size) as context:
            page = context.new_page()
            page.goto("/")
            page.screenshot(path=ROOT / "docs/console-now.png")
            page.goto(f"/messages/{bad}")
            page.get_by_role("button", name="Release").click()
            page.screenshot(path=ROOT / "docs/console-preview.png", clip={"x": 0, "y": 0, "width": 960, "height": 480})
        phone = {"width": 400, "height": 720}
        with context_of(browser, served.url, cookie, viewport=phone, color_scheme="dark") as context:
            page = context.new_page()
            page.goto("/mailboxes")
            page.screenshot(path=ROOT / "docs/console-dark.png")
    for path in sorted((ROOT / "docs").glob("console-*.png")):
        print(f"{path.name}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
