"""The same requests to the official sandbox and to ours in its compatible form; the page names what differs."""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from raw_mesh import V2

from nel_mesh.protocol import token
from nel_mesh.sandbox import sandbox
from nel_mesh.sandbox.configuration import utc_now

PAGE = Path(__file__).resolve().parents[2] / "docs/testing.md"
A, B, C = "X26ABC1", "X26ABC2", "X26ABC3"
CLIENT = {"mex-clientversion": "a", "mex-osname": "b", "mex-osversion": "c"}
TO = {"mex-to": B, "mex-workflowid": "TEST"}

DIFFERENT = {
    "handshake with empty client headers": (200, 400),
    "send without a recipient": (400, 417),
    "send with deflate": (422, 417),
    "send with another's Mex-From": (202, 417),
    "send of the type REPORT": (202, 417),
    "send with a subject in Latin-1": (202, 400),
    "acknowledge while it is uploaded": (200, 404),
    "chunk 5 of 3": (417, 406),
    "empty chunk": (202, 417),
    "chunk after the last": (417, 423),
    "HEAD by the sender": (200, 404),
    "version 3 of the API": (200, 400),
    "version 2 or any": (400, 200),
    "slash at the end": (307, 404),
}
"""The statuses that differ, the official one first; each has a row on the page."""


