"""The rules of MESH, as values in and values out; and for what has no end of cases, properties."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import hmac
import io
import itertools
import ntpath
import pickle
import zlib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nel_mesh import errors
from nel_mesh.models import Tracking
from nel_mesh.protocol import checksum, chunks, endpoints, filenames, responses, retry, token, upload, wire
from nel_mesh.protocol import gzip as codec

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

# Token


def test_a_token_is_what_the_api_says() -> None:
    made = token.authorization(
        mailbox_id="x26hc005",
        password="password",
        shared_key="BackBone",
        nonce="2942264f-46e5-450f-90fc-22a0c09efa37",
        now=datetime(2020, 6, 4, 18, 18, 59, tzinfo=timezone(timedelta(hours=1))),
    )
    message = "X26HC005:2942264f-46e5-450f-90fc-22a0c09efa37:0:password:202006041718"
    digest = hmac.new(b"BackBone", message.encode(), hashlib.sha256).hexdigest()
    assert made == f"NHSMESH X26HC005:2942264f-46e5-450f-90fc-22a0c09efa37:0:202006041718:{digest}"


@given(st.text(max_size=300))
def test_any_header_is_a_token_or_none(text: str) -> None:
    parsed = token.parse(text)
    assert parsed is None or text.startswith("NHSMESH ")


def test_a_token_is_genuine_and_timely_or_not() -> None:
    made = token.parse(token.authorization(mailbox_id="M", password="p", shared_key="k", nonce="n", now=NOW))
    assert made is not None
    assert token.is_genuine(made, password="p", shared_key="k")
    assert not token.is_genuine(made, password="q", shared_key="k")
    assert not token.is_genuine(made, password="p", shared_key="q")
    for minutes, timely in ((0, True), (120, True), (121, False), (-120, True), (-121, False)):
        assert token.is_timely(made, now=NOW + timedelta(minutes=minutes)) is timely
    nonsense = token.Token("M", "n", 0, "209913999999", made.digest)
    assert not token.is_timely(nonsense, now=NOW)


# Chunks


@given(st.integers(1, 10**6), st.integers(1, 10**5).filter(lambda size: size > 50))
def test_slices_cover_the_content_once_in_order(length: int, size: int) -> None:
    slices = chunks.split(length, size)
    position = 0
    for number, piece in enumerate(slices, 1):
        assert (piece.range.number, piece.range.total, piece.start) == (number, len(slices), position)
        assert 0 < piece.length <= size
        position += piece.length
    assert position == length


@pytest.mark.parametrize("length", [0, chunks.MAX_MESSAGE_BYTES + 1])
def test_content_that_mesh_would_not_carry_is_refused(length: int) -> None:
    with pytest.raises(errors.InvalidArgument):
        chunks.split(length, 20 * chunks.MEGABYTE)


@pytest.mark.parametrize(("text", "expected"), [("1:1", (1, 1)), ("{2:3}", (2, 3)), (" { 2 : 3 } ", (2, 3))])
def test_chunk_ranges_are_read_with_and_without_braces(text: str, expected: tuple[int, int]) -> None:
    found = chunks.ChunkRange.parse(text)
    assert (found.number, found.total) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "1:", ":1", "0:1", "2:1", "{1:2", "1:2}", "-1:2", "1:2:3", "1:9999999999", "١:٢"]
)
def test_what_is_no_chunk_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        chunks.ChunkRange.parse(text)


@given(
    st.lists(
        st.tuples(st.sampled_from([200, 206]), st.sampled_from([None, "1:1", "1:2", "2:2", "1:3", "2:3", "3:3"])),
        max_size=5,
    )
)
def test_no_sequence_of_answers_ends_short_of_what_it_announced(given_answers: list[tuple[int, str | None]]) -> None:
    sequence = chunks.ChunkSequence()
    announced = 0
    for status, text in given_answers:
        try:
            more = sequence.accept(status, text)
        except errors.IntegrityError:
            return
        announced = max(announced, chunks.ChunkRange.parse(text).total if text else 0)
        if not more:
            assert sequence.received >= announced
            return


# Codec


def decoded(body: bytes, cuts: list[int], coding: str = "gzip") -> bytes:
    decoder = codec.decoder(coding)
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    parts = []
    for start, end in itertools.pairwise(places):
        for block in decoder.feed(body[start:end]):
            assert len(block) <= codec.OUTPUT_BLOCK or coding != "gzip"
            parts.append(block)
    decoder.finish()
    return b"".join(parts)


CONTENT = st.one_of(
    st.binary(max_size=3000),
    st.tuples(st.binary(min_size=1, max_size=20), st.integers(1, 200_000)).map(
        lambda pair: pair[0] * (pair[1] // len(pair[0]) + 1)
    ),
)
CUTS = st.lists(st.integers(0, 2**32), max_size=8)


@given(CONTENT, st.lists(st.integers(0, 2**32), max_size=4), CUTS)
@settings(deadline=None)
def test_any_content_in_any_members_cut_anywhere_comes_back(
    content: bytes, members: list[int], cuts: list[int]
) -> None:
    places = [0, *sorted(place % (len(content) + 1) for place in members), len(content)]
    pieces = [content[start:end] for start, end in itertools.pairwise(places)]
    assert decoded(b"".join(gzip.compress(piece) for piece in pieces), cuts, "GZIP") == content
    ours = b"".join(codec.compress(pieces))
    assert gzip.decompress(ours) == content
    assert decoded(ours, cuts) == content
    assert decoded(content, cuts, "") == content


@given(st.binary(max_size=300), st.integers(0, 31), st.binary(max_size=40), CUTS)
@settings(deadline=None)
def test_any_gzip_header_cut_anywhere_is_read(content: bytes, flags: int, extra: bytes, cuts: list[int]) -> None:
    head = bytes([31, 139, 8, flags, 0, 0, 0, 0, 0, 255])
    head += len(extra).to_bytes(2, "little") + extra if flags & 4 else b""
    head += b"name\0" if flags & 8 else b""
    head += b"comment\0" if flags & 16 else b""
    head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") if flags & 2 else b""
    body = head + gzip.compress(content, mtime=0)[10:]
    assert decoded(body, cuts) == content
    assert decoded(body + body, cuts) == content * 2


@given(CONTENT, st.integers(0, 2**32), CUTS)
@settings(deadline=None)
def test_any_gzip_body_cut_anywhere_raises(content: bytes, end: int, cuts: list[int]) -> None:
    body = gzip.compress(content[: len(content) // 2]) + gzip.compress(content[len(content) // 2 :])
    first = len(gzip.compress(content[: len(content) // 2]))
    cut = body[: end % len(body)]
    if len(cut) == first:
        cut = cut[:-1]  # a whole member is a whole body: only its length could tell, and HTTP checks that
    with pytest.raises(errors.IntegrityError):
        decoded(cut, cuts)


@given(st.binary(min_size=1, max_size=2000), st.integers(0, 2**32), st.integers(1, 255))
@settings(deadline=None)
def test_a_damaged_gzip_body_is_never_other_content(content: bytes, place: int, flip: int) -> None:
    body = bytearray(gzip.compress(content))
    body[place % len(body)] ^= flip
    with contextlib.suppress(errors.IntegrityError):
        assert decoded(bytes(body), []) == content


def test_the_standard_library_does_the_same_where_there_is_no_isal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "engine", zlib)
    content = bytes(10**6) + b"end"
    body = b"".join(codec.compress([content[:7], content[7:]]))
    assert decoded(body * 2, [3, 10]) == content * 2
    with pytest.raises(errors.IntegrityError):
        decoded(body[:-1], [])
    with pytest.raises(errors.IntegrityError):
        decoded(body[:-8] + bytes(8), [])


def test_a_body_that_expands_a_thousandfold_comes_in_bounded_blocks() -> None:
    body = gzip.compress(bytes(100 * 1024 * 1024))
    decoder = codec.decoder("gzip")
    sizes = [len(block) for block in decoder.feed(body)]
    decoder.finish()
    assert sum(sizes) == 100 * 1024 * 1024
    assert max(sizes) <= codec.OUTPUT_BLOCK


# Retry

POLICY = retry.RetryPolicy(max_attempts=4, initial_delay_in_seconds=1, max_delay_in_seconds=3)


def answered(status: int, after: str | None = None) -> errors.ResponseError:
    return responses.error_from_response("send_message", status, {"retry-after": after} if after else {}, b"", now=NOW)


def lost(*, complete: bool) -> errors.ConnectionLost:
    failure = errors.ConnectionLost("lost")
    failure.request_complete = complete
    return failure


def refused_certificate() -> errors.ConnectionFailed:
    failure = errors.ConnectionFailed("certificate")
    failure.transient = False
    return failure


@pytest.mark.parametrize(
    ("failure", "if_repeatable", "if_not"),
    [
        (errors.ConnectionFailed("refused"), True, True),
        (refused_certificate(), False, False),
        (lost(complete=False), True, True),
        (lost(complete=True), True, False),
        *((answered(status), True, True) for status in (425, 429, 503)),
        *((answered(status), True, False) for status in (500, 502, 504)),
        *((answered(status), False, False) for status in (200, 201)),
        *((answered(status), False, False) for status in (300, 400, 401, 403, 404, 406, 410, 413, 417, 423, 501)),
        (errors.IntegrityError("damaged"), False, False),
        (errors.SourceError("unreadable"), False, False),
    ],
)
def test_what_is_tried_again(failure: errors.MeshError, if_repeatable: bool, if_not: bool) -> None:
    for repeatable, expected in ((True, if_repeatable), (False, if_not)):
        delay = retry.delay_before_retry(POLICY, failure, attempt=1, repeatable=repeatable, chance=0.5)
        assert (delay is not None) is expected


def test_the_wait_doubles_within_its_limit_and_the_attempts_end() -> None:
    busy = answered(503)
    waits = [retry.delay_before_retry(POLICY, busy, attempt=n, repeatable=True, chance=1.0) for n in range(1, 6)]
    assert waits == [1, 2, 3, None, None]
    assert retry.delay_before_retry(POLICY, busy, attempt=1, repeatable=True, chance=0.25) == 0.25
    huge = retry.RetryPolicy(max_attempts=10**6)
    assert retry.delay_before_retry(huge, busy, attempt=10**5, repeatable=True, chance=1.0) == 30


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 11:00:30 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("9" * 400, None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str | None, seconds: float | None) -> None:
    assert responses.retry_after(text, now=NOW) == seconds


# Wire


@given(st.text(max_size=600), st.sampled_from(sorted(wire.LIMITS)))
def test_what_passes_can_travel(value: str, header: str) -> None:
    if wire.fault_in(header, value) is None:
        assert value.isascii()
        assert value.isprintable() or value == ""
        assert len(value) <= wire.LIMITS[header]


@given(st.text(min_size=1, max_size=40))
def test_no_argument_reaches_another_address(text: str) -> None:
    if text.strip():
        path = endpoints.lookup_endpoint(text, "WF").path
        assert path.startswith("/messageexchange/endpointlookup/")
        assert path.count("/") == 4
        assert "/../" not in path
        assert "?" not in path


@given(st.integers(100, 599), st.binary(max_size=200))
def test_any_answer_makes_an_error_that_keeps_its_status(status: int, body: bytes) -> None:
    error = responses.error_from_response("send_message", status, {}, body, now=NOW)
    assert error.status == status
    assert str(status) in str(error)
    assert "\n" not in str(error)


@given(
    st.dictionaries(
        st.sampled_from(["mex-messageid", "mex-chunk-range", "mex-messagetype", "mex-statustimestamp", "x"]),
        st.text(max_size=30),
    )
)
def test_any_headers_make_metadata_or_a_mesh_error(headers: dict[str, str]) -> None:
    with contextlib.suppress(errors.MeshError):
        assert responses.metadata("retrieve_message", "M1", headers).chunks >= 1


# Sending once


def test_only_a_delivered_message_of_this_send_settles_it() -> None:
    found = Tracking(
        message_id="M",
        local_id="L",
        workflow_id="WF",
        recipient="X1",
        file_name="a",
        status="accepted",
        upload_timestamp=NOW,
    )

    def same(
        tracking: Tracking, *, to: str = "X1", local_id_generated: bool = False, began: datetime | None = NOW
    ) -> bool:
        return upload.is_same_send(
            tracking,
            local_id="L",
            workflow_id="WF",
            to=to,
            file_name="a",
            local_id_generated=local_id_generated,
            began=began,
        )

    assert same(found)
    assert same(found, to="x1")
    assert same(found, to="GPPROVIDER_9434765919_01011950_SMITH"), "MESH finds that recipient's mailbox itself"
    assert same(found, began=NOW + timedelta(seconds=1))
    assert not same(found, began=NOW + timedelta(seconds=10))
    assert not same(found, began=None)
    assert same(found, began=None, local_id_generated=True)
    assert not same(found, to="X2")
    assert not same(found.model_copy(update={"file_name": "b"}))
    for change in (
        {"local_id": "other"},
        {"workflow_id": "other"},
        {"status": "uploading"},
        {"status": None},
        {"status": "error"},
    ):
        assert not same(found.model_copy(update=change), local_id_generated=True)


# Names and checksums


# Python 3.13 has it there, and 3.15 only there.
is_reserved: Any = getattr(ntpath, "isreserved", lambda name: PureWindowsPath(name).is_reserved())


@given(st.text(max_size=200))
def test_no_name_is_a_path_a_device_or_hidden(wish: str) -> None:
    name = filenames.safe_name(wish, "M1")
    assert name == Path(name).name == PureWindowsPath(name).name
    assert not name.startswith((".", "-", "~"))
    assert not name.endswith((".", " "))
    assert name.isascii()
    assert 0 < len(name) <= 151
    assert not is_reserved(name)
    assert filenames.another_name(name, "M1", 3) != name


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ("results.csv", "results.csv"),
        (None, "M1.dat"),
        ("", "M1.dat"),
        ("..", "M1.dat"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system32\\cmd.exe", "cmd.exe"),
        (".bashrc", "bashrc"),
        ("con.txt", "_con.txt"),
        ("LPT1", "_LPT1"),
        ("a\0b\nc", "a_b_c"),
        ("file.csv:stream", "stream"),
        ("x" * 400, "x" * 150),
    ],
)
def test_names_are_made_safe(wish: str | None, name: str) -> None:
    assert filenames.safe_name(wish, "M1") == name


def test_another_name_keeps_the_ending() -> None:
    assert filenames.another_name("results.csv", "M1", 1) == "results.M1.csv"
    assert filenames.another_name("results.csv", "M1", 2) == "results.M1.2.csv"
    assert filenames.another_name("results", "M1", 1) == "results.M1"


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        ("b10a8db164e0754105b7a99be72e3fe5", "md5"),
        ("B10A8DB164E0754105B7A99BE72E3FE5", "md5"),
        ("md5 b10a8db164e0754105b7a99be72e3fe5", "md5"),
        ("SHA-1:" + "0" * 40, "sha1"),
        ("sha256/" + "a" * 64, "sha256"),
        ("a" * 64, "sha256"),
        ("md5 " + "a" * 64, None),
        ("crc32 abcdef01", None),
        ("", None),
        (None, None),
    ],
)
def test_checksums_are_recognised_by_their_form(text: str | None, algorithm: str | None) -> None:
    found = checksum.recognise(text)
    assert (found.algorithm if found else None) == algorithm


# Errors


def test_an_error_survives_pickling_with_all_that_it_says() -> None:
    error = answered(503, "7")
    error.message_id, error.outcome = "M1", errors.Outcome.NOT_SENT
    stream = io.BytesIO(pickle.dumps(error))
    copy = pickle.load(stream)  # noqa: S301 - our own bytes
    assert type(copy) is errors.Busy
    assert (str(copy), copy.message_id, copy.retry_after_in_seconds) == (str(error), "M1", 7.0)
    assert copy.outcome is errors.Outcome.NOT_SENT
