"""Bodies: gzip as stored, undone or added on the way out; broken off on the way in; never in memory whole."""

from __future__ import annotations

import gzip
import hashlib
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from raw_mesh import RawMesh

from nel_mesh.sandbox import Sandbox, bodies, sandbox

pytest_plugins = ["raw_fixtures"]

CONTENT = b"a line of text\n" * 100_000
GZIPPED = gzip.compress(CONTENT)


def wire_body(raw: RawMesh, message_id: str, **headers: str) -> tuple[httpx2.Headers, bytes]:
    """A download's headers and its body as it was on the wire."""
    all_headers = {"authorization": raw.token("X26ABC2"), **headers}
    with raw.http.stream("GET", f"/messageexchange/X26ABC2/inbox/{message_id}", headers=all_headers) as answer:
        return answer.headers, b"".join(answer.iter_raw())


def test_gzip_is_kept_for_who_accepts_it(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    sent = raw.send(GZIPPED, content_encoding="GZIP").json()["message_id"]
    headers, body = wire_body(raw, sent, **{"accept-encoding": "deflate, gzip;q=0.5"})
    assert body == GZIPPED
    assert headers["content-encoding"] == "gzip"
    assert headers["mex-content-compressed"] == "Y"
    assert mesh_sandbox.content(sent) == CONTENT
    assert raw.track(sent, version=1).json()["fileSize"] == len(GZIPPED)


@pytest.mark.parametrize("accepts", ["", "identity", "gzip;q=0", "br"])
def test_gzip_is_undone_for_who_does_not(raw: RawMesh, accepts: str) -> None:
    sent = raw.send(GZIPPED, content_encoding="gzip").json()["message_id"]
    headers, body = wire_body(raw, sent, **{"accept-encoding": accepts})
    assert body == CONTENT
    assert "content-encoding" not in headers
    assert headers["mex-content-compressed"] == "N"


def test_several_gzip_members_are_undone(raw: RawMesh) -> None:
    members = GZIPPED + gzip.compress(b"") + gzip.compress(b"more")
    sent = raw.send(members, content_encoding="gzip").json()["message_id"]
    assert wire_body(raw, sent)[1] == CONTENT + b"more"


@pytest.mark.parametrize("damaged", [GZIPPED[:-4], GZIPPED[:-8] + b"\0" * 8, b"not gzip"])
def test_damaged_gzip_breaks_the_connection(raw: RawMesh, damaged: bytes, caplog: pytest.LogCaptureFixture) -> None:
    sent = raw.send(damaged, content_encoding="gzip").json()["message_id"]
    with pytest.raises(httpx2.RemoteProtocolError):
        wire_body(raw, sent)
    assert wire_body(raw, sent, **{"accept-encoding": "gzip"})[1] == damaged


def test_gzip_blocks_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    total = 0
    for block in bodies.gunzipped(path):
        assert len(block) <= bodies.BLOCK_BYTES
        total += len(block)
    assert total == 50_000_000


@pytest.mark.parametrize("size", [0, 1, 262_143, 262_144, 262_145, 1_000_000])
@pytest.mark.parametrize("members", [1, 3])
def test_any_gzip_cut_anywhere_raises(tmp_path: Path, size: int, members: int) -> None:
    content = hashlib.shake_256(b"content").digest(size)
    whole = b"".join(gzip.compress(content[size * k // members : size * (k + 1) // members]) for k in range(members))
    path = tmp_path / "body"
    path.write_bytes(whole)
    assert b"".join(bodies.gunzipped(path)) == content
    last_member = len(gzip.compress(content[size * (members - 1) // members :]))
    for cut in {1, 8, last_member // 2, last_member - 1}:
        path.write_bytes(whole[:-cut])
        with pytest.raises((EOFError, zlib.error)):
            list(bodies.gunzipped(path))


def test_server_may_compress() -> None:
    with sandbox(tls=False, compress_downloads=True) as mesh, RawMesh(mesh) as raw:
        sent = raw.send(CONTENT).json()["message_id"]
        accept = {"accept": "application/vnd.mesh.v2+json", "accept-encoding": "gzip"}
        headers, body = wire_body(raw, sent, **accept)
        assert (headers["content-encoding"], headers["mex-content-compressed"]) == ("gzip", "Y")
        assert gzip.decompress(body) == CONTENT
        for less in ({"accept": "application/json"}, {"accept-encoding": "identity"}):
            headers, body = wire_body(raw, sent, **{**accept, **less})
            assert "content-encoding" not in headers
            assert body == CONTENT


def test_bodies_as_a_test_wants_them(raw: RawMesh, mesh_sandbox: Sandbox) -> None:
    made = mesh_sandbox.deliver_message(
        "X26ABC2", [b"not gzip", b"at all"], content_encoding="GZIP", subject="s", file_name="f"
    )
    assert raw.inbox() == [made]
    headers, body = wire_body(raw, made, **{"accept-encoding": "gzip"})
    assert (body, headers["content-encoding"], headers["mex-chunk-range"]) == (b"not gzip", "GZIP", "1:2")
    assert (headers["mex-from"], headers["mex-subject"], headers["mex-filename"]) == ("X26ABC1", "s", "f")
    assert mesh_sandbox.chunks(made) == [b"not gzip", b"at all"]


@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
def test_broken_upload_leaves_nothing(raw: RawMesh, mesh_sandbox: Sandbox, announced: bool) -> None:
    framing = "content-length: 1000000" if announced else "transfer-encoding: chunked"
    head = (
        "POST /messageexchange/X26ABC1/outbox HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
        f"authorization: {raw.token()}\r\nmex-to: X26ABC2\r\nmex-workflowid: W\r\n{framing}\r\n\r\n"
    )
    part = b"x" * 1000 if announced else b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    with (
        socket.create_connection(("127.0.0.1", raw.mesh.port), timeout=20) as plain,
        mesh_sandbox.client_context().wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(head.encode())
        assert secure.recv(1000).startswith(b"HTTP/1.1 100 ")
        assert len(files(mesh_sandbox)) == 1
        secure.sendall(part)
    # No answer tells when the server has noticed, but it goes on working meanwhile.
    for _ in range(1000):
        raw.inbox()
        if not files(mesh_sandbox):
            break
    assert files(mesh_sandbox) == []
    assert mesh_sandbox.messages() == []
    assert mesh_sandbox.requests("send_message")[-1].status is None


def test_download_that_is_given_up_harms_nothing(raw: RawMesh) -> None:
    sent = raw.send(bytes(20_000_000)).json()["message_id"]
    url = f"/messageexchange/X26ABC2/inbox/{sent}"
    with raw.http.stream("GET", url, headers={"authorization": raw.token("X26ABC2")}) as answer:
        next(answer.iter_raw())
    assert len(raw.get(sent).content) == 20_000_000


def files(mesh: Sandbox) -> list[Path]:
    return [path for path in mesh.folder.rglob("*") if path.is_file()]


SERVER = """
import resource, sys
from nel_mesh.sandbox import sandbox

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

with sandbox(tls=False) as mesh:
    print(mesh.url, peak(), flush=True)
    sys.stdin.readline()
    print(peak(), flush=True)
"""


# The peak of memory is read by the standard library's `resource`, which Windows does not have.
@pytest.mark.skipif(sys.platform == "win32", reason="resource is POSIX only")
def test_memory_does_not_grow_with_bodies() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin
        assert server.stdout
        url, before = server.stdout.readline().split()
        block = hashlib.shake_256(b"block").digest(1_000_000)
        digest = hashlib.sha256(block * 90).digest()

        def body() -> Iterator[bytes]:
            for _ in range(90):
                yield block

        with sandbox(tls=False) as here, RawMesh(here) as raw:
            raw.http.base_url = httpx2.URL(url)
            sent = raw.send(body(), mex_chunk_range="1:3").json()["message_id"]
            for number in (2, 3):
                assert raw.send_chunk(sent, number, 3, body()).status_code == 202
            received = hashlib.sha256()
            path = f"/messageexchange/X26ABC2/inbox/{sent}/2"
            with raw.http.stream("GET", path, headers={"authorization": raw.token("X26ABC2")}) as answer:
                for part in answer.iter_raw():
                    received.update(part)
        assert received.digest() == digest
        print(file=server.stdin, flush=True)
        grown = int(server.stdout.readline()) - int(before)
    assert grown < 32_000_000
