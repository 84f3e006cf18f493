"""Who to call: the contacts of the configuration, by mailbox, route and destination."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from nel_mesh import ConfigurationError
from nel_mesh.agent.configuration import load
from nel_mesh.agent.contacts import Contacts
from nel_mesh.ledger.attention import Attention
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.states import Direction

pytest_plugins = ["ledger_fixtures"]

SETTINGS = 'settings = { password = "p", shared_key = "k", url = "http://127.0.0.1:1" }'
TEXT = f"""
[contacts]
X26XYZ9 = "Sender's desk, sender@example.org"
"s3://results" = "Storage team"
"/srv/mesh" = "File servers"

[mailboxes.X26ABC1]
{SETTINGS}
contact = "Mailbox team, 01632 960001"
[[mailboxes.X26ABC1.receive]]
workflow_id = "PATH_*"
into = ["s3://results/mesh/{{message_id}}", "/srv/mesh/in"]
contact = "Pathology"
[[mailboxes.X26ABC1.receive]]
into = "rest"
[[mailboxes.X26ABC1.send]]
from = "out"
to = "X26XYZ9"
workflow_id = "W"
contact = "Who writes the files"

[mailboxes.X26ABC2]
{SETTINGS}
"""


@pytest.fixture
def contacts(tmp_path: Path) -> Contacts:
    (tmp_path / "agent.toml").write_text(TEXT)
    return Contacts(load(tmp_path / "agent.toml"))


def message(ledger: Ledger, **changes: Any) -> LedgerMessage:
    mailbox_id = changes.get("mailbox_id", "X26ABC1")
    ledger.incoming.note_listed(mailbox_id, ["M1"])
    with ledger.database.read() as connection:
        found = ledger.incoming.get(connection, mailbox_id, "M1")
    return dataclasses.replace(found, **changes)


def test_the_nearest_contact_is_called(contacts: Contacts, ledger: Ledger, tmp_path: Path) -> None:
    assert contacts.of_mailbox("X26ABC1") == "Mailbox team, 01632 960001"
    assert contacts.of_mailbox("x26xyz9") == "Sender's desk, sender@example.org"
    assert contacts.of_mailbox("X26ABC2") is None
    outgoing = message(ledger, direction=Direction.OUT, route=0)
    assert contacts.of_message(outgoing) == "Who writes the files"
    # A route that the configuration has no more.
    assert contacts.of_message(dataclasses.replace(outgoing, route=7)) == "Mailbox team, 01632 960001"
    into = ["s3://results/mesh/{message_id}", "/srv/mesh/in"]
    assert contacts.of_message(message(ledger, destinations=into)) == "Pathology"
    assert contacts.of_message(message(ledger, destinations=[str(tmp_path / "rest")])) == "Mailbox team, 01632 960001"
    assert contacts.of_message(message(ledger, mailbox_id="X26ABC2")) is None


def test_a_destination_is_known_by_its_beginning_or_by_its_route(contacts: Contacts, tmp_path: Path) -> None:
    assert contacts.of_destination("s3://results/mesh/{message_id}?sidecar=true") == "Storage team"
    assert contacts.of_destination("/srv/mesh/in") == "File servers"
    assert contacts.of_destination("/srv/mesh2/in") is None
    assert contacts.of_destination("s3://results-of-others/x") is None
    assert contacts.of_destination(str(tmp_path / "rest")) is None


def test_what_is_retried_for_a_destination_is_a_matter_of_its_team(contacts: Contacts, ledger: Ledger) -> None:
    now = ledger.clock.now()
    retried = Attention(
        kind="retrying", since=now, text="1 message: s3://results: SlowDown", advice="", mailbox_id="X26ABC1"
    )
    assert contacts.of_attention(retried, ledger) == "Storage team"
    failing = dataclasses.replace(retried, kind="mailbox fails", text="no connection")
    assert contacts.of_attention(failing, ledger) == "Mailbox team, 01632 960001"
    assert contacts.of_attention(dataclasses.replace(failing, mailbox_id=None), ledger) is None


def test_a_contact_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(TEXT.replace('"Pathology"', '"a\\nb"'))
    with pytest.raises(ConfigurationError, match="contact"):
        load(tmp_path / "agent.toml")
