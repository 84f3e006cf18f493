"""The same requests to the official sandbox and to ours in its compatible form; the page names what differs."""

from __future__ import annotations

import gzip
import json
import re
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from raw_mesh import V2

from nel_mesh.protocol import token
from nel_mesh.sandbox import Workflow, sandbox
from nel_mesh.sandbox.configuration import utc_now

PAGE = Path(__file__).resolve().parents[2] / "docs/testing.md"
A, B, C = "X26ABC1", "X26ABC2", "X26ABC3"
CLIENT = {"mex-clientversion": "a", "mex-osname": "b", "mex-osversion": "c"}
TO = {"mex-to": B, "mex-workflowid": "TEST"}

WORKFLOWS = (
    Workflow(workflow_id="TEST_WORKFLOW", senders=(A,), receivers=(B,)),
    Workflow(workflow_id="TEST_WORKFLOW2", senders=(A,), receivers=(A, B, C)),
)
"""As the official sandbox comes with."""

ALL = {
    "mex_localid": "S",
    "mex_subject": "some words",
    "mex_partnerid": "P",
    "mex_filename": "a b.csv",
    "mex_content_type": "text/csv",
    "mex_content_compressed": "TRUE",
    "mex_content_encrypted": "yes",
    "mex_content_checksum": "md5 0a",
    "mex_messagetype": "DATA",
    "mex_version": "1.0",
}

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
    "chunk with another total": (202, 417),
    "chunk 3 before chunk 2": (202, 417),
    "HEAD by the sender": (200, 404),
    "version 3 of the API": (200, 400),
    "version 2 or any": (400, 200),
    "slash at the end": (307, 404),
}
"""The statuses that differ, the official one first; each has a row on the page."""


class FieldDifference(NamedTuple):
    """A field that differs in responses of the same status.

    `row` is the first cell of its row on the page. A value is empty where the field is missing.
    """

    row: str
    field: str
    official: str
    ours: str
    requests: set[str]
    versions: tuple[int, ...] = (1, 2)


_BAD_VALUES = {"too few results", "too many results", "results that are no number", "GET chunk 0"}
_LONG = {f"send with a long {what}" for what in ("subject", "local id", "file name")}
_NO_ROUTE = {"no such path", "no such method"}
_FURTHER_CHUNKS = {"chunk 2 of 3", "chunk 2 of 3 once more", "chunk 3 of 3"}
_SENT = {"send", "send with gzip", "send with its own Mex-From", "send of the type Data", "send of chunk 1:1"}
_SENT |= {"send to a mailbox in lower case", "chunk 1 of 3", "chunk 1 of 3 once more", "send with all headers"}
_SENT |= {"send with its local id once more", *(f"send for a page, {number}" for number in range(12))}
_LOOK_UPS = {"count", "count of twelve", "look-up", "look-up of nobody", "look-up of two", "search", "search of three"}
_FINALISED = {"chunk once more after the last"}
_HEADS = {"HEAD", "HEAD of report", "HEAD of uncollected", "HEAD of what is acknowledged"}
_REPORTS = {"GET of report", "GET of uncollected"}
_PLAIN = {"GET", "GET chunk 1", "GET chunk 2", "GET chunk 3", "GET of what is acknowledged"}
_PLAIN |= {"GET with an id in lower case"}
_TRACKED = {"track", "track with all headers", "track what is acknowledged", "track what failed"}
_UPLOADING = {"track while it is uploaded"}
_DETAILS = {"a message's details", "a message's details once more"}
_RICH = {"rich inbox with a message", "rich outbox with a message"}
_ENCODING = {"chunk with another encoding"}
_MISMATCH, _UNREADABLE = '"Mailbox id does not match token"', '"Error reading from Authorization header"'
_NO_MORE = "Messages has been finalised; no more chunks can be uploaded"
_NO_DATA = "Data file is missing or inaccessible"

