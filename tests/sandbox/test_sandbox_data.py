"""What a sandbox keeps in its data folder over a restart, a kill and a reset."""

from __future__ import annotations

import json
import ssl
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import pkcs12
from raw_mesh import RawMesh

from nel_mesh.errors import StorageError
from nel_mesh.sandbox import SandboxMailbox, sandbox
from nel_mesh.sandbox.configuration import MovableClock, utc_now
from nel_mesh.sandbox.store import Description, MessageStatus, Store


def test_messages_and_their_states_are_kept(tmp_path: Path) -> None:
    with sandbox(tls=False, data_folder=tmp_path) as mesh, RawMesh(mesh) as raw:
        ids = [raw.send(content, mex_localid="L").json()["message_id"] for content in (b"1", b"2", b"3")]
        unfinished = raw.send(b"first", headers={"mex-chunk-range": "1:2"}).json()["message_id"]
        raw.acknowledge(ids[0])
        mesh.deliver_report("X26ABC1", linked_message_id="LOST", code="21")
        before = mesh.messages()
    with sandbox(tls=False, data_folder=tmp_path) as mesh, RawMesh(mesh) as raw:
        assert mesh.messages() == before
        assert raw.inbox() == ids[1:]
        assert [raw.get(one).content for one in ids[1:]] == [b"2", b"3"]
        assert raw.request("GET", "/outbox/tracking/L", version=1).status_code == 300
        assert raw.send_chunk(unfinished, 2, 2, b"second").status_code == 202
        later = raw.send().json()["message_id"]
        assert raw.inbox() == [*ids[1:], unfinished, later]
        assert mesh.content(unfinished) == b"firstsecond"


def test_messages_of_a_mailbox_that_is_no_longer_configured(tmp_path: Path) -> None:
    with sandbox(tls=False, data_folder=tmp_path) as mesh, RawMesh(mesh) as raw:
        sent = raw.send(mex_localid="L").json()["message_id"]
        received = raw.send(mailbox_id="X26ABC2", to="X26ABC1").json()["message_id"]
    left = [SandboxMailbox(mailbox_id="X26ABC1")]
    with sandbox(tls=False, data_folder=tmp_path, mailboxes=left, compatible=True) as mesh, RawMesh(mesh) as raw:
        tracked = raw.track(sent).json()
        assert [tracked[name] for name in ("recipient", "recipient_name", "status")] == [
            "X26ABC2",
            "X26ABC2",
            "accepted",
        ]
        assert raw.track(sent, version=1).status_code == 200
        assert raw.request("GET", "/outbox/tracking/L", version=1).status_code == 200
        assert raw.get(received, mailbox_id="X26ABC1").status_code == 200
        for path in ("/inbox/rich", "/outbox/rich"):
            assert len(raw.request("GET", path).json()["messages"]) == 1
        listed = raw.http.get("/admin/messages").json()["messages"]
        assert {one["message_id"] for one in listed} == {sent, received}
        assert raw.http.get("/admin").status_code == 200


def test_what_fell_due_meanwhile_is_done(tmp_path: Path) -> None:
    clock = MovableClock(utc_now)
    with sandbox(tls=False, data_folder=tmp_path, clock=clock) as mesh:
        first = mesh.deliver_message("X26ABC2", b"x", sender="X26ABC1")
    clock.advance(timedelta(days=6))
    with sandbox(tls=False, data_folder=tmp_path, clock=clock) as mesh:
        assert [one.message_id for one in mesh.messages(status="undeliverable")] == [first]
        assert len(mesh.messages(recipient="X26ABC1")) == 1
    clock.advance(timedelta(days=25))
    with sandbox(tls=False, data_folder=tmp_path, clock=clock) as mesh:
        assert first not in {one.message_id for one in mesh.messages()}
    assert not list(tmp_path.rglob(f"{first}*"))