class Side:
    """One of the two servers, asked the same as the other."""

    def __init__(self, url: str, version: int) -> None:
        self._version = version
        self._http = httpx2.Client(base_url=url, trust_env=False, timeout=20)
        self._names: dict[str, str] = {}
        self.statuses: dict[str, int] = {}

    def ask(
        self,
        name: str,
        method: str,
        path: str,
        mailbox_id: str = A,
        *,
        content: bytes | None = None,
        keep: str = "",
        authorized: bool = True,
        accept: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Ask, and note the status; `keep` is a name for the id in the response, for later paths."""
        given = {"accept": accept or (V2 if self._version == 2 else "application/json")}
        if authorized:
            given["authorization"] = token.authorization(
                mailbox_id=mailbox_id, password="password", shared_key="TestKey", nonce=str(uuid.uuid4()), now=utc_now()
            )
        given |= headers or {}
        pairs = [(key.encode(), value.encode("latin-1")) for key, value in given.items()]
        found: Any = self._http.request(
            method, f"/messageexchange/{path.format(**self._names)}", headers=pairs, content=content
        )
        assert name not in self.statuses
        self.statuses[name] = found.status_code
        if keep:
            said = found.json()
            self._names[keep] = said.get("message_id") or said["messageID"]
            self._names[keep + "_lower"] = self._names[keep].lower()

    def close(self) -> None:
        self._http.close()


@pytest.fixture(params=[1, 2])
def sides(request: pytest.FixtureRequest, official_sandbox: str) -> Iterator[tuple[Side, Side]]:
    with sandbox(tls=False, compatible=True) as mesh:
        both = Side(official_sandbox, request.param), Side(mesh.url, request.param)
        yield both
        for side in both:
            side.close()


def test_only_what_is_named_differs(sides: tuple[Side, Side]) -> None:
    for side in sides:
        _ask_all(side)
    official, ours = (side.statuses for side in sides)
    found = {name: (official[name], ours[name]) for name in official if official[name] != ours[name]}
    assert found == DIFFERENT


def test_the_page_has_a_row_for_each() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    said = {tuple(cell.strip() for cell in row.strip("|").split("|"))[:3] for row in rows}
    shown = {(name, official[:3], here[:3]) for name, official, here in (row for row in said if len(row) == 3)}
    assert {(name, str(one), str(other)) for name, (one, other) in DIFFERENT.items()} - shown == set()


def _ask_all(side: Side) -> None:
    _ask_without_messages(side)
    _send(side)
    _send_chunks(side)
    _receive(side)


def _ask_without_messages(side: Side) -> None:
    side.ask("reset of all", "DELETE", "admin/reset", authorized=False)
    side.ask("ping", "GET", "_ping", authorized=False)
    side.ask("handshake", "POST", A, headers=CLIENT)
    side.ask("handshake by GET", "GET", A, headers=CLIENT)
    side.ask("handshake without client headers", "POST", A)
    side.ask("handshake with empty client headers", "POST", A, headers=dict.fromkeys(CLIENT, ""))
    side.ask("no token", "GET", f"{A}/inbox", authorized=False)
    side.ask("a token that is none", "GET", f"{A}/inbox", authorized=False, headers={"authorization": "NHSMESH x"})
    side.ask("another's token", "GET", f"{B}/inbox")
    side.ask("no such mailbox", "GET", "X26NONE/inbox", "X26NONE")
    side.ask("a mailbox in lower case", "GET", f"{A.lower()}/inbox", A.lower())
    side.ask("too few results", "GET", f"{A}/inbox?max_results=9")
    side.ask("too many results", "GET", f"{A}/inbox?max_results=5001")
    side.ask("inbox", "GET", f"{A}/inbox")
    side.ask("count", "GET", f"{A}/count")
    side.ask("look-up", "GET", "endpointlookup/X26/TEST", authorized=False)
    side.ask("look-up of nobody", "GET", "endpointlookup/NONE/TEST", authorized=False)
    side.ask("search", "GET", "workflowsearch/TEST", authorized=False)
    side.ask("rich inbox", "GET", f"{A}/inbox/rich")
    side.ask("rich outbox", "GET", f"{A}/outbox/rich")
    side.ask("the Java client's question for updates", "POST", f"{A}/update")
    side.ask("no such path", "GET", f"{A}/none")
    side.ask("no such method", "PUT", A)
    side.ask("version 3 of the API", "GET", f"{A}/inbox", accept="application/vnd.mesh.v3+json")
    side.ask("version 2 or any", "GET", f"{A}/inbox", accept=f"{V2}, */*")
    side.ask("any version", "GET", f"{A}/inbox", accept="*/*")
    side.ask("slash at the end", "GET", f"{A}/inbox/")
    side.ask("a mailbox's details", "GET", f"admin/mailbox/{A}", authorized=False)


def _send(side: Side) -> None:
    def send(name: str, content: bytes = b"content", keep: str = "", **headers: str) -> None:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        given = {key: value for key, value in (TO | named).items() if value}
        side.ask(name, "POST", f"{A}/outbox", content=content, keep=keep, headers=given)

    send("send", keep="sent", mex_localid="L", mex_filename="a.csv", mex_content_checksum="abc")
    send("send with gzip", gzip.compress(b"content"), keep="gzipped", content_encoding="gzip")
    send("send without a recipient", mex_to="")
    send("send without a workflow id", mex_workflowid="")
    send("send to an unknown mailbox", mex_to="X26NONE")
    send("send to a mailbox in lower case", mex_to=B.lower())
    send("send of nothing", b"")
    send("send with deflate", content_encoding="deflate")
    send("send with its own Mex-From", mex_from=A)
    send("send with another's Mex-From", mex_from=B)
    send("send of the type Data", mex_messagetype="Data")
    send("send of the type REPORT", mex_messagetype="REPORT")
    send("send with a subject in Latin-1", mex_subject="caf\u00e9")
    send("send with a long subject", mex_subject="x" * 501)
    send("send with a long local id", mex_localid="x" * 301)
    send("send with a long file name", mex_filename="x" * 301)
    send("send with a checksum that is none", mex_content_checksum="a$b")
    send("send to a URL", mex_to="https://a.b")
    send("send that begins with chunk 2", mex_chunk_range="2:3")
    send("send of chunk {1:1}", mex_chunk_range="{1:1}")
    send("send of chunk 1:1", mex_chunk_range="1:1")


def _send_chunks(side: Side) -> None:
    def chunk(name: str, number: int, total: int, content: bytes = b"content", mailbox_id: str = A) -> None:
        path = f"{mailbox_id}/outbox/{{parts}}/{number}"
        side.ask(name, "POST", path, mailbox_id, content=content, headers={"mex-chunk-range": f"{number}:{total}"})

    side.ask("chunk 1 of 3", "POST", f"{A}/outbox", content=b"1", keep="parts", headers={"mex-chunk-range": "1:3"} | TO)
    side.ask("HEAD while it is uploaded", "HEAD", f"{B}/inbox/{{parts}}", B)
    side.ask("GET while it is uploaded", "GET", f"{B}/inbox/{{parts}}", B)
    side.ask("acknowledge while it is uploaded", "PUT", f"{B}/inbox/{{parts}}/status/acknowledged", B)
    side.ask("track while it is uploaded", "GET", f"{A}/outbox/tracking?messageID={{parts}}")
    side.ask("chunk without its range", "POST", f"{A}/outbox/{{parts}}/2", content=b"2")
    chunk("chunk 5 of 3", 5, 3)
    chunk("empty chunk", 2, 3, b"")
    chunk("another's chunk", 2, 3, mailbox_id=C)
    side.ask("chunk of no message", "POST", f"{A}/outbox/NONE/2", content=b"2", headers={"mex-chunk-range": "2:3"})
    chunk("chunk 2 of 3", 2, 3)
    chunk("chunk 2 of 3 once more", 2, 3)
    chunk("chunk 3 of 3", 3, 3)
    chunk("chunk after the last", 4, 3)


def _receive(side: Side) -> None:
    for number in (1, 2, 3, 4, 0):
        side.ask(f"GET chunk {number}", "GET", f"{B}/inbox/{{parts}}/{number}", B)
    side.ask("HEAD", "HEAD", f"{B}/inbox/{{sent}}", B)
    side.ask("HEAD by the sender", "HEAD", f"{A}/inbox/{{sent}}")
    side.ask("GET", "GET", f"{B}/inbox/{{sent}}", B)
    side.ask("GET of gzip", "GET", f"{B}/inbox/{{gzipped}}", B, headers={"accept-encoding": "identity"})
    side.ask("GET with an id in lower case", "GET", f"{B}/inbox/{{sent_lower}}", B)
    side.ask("GET by another", "GET", f"{C}/inbox/{{sent}}", C)
    side.ask("GET of no message", "GET", f"{B}/inbox/NONE", B)
    side.ask("track", "GET", f"{A}/outbox/tracking?messageID={{sent}}")
    side.ask("track by the recipient", "GET", f"{B}/outbox/tracking?messageID={{sent}}", B)
    side.ask("track without an id", "GET", f"{A}/outbox/tracking")
    side.ask("track by local id", "GET", f"{A}/outbox/tracking/L")
    side.ask("track by a local id of nothing", "GET", f"{A}/outbox/tracking/NONE")
    side.ask("acknowledge by another", "PUT", f"{C}/inbox/{{sent}}/status/acknowledged", C)
    side.ask("acknowledge of no message", "PUT", f"{B}/inbox/NONE/status/acknowledged", B)
    side.ask("acknowledge", "PUT", f"{B}/inbox/{{sent}}/status/acknowledged", B)
    side.ask("acknowledge twice", "PUT", f"{B}/inbox/{{sent}}/status/acknowledged", B)
    side.ask("GET of what is acknowledged", "GET", f"{B}/inbox/{{sent}}", B)
    side.ask("HEAD of what is acknowledged", "HEAD", f"{B}/inbox/{{sent}}", B)
