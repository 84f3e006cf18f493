"""Paging and filtering, also of very full inboxes."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from raw_mesh import RawMesh

from nel_mesh.sandbox import Sandbox

pytest_plugins = ["raw_fixtures"]


def fill(mesh: Sandbox, count: int, workflow_id: str = "W") -> list[str]:
    return [mesh.deliver_report("X26ABC2", linked_message_id="", workflow_id=workflow_id) for _ in range(count)]


def pages(raw: RawMesh, query: str) -> list[list[str]]:
    """Every page, by following the links."""
    found, path = [], f"/inbox?{query}" if query else "/inbox"
    while path:
        answer = raw.request("GET", path, mailbox_id="X26ABC2")
        assert answer.status_code == 200
        found.append(answer.json()["messages"])
        following = answer.json()["links"].get("next", "")
        path = following.removeprefix("/messageexchange/X26ABC2")
    return found


def test_one_page(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    ids = fill(mesh_sandbox, 10)
    answer = raw.request("GET", "/inbox?max_results=10", mailbox_id="X26ABC2").json()
    assert answer == {
        "messages": ids,
        "links": {"self": "/messageexchange/X26ABC2/inbox?max_results=10"},
        "approx_inbox_count": 10,
    }


def test_default_page_is_500(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    ids = fill(mesh_sandbox, 1001)
    assert pages(raw, "") == [ids[:500], ids[500:1000], ids[1000:]]


def test_pages_stay_in_step_while_messages_are_acknowledged(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    ids = fill(mesh_sandbox, 30)
    first = raw.request("GET", "/inbox?max_results=10", mailbox_id="X26ABC2").json()
    for message_id in ids[:15]:
        raw.acknowledge(message_id)
    following = first["links"]["next"].removeprefix("/messageexchange/X26ABC2")
    second = raw.request("GET", following, mailbox_id="X26ABC2").json()
    assert (first["messages"], second["messages"]) == (ids[:10], ids[15:25])


def test_order_is_that_of_delivery(raw: RawMesh) -> None:
    slow = raw.send(b"1", mex_chunk_range="1:2").json()["message_id"]
    quick = raw.send(b"1").json()["message_id"]
    raw.send_chunk(slow, 2, 2)
    assert slow < quick
    assert raw.inbox() == [quick, slow]


def test_version_1_continues_from_a_message_id(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    ids = fill(mesh_sandbox, 25)
    first = raw.request("GET", "/inbox?max_results=10", mailbox_id="X26ABC2", version=1).json()
    assert first == {"messages": ids[:10]}
    raw.acknowledge(ids[9])
    second = raw.request("GET", f"/inbox?max_results=20&continue_from={ids[9]}", mailbox_id="X26ABC2", version=1).json()
    assert second == {"messages": ids[10:]}


def test_link_is_for_its_own_inbox_only(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    fill(mesh_sandbox, 11)
    first = raw.request("GET", "/inbox?max_results=10", mailbox_id="X26ABC2").json()
    following = first["links"]["next"].removeprefix("/messageexchange/X26ABC2")
    assert raw.request("GET", following, mailbox_id="X26ABC3").status_code == 400


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("LAB", {"LAB"}),
        ("!LAB", {"LAB_ACK", "LETTER", "X_LAB_ACK"}),
        ("LAB*", {"LAB", "LAB_ACK"}),
        ("!LAB*", {"LETTER", "X_LAB_ACK"}),
        ("*_ACK*", {"LAB_ACK", "X_LAB_ACK"}),
        ("!*_ACK*", {"LAB", "LETTER"}),
    ],
)
def test_filter(raw: RawMesh, mesh_sandbox: Sandbox, pattern: str, found: set[str]) -> None:
    by_id = {fill(mesh_sandbox, 1, name)[0]: name for name in ("LAB", "LAB_ACK", "LETTER", "X_LAB_ACK")}
    [page] = pages(raw, f"workflow_filter={quote(pattern)}")
    assert {by_id[message_id] for message_id in page} == found


def test_filtered_page_can_be_empty_before_one_that_is_not(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    fill(mesh_sandbox, 20, "NOISE")
    wanted = fill(mesh_sandbox, 1, "WANTED")
    assert pages(raw, "max_results=10&workflow_filter=WANTED") == [[], [], wanted]


def test_20_000_messages(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    ids = fill(mesh_sandbox, 20_000)
    listed = pages(raw, "max_results=500")
    assert [message_id for page in listed for message_id in page] == ids
    # The oldest half is worked off, as a receive loop does it, and listing begins anew each time.
    store = raw.mesh._running_store()
    for start in range(0, 10_000, 500):
        page = raw.request("GET", "/inbox", mailbox_id="X26ABC2").json()["messages"]
        assert page == ids[start : start + 500]
        for message_id in page:
            message = store.find(message_id)
            assert message
            store.acknowledge(message)
    assert raw.request("GET", "/count", mailbox_id="X26ABC2").json() == {"count": 10_000}
