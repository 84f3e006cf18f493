"""The sidecar of a file in a folder: there before the file is, and in nobody's way."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nel_mesh import FolderDestination, InvalidArgument, MeshClient, MessageMetadata, StorageError, open_destination
from nel_mesh.destinations.base import Upload
from nel_mesh.destinations.metadata import sidecar_of
from nel_mesh.destinations.urls import folder_of, with_sidecar
from nel_mesh.sandbox import Sandbox


@pytest.fixture
def bob(mesh_sandbox: Sandbox) -> Iterator[MeshClient]:
    with MeshClient(mesh_sandbox.settings("X26ABC2")) as bob:
        yield bob


METADATA = MessageMetadata(message_id="M1", subject="Jane Doe", file_name="a.csv")


@pytest.fixture(params=[True, False], ids=["hard links", "no hard links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A file system with hard links, and one without."""
    if not request.param:

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    return bool(request.param)


def filled(folder: Path, metadata: MessageMetadata = METADATA) -> Upload:
    upload = FolderDestination(folder, sidecar=True).upload(metadata.message_id)
    upload.start(metadata)
    upload.write([b"content"])
    upload.finish()
    return upload


def resumed(folder: Path) -> Upload:
    upload = FolderDestination(folder, sidecar=True).upload("M1")
    assert upload.resume(None, METADATA) == len(b"content")
    return upload


def visible(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_both_are_there_and_nothing_else(links: bool, tmp_path: Path) -> None:
    upload = filled(tmp_path)
    assert upload.publish("a.csv")
    upload.remove()
    assert visible(tmp_path) == {"a.csv": b"content", "a.csv.json": sidecar_of(METADATA)}
    assert {path.name for path in tmp_path.iterdir()} - {"a.csv", "a.csv.json"} == set()
    assert (tmp_path / "a.csv.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("taken", ["a.csv", "a.csv.json"])
def test_neither_replaces_anything(links: bool, tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"of others")
    upload = filled(tmp_path)
    assert not upload.publish("a.csv")
    assert visible(tmp_path) == {taken: b"of others"}
    assert upload.publish("b.csv")
    upload.remove()
    assert visible(tmp_path) == {taken: b"of others", "b.csv": b"content", "b.csv.json": sidecar_of(METADATA)}


def test_the_sidecar_goes_if_its_file_lost_the_name_meanwhile(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes the file's name between the sidecar and the file."""
    upload = filled(tmp_path)
    wanted = ("link", "rename")[not links]
    original = getattr(os, wanted)

    def taken_first(source: Any, target: Any, **options: Any) -> None:
        if Path(target).name == "a.csv.json":
            (tmp_path / "a.csv").write_bytes(b"of others")
        original(source, target, **options)

    monkeypatch.setattr(os, wanted, taken_first)
    assert not upload.publish("a.csv")
    assert visible(tmp_path) == {"a.csv": b"of others"}
    assert upload.publish("b.csv")


class Killed(BaseException):
    """The process ends here."""


def test_a_kill_between_the_two_names(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next process finds the sidecar to be its own."""
    upload = filled(tmp_path)
    wanted = ("link", "rename")[not links]
    original = getattr(os, wanted)

    def killed(source: Any, target: Any, **options: Any) -> None:
        if Path(target).name == "a.csv":
            raise Killed
        original(source, target, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, wanted, killed)
        upload.publish("a.csv")
    upload.close()
    assert visible(tmp_path) == {"a.csv.json": sidecar_of(METADATA)}
    assert resumed(tmp_path).publish("a.csv")
    assert visible(tmp_path) == {"a.csv": b"content", "a.csv.json": sidecar_of(METADATA)}


def test_half_a_sidecar_is_written_anew(tmp_path: Path) -> None:
    filled(tmp_path).close()
    (tmp_path / ".M1.sidecar").write_bytes(b'{"mess')
    upload = resumed(tmp_path)
    assert upload.publish("a.csv")
    upload.remove()
    assert visible(tmp_path)["a.csv.json"] == sidecar_of(METADATA)
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_forged_sidecar_is_not_taken_for_our_own(tmp_path: Path) -> None:
    """A file with what we would write, and a link in its place: neither is ours."""
    (tmp_path / "a.csv.json").write_bytes(sidecar_of(METADATA))
    (tmp_path / "b.csv.json").symlink_to(tmp_path / "a.csv.json")
    upload = filled(tmp_path)
    assert not upload.publish("a.csv")
    assert not upload.publish("b.csv")
    upload.close()


def test_messages_whose_names_look_like_sidecars(mesh_sandbox: Sandbox, bob: MeshClient, tmp_path: Path) -> None:
    """Whatever comes first, each message has a file, and `NAME.json` beside it is its own."""
    names = ["a.csv", "a.csv.json", "a.csv.json.json", "a.csv", "../a.csv", "x" * 400, "x" * 400]
    ids = [mesh_sandbox.deliver_message("X26ABC2", f"{n}".encode(), file_name=name) for n, name in enumerate(names)]
    report = mesh_sandbox.deliver_report("X26ABC2", linked_message_id="M0")
    result = bob.receive_messages(open_destination(tmp_path, sidecar=True))
    result.raise_for_failed()
    found = visible(tmp_path)
    for n, file in enumerate(result.files):
        name = Path(file.location).name
        assert found.pop(name) == f"{n}".encode()
        assert json.loads(found.pop(f"{name}.json"))["message_id"] == ids[n]
    assert set(found) == {f"report-{report}.json", f"report-{report}.json.json"}


def test_a_url(mesh_sandbox: Sandbox, bob: MeshClient, tmp_path: Path) -> None:
    folder = tmp_path / "wards #1?"
    url = with_sidecar(str(folder))
    assert url == with_sidecar(url)
    assert folder_of(url) == folder == folder_of(str(folder))
    mesh_sandbox.deliver_message("X26ABC2", b"content", file_name="a.csv")
    bob.receive_messages(url).raise_for_failed()
    assert set(visible(folder)) == {"a.csv", "a.csv.json"}


def test_the_option_in_urls_of_stores() -> None:
    assert with_sidecar("s3://b/k?prefix={sender}") == "s3://b/k?prefix={sender}&sidecar=true"
    assert with_sidecar("sftp://h/k?sidecar=false") == "sftp://h/k?sidecar=false"
    assert folder_of("s3://b/k") is None


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("s3://b/k?sidecar=yes", "true or false"),
        ("sftp://h/k?sidecars=true", "has no option sidecars"),
        ("file:///tmp/x?prefix=a", "has no option prefix"),
        ("file://host/tmp", "file:///folder"),
        ("file:///tmp/a#b", "file:///folder"),
    ],
)
def test_wrong_urls(url: str, fault: str) -> None:
    with pytest.raises(InvalidArgument, match=fault):
        open_destination(url)


def test_an_upload_that_was_not_begun(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        FolderDestination(tmp_path, sidecar=True).upload("M1").publish("a.csv")
