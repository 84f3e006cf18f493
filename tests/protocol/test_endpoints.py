"""The requests (protocol/endpoints.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh.errors import IntegrityError, InvalidArgument
from nel_mesh.protocol import endpoints, wire
from nel_mesh.protocol.chunks import ChunkRange
from nel_mesh.protocol.endpoints import Request

ROOT = "/messageexchange"
GZIP = {"accept-encoding": "gzip"}
CHANGED = {200, 201, 202, 204}
"""A3: the MESH API says 200 or 202 for what changes something; other servers mix them up, and peers take any."""


def list_messages(
    max_results: int = 500, continue_from: str | None = None, workflow_filter: str | None = None
) -> Request:
    return endpoints.list_messages(
        "X1", max_results=max_results, continue_from=continue_from, workflow_filter=workflow_filter
    )


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (endpoints.ping(), ("ping", "GET", "/_ping", "/_ping", {}, {200}, True, False)),
        (
            endpoints.handshake("X1"),
            ("handshake", "POST", "/X1", "/{mailbox_id}", {}, CHANGED, True, True),
        ),
        (
            list_messages(),
            ("list_messages", "GET", "/X1/inbox?max_results=500", "/{mailbox_id}/inbox", {}, {200}, True, True),
        ),
        (
            endpoints.count_messages("X1"),
            ("count_messages", "GET", "/X1/count", "/{mailbox_id}/count", {}, {200}, True, True),
        ),
        (
            endpoints.message_metadata("X1", "M1"),
            ("message_metadata", "HEAD", "/X1/inbox/M1", "/{mailbox_id}/inbox/{message_id}", {}, {200}, True, True),
        ),
        (
            endpoints.retrieve_message("X1", "M1"),
            (
                "retrieve_message",
                "GET",
                "/X1/inbox/M1",
                "/{mailbox_id}/inbox/{message_id}",
                GZIP,
                {200, 206},
                True,
                True,
            ),
        ),
        (
            endpoints.retrieve_message("X1", "M1", 2),
            (
                "retrieve_message",
                "GET",
                "/X1/inbox/M1/2",
                "/{mailbox_id}/inbox/{message_id}/{chunk}",
                GZIP,
                {200, 206},
                True,
                True,
            ),
        ),
        (
            endpoints.acknowledge_message("X1", "M1"),
            (
                "acknowledge_message",
                "PUT",
                "/X1/inbox/M1/status/acknowledged",
                "/{mailbox_id}/inbox/{message_id}/status/acknowledged",
                {},
                CHANGED,
                True,
                True,
            ),
        ),
        (
            endpoints.send_message("X1", {"mex-to": "X2"}, ChunkRange(1, 1), gzipped=False),
            ("send_message", "POST", "/X1/outbox", "/{mailbox_id}/outbox", {"mex-to": "X2"}, CHANGED, False, True),
        ),
        (
            endpoints.send_message("X1", {"mex-to": "X2"}, ChunkRange(1, 2), gzipped=True),
            (
                "send_message",
                "POST",
                "/X1/outbox",
                "/{mailbox_id}/outbox",
                {"mex-to": "X2", "mex-chunk-range": "1:2", "content-encoding": "gzip"},
                CHANGED,
                True,
                True,
            ),
        ),
        (
            endpoints.send_chunk("X1", "M1", ChunkRange(2, 2), content_type="text/csv", gzipped=False),
            (
                "send_message",
                "POST",
                "/X1/outbox/M1/2",
                "/{mailbox_id}/outbox/{message_id}/{chunk}",
                {"mex-from": "X1", "content-type": "text/csv", "mex-chunk-range": "2:2"},
                CHANGED,
                True,
                True,
            ),
        ),
        (
            endpoints.track_message("X1", "M1"),
            (
                "track_message",
                "GET",
                "/X1/outbox/tracking?messageID=M1",
                "/{mailbox_id}/outbox/tracking",
                {},
                {200},
                True,
                True,
            ),
        ),
        (
            endpoints.track_by_local_id("X1", "L/1"),
            (
                "track_by_local_id",
                "GET",
                "/X1/outbox/tracking/L%2F1",
                "/{mailbox_id}/outbox/tracking/{local_id}",
                {},
                {200},
                True,
                True,
            ),
        ),
        (
            endpoints.lookup_endpoint("X26", "WF"),
            (
                "lookup_endpoint",
                "GET",
                "/endpointlookup/X26/WF",
                "/endpointlookup/{ods_code}/{workflow_id}",
                {},
                {200},
                True,
                True,
            ),
        ),
        (
            endpoints.search_workflow("WF"),
            ("search_workflow", "GET", "/workflowsearch/WF", "/workflowsearch/{workflow_id}", {}, {200}, True, True),
        ),
    ],
    ids=lambda value: value.operation if isinstance(value, Request) else "",
)
def test_each_operation_is_the_request_of_the_api(
    request_: Request, expected: tuple[str, str, str, str, dict[str, str], set[int], bool, bool]
) -> None:
    operation, method, path, template, headers, success, idempotent, needs_token = expected
    assert (request_.operation, request_.method) == (operation, method)
    assert (request_.path, request_.template) == (ROOT + path, ROOT + template)
    assert (dict(request_.headers), set(request_.success)) == (headers, success)
    assert (request_.idempotent, request_.needs_token) == (idempotent, needs_token)


def test_a_chunk_can_be_gzipped() -> None:
    sent = endpoints.send_chunk("X1", "M1", ChunkRange(2, 3), content_type="text/csv", gzipped=True)
    assert sent.headers["content-encoding"] == "gzip"


def test_the_inbox_is_asked_for_with_what_was_given() -> None:
    path = urlsplit(list_messages(10, "a b/c=", "WF*").path)
    assert path.path == f"{ROOT}/X1/inbox"
    assert parse_qs(path.query) == {
        "max_results": ["10"],
        "continue_from": ["a b/c="],
        "workflow_filter": ["WF*"],
    }
    assert list_messages(10, "").path == f"{ROOT}/X1/inbox?max_results=10"


NO_ENCODING = "it holds a character that has no encoding"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: list_messages(9), "max_results: 9 is not between 10 and 5000"),
        (lambda: list_messages(5001), "max_results: 5001 is not between 10 and 5000"),
        (lambda: list_messages(workflow_filter="x"), "workflow_filter: MESH takes between 2 and 255 characters"),
        (lambda: list_messages(workflow_filter="x" * 256), "workflow_filter: MESH takes between 2 and 255 characters"),
        (lambda: list_messages(workflow_filter="x\ud800"), f"workflow_filter: {NO_ENCODING}"),
        (lambda: list_messages(continue_from="x" * 2001), "continue_from: it has over 2000 characters"),
        (lambda: list_messages(continue_from="\ud800"), f"continue_from: {NO_ENCODING}"),
        (lambda: endpoints.track_by_local_id("X1", " "), "local_id: it is empty"),
        (lambda: endpoints.track_by_local_id("X1", "\ud800"), f"local_id: {NO_ENCODING}"),
        (lambda: endpoints.lookup_endpoint("", "WF"), "ods_code: it is empty"),
        (lambda: endpoints.lookup_endpoint("X26", " "), "workflow_id: it is empty"),
        (lambda: endpoints.search_workflow("\t"), "workflow_id: it is empty"),
    ],
)
def test_an_argument_that_cannot_be_sent_is_named(make: Callable[[], Request], reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        make()
    assert caught.value.reason == reason


@pytest.mark.parametrize("count", [10, 5000])
def test_the_bounds_of_an_argument_are_allowed(count: int) -> None:
    assert str(count) in list_messages(count, "x" * 2000, "xy").path
    assert endpoints.DEFAULT_RESULTS == 500
    assert "x" * 255 in list_messages(count, workflow_filter="x" * 255).path


TAKES_ID: list[Callable[[str], Request]] = [
    lambda message_id: endpoints.message_metadata("X1", message_id),
    lambda message_id: endpoints.retrieve_message("X1", message_id),
    lambda message_id: endpoints.retrieve_message("X1", message_id, 2),
    lambda message_id: endpoints.acknowledge_message("X1", message_id),
    lambda message_id: endpoints.send_chunk("X1", message_id, ChunkRange(2, 2), content_type="t", gzipped=False),
    lambda message_id: endpoints.track_message("X1", message_id),
]


@pytest.mark.parametrize("make", TAKES_ID)
def test_r10_no_request_is_made_for_what_is_not_a_message_id(make: Callable[[str], Request]) -> None:
    with pytest.raises(InvalidArgument, match="^message_id: expected letters") as refused:
        make("\x1b[31m\n" * 1000)
    assert str(refused.value).isprintable()
    with pytest.raises(IntegrityError, match="^the inbox lists <invalid message id 1f2e>, which is not"):
        make(wire.InvalidMessageId("<invalid message id 1f2e>"))


class Receipt:
    message_id = "M1"


@pytest.mark.parametrize("make", TAKES_ID)
def test_a30_a_message_id_is_text(make: Callable[[Any], Request]) -> None:
    with pytest.raises(InvalidArgument, match="message_id: expected text, not Receipt; pass its message_id$"):
        make(Receipt())
    with pytest.raises(InvalidArgument, match="message_id: expected text, not int$"):
        make(7)


@given(st.text(min_size=1, max_size=40))
def test_no_argument_reaches_another_address(text: str) -> None:
    if text.strip():
        path = endpoints.lookup_endpoint(text, "WF").path
        assert path.startswith("/messageexchange/endpointlookup/")
        assert path.count("/") == 4
        assert "/../" not in path
        assert "?" not in path
        assert unquote(path.split("/")[3]) == text


@pytest.mark.parametrize(("text", "segment"), [(".", "%2E"), ("..", "%2E%2E"), ("a.b", "a.b"), ("...a", "...a")])
def test_a_segment_of_dots_is_encoded(text: str, segment: str) -> None:
    assert endpoints.search_workflow(text).path == f"{ROOT}/workflowsearch/{segment}"


def test_r25_a_response_is_read_as_far_as_one_can_be_long() -> None:
    requests = [endpoints.ping(), endpoints.count_messages("X1"), endpoints.track_message("X1", "M1")]
    assert {request.max_response_bytes for request in requests} == {endpoints.MAX_RESPONSE_BYTES} == {65_536}
    lists = (
        list_messages(10),
        list_messages(5000),
        endpoints.lookup_endpoint("X26", "WF"),
        endpoints.search_workflow("WF"),
    )
    assert {request.max_response_bytes for request in lists} == {4 * 1024 * 1024}


def test_a_request_shows_neither_its_address_nor_its_headers() -> None:
    request = endpoints.search_workflow("W0RKFL0W")
    assert "W0RKFL0W" in request.path
    handshake = dataclasses.replace(endpoints.handshake("X26ABC1"), headers={"mex-subject": "s3cret"})
    shown = repr(handshake) + repr(request)
    assert not [text for text in ("W0RKFL0W", "X26ABC1", "s3cret") if text in shown], shown
    assert "handshake" in shown


@pytest.mark.parametrize("given", [7, None, b"WF", ["WF"]])
def test_a30_what_is_looked_up_is_text(given: Any) -> None:
    for make in (endpoints.search_workflow, lambda text: endpoints.lookup_endpoint(text, "WF")):
        with pytest.raises(InvalidArgument, match=f"expected text, not {type(given).__name__}"):
            make(given)
