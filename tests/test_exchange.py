"""One request and its response as bytes, cut in every way, well-formed or not."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import traceback
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh.http.exchange import Exchange, ProtocolError, header_lines

SECRET = "NHSMESH X26ABC1:nonce:0:Mrs-Jones"


@dataclasses.dataclass(frozen=True)
class Read:
    """A response as it was read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reusable: bool


def exchange(method: str = "GET") -> Exchange:
    return Exchange(method, "/messageexchange", [("host", "mesh.example")])


def read(pieces: Sequence[bytes], method: str = "GET") -> Read:
    """Read a response as the pool does; after the pieces the connection ends. Raise ProtocolError."""
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
RESPONSES = st.one_of(
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


@given(response=RESPONSES, cuts=CUTS)
def test_a_response_is_the_same_however_it_is_cut(response: bytes, cuts: list[int]) -> None:
    assert read(cut(response, cuts)) == read([response])


@given(
    status=st.sampled_from([b"200 OK", b"206", b"404 ", b"204 No Content", b"302 a\tb", b"600 X", b"099 X", b"20 X"]),
    lines=st.lists(
        st.sampled_from(
            [
                b"Content-Length: 3",
                b"Content-Length:3 ",
                b"content-length: 03",
                b"Content-Length: +3",
                b"Content-Length: 3, 3",
                b"Content-Length: 4",
                b"Transfer-Encoding: chunked",
                b"Connection: close",
                b"Connection: Keep-Alive, CLOSE",
                b"Empty:",
                b"Blanks: \t a \t b \t",
                b"Twice: 1",
                b"Twice: 2",
                b"Bad Name: 1",
                b"Bad-Value: \0",
                b"Latin: \xe9",
                b" folded",
                b"No-Colon",
                b": no name",
            ]
        ),
        max_size=4,
    ),
    method=st.sampled_from(["GET", "HEAD", "CONNECT"]),
)
def test_a_head_that_comes_whole_is_read_as_h11_reads_it(status: bytes, lines: list[bytes], method: str) -> None:
    """A head in two pieces is read by h11; one that comes whole, and has the common form, is not."""
    response = b"".join(line + b"\r\n" for line in (b"HTTP/1.1 " + status, *lines, b"")) + b"abc"

    def found(pieces: Sequence[bytes]) -> Read | str:
        try:
            return read(pieces, method)
        except ProtocolError as error:
            return str(error)

    assert found([response]) == found([response[:5], response[5:]])


@given(body=BODIES, cuts=CUTS)
def test_every_form_of_a_body_has_the_same_content(body: bytes, cuts: list[int]) -> None:
    blocks = cut(body, [10, 20, 90])
    for response in (announced(body), chunked(*blocks), undelimited(body)):
        assert read(cut(response, cuts)).body == body


@given(response=RESPONSES, cuts=CUTS, data=st.data())
def test_an_early_end_is_always_an_error(response: bytes, cuts: list[int], data: st.DataObject) -> None:
    short = response[: data.draw(st.integers(0, len(response) - 1))]
    with pytest.raises(ProtocolError):
        read(cut(short, cuts))


@given(response=RESPONSES, surplus=st.binary(min_size=1, max_size=50), cuts=CUTS)
def test_surplus_bytes_are_dropped_and_end_the_connection(response: bytes, surplus: bytes, cuts: list[int]) -> None:
    expected = read([response])
    found = read(cut(response + surplus, cuts))
    assert found == dataclasses.replace(expected, reusable=False)


@given(data=st.binary(max_size=300), cuts=CUTS)
def test_random_bytes_are_a_response_or_an_error(data: bytes, cuts: list[int]) -> None:
    for begun in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with contextlib.suppress(ProtocolError):
            read(cut(begun + data, cuts))


def test_an_early_end_is_an_error_at_each_call() -> None:
    for response in (announced(b"content")[:-1], chunked(b"content")[:-1]):
        reading = exchange()
        reading.feed(response)
        while reading.block():
            pass
        for _ in range(3):
            with pytest.raises(ProtocolError):
                while True:
                    reading.feed(b"")
                    assert reading.block() == b""
        assert not reading.complete


@pytest.mark.parametrize(
    ("method", "response"),
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
def test_some_responses_have_no_body_whatever_their_headers_say(method: str, response: bytes) -> None:
    assert (read([response], method).body, read([response], method).reusable) == (b"", True)
    # Surplus bytes are not taken for the next response.
    assert read([response + b"HTTP/1.1 200 OK\r\n\r\n"], method).reusable is False
    with pytest.raises(ProtocolError):
        read([response[:-1]], method)


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
def test_an_ambiguous_head_is_an_error(head: bytes) -> None:
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
def test_another_protocol_is_an_error(start: bytes) -> None:
    with pytest.raises(ProtocolError):
        read([start + b"\r\nContent-Length: 0\r\n\r\n"])


def test_a_repeated_length_counts_once() -> None:
    found = read([b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3, 3\r\n\r\nabc"])
    assert (found.body, found.headers["content-length"], found.reusable) == (b"abc", "3", True)


def test_a_length_beside_chunks_is_ignored() -> None:
    for length in (0, 3, 100):
        response = chunked(b"content").replace(b"\r\n", b"\r\nContent-Length: %d\r\n" % length, 1)
        found = read([response])
        assert (found.body, found.reusable, "content-length" in found.headers) == (b"content", False, False)


@pytest.mark.parametrize(
    "body",
    [b"5\r\nabc\r\n0\r\n\r\n", b"3\r\nabcde\r\n0\r\n\r\n", b"-1\r\n", b"0x3\r\nabc\r\n", b"f" * 21 + b"\r\n", b"\r\n"],
)
def test_malformed_chunks_are_an_error(body: bytes) -> None:
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
def test_a_connection_is_reusable_by_version_and_headers(head: bytes, reusable: bool) -> None:
    assert read([head + b"Content-Length: 1\r\n\r\nx"]).reusable is reusable
    assert read([head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]).reusable is reusable
    assert read([head + b"\r\nx"]).reusable is False


def test_a_response_is_complete_only_with_its_last_byte() -> None:
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
def test_a_head_without_end_is_an_error(endless: bytes) -> None:
    reading = exchange()
    if endless.startswith(b"N"):
        reading.feed(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(ProtocolError):
        for _ in range(110 * 1024 // len(endless) + 200):
            reading.feed(endless)


def test_a_chunk_size_or_trailers_without_end_are_an_error() -> None:
    for begun, endless in ((b"", b"1;" + b"x" * 1000), (b"0\r\n", b"Name: " + b"x" * 1000 + b"\r\n")):
        reading = exchange()
        reading.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + begun)
        with pytest.raises(ProtocolError):
            for _ in range(200):
                reading.feed(endless)
                assert reading.block() == b""


def test_headers_have_lower_case_names_and_are_joined() -> None:
    head = "Mex-Subject: Zoë\r\nMEX-LOCALID:  a \r\nVia: 1\r\nVia: 2\r\n".encode() + b"Mex-FileName: Zo\xeb\r\n"
    found = read([announced(b"", head)])
    assert found.headers == {
        "mex-subject": "Zoë",
        "mex-localid": "a",
        "via": "1, 2",
        "mex-filename": "Zoë",
        "content-length": "0",
    }


def test_the_request_head_has_the_given_line_and_headers() -> None:
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
def test_an_illegal_value_of_a_header_is_refused_and_not_quoted(value: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        Exchange("GET", "/", [("host", "mesh.example"), ("authorization", value)])
    assert "Jones" not in shown(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "é", " a"])
def test_an_illegal_name_of_a_header_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        Exchange("GET", "/", [("host", "mesh.example"), (name, "value")])


def test_an_empty_value_and_blanks_within_one_are_sent_as_they_are() -> None:
    head = Exchange("GET", "/", [("host", "mesh.example"), ("empty", ""), ("short", "x"), ("blanks", "a  b\tc")]).head
    assert head == b"GET / HTTP/1.1\r\nhost: mesh.example\r\nempty: \r\nshort: x\r\nblanks: a  b\tc\r\n\r\n"


def test_prepared_headers_come_first_and_are_checked_as_the_others_are() -> None:
    prepared = header_lines([("host", "mesh.example"), ("accept", "a")])
    assert Exchange("GET", "/", [("x", "y")], prepared).head == (
        b"GET / HTTP/1.1\r\nhost: mesh.example\r\naccept: a\r\nx: y\r\n\r\n"
    )
    with pytest.raises(ProtocolError):
        header_lines([("accept", "a\r\nx: y")])


@pytest.mark.parametrize("target", ["/a b", "/é", "/a\r\nx: y", "/\x00", ""])
def test_an_illegal_target_is_refused(target: str) -> None:
    with pytest.raises(ProtocolError):
        Exchange("GET", target, [("host", "mesh.example")])


@pytest.mark.parametrize(
    "response",
    [
        b"POST /outbox HTTP/1.1 Mrs-Jones\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nMex-Subject: 'Mrs-Jones \x00\"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nMrs-Jones\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nMrs-Jones,1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxMrs-Jones\r\n",
    ],
)
def test_errors_do_not_quote_the_response(response: bytes) -> None:
    with pytest.raises(ProtocolError, match="llegal|malformed") as caught:
        read([response])
    assert "Jones" not in shown(caught.value)


def shown(error: BaseException) -> str:
    """The text of the error and of its causes."""
    said = []
    cause: BaseException | None = error
    while cause is not None:
        said += [str(cause), repr(cause), *(line for line in traceback.format_exception_only(cause))]
        cause = cause.__cause__ or cause.__context__
    return " ".join(said)
