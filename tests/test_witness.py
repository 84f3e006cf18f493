"""The scenarios of a witness test, against the sandbox; and that they fail where something is wrong."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nel_mesh import InvalidArgument, MeshSettings, StorageError
from nel_mesh.sandbox import Sandbox
from nel_mesh.witness.record import ScenarioResult, WitnessRecord
from nel_mesh.witness.report import html_of
from nel_mesh.witness.scenarios import SCENARIOS
from nel_mesh.witness.trial import Parties, Verdict

ALICE, BOB = "X26ABC1", "X26ABC2"


def parties(mesh: Sandbox, **more: Any) -> Parties:
    defaults: dict[str, Any] = {"volume": 3, "patience_in_seconds": 0.1}
    return Parties(sender=partial(mesh.settings, ALICE), recipient=mesh.settings(BOB), **(defaults | more))


def run(record: WitnessRecord, site: Parties, *numbers: int) -> dict[int, ScenarioResult]:
    found: dict[int, ScenarioResult] = {}
    record.run(site, numbers, on_result=lambda result: found.update({result.number: result}))
    return found


def test_every_scenario_passes_and_touches_no_other_message(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    others = [mesh_sandbox.deliver_message(mailbox, b"another's") for mailbox in (ALICE, BOB)]
    record = WitnessRecord(tmp_path / "report")
    found = run(record, parties(mesh_sandbox), *(number for number in SCENARIOS if number != 703))
    assert {number: one.reason for number, one in found.items() if one.verdict is not Verdict.PASSED} == {}
    assert all(one.notes and one.requests for one in found.values())
    left = {message.message_id for message in mesh_sandbox.messages(status="accepted")}
    assert left == set(others)


def test_what_takes_days_is_taken_up_again(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    waiting = run(WitnessRecord(folder), parties(mesh_sandbox), 703)[703]
    assert waiting.verdict is Verdict.WAITING
    mesh_sandbox.advance(timedelta(days=5, minutes=1))
    passed = run(WitnessRecord(folder), parties(mesh_sandbox), 703)[703]
    assert passed.verdict is Verdict.PASSED
    assert "report" in passed.notes[-1]
    assert len(mesh_sandbox.messages(recipient=BOB)) == 1


def test_a_run_that_was_cut_off_goes_on(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    def cut_off(result: ScenarioResult) -> None:
        if result.number == 201:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        WitnessRecord(tmp_path).run(parties(mesh_sandbox), on_result=cut_off)
    rest = run(WitnessRecord(tmp_path), parties(mesh_sandbox, advance=mesh_sandbox.advance))
    assert list(rest) == [number for number in SCENARIOS if number > 201]
    assert len(json.loads((tmp_path / "witness.json").read_text())["scenarios"]) == len(SCENARIOS)


@pytest.mark.parametrize(
    ("fault", "number"),
    [
        ("handshake:*:respond=403", 100),
        ("retrieve_message:*:shorter-length", 401),
        ("acknowledge_message:*:respond=500", 202),
    ],
)
def test_what_is_wrong_fails(mesh_sandbox: Sandbox, tmp_path: Path, fault: str, number: int) -> None:
    mesh_sandbox.add_fault(fault)
    site = parties(mesh_sandbox)
    quick = Parties(
        sender=partial(mesh_sandbox.settings, ALICE, max_attempts=1),
        recipient=mesh_sandbox.settings(BOB, max_attempts=1),
        volume=site.volume,
        patience_in_seconds=site.patience_in_seconds,
    )
    failed = run(WitnessRecord(tmp_path), quick, number)[number]
    assert failed.verdict is Verdict.FAILED
    assert failed.reason
    assert failed.requests


def test_nothing_private_is_in_the_report(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    run(WitnessRecord(tmp_path), parties(mesh_sandbox), 202, 701)
    secrets = [
        mesh_sandbox.settings(ALICE).shared_key.get_secret_value(),
        "a-wrong-password",
        "Authorization",
        "NHSMESH",
    ]
    for name in ("witness.json", "witness.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert [secret for secret in secrets if secret in text] == []
        assert "nobody's data" not in text


def test_the_page_escapes_what_it_shows(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    run(WitnessRecord(tmp_path), parties(mesh_sandbox), 100)
    record = json.loads((tmp_path / "witness.json").read_text())
    record["scenarios"][0]["notes"] = ["<script>"]
    record["scenarios"][0]["requests"] *= 100
    page = html_of(record)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "200 requests" in page


def test_production_and_other_mailboxes_and_numbers_are_refused(mesh_sandbox: Sandbox, tmp_path: Path) -> None:
    site = parties(mesh_sandbox)
    for url in ("production", "https://MESH-sync.spineservices.nhs.uk.:443/proxied"):
        live = MeshSettings(mailbox_id=ALICE, password="p", shared_key="k", url=url)
        for refused in (
            Parties(sender=lambda live=live, **_: live, recipient=mesh_sandbox.settings(BOB)),
            Parties(sender=partial(mesh_sandbox.settings, ALICE), recipient=live),
        ):
            with pytest.raises(InvalidArgument, match="production"):
                run(WitnessRecord(tmp_path), refused)
    with pytest.raises(InvalidArgument, match="unknown scenario 9; known are 100"):
        run(WitnessRecord(tmp_path), site, 9)
    run(WitnessRecord(tmp_path), site, 100)
    other = Parties(sender=partial(mesh_sandbox.settings, BOB), recipient=mesh_sandbox.settings(BOB))
    with pytest.raises(InvalidArgument, match="another folder"):
        run(WitnessRecord(tmp_path), other, 100)


@pytest.mark.parametrize("text", ["", "[]", '{"scenarios": [{"number": 1}]}', "\xff"])
def test_a_file_that_is_no_record_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "witness.json").write_text(text, encoding="latin-1")
    with pytest.raises(StorageError, match="not a record"):
        WitnessRecord(tmp_path)
    assert (tmp_path / "witness.json").read_text(encoding="latin-1") == text