def test_a_reset_is_kept_too(tmp_path: Path) -> None:
    with sandbox(tls=False, data_folder=tmp_path) as mesh:
        mesh.deliver_message("X26ABC2", b"x")
        mesh.reset()
        kept = mesh.deliver_message("X26ABC2", b"y")
    with sandbox(tls=False, data_folder=tmp_path) as mesh:
        assert [one.message_id for one in mesh.messages()] == [kept]


def store(folder: Path) -> Store:
    return Store(folder, utc_now)


def put(kept: Store, content: bytes, chunks: int = 1) -> str:
    with kept.new_upload() as upload:
        upload.write(content)
        upload.close()
        return kept.add(
            sender="A", recipient="B", description=Description(), total_chunks=chunks, upload=upload
        ).message_id


def test_bodies_without_a_record_and_older_folders_go(tmp_path: Path) -> None:
    first = store(tmp_path)
    message_id = put(first, b"x", chunks=2)
    message = first.find(message_id)
    assert message is not None
    # A kill after a body was stored and before its record was, one in an upload, and one in a reset.
    first.body(message, 2).write_bytes(b"not counted")
    (first.body(message, 1).parent / "arriving-9").write_bytes(b"half")
    newest = tmp_path / "1"
    first.close()
    second = store(tmp_path)
    assert {path.name for path in newest.iterdir()} == {f"{message_id}.json", f"{message_id}.1"}
    second.close()
    (tmp_path / "2").mkdir()
    third = store(tmp_path)
    assert (third.snapshot(), newest.exists()) == ([], False)
    third.close()


def test_a_last_chunk_that_was_replaced_has_its_own_size(tmp_path: Path) -> None:
    first = store(tmp_path)
    message = first.find(put(first, b"x", chunks=2))
    assert message is not None
    first.body(message, 1).write_bytes(b"longer")
    first.close()
    second = store(tmp_path)
    assert [one.sizes for one in second.snapshot()] == [[6]]
    second.close()


def test_one_at_a_time_and_no_guess_about_damage(tmp_path: Path) -> None:
    first = store(tmp_path)
    message_id = put(first, b"x")
    with pytest.raises(ValueError, match="another sandbox uses"):
        store(tmp_path)
    first.close()
    record = tmp_path / "1" / f"{message_id}.json"
    content = json.loads(record.read_text())
    assert content["status"] == MessageStatus.ACCEPTED
    for damage in ("{", json.dumps(content | {"status": "x"}), json.dumps({**content, "sizes": [1, 1]})):
        record.write_text(damage)
        with pytest.raises(ValueError, match=f"{message_id}.json is damaged"):
            store(tmp_path)
    record.write_text(json.dumps(content))
    store(tmp_path).close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        store(tmp_path / "file" / "folder")


def test_certificates_are_kept(tmp_path: Path) -> None:
    with sandbox(data_folder=tmp_path) as mesh:
        context, root, client = mesh.client_context(), mesh.root_certificate, mesh.client_certificate
    with sandbox(data_folder=tmp_path, server_names=["mesh.example"]) as mesh:
        assert (mesh.root_certificate, mesh.client_certificate) == (root, client)
        with httpx2.Client(verify=context, trust_env=False) as http:
            assert http.get(f"{mesh.url}/messageexchange/_ping").status_code == 200
        settings = mesh.settings("X26ABC1")
        assert settings.client_signing_certificate is not None


def test_settings_for_other_languages(tmp_path: Path) -> None:
    with sandbox() as mesh:
        mesh.write_settings(tmp_path)
        said = json.loads((tmp_path / "sandbox.json").read_text())
        assert said["mailboxes"][0] == {"mailbox_id": "X26ABC1", "password": "password"}
        context = ssl.create_default_context(cafile=said["root"])
        context.load_cert_chain(said["client_certificate"], said["client_key"])
        with httpx2.Client(verify=context, trust_env=False) as http:
            assert http.get(f"{said['url']}/messageexchange/_ping").status_code == 200
        bundle = Path(said["client_pfx"]).read_bytes()
        key, certificate, _ = pkcs12.load_key_and_certificates(bundle, said["client_pfx_password"].encode())
        assert key is not None
        assert certificate is not None
