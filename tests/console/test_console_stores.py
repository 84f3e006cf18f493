"""Content in stores, from the console: on real servers (SeaweedFS, Azurite, OpenSSH), as a real agent put it there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from consoles import ALICE, BOB, Served, Visitor, served_console
from test_console_pages import selection_of

from nel_mesh import MeshClient
from nel_mesh.agent.service import Agent
from nel_mesh.agent.stored_copies import MOST_ASKED, presences
from nel_mesh.console.roles import Role
from nel_mesh.ledger.messages import Copy
from nel_mesh.ledger.search import Filter
from nel_mesh.ledger.states import State
from nel_mesh.sandbox import Sandbox

CONTENT = b"made,up\n1,<b>2</b>\n" + os.urandom(3_000_000)
KEY = "results/{workflow_id}/{message_id}"


class Store:
    """A store of the tests: where it is as a destination, and how its messages go away."""

    def __init__(self, place: str, empty: Callable[[], object], account: str) -> None:
        self.place = place
        self.empty = empty
        self.account = account
        """The variable without which it lets nobody in."""


@pytest.fixture(params=["s3", "azure", "sftp"])
def store(request: pytest.FixtureRequest) -> Store:
    found = request.getfixturevalue(request.param)
    if request.param == "s3":

        def empty_bucket() -> None:
            for key in found.messages():
                found.client.delete_object(Bucket=found.bucket, Key=key)

        return Store(f"{found.place}/{KEY}", empty_bucket, "AWS_ENDPOINT_URL")
    if request.param == "azure":

        def empty_container() -> None:
            for key in found.messages():
                found.client.delete_blob(key)

        return Store(f"{found.place}/{KEY}", empty_container, "AZURE_STORAGE_CONNECTION_STRING")

    def empty_folder() -> None:
        for name in found.files():
            (found.folder / name).unlink()

    return Store(found.url(KEY), empty_folder, "HOME")


@pytest.fixture
def stored(store: Store, tmp_path: Path, mesh_sandbox: Sandbox) -> Iterator[tuple[Served, int]]:
    """A console, and the number of a message that an agent has put into the store."""
    paths = mesh_sandbox.write_settings(tmp_path / "settings")
    settings = next(path for path in paths if ALICE in path.name)
    mailboxes = f'[mailboxes.{ALICE}]\nsettings = "{settings}"\n[[mailboxes.{ALICE}.receive]]\ninto = "{store.place}"\n'
    with MeshClient(mesh_sandbox.settings(BOB)) as bob:
        bob.send_message(CONTENT, to=ALICE, workflow_id="PATH_RESULTS", file_name="C:\\made up\\jane.csv")
    with served_console(tmp_path, mailboxes=mailboxes) as served:
        served.add_user("doctor", Role.VIEWER, content=True)
        Agent(served.config, clock=served.clock).run(once=True)
        [row] = served.ledger.search.numbers(Filter())
        yield served, row


def previewed(visitor: Visitor, number: int) -> str:
    return visitor.post("/messages/preview", {"number": str(number), "action": "deliver again"}).text


def test_content_is_shown_and_downloaded_out_of_a_store_and_each_look_is_recorded(stored: tuple[Served, int]) -> None:
    served, number = stored
    page = f"/messages/{number}"
    with served.visitor("doctor") as visitor:
        assert "Show content" in visitor.get(page).text
        shown = visitor.post(f"{page}/content", {"reason": "a doctor asks"}, page=page)
        assert "made,up\n1,&lt;b&gt;2&lt;/b&gt;" in shown.text
        assert "... and more: download it" in shown.text
        loaded = visitor.post(f"{page}/download", {"reason": "a doctor asks"}, page=page)
        assert loaded.content == CONTENT
        assert loaded.headers["content-length"] == str(len(CONTENT))
        assert visitor.post(f"{page}/download", page=page).status_code == 400
    with served.visitor("operator") as visitor:
        assert "Show content" not in visitor.get(page).text
        assert visitor.post(f"{page}/download", {"reason": "x"}, page=page).status_code == 403
    looks = [event for event in served.ledger.search.timeline(number) if event.kind.startswith("content")]
    assert [(one.kind, one.actor, one.details["reason"]) for one in looks] == [
        ("content shown", "doctor (console)", "a doctor asks"),
        ("content downloaded", "doctor (console)", "a doctor asks"),
    ]


def test_a_message_is_delivered_again_only_where_the_store_has_it_no_more(
    stored: tuple[Served, int], store: Store
) -> None:
    served, number = stored
    with served.visitor("operator") as visitor:
        assert "The preview asks the store" in visitor.get(f"/messages/{number}").text
        refused = previewed(visitor, number)
        assert "still where it was stored" in refused
        assert "Take it from there" in refused
        store.empty()
        allowed = previewed(visitor, number)
        assert "Deliver again: 1 message" in allowed
        done = visitor.post("/messages/run", {"selection": selection_of(allowed), "reason": "the bucket was lost"})
        assert "1 done, 0 refused" in done.text
        assert served.ledger.messages.get(number).state is not State.ACKNOWLEDGED
        assert served.ledger.search.copies(number) == []


def test_a_copy_that_came_back_after_the_preview_is_not_delivered_again(
    stored: tuple[Served, int], store: Store
) -> None:
    served, number = stored
    with served.visitor("operator") as visitor:
        [copy] = served.ledger.search.copies(number)
        store.empty()
        allowed = previewed(visitor, number)
        # Somebody puts the message back meanwhile: to the ledger it is a copy that was not asked for.
        with served.ledger.database.write() as connection:
            connection.exec_driver_sql("UPDATE copy SET location = '/'")
        done = visitor.post("/messages/run", {"selection": selection_of(allowed), "reason": "x"})
        assert "0 done, 1 refused" in done.text
    assert served.ledger.messages.get(number).state is State.ACKNOWLEDGED
    assert copy.location is not None


def test_a_store_that_lets_nobody_in_is_not_taken_for_an_empty_one(
    stored: tuple[Served, int], store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served, number = stored
    page = f"/messages/{number}"
    wrong = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AZURE_STORAGE_CONNECTION_STRING": "AccountName=other;AccountKey=AAAA;BlobEndpoint=http://127.0.0.1:9/other",
        "HOME": str(tmp_path),
    }
    monkeypatch.setenv(store.account, wrong[store.account])
    with served.visitor("operator") as visitor:
        text = previewed(visitor, number)
        assert "could not be found out" in text
        assert "Correct that, and try again" in text
    with served.visitor("doctor") as visitor:
        answer = visitor.post(f"{page}/content", {"reason": "x"}, page=page)
        assert answer.status_code == 400
        assert "its content cannot be read" in answer.text
    [copy] = served.ledger.search.copies(number)
    # The store is asked once, and not for each copy in it; and not for more than a person waits for.
    assert {one.is_there for one in presences([copy] * 20)} == {None}
    assert {one.reason.split(" copies")[0] for one in presences([copy] * (MOST_ASKED + 1))} == {"more than 100"}


def test_a_bucket_that_is_missing_is_not_taken_for_an_empty_one(s3: object) -> None:
    copy = Copy(message=1, destination="", location="s3://no-such-bucket/a", bytes=1, stored_at=datetime.now(UTC))
    [presence] = presences([copy])
    assert presence.is_there is None
    assert "no such bucket" in presence.reason
