"""Pairs in the outgoing folder of the Java client: where each goes, after kills too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledgers import MovableClock

from nel_mesh import ConnectionFailed, InvalidArgument, MeshError, NotAuthorised, StorageError
from nel_mesh.agent.java.control_file import parse
from nel_mesh.agent.java.layout import ControlFileLayout
from nel_mesh.agent.tables import SendRoute
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.outgoing import NewSend
from nel_mesh.ledger.states import Event

CONTROL = (
    "<DTSControl><Version>1.0</Version><WorkflowId>EXAMPLE</WorkflowId><To_DTS>TESTMB2</To_DTS>"
    "<From_DTS>TESTMB1</From_DTS><LocalId>../run/42</LocalId><AllowChunking>Y</AllowChunking></DTSControl>"
)


class Root:
    """A mailbox of the Java client: its folders, a ledger, and the layout of OUT."""

    def __init__(self, folder: Path, ledger: Ledger, **options: Any) -> None:
        self.folder = folder
        self.ledger = ledger
        names = {"from": "OUT", "archive": "SENT", "failed": "FAILED", "reports": "IN"}
        values: dict[str, Any] = {name: folder / place for name, place in names.items()}
        values |= {"layout": "ctl", "settle_in_seconds": 0, "collect_report": False, **options}
        self.layout = ControlFileLayout(SendRoute.model_validate(values), "TESTMB1", ledger.clock.now)

    def put(self, name: str, content: str = "x", control: str = CONTROL) -> None:
        (self.folder / "OUT").mkdir(exist_ok=True)
        (self.folder / f"OUT/{name}.dat").write_text(content)
        (self.folder / f"OUT/{name}.ctl").write_text(control)

    def noted(self, name: str) -> LedgerMessage:
        """Note a pair in the ledger, as the sender does."""
        [file] = [one for one in self.layout.find(self.ledger.clock.monotonic()) if one.path.stem == name]
        message = self.ledger.outgoing.add(
            "TESTMB1",
            [NewSend(source=str(file.path), stamp=file.stamp, options=file.options, route=0, file_name=None, length=1)],
        )[0]
        [message] = self.ledger.messages.begin([message.id])
        if file.fault is not None:
            return self.failed(message, Event.REFUSED, file.fault)
        return message

    def accepted(self, name: str, message_id: str) -> LedgerMessage:
        message = self.noted(name)
        return self.ledger.outgoing.accepted(message.id, message_id=message_id, length=1, track_after_in_seconds=60)

    def failed(self, message: LedgerMessage, event: Event, error: MeshError) -> LedgerMessage:
        return self.ledger.messages.fail(message.id, event, error, next_attempt_at=None)

    def files(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.folder)): path.read_text()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def dts_id(self, path: str) -> str | None:
        return parse((self.folder / path).read_bytes()).get("DTSId")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger", clock=MovableClock()) as ledger:
        yield ledger


@pytest.fixture
def root(tmp_path: Path, ledger: Ledger) -> Root:
    folder = tmp_path / "TESTMB1"
    folder.mkdir()
    return Root(folder, ledger)


def test_an_outgoing_folder_that_is_missing_is_made(root: Root) -> None:
    assert list(root.layout.find(0.0)) == []
    assert (root.folder / "OUT").is_dir()


def test_a_name_that_was_used_before_keeps_both_pairs_whole(root: Root) -> None:
    places = []
    for content in ("first", "second"):
        root.put("daily", content)
        places.append(Path(str(root.layout.archive(root.accepted("daily", f"M-{content}")))))
    assert [place.read_text() for place in places] == ["first", "second"]
    for place, message_id in zip(places, ("M-first", "M-second"), strict=True):
        assert parse(place.with_suffix(".ctl").read_bytes()).get("DTSId") == message_id
    assert {path.parent for path in places} == {root.folder / "SENT"}
    assert not list((root.folder / "OUT").iterdir())


STEPS = ("nothing", "taken", "data moved", "control file written", "all but noted")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("is_followed", [False, True], ids=["alone", "with a new pair of the name"])
def test_a_kill_while_a_pair_is_moved(root: Root, step: str, *, is_followed: bool) -> None:
    root.put("a", "old")
    message = root.accepted("a", "M1")
    out, sent = root.folder / "OUT", root.folder / "SENT"
    sent.mkdir()
    reached = STEPS.index(step)
    taken = out / f".a.ctl.{message.id}"
    if reached >= 1:
        (out / "a.ctl").rename(taken)
    if reached >= 2:
        (out / "a.dat").rename(sent / "a.dat")
    if reached >= 3:
        os.link(taken, out / ".kept")
        root.layout.archive(message)
        (out / ".kept").rename(taken if reached == 3 else out / ".removed")
        (out / ".removed").unlink(missing_ok=True)
    if is_followed and reached >= 2:
        root.put("a", "new")
    root.layout.archive(message)
    assert (sent / "a.dat").read_text() == "old"
    assert root.dts_id("SENT/a.ctl") == "M1"
    assert sorted(path.name for path in sent.iterdir()) == ["a.ctl", "a.dat"]
    left = {path.name for path in out.iterdir()}
    assert left == ({"a.dat", "a.ctl"} if is_followed and reached >= 2 else set())


def test_what_is_no_control_file_stays_as_it_was(root: Root) -> None:
    root.put("a", control="<DTSControl><To_DTS>TESTMB2")
    root.layout.refuse(root.noted("a"))
    files = root.files()
    assert files["FAILED/a.ctl"] == "<DTSControl><To_DTS>TESTMB2"
    assert files["FAILED/a.dat"] == "x"
    [report] = [text for name, text in files.items() if name.startswith("IN/")]
    assert "<Event>COLLECT</Event>" in report
    assert "<StatusCode>01</StatusCode>" in report


def test_what_mesh_says_is_in_the_report(root: Root) -> None:
    root.put("a")
    refused = InvalidArgument("refused", event="SEND", code="12", description="Unregistered to address")
    root.layout.refuse(root.failed(root.noted("a"), Event.REFUSED, refused))
    [report] = [text for name, text in root.files().items() if name.startswith("IN/")]
    for part in ("Event>SEND<", "StatusCode>12<", "Description>Unregistered to address<", "To_DTS>TESTMB2<"):
        assert part in report


def test_a_control_file_that_was_removed_meanwhile_is_made_from_the_ledger(root: Root) -> None:
    root.put("a")
    message = root.accepted("a", "M1")
    (root.folder / "OUT/a.ctl").unlink()
    root.layout.archive(message)
    sent = parse((root.folder / "SENT/a.ctl").read_bytes())
    assert (sent.get("DTSId"), sent.get("To_DTS"), sent.get("LocalId")) == ("M1", "TESTMB2", "../run/42")


def test_sent_pairs_are_removed_if_they_are_not_kept(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "root").mkdir()
    root = Root(tmp_path / "root", ledger, keep_sent=False, transfer_report=True)
    root.put("a")
    assert root.layout.archive(root.accepted("a", "M1")) is None
    assert list(root.files()) == ["IN/a-1-transfer.ctl"]


def test_pairs_in_any_case(root: Root) -> None:
    root.put("a")
    for suffix in (".dat", ".ctl"):
        (root.folder / f"OUT/a{suffix}").rename(root.folder / f"OUT/a{suffix.upper()}")
    root.layout.archive(root.accepted("a", "M1"))
    assert sorted(root.files()) == ["SENT/a.DAT", "SENT/a.ctl"]


def test_where_two_pairs_of_the_name_are_there_it_stays(root: Root) -> None:
    (root.folder / "SENT").mkdir()
    root.put("a")
    message = root.accepted("a", "M1")
    for name in ("a", f"a.{message.id}"):
        (root.folder / f"SENT/{name}.ctl").write_text("another")
    with pytest.raises(StorageError, match="SENT"):
        root.layout.archive(message)
    assert (root.folder / "OUT/a.dat").read_text() == "x"


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (None, "00", "SUCCESS"),
        (NotAuthorised("refused"), "17", "ERROR"),
        (ConnectionFailed("no route"), "15", "ERROR"),
    ],
)
def test_a_look_into_the_inbox_is_reported_where_that_is_wanted(
    tmp_path: Path, ledger: Ledger, error: MeshError | None, code: str, status: str
) -> None:
    Root(tmp_path, ledger).layout.polled(error)
    assert not (tmp_path / "IN").exists()
    Root(tmp_path, ledger, poll_report=True).layout.polled(error)
    [path] = (tmp_path / "IN").iterdir()
    text = path.read_text()
    for part in ("Event>RECEIVE<", f"StatusCode>{code}<", f"Status>{status}<", "MessageType>Report<"):
        assert part in text


def test_a_retry_is_reported_where_that_is_wanted(tmp_path: Path, ledger: Ledger) -> None:
    root = Root(tmp_path, ledger, delay_report=True)
    root.put("a")
    message = root.failed(root.noted("a"), Event.FAILED, ConnectionFailed("no route"))
    root.layout.delay(message)
    text = (tmp_path / f"IN/a-{message.id}-delay-1.ctl").read_text()
    assert "StatusCode>05<" in text
    assert "Status>SUCCESS<" in text


def test_a_file_that_needs_chunks_needs_the_callers_leave(root: Root) -> None:
    route = SendRoute.model_validate({"from": root.folder / "OUT", "layout": "ctl", "settle_in_seconds": 0})
    layout = ControlFileLayout(route, "TESTMB1", root.ledger.clock.now, chunk_bytes=10)
    for allowed, content in (("N", "10 bytes.."), ("N", "eleven byte"), ("Y", "eleven byte")):
        root.put("a", content, CONTROL.replace("Chunking>Y", f"Chunking>{allowed}"))
        [file] = layout.find(0.0)
        assert (file.fault is None) == (allowed == "Y" or len(content) == 10)
