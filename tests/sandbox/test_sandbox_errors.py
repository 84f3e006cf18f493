"""What MESH will not take, and how it says so."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from raw_mesh import V2, RawMesh

from nel_mesh.sandbox import Sandbox, sandbox

pytest_plugins = ["raw_fixtures"]

LIMITS = {
    "mex-to": 100,
    "mex-workflowid": 300,
    "mex-subject": 500,
    "mex-localid": 300,
    "mex-filename": 300,
    "mex-partnerid": 500,
    "mex-content-checksum": 100,
    "mex-content-type": 100,
    "mex-chunk-range": 20,
}


@pytest.mark.parametrize("header", LIMITS)
def test_header_limits(raw: RawMesh, mesh_sandbox: Sandbox, header: str) -> None:
    answer = raw.send(headers={header: "a" * (LIMITS[header] + 1)})
    assert answer.status_code == 400
    [fault] = answer.json()["detail"]
    assert fault["loc"] == ["header", header]
    assert set(fault) == {"loc", "msg", "type"}
    assert (fault["type"], fault["msg"]) == (
        "string_too_long",
        f"String should have at most {LIMITS[header]} characters",
    )
    assert mesh_sandbox.messages() == []
    if header not in ("mex-to", "mex-chunk-range"):
        assert raw.send(headers={header: "a" * LIMITS[header]}).status_code == 202


@pytest.mark.parametrize("value", [b"caf\xe9", b"\xe2\x82\xac", b"a\x01b", b"a\tb", b"a\x7fb"])
@pytest.mark.parametrize("header", ["mex-subject", "mex-filename", "mex-localid"])
def test_header_characters(raw: RawMesh, header: str, value: bytes) -> None:
    answer = raw.http.post(
        "/messageexchange/X26ABC1/outbox",
        headers=[
            (b"authorization", raw.token().encode()),
            (b"mex-to", b"X26ABC2"),
            (b"mex-workflowid", b"W"),
            (header.encode(), value),
        ],
        content=b"content",
    )
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("mex-to", "https://example.com"),
        ("mex-workflowid", "http://example.com"),
        ("mex-content-checksum", "md5;abc"),
    ],
)
def test_header_forms(raw: RawMesh, header: str, value: str) -> None:
    assert raw.send(headers={header: value}).status_code == 400


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("9", "greater_than_equal", "Input should be greater than or equal to 10"),
        ("5001", "less_than_equal", "Input should be less than or equal to 5000"),
        ("x", "int_parsing", "Input should be a valid integer, unable to parse string as an integer"),
    ],
)
def test_a_number_in_the_query(raw: RawMesh, text: str, kind: str, words: str) -> None:
    answer = raw.request("GET", f"/inbox?max_results={text}")
    assert (answer.status_code, answer.json()) == (
        400,
        {"detail": [{"loc": ["query", "max_results"], "msg": words, "type": kind}]},
    )


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"mex-from": "X26ABC2"}, "07"),
        ({"mex-to": ""}, "08"),
        ({"mex-version": "2.0"}, "09"),
        ({"mex-messagetype": "REPORT"}, "11"),
        ({"mex-to": "X26NONE"}, "12"),
        ({"content-encoding": "deflate"}, "06"),
        ({"mex-chunk-range": "2:3"}, "InvalidHeaderChunks"),
        ({"mex-chunk-range": "one"}, "InvalidHeaderChunks"),
        ({"mex-chunk-range": "3:2"}, "InvalidHeaderChunks"),
    ],
)
def test_refusals_have_a_code(raw: RawMesh, mesh_sandbox: Sandbox, headers: dict[str, str], code: str) -> None:
    new = raw.send(headers=headers)
    assert (new.status_code, new.headers["content-type"]) == (417, V2)
    [detail] = new.json()["detail"]
    assert (detail["event"], detail["code"]) == ("SEND", code)
    assert detail["msg"]
    old = raw.send(version=1, headers=headers)
    assert (old.status_code, old.headers["content-type"]) == (417, "application/json")
    assert (old.json()["errorEvent"], old.json()["errorCode"]) == ("SEND", code)
    assert old.json()["errorDescription"]
    assert mesh_sandbox.messages() == []


def test_workflow_is_required(raw: RawMesh) -> None:
    answer = raw.send(headers={"mex-workflowid": ""})
    assert answer.status_code == 400
    assert answer.json()["detail"][0]["loc"] == ["header", "mex-workflowid"]


def test_recipient_in_lower_case_is_found(raw: RawMesh) -> None:
    assert raw.send(to="x26abc2").status_code == 202
    assert len(raw.inbox()) == 1


@pytest.mark.parametrize("content", [b"", iter([b""])], ids=["length", "streamed"])
def test_empty_body(raw: RawMesh, mesh_sandbox: Sandbox, content: bytes | Iterator[bytes]) -> None:
    answer = raw.send(content)
    assert (answer.status_code, answer.json()["detail"][0]["code"]) == (417, "02")
    assert mesh_sandbox.messages() == []


def test_too_large_a_body() -> None:
    with sandbox(tls=False, max_request_bytes=1_000_000) as mesh, RawMesh(mesh) as raw:
        block = b"x" * 100_000
        for content in (block * 10 + b"x", iter([block] * 10 + [b"x"])):
            answer = raw.send(content)
            assert (answer.status_code, answer.headers["content-type"]) == (413, "text/html; charset=utf-8")
            assert "<html>" in answer.text
        assert mesh.messages() == []
        assert not [path for path in mesh.folder.rglob("*") if path.is_file()]
        assert raw.send(block * 10).status_code == 202
        assert raw.send(iter([block] * 10)).status_code == 202


@pytest.mark.parametrize(("announced", "status"), [(100_000_001, b"413"), (100_000_000, b"100")])
def test_100_mb_is_the_limit(raw: RawMesh, announced: int, status: bytes) -> None:
    head = (
        "POST /messageexchange/X26ABC1/outbox HTTP/1.1\r\nhost: localhost\r\n"
        f"authorization: {raw.token()}\r\nmex-to: X26ABC2\r\nmex-workflowid: W\r\n"
        f"expect: 100-continue\r\ncontent-length: {announced}\r\n\r\n"
    )
    with (
        socket.create_connection(("127.0.0.1", raw.mesh.port), timeout=20) as plain,
        raw.mesh.client_context().wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(head.encode())
        assert secure.recv(1000).split()[1] == status


@pytest.mark.parametrize(
    "query",
    [
        "max_results=9",
        "max_results=5001",
        "max_results=ten",
        "max_results=",
        "continue_from=short",
        "continue_from=" + "A" * 24,
        "continue_from=" + "=" * 24,
        "continue_from=" + "A" * 1001,
        "workflow_filter=A",
        "workflow_filter=" + "A" * 256,
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_listing_arguments(raw: RawMesh, query: str, version: int) -> None:
    answer = raw.request("GET", f"/inbox?{query}", version=version)
    assert answer.status_code == 400
    assert answer.json()["detail"][0]["loc"] == ["query", query.partition("=")[0]]
