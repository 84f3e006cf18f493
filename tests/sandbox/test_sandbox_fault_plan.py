"""Faults as values: their text form, their files, and what cannot be planned."""

from __future__ import annotations

from typing import Any

import pytest

from nel_mesh.sandbox import Effect, Fault

TEXTS = {
    "send_message:2:lose-response": Fault("send_message", "lose-response", nth=2),
    "send_message:lose-response": Fault("send_message", Effect.LOSE_RESPONSE),
    " any:*:delay=0.5\n": Fault("any", "delay", nth="every", seconds=0.5),
    "retrieve_chunk:1:cut-response=1000,chunk=3": Fault("retrieve_chunk", "cut-response", at_byte=1000, chunk=3),
    "any:1:cut-during-body,message-id=20_A": Fault("any", "cut-during-body", message_id="20_A"),
    "any:1:trickle=1000,seconds=2": Fault("any", "trickle", bytes_per_second=1000, seconds=2),
    "any:1:respond=503,retry-after=2": Fault("any", "respond", status=503, retry_after="2"),
    "any:1:respond=504,done": Fault("any", "respond", status=504, done=True),
    "any:respond=400,content-type=a/b,body=x,y=z:1": Fault(
        "any", "respond", status=400, content_type="a/b", body="x,y=z:1"
    ),
    "any:longer-length=3": Fault("any", "longer-length", by_bytes=3),
    "any:shorter-length": Fault("any", "shorter-length"),
    "any:1:truncate-gzip,at-byte=10": Fault("any", "truncate-gzip", at_byte=10),
    "any:1:corrupt-gzip=0": Fault("any", "corrupt-gzip", at_byte=0),
}


@pytest.mark.parametrize(("text", "fault"), TEXTS.items())
def test_text_form(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault
    assert Fault.parse(str(fault)) == fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "effect ''"),
        ("send_message", "effect ''"),
        ("send_message:2", "effect '2'"),
        ("sends_message:delay=1", "operation 'sends_message'"),
        ("any:1:explode", "effect 'explode'"),
        ("any:0:lose-response", "nth 0"),
        ("any:1:lose-response=1", "it takes no value"),
        ("any:1:delay=soon", "seconds: 'soon' is not a number"),
        ("any:1:delay", "seconds: the effect delay needs it"),
        ("any:1:delay=1,chunk=x", "chunk: 'x' is not a number"),
        ("any:1:delay=1,status=500", "status: the effect delay does not take it"),
        ("any:1:delay=1,variant=red", "cannot read 'variant=red'"),
        ("any:1:respond=503,done=no", "cannot read 'done=no'"),
        ("any:1:respond=503,retry-after", "cannot read 'retry-after'"),
    ],
)
def test_text_that_is_no_fault(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Fault.parse(text)


@pytest.mark.parametrize(
    ("operation", "effect", "options", "said"),
    [
        ("send_message", "delay", {"seconds": 601}, "seconds 601: a number from 0 to 600"),
        ("send_message", "delay", {"seconds": -1}, "seconds -1"),
        ("send_message", "delay", {"seconds": float("nan")}, "seconds nan"),
        ("send_message", "trickle", {}, "bytes_per_second: the effect trickle needs it"),
        ("send_message", "trickle", {"bytes_per_second": 0}, "bytes_per_second 0: a number from 1 is"),
        ("send_message", "respond", {}, "status: the effect respond needs it"),
        ("send_message", "respond", {"status": 199}, "status 199: a number from 200 to 599"),
        ("send_message", "respond", {"status": "503"}, "status '503'"),
        ("send_message", "lose-response", {"nth": True}, "nth True"),
        ("send_message", "lose-response", {"chunk": 0}, "chunk 0"),
        ("send_message", "lose-response", {"body": ""}, "body: the effect lose-response does not take it"),
        ("send_message", "lose-response", {"at_byte": 0}, "at_byte: the effect lose-response does not take it"),
        ("send_message", "cut-response", {"at_byte": -1}, "at_byte -1"),
        ("send_message", "longer-length", {"by_bytes": 0}, "by_bytes 0"),
        ("send_chunk", "truncate-gzip", {}, "it applies only to retrieve_message and retrieve_chunk, not send_chunk"),
    ],
)
def test_faults_that_cannot_be(operation: str, effect: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Fault(operation, effect, **options)


def test_text_of_a_fault() -> None:
    fault = Fault("any", "respond", nth="every", chunk=2, status=503, done=True, body=b"x")
    assert str(fault) == "any:*:respond=503,chunk=2,done,body=x"


def test_body_is_not_shown() -> None:
    assert "secret" not in repr(Fault("any", "respond", status=503, body="secret"))