_TYPE, _N = "`Content-Type` of JSON in version 2", "`Mex-Content-Compressed: N`"
_EMPTY_TYPE = "`Content-Type` of an empty body"
_CHUNK = "a further chunk in version 2"
_INVALID, _NONE = "an invalid value (400)", "no such path or method"
_CHANGED, _INTERNAL = "a chunk of another encoding", "an error about a chunk in version 2"
_TRACKING, _TIMES, _LATE = "tracking", "times in JSON", "a chunk when all have arrived (423)"

FIELDS = [
    FieldDifference(
        _TYPE, "content-type", "application/json", V2, _SENT | _LOOK_UPS | _NO_ROUTE | _FURTHER_CHUNKS, (2,)
    ),
    FieldDifference(
        "`Content-Type` of a download",
        "content-type",
        "text/csv; charset=utf-8",
        "text/csv",
        {"GET with all headers", "GET with all headers, not compressed"},
        (2,),
    ),
    FieldDifference(_EMPTY_TYPE, "content-type", "", V2, _HEADS | {"HEAD with all headers"}),
    FieldDifference(_EMPTY_TYPE, "content-type", "", "application/octet-stream", _REPORTS),
    FieldDifference(_N, "mex-content-compressed", "", "N", _HEADS | _REPORTS | _PLAIN | {"GET of gzip"}, (1,)),
    FieldDifference(_N, "mex-content-compressed", "", "N", _HEADS | _REPORTS | {"GET of gzip"}, (2,)),
    FieldDifference(_CHUNK, "", "null", "", _FURTHER_CHUNKS, (2,)),
    FieldDifference(_CHUNK, "message_id", "", '"ID"', _FURTHER_CHUNKS, (2,)),
    FieldDifference(_INVALID, "detail[].input", "given", "", _BAD_VALUES | _LONG),
    FieldDifference(_INVALID, "detail[].ctx.ge", "given", "", {"too few results", "GET chunk 0"}),
    FieldDifference(_INVALID, "detail[].ctx.le", "given", "", {"too many results"}),
    FieldDifference(_INVALID, "detail[].ctx.max_length", "given", "", _LONG),
    FieldDifference(_NONE, "detail", '"Not Found"', "", {"no such path"}),
    FieldDifference(_NONE, "detail", '"Method Not Allowed"', "", {"no such method"}),
    *(
        difference
        for event, code, words, version in (
            ("errorEvent", "errorCode", "errorDescription", (1,)),
            ("detail[].event", "detail[].code", "detail[].msg", (2,)),
        )
        for difference in (
            FieldDifference(_NONE, event, "", '""', _NO_ROUTE, version),
            FieldDifference(_NONE, code, "", '""', _NO_ROUTE, version),
            FieldDifference(_NONE, words, "", '"Not Found"', {"no such path"}, version),
            FieldDifference(_NONE, words, "", '"Method Not Allowed"', {"no such method"}, version),
            FieldDifference(_CHANGED, event, '""', '"SEND"', _ENCODING, version),
            FieldDifference(_CHANGED, code, '""', '"06"', _ENCODING, version),
            FieldDifference(
                _CHANGED, words, '"cannot change content encoding"', '"Malformed headers"', _ENCODING, version
            ),
            FieldDifference(_LATE, event, "", '"SEND"', _FINALISED, version),
            FieldDifference(_LATE, code, "", '""', _FINALISED, version),
            FieldDifference(_LATE, words, "", f'"{_NO_MORE}"', _FINALISED, version),
            FieldDifference("send of nothing", words, f'"{_NO_DATA}."', f'"{_NO_DATA}"', {"send of nothing"}, version),
            FieldDifference(
                "send to a URL", words, '"MalformedControlFile"', '"Malformed headers"', {"send to a URL"}, version
            ),
            FieldDifference("a token that is none", words, _MISMATCH, _UNREADABLE, {"a token that is none"}, version),
        )
    ),
    FieldDifference(_LATE, "content-type", "application/json", V2, _FINALISED, (2,)),
    FieldDifference(_LATE, "message", r'"An internal error occurred.\n\nPlease contact support."', "", _FINALISED),
    *(
        FieldDifference(row, field, "", '"ID"', requests, (version,))
        for row, requests in ((_CHANGED, _ENCODING), (_LATE, _FINALISED))
        for version, field in ((1, "messageID"), (2, "message_id"), (2, "internal_id"))
    ),
    FieldDifference(_INTERNAL, "internal_id", "", '"ID"', {"chunk without its range"}, (2,)),
    *(
        difference
        for requests, version in ((_TRACKED | _UPLOADING | {"track by local id"}, (1,)), ({"track by local id"}, (2,)))
        for difference in (
            FieldDifference(_TRACKING, "messageType", '"Data"', '"DATA"', requests, version),
            FieldDifference(_TRACKING, "statusTimestamp", "", '"TIME"', requests, version),
            FieldDifference(
                _TRACKING, "downloadTimestamp", '""', "", requests - {"track what is acknowledged"}, version
            ),
        )
    ),
    FieldDifference(_TRACKING, "fileSize", "0", "1", _UPLOADING, (1,)),
    FieldDifference(_TRACKING, "status_timestamp", "", '"TIME"', _TRACKED | _DETAILS, (2,)),
    FieldDifference(_TRACKING, "status_timestamp", "", '"TIME"', _DETAILS, (1,)),
    FieldDifference(_TRACKING, "status_event", "", '"TRANSFER"', _TRACKED - {"track what failed"}, (2,)),
    FieldDifference(_TRACKING, "status_event", "", '"SEND"', {"track what failed"}, (2,)),
    FieldDifference(_TRACKING, "status_code", "", '"00"', _TRACKED - {"track what failed"}, (2,)),
    FieldDifference(_TRACKING, "status_code", "", '"21"', {"track what failed"}, (2,)),
    FieldDifference(
        _TRACKING,
        "status_description",
        "",
        '"Transferred to recipient mailbox"',
        _TRACKED - {"track what failed"},
        (2,),
    ),
    FieldDifference(_TRACKING, "status_description", "", '"words"', {"track what failed"}, (2,)),
    *(
        difference
        for name in ("expiry_time", "upload_timestamp")
        for difference in (
            FieldDifference(_TIMES, name, '"TIME.000000"', '"TIME"', _DETAILS, (1,)),
            FieldDifference(_TIMES, name, '"TIME.000000"', '"TIME"', _DETAILS | _TRACKED | _UPLOADING, (2,)),
        )
    ),
    FieldDifference(_TIMES, "download_timestamp", '"TIME.000000"', '"TIME"', _DETAILS),
    *(
        FieldDifference(
            _TIMES, f"messages[].{name}", " ".join(['"TIME.000000"'] * count), " ".join(['"TIME"'] * count), requests
        )
        for name in ("expiry_timestamp", "sent_date")
        for count, requests in ((1, _RICH), (10, {"rich page"}))
    ),
    FieldDifference(
        "a page of a filtered inbox",
        "links.next",
        "",
        f'"/messageexchange/{C}/inbox?max_results=10&workflow_filter=PAGE0&continue_from=PAGE"',
        {"page with a filter"},
        (2,),
    ),
    FieldDifference(
        "`Mex-Subject` of a report", "mex-subject", "NDR", "", {"GET of uncollected", "HEAD of uncollected"}
    ),
]
"""The fields, words and headers that differ, each with a row on the page."""

