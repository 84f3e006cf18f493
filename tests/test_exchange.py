"""One request and its answer as bytes: however they are cut, and whatever they say."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import traceback
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh.http.exchange import Exchange, ProtocolError

SECRET = "NHSMESH X26ABC1:nonce:0:Mrs-Jones"


@dataclasses.dataclass(frozen=True)
class Read:
    """What an answer turned out to be."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reusable: bool


def exchange(method: str = "GET") -> Exchange:
    return Exchange(method, "/messageexchange", [("host", "mesh.example")])


def read(pieces: Sequence[bytes], method: str = "GET") -> Read:
    """Reads an answer as the broker does; the pieces' end is the connection's. Raises ProtocolError."""
    reading = exchange(method)
    coming = iter(pieces)
    body = b""
    while not reading.status:
        reading.feed(next(coming, b""))
    while True:
        block = reading.block()
        body += block
        if not block:
            if reading.complete:
                break
            reading.feed(next(coming, b""))
    left = b"".join(coming)
    return Read(reading.status, reading.headers, body, reading.reusable and not left)


def announced(body: bytes, *more: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + b"".join(more) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(*blocks: bytes, trailers: bytes = b"") -> bytes:
    body = b"".join(b"%x;name=value\r\n%s\r\n" % (len(block), block) for block in blocks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n" + body + b"0\r\n" + trailers + b"\r\n"


def undelimited(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n" + body


BODIES = st.binary(max_size=200)
ANSWERS = st.one_of(
    st.builds(announced, BODIES),
    st.builds(lambda blocks: chunked(*blocks), st.lists(st.binary(min_size=1, max_size=80), max_size=4)),
    st.just(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + announced(b"content")),
    st.just(chunked(b"content", trailers=b"Checksum: 1\r\nContent-Length: 5\r\n")),
    st.just(b"HTTP/1.1 204 No Content\r\n\r\n"),
    st.just(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
)
CUTS = st.lists(st.integers(0, 400), max_size=20)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted({place for place in places if place < len(data)}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if start < end]


@given(answer=ANSWERS, cuts=CUTS)
def test_however_it_is_cut_it_is_the_same_answer(answer: bytes, cuts: list[int]) -> None:
    assert read(cut(answer, cuts)) == read([answer])


@given(body=BODIES, cuts=CUTS)
def test_the_body_is_what_was_sent_in_each_form(body: bytes, cuts: list[int]) -> None:
    blocks = cut(body, [10, 20, 90])
    for answer in (announced(body), chunked(*blocks), undelimited(body)):
        assert read(cut(answer, cuts)).body == body


@given(answer=ANSWERS, cuts=CUTS, data=st.data())
def test_an_early_end_is_always_an_error(answer: bytes, cuts: list[int], data: st.DataObject) -> None:
    short = answer[: data.draw(st.integers(0, len(answer) - 1))]
    with pytest.raises(ProtocolError):
        read(cut(short, cuts))


@given(answer=ANSWERS, surplus=st.binary(min_size=1, max_size=50), cuts=CUTS)
def test_surplus_is_no_body_and_ends_the_connection(answer: bytes, surplus: bytes, cuts: list[int]) -> None:
    expected = read([answer])
    found = read(cut(answer + surplus, cuts))
    assert found == dataclasses.replace(expected, reusable=False)


@given(data=st.binary(max_size=300), cuts=CUTS)
def test_rubbish_is_an_answer_or_an_error_and_always_ends(data: bytes, cuts: list[int]) -> None:
    for begun in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with contextlib.suppress(ProtocolError):
            read(cut(begun + data, cuts))


def test_an_end_stays_an_error_when_asked_again() -> None:
    for answer in (announced(b"content")[:-1], chunked(b"content")[:-1]):
        reading = exchange()
        reading.feed(answer)
        while reading.block():
            pass
        for _ in range(3):
            with pytest.raises(ProtocolError):
                while True:
                    reading.feed(b"")
                    assert reading.block() == b""
        assert not reading.complete


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", announced(b"not there")[:-9]),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("PUT", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("CONNECT", b"HTTP/1.1 200 Established\r\nContent-Length: 9\r\n\r\n"),
        ("CONNECT", b"HTTP/1.1 299 Established\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_some_answers_have_no_body_whatever_they_say(method: str, answer: bytes) -> None:
    assert (read([answer], method).body, read([answer], method).reusable) == (b"", True)
    # What comes all the same is not taken for the next answer.
    assert read([answer + b"HTTP/1.1 200 OK\r\n\r\n"], method).reusable is False
    with pytest.raises(ProtocolError):
        read([answer[:-1]], method)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: 3, 4\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: 0x3\r\n",
        b"Content-Length: 3 3\r\n",
        b"Content-Length: \xb2\r\n",
        b"Content-Length:\r\n",
        b"Content-Length: " + b"1" * 21 + b"\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding:\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b" Transfer-Encoding: chunked\r\n",
        b"Name\r\n",
        b"Name: a\x00b\r\n",
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_no_answer(head: bytes) -> None:
    with pytest.raises(ProtocolError):
        read([b"HTTP/1.1 200 OK\r\n" + head + b"\r\nabc"])


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 099 X",
        b"HTTP/1.1 20 X",
        b"HTTP/1.1 2000 X",
        b"HTTP/1.1  200 X",
        b"HTTP/11 200 X",
        b"ICY 200 OK",
        b"HTTP/1.1 101 Switching Protocols",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"220 mail.example ESMTP",
    ],
)
def test_what_is_no_http_is_no_answer(start: bytes) -> None:
    with pytest.raises(ProtocolError):
        read([start + b"\r\nContent-Length: 0\r\n\r\n"])


def test_a_length_that_is_said_twice_counts_once() -> None:
    found = read([b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3, 3\r\n\r\nabc"])
    assert (found.body, found.headers["content-length"], found.reusable) == (b"abc", "3", True)


def test_beside_chunks_a_length_does_not_count() -> None:
    for length in (0, 3, 100):
        answer = chunked(b"content").replace(b"\r\n", b"\r\nContent-Length: %d\r\n" % length, 1)
        found = read([answer])
        assert (found.body, found.reusable, "content-length" in found.headers) == (b"content", False, False)


@pytest.mark.parametrize(
    "body",
    [b"5\r\nabc\r\n0\r\n\r\n", b"3\r\nabcde\r\n0\r\n\r\n", b"-1\r\n", b"0x3\r\nabc\r\n", b"f" * 21 + b"\r\n", b"\r\n"],
)
def test_chunks_that_are_none_are_an_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body])


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: y, close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", False),
    ],
)
def test_whether_another_exchange_may_follow(head: bytes, reusable: bool) -> None:
    assert read([head + b"Content-Length: 1\r\n\r\nx"]).reusable is reusable
    assert read([head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]).reusable is reusable
    assert read([head + b"\r\nx"]).reusable is False


def test_nothing_may_follow_before_the_end() -> None:
    reading = exchange()
    reading.feed(announced(b"content")[:-1])
    assert (reading.block(), reading.complete) == (b"conten", False)
    reading.feed(b"t")
    assert (reading.complete, reading.block(), reading.block()) == (True, b"t", b"")


def test_lengths_beyond_32_and_64_bits() -> None:
    for length in (2**32 + 1, 2**63, 10**20 - 1):
        reading = exchange()
        reading.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nabc" % length)
        assert (reading.block(), reading.complete) == (b"abc", False)
        with pytest.raises(ProtocolError, match=f"after 3 of {length} bytes"):
            reading.feed(b"")


def test_a_block_of_announced_length_is_not_copied() -> None:
    reading = exchange()
    reading.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    block = bytes(50_000)
    reading.feed(block)
    assert reading.block() is block


@pytest.mark.parametrize("endless", [b"Name: value\r\n", b"x" * 1000, b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_head_without_end_is_given_up(endless: bytes) -> None:
    reading = exchange()
    if endless.startswith(b"N"):
        reading.feed(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(ProtocolError):
        for _ in range(110 * 1024 // len(endless) + 200):
            reading.feed(endless)


def test_a_chunks_head_or_trailers_without_end_are_given_up() -> None:
    for begun, endless in ((b"", b"1;" + b"x" * 1000), (b"0\r\n", b"Name: " + b"x" * 1000 + b"\r\n")):
        reading = exchange()
        reading.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + begun)
        with pytest.raises(ProtocolError):
            for _ in range(200):
                reading.feed(endless)
                assert reading.block() == b""


def test_headers_by_lower_case_name_in_either_encoding_and_joined() -> None:
    head = "Mex-Subject: Zoë\r\nMEX-LOCALID:  a \r\nVia: 1\r\nVia: 2\r\n".encode() + b"Mex-FileName: Zo\xeb\r\n"
    found = read([announced(b"", head)])
    assert found.headers == {
        "mex-subject": "Zoë",
        "mex-localid": "a",
        "via": "1, 2",
        "mex-filename": "Zoë",
        "content-length": "0",
    }


def test_the_head_is_as_it_was_asked_for() -> None:
    headers = [("host", "mesh.example"), ("Mex-To", "X26ABC2"), ("content-length", "5")]
    written = Exchange("POST", "/a/b?c=%20", headers).head
    assert written.split(b"\r\n")[0] == b"POST /a/b?c=%20 HTTP/1.1"
    assert {line.lower() for line in written.split(b"\r\n")[1:]} == {
        b"host: mesh.example",
        b"mex-to: x26abc2",
        b"content-length: 5",
        b"",
    }
    assert written.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "value",
    [
        f"{SECRET}\r\nMex-To: X",
        f"{SECRET}\r\n\r\nGET / HTTP/1.1",
        f"{SECRET}\n",
        f"{SECRET}\r",
        f" {SECRET}",
        f"{SECRET} ",
        f"{SECRET}\x00",
        f"{SECRET}\x7f",
        f"{SECRET}é",
    ],
)
def test_a_header_that_would_be_two_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        Exchange("GET", "/", [("host", "mesh.example"), ("authorization", value)])
    assert "Jones" not in shown(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "é", " a"])
def test_a_headers_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        Exchange("GET", "/", [("host", "mesh.example"), (name, "value")])


def test_an_empty_value_and_blanks_within_one_are_sent_as_they_are() -> None:
    head = Exchange("GET", "/", [("host", "mesh.example"), ("empty", ""), ("short", "x"), ("blanks", "a  b\tc")]).head
    assert head == b"GET / HTTP/1.1\r\nhost: mesh.example\r\nempty: \r\nshort: x\r\nblanks: a  b\tc\r\n\r\n"


@pytest.mark.parametrize("target", ["/a b", "/é", "/a\r\nx: y", "/\x00", ""])
def test_a_target_that_would_be_more_is_refused(target: str) -> None:
    with pytest.raises(ProtocolError):
        Exchange("GET", target, [("host", "mesh.example")])


@pytest.mark.parametrize(
    "answer",
    [
        b"POST /outbox HTTP/1.1 Mrs-Jones\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nMex-Subject: 'Mrs-Jones \x00\"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nMrs-Jones\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nMrs-Jones,1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxMrs-Jones\r\n",
    ],
)
def test_what_came_is_not_quoted(answer: bytes) -> None:
    with pytest.raises(ProtocolError, match="llegal|malformed") as caught:
        read([answer])
    assert "Jones" not in shown(caught.value)


def shown(error: BaseException) -> str:
    """All that the error and those behind it say."""
    said = []
    cause: BaseException | None = error
    while cause is not None:
        said += [str(cause), repr(cause), *(line for line in traceback.format_exception_only(cause))]
        cause = cause.__cause__ or cause.__context__
    return " ".join(said)
