"""Values from responses (protocol/responses.py)."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh import errors
from nel_mesh.models import MessageMetadata, Report
from nel_mesh.protocol import responses, wire

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOSTILE = "a\x1b[31m\r\nb\ud800" + "x" * 3_000_000
"""Escapes for a terminal, line ends, a lone surrogate, and 3 MB."""


def error(status: int, body: object = b"", **headers: str) -> errors.ResponseError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return responses.error_from_response("send_message", status, headers, content, now=NOW)


def is_unexpected(failure: errors.MeshError) -> bool:
    return failure.operation == "inbox" and failure.status == 200 and "not that of a MESH server" in failure.reason


# Errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.NotAuthorised),
        (403, errors.NotAuthorised),
        (404, errors.NotFound),
        (406, errors.BadRequest),
        (410, errors.Gone),
        (413, errors.BadRequest),
        (417, errors.Refused),
        (422, errors.BadRequest),
        (423, errors.UploadFinished),
        (425, errors.Busy),
        (429, errors.Busy),
        (503, errors.Busy),
        (500, errors.ServerError),
        (599, errors.ServerError),
        (200, errors.ServerError),
        (302, errors.ServerError),
        (418, errors.ServerError),
        (499, errors.ServerError),
    ],
)
def test_each_status_is_its_own_error(status: int, kind: type[errors.ResponseError]) -> None:
    made = error(status)
    assert type(made) is kind
    assert (made.operation, made.status) == ("send_message", status)
    assert ("check the address" in made.reason) is (status in (200, 302, 418, 499))
    assert (made.reason == "MESH failed") is (status in (500, 599))


def test_a_rate_limit_is_called_one() -> None:
    assert str(error(429)) == "send_message: rate limited by MESH; status 429"


@given(st.integers(100, 599), st.binary(max_size=200))
def test_any_body_makes_an_error_that_keeps_its_status(status: int, body: bytes) -> None:
    made = error(status, body)
    assert made.status == status
    assert str(status) in str(made)
    assert "\n" not in str(made)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["detail", "event", "msg", "loc", "errorCode", "message_id"]), inner),
    ),
)


@given(JSON)
def test_any_json_makes_an_error_of_one_line(body: object) -> None:
    made = error(417, body)
    assert str(made).isprintable()
    for word in (made.event, made.code, made.description):
        assert word is None or 0 < len(word) <= 300
    assert made.message_id is None or wire.is_message_id(made.message_id)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"message_id": "M1", "detail": [{"event": "SEND", "code": "12", "msg": "Unregistered to address"}]},
            ("SEND", "12", "Unregistered to address", "M1"),
        ),
        (
            {"messageID": "M1", "errorEvent": "SEND", "errorCode": "12", "errorDescription": "Unregistered"},
            ("SEND", "12", "Unregistered", "M1"),
        ),
        ({"messageId": "M1"}, (None, None, None, "M1")),
        ({"detail": "Not found"}, (None, None, "Not found", None)),
        (
            {"detail": [{"loc": ["header", "mex-to", 1], "msg": "too long", "type": "x"}]},
            (None, None, "header.mex-to.1: too long", None),
        ),
        ({"detail": [{"loc": "header", "msg": "too long"}]}, (None, None, "too long", None)),
        ({"detail": ["x", {"msg": "second"}, {"msg": "third"}]}, (None, None, "second", None)),
        ({"detail": [], "errorDescription": "old"}, (None, None, "old", None)),
        ({"detail": {"event": "SEND"}}, (None, None, None, None)),
        ({"detail": [{"event": ["SEND"], "code": 12, "msg": ""}]}, (None, "12", None, None)),
        (["detail"], (None, None, None, None)),
        (b"<html>", (None, None, None, None)),
        (b"\xff", (None, None, None, None)),
        (b"[" * 100_000, (None, None, None, None)),
        (b'{"detail": 1' + b"0" * 5000 + b"}", (None, None, None, None)),
    ],
)
def test_mesh_s_own_words_are_kept(body: object, said: tuple[str | None, ...]) -> None:
    made = error(417, body)
    assert (made.event, made.code, made.description, made.message_id) == said


def test_r10_nothing_of_an_error_body_reaches_a_terminal_raw() -> None:
    made = error(417, {"message_id": HOSTILE, "detail": [{"event": HOSTILE, "code": HOSTILE, "msg": HOSTILE}]})
    assert made.message_id is None
    assert str(made).isascii()
    assert str(made).isprintable()
    assert len(str(made)) < 1200


def test_an_error_survives_pickling_with_all_that_it_says() -> None:
    made = error(503, **{"retry-after": "7"})
    made.message_id, made.outcome = "M1", errors.Outcome.NOT_SENT
    copy = pickle.load(io.BytesIO(pickle.dumps(made)))  # noqa: S301 - our own bytes
    assert type(copy) is errors.Busy
    assert (str(copy), copy.message_id, copy.retry_after_in_seconds) == (str(made), "M1", 7.0)
    assert copy.outcome is errors.Outcome.NOT_SENT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("999999999", 999_999_999.0),
        ("1000000000", None),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 12:00:30 -0000", 30.0),
        ("Sun, 22 Nov 2026 13:00:30 +0100", 30.0),
        ("Sun, 22 Nov 2026 11:00:30 GMT", 0.0),
        ("Sun, 22 Nov 2026 12:00:30 +9999999999", None),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("7.5", None),
        ("\u0667", None),
        ("9" * 400, None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str | None, seconds: float | None) -> None:
    assert responses.retry_after(text, now=NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "moment"),
    [
        ({"date": "Sun, 22 Nov 2026 12:00:00 GMT"}, NOW),
        ({"date": "Sun, 22 Nov 2026 12:00:00 -0000"}, NOW),
        ({"date": "Sun, 22 Nov 2026 13:00:00 +0100"}, NOW),
        ({"date": "today"}, None),
        ({}, None),
    ],
)
def test_the_server_s_time_is_read_from_its_date(headers: dict[str, str], moment: datetime | None) -> None:
    found = responses.server_time(headers)
    assert found == moment
    assert found is None or found.utcoffset() is not None


# Sends


@pytest.mark.parametrize("name", ["message_id", "messageID", "messageId"])
def test_the_id_of_a_send_is_read_by_its_name_in_either_version(name: str) -> None:
    assert responses.message_id(json.dumps({name: "20200529155357895317_3573F8"}).encode()) is not None


@pytest.mark.parametrize("found", [HOSTILE, "", None, 7, ["M1"], "a\nb", "9434765919", "M1/2"])
def test_r10_a_send_without_a_valid_id_has_none(found: object) -> None:
    assert responses.message_id(json.dumps({"message_id": found}).encode()) is None


def test_a_body_that_is_not_json_has_no_id() -> None:
    assert responses.message_id(b"<html>") is None


# Inbox


def inbox(messages: object, following: object = None, count: object = None) -> Any:
    body = {"messages": messages, "links": {"self": "x", "next": following}, "approx_inbox_count": count}
    return responses.inbox("inbox", json.dumps(body).encode())


def test_a_page_of_the_inbox_is_read() -> None:
    page = inbox(["M1", "M2"], "/messageexchange/X1/inbox?max_results=10&continue_from=ab%3D%3D", 7)
    assert page == ["M1", "M2"]
    assert (page.continue_from, page.approx_inbox_count) == ("ab==", 7)


@pytest.mark.parametrize(
    "following", [None, "", "/messageexchange/X1/inbox", "/messageexchange/X1/inbox?continue_from=", 7, ["x"]]
)
def test_the_last_page_names_no_next_one(following: object) -> None:
    page = inbox([], following)
    assert (page, page.continue_from, page.approx_inbox_count) == ([], None, None)


def test_a_page_of_version_1_is_read() -> None:
    for body in (b'{"messages": ["M1"]}', b'{"messages": ["M1"], "links": "x"}'):
        page = responses.inbox("inbox", body)
        assert (page, page.continue_from, page.approx_inbox_count) == (["M1"], None, None)


@pytest.mark.parametrize("count", [True, "7", 7.5, None])
def test_a_count_that_is_no_number_is_absent(count: object) -> None:
    assert inbox([], None, count).approx_inbox_count is None


@pytest.mark.parametrize("messages", [None, "M1", {"M1": 1}, ["M1", 2], ["M1", None]])
def test_a_page_without_a_list_of_texts_is_refused(messages: object) -> None:
    with pytest.raises(errors.ServerError) as caught:
        inbox(messages)
    assert is_unexpected(caught.value)


@pytest.mark.parametrize(
    "following",
    [
        "http://[x/?continue_from=a",
        "/?continue_from=\ud800",
        "/?continue_from=%0A",
        "/?continue_from=%C3%A9",
        "/?continue_from=" + "x" * 1001,
    ],
)
def test_a_next_page_that_cannot_be_asked_for_is_refused(following: str) -> None:
    with pytest.raises(errors.ServerError) as caught:
        inbox([], following)
    assert is_unexpected(caught.value)


def test_the_longest_continuation_is_followed() -> None:
    assert inbox([], "/?continue_from=a&continue_from=b").continue_from == "a"
    assert inbox([], "/?continue_from=" + "x" * 1000).continue_from == "x" * 1000


@pytest.mark.parametrize(
    "entry", [HOSTILE, "", "a\x1b[31m", "a\nb", "M\ud800", "9434765919", "GPPROVIDER_9434765919_01011950_SMITH"]
)
def test_r10_an_entry_that_is_no_message_id_is_one_placeholder(entry: str) -> None:
    page = inbox(["M1", entry, "M2"])
    assert page[::2] == ["M1", "M2"]
    placeholder = page[1]
    assert isinstance(placeholder, wire.InvalidMessageId)
    assert placeholder.startswith("<invalid message id ")
    assert len(placeholder) == len("<invalid message id 1f2e>")
    assert placeholder.isascii()
    assert placeholder.isprintable()
    # The same entry is the same placeholder on the next page, and two entries are two.
    assert inbox([entry]) == [placeholder]
    assert inbox([entry + " "]) != [placeholder]


@pytest.mark.parametrize("values", [b'"M",', b"[],", b"{},", b"[1],"])
def test_r25_a_body_of_more_values_than_mesh_gives_is_not_parsed(values: bytes) -> None:
    few = responses.inbox("inbox", b'{"messages": ["M1"], "x": [' + values * 50_000 + b"0]}")
    assert few == ["M1"]
    with pytest.raises(errors.ServerError) as caught:
        responses.inbox("inbox", b'{"messages": ["M1"], "x": [' + values * 200_000 + b"0]}")
    assert is_unexpected(caught.value)


def test_r25_the_number_of_values_counts_each_of_their_signs() -> None:
    for sign in (b",", b"[", b"{"):
        for count, ids in ((199_998, ["M1"]), (199_999, None)):
            # In a text a sign counts too, which only matters for a text that is no message id.
            body = b'{"messages": ["M1"], "x": "' + sign * (count - 1) + b'"}'
            if ids:
                assert responses.inbox("inbox", body) == ids
            else:
                with pytest.raises(errors.ServerError):
                    responses.inbox("inbox", body)


def test_a_count_of_the_inbox_is_read() -> None:
    assert responses.count("inbox", b'{"count": 7}') == 7
    for body in (b'{"count": "7"}', b'{"count": true}', b"{}", b""):
        with pytest.raises(errors.ServerError) as caught:
            responses.count("inbox", body)
        assert is_unexpected(caught.value)


# Tracking and look-ups


def test_a_tracking_is_read_in_either_version() -> None:
    for body in ({"message_id": "M1", "status": "Accepted"}, {"messageId": "M1", "status": "accepted"}):
        found = responses.tracking("inbox", json.dumps(body).encode())
        assert (found.message_id, found.status, found.workflow_id) == ("M1", "accepted", None)


def test_r10_a_tracking_is_printable() -> None:
    names = ("status", "status_event", "status_code", "status_description", "workflow_id")
    body = {"message_id": "M1", **{name: f"{name}\x1b\n" + "x" * 1000 for name in names}}
    found = responses.tracking("inbox", json.dumps(body).encode())
    for name in names:
        shown = getattr(found, name)
        assert shown.startswith(f"{name} x")
        assert len(shown) == 300


@pytest.mark.parametrize("body", [{}, {"message_id": None}, {"message_id": "a\nb"}, {"message_id": "M1\ud800"}, [1]])
def test_a_tracking_without_a_valid_id_is_refused(body: object) -> None:
    with pytest.raises(errors.ServerError) as caught:
        responses.tracking("inbox", json.dumps(body).encode())
    assert is_unexpected(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_mailboxes_are_read_in_either_version() -> None:
    new = [{"mailbox_id": "X1", "mailbox_name": "One"}, {"mailbox_id": "X2", "mailbox_name": ""}]
    old = [{"address": "X1", "description": "One", "endpoint_type": "MESH"}, {"address": "X2"}]
    for results in (new, old):
        found = responses.mailboxes("inbox", json.dumps({"results": results}).encode())
        assert [(box.mailbox_id, box.mailbox_name) for box in found] == [("X1", "One"), ("X2", None)]


@pytest.mark.parametrize("body", [{}, {"results": {}}, {"results": [{}]}, {"results": ["X1"]}])
def test_a_look_up_without_mailboxes_is_refused(body: object) -> None:
    with pytest.raises(errors.ServerError) as caught:
        responses.mailboxes("inbox", json.dumps(body).encode())
    assert is_unexpected(caught.value)


# Metadata

MESSAGE = {
    "mex-messageid": "M1",
    "mex-messagetype": "DATA",
    "mex-from": "X1",
    "mex-to": "X2",
    "mex-workflowid": "WF",
    "mex-chunk-range": "1:3",
    "mex-content-type": "text/csv",
    "content-type": "application/octet-stream",
    "mex-statustimestamp": "20261122120000",
}

REPORT = {
    "mex-messageid": "R1",
    "mex-messagetype": "Report",
    "mex-linkedmsgid": "M1",
    "mex-chunk-range": "1:0",
    "mex-statusevent": "SEND",
    "mex-statuscode": "14",
    "mex-statusdescription": "Message not collected",
    "mex-statussuccess": "ERROR",
    "content-type": "text/plain",
}


def test_the_headers_of_a_message_are_read() -> None:
    found = responses.metadata("inbox", "M1", MESSAGE)
    assert type(found) is not Report
    assert (found.message_id, found.message_type, found.chunks) == ("M1", "DATA", 3)
    assert (found.sender, found.recipient, found.workflow_id) == ("X1", "X2", "WF")
    assert (found.content_type, found.status_timestamp) == ("text/csv", NOW)


@pytest.mark.parametrize("headers", [{}, {"mex-messagetype": "", "mex-chunk-range": " ", "mex-messageid": ""}])
def test_a_message_without_headers_is_data_in_one_chunk(headers: dict[str, str]) -> None:
    found = responses.metadata("inbox", "M1", headers)
    assert (found.message_id, found.message_type, found.chunks, found.sender) == ("M1", "DATA", 1, None)


def test_the_headers_of_a_report_are_read() -> None:
    found = responses.metadata("inbox", "R1", REPORT)
    assert isinstance(found, Report)
    assert (found.message_type, found.linked_message_id, found.chunks) == ("REPORT", "M1", 1)
    assert (found.status_event, found.status_code, found.status_success) == ("SEND", "14", False)
    assert found.content_type is None


def test_another_message_than_the_one_asked_for_is_refused() -> None:
    assert responses.metadata("inbox", "m1", MESSAGE).message_id == "m1"
    assert responses.metadata("inbox", "M1", {**MESSAGE, "mex-messageid": " m1 "}).message_id == "M1"
    with pytest.raises(errors.IntegrityError, match="another message") as caught:
        responses.metadata("inbox", "M2", MESSAGE)
    assert (caught.value.operation, caught.value.message_id) == ("inbox", "M2")


def test_a_message_without_a_readable_number_of_chunks_is_refused() -> None:
    with pytest.raises(errors.IntegrityError, match="not a chunk range: '1:0'") as caught:
        responses.metadata("inbox", "M1", {**MESSAGE, "mex-chunk-range": "1:0"})
    assert (caught.value.operation, caught.value.message_id) == ("inbox", "M1")


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("DATA", MessageMetadata, "DATA"),
        ("data", MessageMetadata, "data"),
        ("ACK", MessageMetadata, "ACK"),
        (" report ", Report, "REPORT"),
    ],
)
def test_the_type_of_a_message_is_read_in_any_case(text: str, kind: type[MessageMetadata], shown: str) -> None:
    found = responses.metadata("inbox", "M1", {"mex-messagetype": text})
    assert type(found) is kind
    assert found.message_type == shown


@given(
    st.dictionaries(
        st.sampled_from(["mex-messageid", "mex-chunk-range", "mex-messagetype", "mex-statustimestamp", "x"]),
        st.text(max_size=30),
    )
)
def test_any_headers_make_metadata_or_a_mesh_error(headers: dict[str, str]) -> None:
    with contextlib.suppress(errors.MeshError):
        assert responses.metadata("inbox", "M1", headers).chunks >= 1


@pytest.mark.parametrize(
    ("coding", "flag", "compressed"),
    [
        # Without Content-Encoding, as HEAD gives it, the header is the sender's.
        (None, "Y", True),
        ("", "Y", True),
        ("identity", "Y", True),
        (" Identity ", "Y", True),
        (None, "N", False),
        (None, None, None),
        # With it, the server sets the header itself; only N can be the sender's.
        ("gzip", "Y", None),
        ("GZIP", "Y", None),
        ("gzip", "true", None),
        ("gzip", " n ", False),
        ("gzip", None, None),
    ],
)
def test_a2_gzip_in_transit_is_not_the_senders_compression(
    coding: str | None, flag: str | None, compressed: bool | None
) -> None:
    headers = {**MESSAGE}
    if coding is not None:
        headers[wire.CONTENT_ENCODING] = coding
    if flag is not None:
        headers[wire.COMPRESSED] = flag
    assert responses.metadata("inbox", "M1", headers).compressed is compressed


def test_r10_the_headers_of_a_report_are_printable() -> None:
    header = "a\x1b[31m\n" + "x" * 1000
    names = ("from", "workflowid", "statusevent", "statuscode", "statusdescription")
    found = responses.metadata("inbox", "R1", {**REPORT, **{f"mex-{name}": header for name in names}})
    for value in (found.sender, found.workflow_id, found.status_event, found.status_code, found.status_description):
        assert value is not None
        assert value.startswith("a [31m x")
        assert len(value) == 300
    odd = responses.metadata("inbox", "M1", {**MESSAGE, "mex-messagetype": "\x1b"})
    assert odd.message_type == "DATA"


@pytest.mark.parametrize("linked", ["a\x1b", "9434765919", "x" * 101])
def test_r10_a_report_about_an_invalid_id_names_a_placeholder(linked: str) -> None:
    found = responses.metadata("inbox", "R1", {**REPORT, "mex-linkedmsgid": linked})
    assert isinstance(found, Report)
    assert (found.linked_message_id or "").startswith("<invalid message id ")


def test_a_report_may_name_no_message() -> None:
    for linked in ("", " "):
        found = responses.metadata("inbox", "R1", {**REPORT, "mex-linkedmsgid": linked})
        assert isinstance(found, Report)
        assert found.linked_message_id is None


def test_the_error_for_an_unexpected_response_carries_its_status() -> None:
    made = responses.unexpected_response("send_message", status=202)
    assert (made.operation, made.status) == ("send_message", 202)
    assert "check the address" in made.reason
    assert made.retry_after_in_seconds is None


def test_a_date_far_away_is_a_long_wait() -> None:
    later = NOW + timedelta(days=1)
    assert responses.retry_after(later.strftime("%a, %d %b %Y %H:%M:%S GMT"), now=NOW) == 86_400.0


def test_the_metadata_of_many_messages_share_what_is_the_same() -> None:
    def received(number: int) -> MessageMetadata:
        # A socket gives each response texts of its own.
        headers = {"mex-from": "X26ABC1", "mex-workflowid": "A_WORKFLOW", "mex-chunk-range": "1:1"}
        return responses.metadata(
            "receive", f"M{number}", {name: "".join(list(text)) for name, text in headers.items()}
        )

    first, second = received(1), received(2)
    assert first.workflow_id is second.workflow_id
    assert first.model_fields_set is second.model_fields_set
    plain = MessageMetadata(message_id="M1", sender="X26ABC1", workflow_id="A_WORKFLOW", chunks=1, message_type="DATA")
    assert first == plain
    assert first.model_fields_set >= {"message_id", "sender", "workflow_id", "chunks", "message_type"}
    assert first.model_dump() == plain.model_dump()
    assert first.model_copy(update={"subject": "another"}).model_fields_set != first.model_fields_set
    assert pickle.loads(pickle.dumps(first)) == first  # noqa: S301 - made here