_HEADERS = ("content-type", "content-encoding", "mex-")
_MASKS = (
    (re.compile(r"[0-9A-Fa-f]{32}|[0-9]{20}_[0-9A-F]{6}"), "ID"),
    (re.compile(r"start_time=[^&]*"), "start_time=TIME"),
    (re.compile(r"continue_from=[^&\"]*"), "continue_from=PAGE"),
    (re.compile(r"[0-9]{14}"), "TIME"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"), "TIME"),
    (re.compile(r"(?<=TIME)[.][0-9]{6}"), ".000000"),
)
"""What depends on the time or is an id, and the word to compare in its place."""


def fields_of(response: httpx2.Response) -> dict[str, str]:
    """The MESH headers and the nested JSON fields of a response, each with its values in their order."""
    found = {name: value for name, value in response.headers.items() if name.startswith(_HEADERS)}
    is_json = "json" in response.headers.get("content-type", "") and response.content
    values: dict[str, list[str]] = defaultdict(list)
    if is_json:
        _flatten("", response.json(), values)
    found |= {name: " ".join(texts) for name, texts in values.items()}
    for mask, word in _MASKS:
        found = {name: mask.sub(word, value) for name, value in found.items()}
    return {name: "given" if name.startswith(("detail[].input", "detail[].ctx")) else found[name] for name in found}


def _flatten(name: str, value: Any, found: dict[str, list[str]]) -> None:
    if isinstance(value, dict):
        for key, one in value.items():
            _flatten(f"{name}.{key}".lstrip("."), one, found)
    elif isinstance(value, list):
        found[f"{name}[]"] += [] if value else ["[]"]
        for one in value:
            _flatten(f"{name}[]", one, found)
    else:
        found[name].append(json.dumps(value))


class Side:
    """One of the two servers, asked the same as the other."""

    def __init__(self, url: str, version: int) -> None:
        self.version = version
        self._http = httpx2.Client(base_url=url, trust_env=False, timeout=20)
        self._names: dict[str, str] = {}
        self.statuses: dict[str, int] = {}
        self.fields: dict[str, dict[str, str]] = {}

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
        """Ask, and note the response; `keep` is a name for the id in it, for later paths.

        A path that begins with a slash is not below `/messageexchange`.
        """
        given = {"accept": accept or (V2 if self.version == 2 else "application/json")}
        if authorized:
            given["authorization"] = token.authorization(
                mailbox_id=mailbox_id, password="password", shared_key="TestKey", nonce=str(uuid.uuid4()), now=utc_now()
            )
        given |= headers or {}
        pairs = [(key.encode(), value.encode("latin-1")) for key, value in given.items()]
        path = path.format(**self._names)
        found: Any = self._http.request(
            method, path if path.startswith("/") else f"/messageexchange/{path}", headers=pairs, content=content
        )
        assert name not in self.statuses
        self.statuses[name] = found.status_code
        self.fields[name] = fields_of(found)
        if keep:
            said = found.json()
            self._names[keep] = said.get("message_id") or said["messageID"]
            self._names[keep + "_lower"] = self._names[keep].lower()

    def close(self) -> None:
        self._http.close()


@pytest.fixture(params=[1, 2])
def sides(request: pytest.FixtureRequest, official_sandbox: str) -> Iterator[tuple[Side, Side]]:
    with sandbox(tls=False, compatible=True, workflows=WORKFLOWS) as mesh:
        both = Side(official_sandbox, request.param), Side(mesh.url, request.param)
        yield both
        for side in both:
            side.close()


def test_only_what_is_named_differs(sides: tuple[Side, Side]) -> None:
    for side in sides:
        _ask_all(side)
    official, ours = sides
    statuses = {name: (status, ours.statuses[name]) for name, status in official.statuses.items()}
    assert {name: pair for name, pair in statuses.items() if len(set(pair)) > 1} == DIFFERENT
    found = defaultdict(set)
    for name in statuses.keys() - DIFFERENT.keys():
        one, other = official.fields[name], ours.fields[name]
        for field in one.keys() | other.keys():
            pair = one.get(field, ""), other.get(field, "")
            if len(set(pair)) > 1:
                found[field, *pair].add(name)
    expected: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for known in FIELDS:
        if official.version in known.versions:
            expected[known.field, known.official, known.ours] |= known.requests
    assert found == expected


def test_the_page_has_a_row_for_each() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    said = {tuple(cell.strip() for cell in row.strip("|").split("|"))[:3] for row in rows}
    shown = {(name, official[:3], here[:3]) for name, official, here in (row for row in said if len(row) == 3)}
    assert {(name, str(one), str(other)) for name, (one, other) in DIFFERENT.items()} - shown == set()
    assert {one.row for one in FIELDS} - {row.strip("|").split("|")[0].strip() for row in rows} == set()


def _ask_all(side: Side) -> None:
    _ask_without_messages(side)
    _send(side)
    _send_chunks(side)
    _list_pages(side)
    _receive(side)
    _control(side)


def _ask_without_messages(side: Side) -> None:
    side.ask("reset of all", "DELETE", "admin/reset", authorized=False)
    side.ask("ping", "GET", "_ping", authorized=False)
    for path in ("/health", "/_status", "/_ping", "/healthcheck", "deepping"):
        side.ask(f"health by {path}", "GET", path, authorized=False)
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
    side.ask("results that are no number", "GET", f"{A}/inbox?max_results=x")
    side.ask("inbox", "GET", f"{A}/inbox")
    side.ask("count", "GET", f"{A}/count")
    side.ask("look-up", "GET", "endpointlookup/X26/TEST", authorized=False)
    side.ask("look-up of nobody", "GET", "endpointlookup/NONE/TEST", authorized=False)
    side.ask("look-up of two", "GET", "endpointlookup/X26/TEST_WORKFLOW2", authorized=False)
    side.ask("search", "GET", "workflowsearch/TEST", authorized=False)
    side.ask("search of three", "GET", "workflowsearch/TEST_WORKFLOW2", authorized=False)
    side.ask("rich inbox", "GET", f"{A}/inbox/rich")
    side.ask("rich outbox", "GET", f"{A}/outbox/rich")
    side.ask("the Java client's question for updates", "POST", f"{A}/update")
    side.ask("no such path", "GET", f"{A}/none")
    side.ask("no such method", "PUT", A)
    side.ask("version 3 of the API", "GET", f"{A}/inbox", accept="application/vnd.mesh.v3+json")
    side.ask("version 2 or any", "GET", f"{A}/inbox", accept=f"{V2}, */*")
    side.ask("any version", "GET", f"{A}/inbox", accept="*/*")
    side.ask("slash at the end", "GET", f"{A}/inbox/")
    for path in (f"admin/mailbox/{A}", f"/admin/mailbox/{A}", f"mailbox/{A}", "admin/mailbox/NONE"):
        side.ask(f"a mailbox's details by {path}", "GET", path, authorized=False)


def _send(side: Side) -> None:
    def send(name: str, content: bytes = b"content", keep: str = "", **headers: str) -> None:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        given = {key: value for key, value in (TO | named).items() if value}
        side.ask(name, "POST", f"{A}/outbox", content=content, keep=keep, headers=given)

    send("send", keep="sent", mex_localid="L", mex_filename="a.csv", mex_content_checksum="abc")
    side.ask("inbox with a message", "GET", f"{B}/inbox", B)
    side.ask("rich inbox with a message", "GET", f"{B}/inbox/rich", B)
    side.ask("rich outbox with a message", "GET", f"{A}/outbox/rich")
    side.ask("inbox with a filter", "GET", f"{B}/inbox?workflow_filter=!TES*", B)
    send("send with all headers", b"content", "full", **ALL)
    send("send with its local id once more", mex_localid="S", mex_workflowid="TEST_WORKFLOW")
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
    side.ask(
        "chunk with another encoding",
        "POST",
        f"{A}/outbox/{{parts}}/2",
        content=gzip.compress(b"2"),
        headers={"mex-chunk-range": "2:3", "content-encoding": "gzip"},
    )
    chunk("another's chunk", 2, 3, mailbox_id=C)
    side.ask("chunk of no message", "POST", f"{A}/outbox/NONE/2", content=b"2", headers={"mex-chunk-range": "2:3"})
    chunk("chunk 2 of 3", 2, 3)
    chunk("chunk 2 of 3 once more", 2, 3)
    chunk("chunk 3 of 3", 3, 3)
    chunk("chunk after the last", 4, 3)
    chunk("chunk once more after the last", 3, 3)
    headers = {"mex-chunk-range": "1:3"} | TO
    side.ask("chunk 1 of 3 once more", "POST", f"{A}/outbox", content=b"1", keep="others", headers=headers)
    for name, number, total in (("chunk with another total", 2, 4), ("chunk 3 before chunk 2", 3, 3)):
        headers = {"mex-chunk-range": f"{number}:{total}"}
        side.ask(name, "POST", f"{A}/outbox/{{others}}/{number}", content=b"2", headers=headers)


def _list_pages(side: Side) -> None:
    for number in range(12):
        headers = TO | {"mex-to": C, "mex-workflowid": f"PAGE{number // 6}"}
        side.ask(f"send for a page, {number}", "POST", f"{A}/outbox", content=b"content", headers=headers)
    side.ask("count of twelve", "GET", f"{C}/count", C)
    side.ask("page", "GET", f"{C}/inbox?max_results=10", C)
    side.ask("page with a filter", "GET", f"{C}/inbox?max_results=10&workflow_filter=PAGE0", C)
    side.ask("rich page", "GET", f"{C}/inbox/rich?max_results=10", C)


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
    side.ask("HEAD with all headers", "HEAD", f"{B}/inbox/{{full}}", B)
    side.ask("GET with all headers", "GET", f"{B}/inbox/{{full}}", B)
    side.ask("GET with all headers, not compressed", "GET", f"{B}/inbox/{{full}}", B, headers={"accept-encoding": ""})
    side.ask("track with all headers", "GET", f"{A}/outbox/tracking?messageID={{full}}")
    side.ask("track by a local id of two", "GET", f"{A}/outbox/tracking/S")
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
    side.ask("track what is acknowledged", "GET", f"{A}/outbox/tracking?messageID={{sent}}")


def _control(side: Side) -> None:
    def control(name: str, method: str, path: str, keep: str = "", **given: str) -> None:
        content = json.dumps(given).encode() if given else None
        headers = {"content-type": "application/json"}
        side.ask(name, method, path, authorized=False, content=content, keep=keep, headers=headers)

    about = {"mailbox_id": A, "code": "21", "description": "words", "workflow_id": "TEST", "linked_message_id": "LINK"}
    control("report", "POST", "admin/report", keep="report", status="error", **about)
    control("report of no collection", "POST", "admin/report", keep="uncollected", **about)
    control("report to nobody", "POST", "admin/report", **(about | {"mailbox_id": "NONE"}))
    for name in ("report", "uncollected"):
        side.ask(f"HEAD of {name}", "HEAD", f"{A}/inbox/{{{name}}}")
        side.ask(f"GET of {name}", "GET", f"{A}/inbox/{{{name}}}")
    control("a message's details", "GET", "admin/message/{sent}")
    control("a message's details once more", "GET", "/admin/message/{sent}")
    control("the details of no message", "GET", "admin/message/NONE")
    control(
        "event", "POST", "admin/message/{gzipped}/event", status="error", code="21", event="SEND", description="words"
    )
    control("event once more", "POST", "/admin/message/{gzipped}/event", status="undeliverable")
    control("event of no message", "POST", "admin/message/NONE/event", status="error")
    side.ask("GET of what failed", "GET", f"{B}/inbox/{{gzipped}}", B)
    side.ask("track what failed", "GET", f"{A}/outbox/tracking?messageID={{gzipped}}")
    control("reset of one", "DELETE", f"admin/reset/{B}")
    control("reset of another", "DELETE", f"/admin/reset/{C}")
    control("reset of nobody", "DELETE", "admin/reset/NONE")
    control("reset of all at the end", "DELETE", "/admin/reset")
