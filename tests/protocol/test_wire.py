"""Headers and ids (protocol/wire.py)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh.errors import InvalidArgument
from nel_mesh.protocol import wire


@given(st.text(max_size=600), st.sampled_from(sorted(wire.LIMITS)))
def test_a_value_without_fault_can_travel(value: str, header: str) -> None:
    if wire.header_fault(header, value) is None:
        assert value.isascii()
        assert value.isprintable()
        assert value == value.strip()
        assert len(value) <= wire.LIMITS[header]


@pytest.mark.parametrize(
    ("header", "value", "fault"),
    [
        (wire.SUBJECT, "", None),
        (wire.SUBJECT, "Results ~ 1", None),
        (wire.SUBJECT, "x" * 500, None),
        (wire.SUBJECT, "x" * 501, "it has 501 characters, and MESH takes at most 500"),
        (wire.FROM, "x" * 501, None),
        (wire.SUBJECT, "a\x1fb", "the character U+001F at position 2"),
        (wire.SUBJECT, "caf\u00e9", "the character U+00E9 at position 4"),
        (wire.SUBJECT, "\x7f", "the character U+007F at position 1"),
        (wire.SUBJECT, " a", "it begins or ends with a space"),
        (wire.SUBJECT, "a ", "it begins or ends with a space"),
        (wire.SUBJECT, "https://nhs.uk", None),
        (wire.TO, "https://nhs.uk", "MESH refuses a URL here"),
        (wire.WORKFLOW_ID, "a x+Y.1-z://", "MESH refuses a URL here"),
        (wire.WORKFLOW_ID, "A:/B//C", None),
        (wire.CHECKSUM, "md5: 0a-F/", None),
        (wire.CHECKSUM, "md5=0a", "a checksum may hold letters, digits, spaces"),
        (wire.CHECKSUM, "md5 0a?", "a checksum may hold letters, digits, spaces"),
    ],
)
def test_a_fault_in_a_header_is_named(header: str, value: str, fault: str | None) -> None:
    found = wire.header_fault(header, value)
    assert (found or "").startswith(fault or "")
    assert (found is None) is (fault is None)


def message_headers(**arguments: Any) -> dict[str, str]:
    plain: dict[str, Any] = {
        "sender": "X1",
        "to": "X2",
        "workflow_id": "WF",
        "local_id": "L",
        "subject": None,
        "file_name": "",
        "checksum": None,
        "content_type": None,
        "encrypted": False,
        "compressed": False,
        "partner_id": None,
    }
    return wire.message_headers(**{**plain, **arguments})


MINIMUM = {
    "mex-from": "X1",
    "mex-to": "X2",
    "mex-workflowid": "WF",
    "mex-localid": "L",
    "content-type": "application/octet-stream",
}


def test_an_argument_that_is_absent_makes_no_header() -> None:
    assert message_headers() == MINIMUM


def test_each_argument_makes_its_header() -> None:
    assert message_headers(
        subject="S",
        file_name="f.csv",
        checksum="0a",
        content_type="text/csv",
        encrypted=True,
        compressed=True,
        partner_id="P",
    ) == {
        **MINIMUM,
        "mex-subject": "S",
        "mex-filename": "f.csv",
        "mex-content-checksum": "0a",
        "content-type": "text/csv",
        "mex-content-type": "text/csv",
        "mex-content-encrypted": "Y",
        "mex-content-compressed": "Y",
        "mex-partnerid": "P",
    }


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"to": ""}, "to: it is empty; MESH needs it to deliver the message"),
        ({"workflow_id": ""}, "workflow_id: it is empty; MESH needs it to deliver the message"),
        ({"workflow_id": None}, "workflow_id: it is empty; MESH needs it to deliver the message"),
        ({"subject": 7}, "subject: expected text, not int"),
        ({"partner_id": "x" * 501}, "partner_id: it has 501 characters, and MESH takes at most 500"),
    ],
)
def test_an_argument_that_cannot_travel_is_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        message_headers(**arguments)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "text",
    [
        "20200529155357895317_3573F8",
        "9F86D081884C7D659A2FEAA0C55AD015",
        "2942264f-46e5-450f-90fc-22a0c09efa37",
        "M1",
        "x" * 100,
        "simple_message",
        "261122-1234",
        "12345678901",
        "a1234567890",
    ],
)
def test_r10_the_ids_of_servers_are_message_ids(text: str) -> None:
    assert wire.is_message_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 101,
        "x" * 3_000_000,
        "a b",
        "a\n",
        "\x1b[31mM1",
        "M\ud800",
        "M\u00e9",
        "../M1",
        "M1/2",
        "9434765919",
        "943-476-5919",
        "943_476_5919",
        "GPPROVIDER_9434765919_01011950_SMITH",
        "M_9434765919",
    ],
)
def test_r10_nothing_else_is_a_message_id(text: str) -> None:
    assert not wire.is_message_id(text)


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.text())))
def test_r10_printable_text_is_one_short_line_of_ascii(value: object) -> None:
    shown = wire.printable(value)
    if shown is not None:
        assert shown.isascii()
        assert shown.isprintable()
        assert 0 < len(shown) <= 300
        assert shown == shown.strip()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Transferred to recipient mailbox", "Transferred to recipient mailbox"),
        ("a\r\n\x1b[31mb\ud800c", "a [31mb c"),
        (" \n ", None),
        ("x" * 301, "x" * 300),
        ("x" * 299 + " y", "x" * 299),
        (" " * 1000 + "x", None),
        (14, "14"),
        (0, "0"),
        (True, None),
        (None, None),
        (["x"], None),
        ("", None),
    ],
)
def test_r10_a_value_is_made_printable(value: object, shown: str | None) -> None:
    assert wire.printable(value) == shown


@pytest.mark.parametrize(
    ("argument", "header", "limit"),
    [
        ("to", "mex-to", 100),
        ("workflow_id", "mex-workflowid", 300),
        ("subject", "mex-subject", 500),
        ("local_id", "mex-localid", 300),
        ("file_name", "mex-filename", 300),
        ("partner_id", "mex-partnerid", 500),
        ("checksum", "mex-content-checksum", 100),
        ("content_type", "content-type", 100),
    ],
)
def test_an_argument_is_a_header_up_to_its_longest(argument: str, header: str, limit: int) -> None:
    assert message_headers(**{argument: "a" * limit})[header] == "a" * limit
    with pytest.raises(InvalidArgument, match=f"^{argument}: it has {limit + 1} characters"):
        message_headers(**{argument: "a" * (limit + 1)})
    with pytest.raises(InvalidArgument, match=f"^{argument}: expected text, not int$"):
        message_headers(**{argument: 7})


def test_the_headers_that_mesh_gives_have_its_names() -> None:
    """MESH API, "Get Message" and "Asynchronous error reporting"."""
    names = [wire.MESSAGE_ID, wire.MESSAGE_TYPE, wire.LINKED_MESSAGE_ID, wire.CHUNK_RANGE]
    assert names == ["mex-messageid", "mex-messagetype", "mex-linkedmsgid", "mex-chunk-range"]
    status = [wire.STATUS_EVENT, wire.STATUS_CODE, wire.STATUS_DESCRIPTION, wire.STATUS_SUCCESS, wire.STATUS_TIMESTAMP]
    assert status == [f"mex-status{name}" for name in ("event", "code", "description", "success", "timestamp")]


def test_the_headers_of_a_client_have_the_names_of_the_api() -> None:
    """MESH API, "Validate a mailbox (Handshake)"."""
    client = [wire.CLIENT_VERSION, wire.OS_NAME, wire.OS_VERSION, wire.OS_ARCHITECTURE, wire.JAVA_VERSION]
    names = ["clientversion", "osname", "osversion", "osarchitecture", "javaversion"]
    assert client == [f"mex-{name}" for name in names]
    assert wire.ACCEPT_V2 == "application/vnd.mesh.v2+json"
