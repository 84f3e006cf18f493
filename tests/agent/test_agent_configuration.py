"""The agent's configuration file: what it means, and how each mistake is reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh import ConfigurationError, InvalidArgument, MessageMetadata, Report
from nel_mesh.agent.configuration import AgentConfiguration, load
from nel_mesh.agent.routes import first_that_fits
from nel_mesh.agent.templates import NameTemplate

SETTINGS = 'settings = { password = "p", shared_key = "k", url = "http://127.0.0.1:1" }\n'
SMALLEST = f"""
[mailboxes.X26ABC1]
{SETTINGS}
[[mailboxes.X26ABC1.receive]]
into = "in"

[[mailboxes.X26ABC1.send]]
from = "out"
to = "X26ABC2"
workflow_id = "PATH_RESULTS"
"""

Load = Callable[[str], AgentConfiguration]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    def load_text(text: str) -> AgentConfiguration:
        path = tmp_path / "agent.toml"
        path.write_text(text)
        return load(path)

    return load_text


def test_the_smallest_file(loaded: Load, tmp_path: Path) -> None:
    configuration = loaded(SMALLEST)
    plan = configuration.mailboxes["X26ABC1"]
    assert plan.poll_interval_in_seconds == 300
    assert plan.options.receive[0].into == (str(tmp_path / "in"),)
    send = plan.options.send[0]
    assert (send.folder, send.archive_folder, send.failed_folder) == (
        tmp_path / "out",
        tmp_path / "out/sent",
        tmp_path / "out/failed",
    )
    assert configuration.data == tmp_path / "nel-mesh-agent"
    assert "'p'" not in repr(configuration)


MISTAKES = {
    "typo": (SMALLEST.replace("into", "intoo"), "line 6", "did you mean into?"),
    "typo of a table": (SMALLEST.replace(".send]]", ".sned]]"), "line 8", "did you mean send?"),
    "missing": (SMALLEST.replace('to = "X26ABC2"', ""), "line 8", "to is missing"),
    "no destination": (SMALLEST.replace('"in"', "[]"), "line 6", "at least 1 item"),
    "not TOML": ("[mailboxes.X26ABC1\n", "line 1", "not valid TOML"),
    "no mailbox": ("[mailboxes]\n", "line 1", "there is no mailbox"),
    "wrong kind": (SMALLEST + "compress = 'maybe'\n", "line 12", "valid boolean"),
    "wrong settings": (SMALLEST.replace('"p"', '""'), "line 3", "password"),
    "other mailbox": (SMALLEST.replace("{ password", '{ mailbox_id = "X1", password'), "line 3", "of mailbox X1"),
    "no settings file": (SMALLEST.replace(SETTINGS, 'settings = "gone.toml"\n'), "line 3", "no such file"),
    "template": (SMALLEST + 'name = "{to}{workflow_id}"\n', "line 8", "need a separator"),
    "unknown field": (SMALLEST + 'name = "{nobody}"\n', "line 8", "{nobody}"),
    "sends what it receives": (SMALLEST.replace('"in"', '"out"'), "line 6", "would be sent"),
    "sends what it receives, by URL": (SMALLEST.replace('"in"', '"out"\nsidecar = true'), "line 6", "would be sent"),
    "sidecar of a pair": (SMALLEST.replace('"in"', '"java:in"\nsidecar = true'), "line 5", "no sidecar"),
    "keeps longer than it knows": (SMALLEST.replace('"in"', '"in"\nkeep_for_days = 365'), "line 7", "less than keep"),
    "budget of a store": (SMALLEST.replace('"in"', '"s3://b"\nbudget_in_megabytes = 1'), "line 5", "is for folders"),
    "archive in the folder": (SMALLEST + 'archive = "out"\n', "line 9", "sent again"),
    "hook without a secret": (SMALLEST + 'on_sent = { url = "https://h.example" }\n', "line 12", "secret_file"),
    "hook in clear": (SMALLEST + 'on_sent = { url = "http://h.example", secret_file = "s" }\n', "line 12", "https"),
    "hook of neither kind": (SMALLEST + "on_sent = {}\n", "line 12", "either a url or a command"),
    "address": ("[agent]\nhealth = 'here'\n" + SMALLEST, "line 2", "an address and a port"),
    "too often": (
        SMALLEST.replace("http://127.0.0.1:1", "integration").replace("[[", "poll_interval_in_minutes = 1\n[[", 1),
        "line 5",
        "every 5 minutes",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_reported_with_its_line_and_cure(loaded: Load, name: str) -> None:
    text, line, cure = MISTAKES[name]
    with pytest.raises(ConfigurationError) as caught:
        loaded(text)
    assert any(line in str(fault.source) and cure in fault.message for fault in caught.value.faults), caught.value


def test_every_mistake_is_reported_at_once(loaded: Load) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(SMALLEST.replace("into", "intoo").replace('to = "X26ABC2"', "") + "wrong = 1\n")
    assert len(caught.value.faults) >= 3


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="agent init"):
        load(tmp_path / "agent.toml")


def test_a_folder_is_sent_from_once(loaded: Load) -> None:
    other = SMALLEST.replace("X26ABC1", "X26ABC3").replace('"in"', '"in3"')
    with pytest.raises(ConfigurationError, match="sent from already"):
        loaded(SMALLEST + other)


def test_routes_are_tried_in_order(loaded: Load) -> None:
    text = f"[mailboxes.X26ABC1]\n{SETTINGS}"
    for number, condition in enumerate(('type = "report"', 'workflow_id = "PATH_*"', 'sender = "x26abc2"')):
        text += f'[[mailboxes.X26ABC1.receive]]\n{condition}\ninto = "{number}"\n'
    routes = loaded(text).mailboxes["X26ABC1"].options.receive

    def place(message: MessageMetadata) -> str | None:
        route = first_that_fits(routes, message)
        return Path(route.into[0]).name if route else None

    assert place(Report(message_id="M", message_type="REPORT", workflow_id="PATH_1")) == "0"
    assert place(MessageMetadata(message_id="M", workflow_id="PATH_1")) == "1"
    assert place(MessageMetadata(message_id="M", workflow_id="OTHER", sender="X26ABC2")) == "2"
    assert place(MessageMetadata(message_id="M", workflow_id="A_PATH_1")) is None
    assert place(MessageMetadata(message_id="M")) is None


_PART = st.text("ABCabc019.-", min_size=1, max_size=8)


@given(to=_PART, workflow=_PART, name=st.text(min_size=1, max_size=20))
def test_a_template_reads_what_was_put_into_a_name(to: str, workflow: str, name: str) -> None:
    found = NameTemplate("{to}__{workflow_id}__{file_name}").match(f"{to}__{workflow}__{name}")
    assert found == {"to": to, "workflow_id": workflow, "file_name": name}


def test_what_does_not_follow_a_template() -> None:
    template = NameTemplate("{to}__{any}.csv")
    assert template.match("X__rest.csv") == {"to": "X"}
    assert template.match("X_rest.csv") is None
    for wrong in ("{to", "{to!r}", "{to}{to}", "{to}-{to}"):
        with pytest.raises(InvalidArgument):
            NameTemplate(wrong)
