"""The keys of stored messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh import InvalidArgument, MessageMetadata, Report
from nel_mesh.destinations.keys import KeyTemplate

MESSAGE_ID = "20261125120000000000_0A1B2C"


def metadata(**fields: Any) -> MessageMetadata:
    return MessageMetadata(**{"message_id": MESSAGE_ID, "message_type": "DATA", **fields})


@pytest.mark.parametrize(
    ("template", "key", "prefix"),
    [
        ("", MESSAGE_ID, ""),
        ("mesh", f"mesh/{MESSAGE_ID}", "mesh"),
        ("/mesh/", f"mesh/{MESSAGE_ID}", "mesh"),
        ("mesh/in/{workflow_id}", f"mesh/in/PATH_V2/{MESSAGE_ID}", "mesh/in"),
        ("{date}/{message_id}.dat", f"2026-11-25/{MESSAGE_ID}.dat", ""),
        ("in/{mailbox_id}-{sender}/{type}", f"in/X26ABC1-X26ABC2/data/{MESSAGE_ID}", "in"),
    ],
)
def test_a_template_makes_keys(template: str, key: str, prefix: str) -> None:
    made = KeyTemplate(template)
    assert made.key(metadata(workflow_id="PATH V2", recipient="X26ABC1", sender="X26ABC2")) == key
    assert made.prefix == prefix
    assert made.state_prefix == (f"{prefix}/.nel-mesh/" if prefix else ".nel-mesh/")


def test_a_report_is_json() -> None:
    report = Report(message_id=MESSAGE_ID, message_type="REPORT")
    assert KeyTemplate("{type}").key(report) == f"report/{MESSAGE_ID}.json"


@pytest.mark.parametrize(
    "template",
    [
        "{subject}", "{file_name}/{message_id}", "{message_id.x}", "{message_id:.8}", "{message_id!r}", "{}", "{0}",
        "{{message_id}}", "{message_id", "message_id}", "a//b", "../a", "a/./b", ".nel-mesh/{message_id}", "a\nb",
        "\u00e9", "x" * 301,
    ],
)  # fmt: skip
def test_other_templates_are_refused(template: str) -> None:
    with pytest.raises(InvalidArgument, match="^destination: "):
        KeyTemplate(template)


@given(
    template=st.sampled_from(["", "{workflow_id}", "a/{sender}/{date}", "{type}-{mailbox_id}"]),
    message_ids=st.lists(st.from_regex(r"[A-Za-z0-9_\-]{1,100}", fullmatch=True), min_size=2, max_size=2, unique=True),
    texts=st.lists(st.text(max_size=300), min_size=3, max_size=3),
)
def test_no_value_escapes_its_place_and_no_two_messages_share_a_key(
    template: str, message_ids: list[str], texts: list[str]
) -> None:
    made = KeyTemplate(template)
    workflow_id, sender, recipient = texts
    keys = {
        made.key(metadata(message_id=one, workflow_id=workflow_id, sender=sender, recipient=recipient))
        for one in message_ids
    }
    assert len(keys) == 2
    for key in keys:
        assert len(key.encode()) <= 1024
        assert key.isascii()
        assert key.isprintable()
        parts = key.split("/")
        assert len(parts) == str(made).count("/") + 1
        assert not any(part in ("", ".", "..") or part.startswith(".") for part in parts)
