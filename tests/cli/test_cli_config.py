"""`nel-mesh config show`, and the settings that stand for options of `nel-mesh send` (A36)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from nel_command import Nel

from certificates import root
from nel_mesh.check.effective import AS_TEXT, HIDDEN, EffectiveSetting, effective_settings
from nel_mesh.check.loading import Loaded
from nel_mesh.sandbox import Sandbox
from nel_mesh.settings import MeshSettings

pytest_plugins = ["cli_fixtures"]

SECRET = "s3cret-Kaese"


def test_a36_all_settings_with_their_sources_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = root("Lab")
    (tmp_path / "root.pem").write_text(own.pem)
    (tmp_path / "mesh.toml").write_text(
        f'mailbox_id = "X26ABC1"\nurl = "integration"\npassword = "{SECRET}"\n'
        f'[profiles.lab]\ndefault_to = "x26abc2"\ndefault_workflow_id = "LAB"\n'
    )
    monkeypatch.setenv("MESH_SHARED_KEY", SECRET)
    settings = MeshSettings.from_file(
        tmp_path / "mesh.toml",
        profile="lab",
        tls_root_certificates=[str(tmp_path / "root.pem"), own.pem, own.key_pem],
        client_signing_certificate=own.pem,
        client_signing_key=own.key_bytes().decode(),
        proxy=f"http://jo:{SECRET}@proxy:8080",
        proxy_password=SECRET,
        proxy_user="jo",
    )
    found = {each.setting: each for each in effective_settings(Loaded(settings))}
    assert list(found) == list(MeshSettings.model_fields)
    values = {name: (each.value, each.source) for name, each in found.items()}
    assert values["mailbox_id"] == ("X26ABC1", "`mailbox_id` in mesh.toml")
    assert values["password"] == (HIDDEN, "`password` in mesh.toml")
    assert values["shared_key"] == (HIDDEN, "environment variable MESH_SHARED_KEY")
    assert values["default_to"] == ("X26ABC2", "`default_to` in profile 'lab' of mesh.toml")
    assert values["tls_root_certificates"][0] == [str(tmp_path / "root.pem"), AS_TEXT, AS_TEXT]
    assert values["client_signing_certificate"][0] == values["client_signing_key"][0] == AS_TEXT
    assert values["client_signing_certificate_password"] == (None, "default")
    assert values["proxy"][0] == f"http://proxy:8080 user {HIDDEN}"
    assert values["max_attempts"] == (5, "default")
    said = json.dumps([dataclasses.asdict(each) for each in found.values()])
    assert SECRET not in said
    assert "BEGIN" not in said


def test_a36_the_command(alice: Nel) -> None:
    done = alice("config", "show")
    assert done.code == 0
    assert "mailbox_id" in done.out
    assert "(MeshConfiguration:MailboxId in appsettings.X26ABC1.json)" in done.out
    assert "TestKey" not in done.out + done.err
    assert str(alice.settings) in done.err
    records = alice("config", "show", "--json").records
    assert [record["setting"] for record in records] == list(MeshSettings.model_fields)
    assert EffectiveSetting(**records[0]).value == "X26ABC1"


def test_a36_what_is_missing_does_not_hide_the_rest(nobody: Nel) -> None:
    (nobody.home / "mesh.toml").write_text('mailbox_id = "X26ABC1"\nmax_attempts = 0\nurl = "integration"\n')
    done = nobody("config", "show", "--json")
    records = {record["setting"]: (record["value"], record["source"]) for record in done.records}
    assert done.code == 3
    assert records["url"] == ("https://msg.intspineservices.nhs.uk", "`url` in mesh.toml")
    assert records["password"] == (None, "missing")
    assert records["max_attempts"] == (None, "`max_attempts` in mesh.toml")
    assert {fault["setting"] for fault in done.error["faults"]} == {"password", "shared_key", "max_attempts"}
    assert nobody("config", "show").out.count("(missing)") == 2


def test_a36_a_profile_has_the_recipient_and_the_workflow_id(alice: Nel, mesh_sandbox: Sandbox) -> None:
    assert alice.settings is not None
    document = json.loads(alice.settings.read_text())
    document["MeshConfiguration"]["Profiles"] = {"lab": {"DefaultTo": "X26ABC2", "DefaultWorkflowId": "LAB_RESULTS"}}
    (alice.home / "profiles.json").write_text(json.dumps(document))
    (alice.home / "a.csv").write_text("1\n")
    chosen = ("--settings", alice.home / "profiles.json", "--json")
    sent = alice("send", alice.home / "a.csv", "--profile", "lab", *chosen).record
    assert (sent["to"], sent["workflow_id"]) == ("X26ABC2", "LAB_RESULTS")
    (message,) = mesh_sandbox.messages(recipient="X26ABC2")
    assert message.message_id == sent["message_id"]
    sent = alice("send", alice.home / "a.csv", "--profile", "lab", "--workflow-id", "OTHER", *chosen).record
    assert sent["workflow_id"] == "OTHER"
    done = alice("send", alice.home / "a.csv", *chosen)
    assert done.code == 2
    assert "--to" in done.error["message"]
    assert "default_to" in done.error["message"]
