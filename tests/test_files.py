"""Files and the journal where a file system lacks something (A10), and at a start of many at once (R23)."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nel_mesh.errors import StorageError
from nel_mesh.io.files import NewFile, SharedSync, is_open_to_others, make_folder, sync_folder, write_file
from nel_mesh.io.journal import JournalEntry, SqliteJournal
from nel_mesh.io.transfers import TransferRecords

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def entry(message_id: str) -> JournalEntry:
    return JournalEntry(mailbox_id="X26ABC1", message_id=message_id, delivered_at=NOW, bytes=7, sender="X26ABC2")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_folder_that_cannot_be_synced_is_used_all_the_same_a10(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), tmp_path.stat()):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    with NewFile(tmp_path / "file") as file:
        file.write(b"content")
        file.commit()
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_disk_error_of_a_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)


@pytest.mark.usefixtures("no_locks")
def test_a_journal_without_locks_a10(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal")
    journal.open()
    journal.add(entry("M1"))
    journal.close()
    again = SqliteJournal(tmp_path / "journal")
    again.open()
    assert again.find("X26ABC1", "M1") == entry("M1")
    again.close()


def test_a_journal_without_shared_memory_a10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some mounts: a write-ahead log cannot be had there, and SQLite says "disk I/O error"."""
    connect = sqlite3.connect

    class Mount(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if "= WAL" in sql:
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR
                raise error
            return super().execute(sql, *args)

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **keywords: connect(*args, factory=Mount, **keywords))
    journal = SqliteJournal(tmp_path / "journal")
    journal.open()
    journal.add(entry("M1"))
    assert journal.entries() == [entry("M1")]
    journal.close()


def test_a_journal_that_is_none_names_its_path_and_the_way_out_a10(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("this is no database" * 100)
    with pytest.raises(StorageError, match="journal") as caught:
        SqliteJournal(tmp_path / "journal").open()
    assert str(tmp_path / "journal") in str(caught.value)


START = """
import sys, pathlib
from datetime import UTC, datetime
from nel_mesh.io.journal import JournalEntry, SqliteJournal
journal = SqliteJournal(pathlib.Path(sys.argv[1]))
sys.stdin.readline()
journal.open()
journal.add(JournalEntry(mailbox_id="X26ABC1", message_id=sys.argv[2], delivered_at=datetime.now(UTC)))
journal.close()
"""


def test_many_that_start_at_once_on_a_new_journal_r23(tmp_path: Path) -> None:
    """R23: one of them makes the file; none is told that the database is locked."""
    for trial in range(2):
        path = tmp_path / f"journal-{trial}"
        processes = [
            subprocess.Popen([sys.executable, "-c", START, str(path), f"M{number}"], stdin=subprocess.PIPE, text=True)
            for number in range(8)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.close()
        assert [process.wait(60) for process in processes] == [0] * 8
        journal = SqliteJournal(path)
        journal.open()
        assert len(journal.entries()) == 8
        journal.close()


def test_records_are_listed_opened_by_key_and_forgotten(tmp_path: Path) -> None:
    records = TransferRecords(tmp_path / "transfers", prefix="send-")
    assert list(records.keys()) == []
    assert records.record("b").read() is None
    records.record("b").write(b"1")
    records.record("a").write(b"2")
    assert list(records.keys()) == ["a", "b"]
    assert records.record("a").read() == b"2"
    records.record("a").forget()
    records.record("a").forget()
    assert list(records.keys()) == ["b"]


def test_new_folders_and_what_is_in_the_way(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    with pytest.raises(StorageError, match="folder"), NewFile(tmp_path / "a"):
        pass
    with pytest.raises(StorageError) as caught, NewFile(tmp_path / "nul\0byte") as file:
        file.commit()
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_written_whole_for_its_owner_only_and_replaces_none_unasked(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "x"
    before = os.umask(0)
    try:
        assert write_file(path, b"one", replace=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not write_file(path, b"two", replace=False)
    assert path.read_bytes() == b"one"
    path.chmod(0o644)
    assert is_open_to_others(path)
    assert write_file(path, b"two")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) == (0o600, b"two")
    assert not is_open_to_others(path)
    (tmp_path / "dangling").symlink_to("nowhere")
    assert not write_file(tmp_path / "dangling", b"three", replace=False)
    (tmp_path / "folder").mkdir()
    for nowhere in (path / "x", tmp_path / "a\0b", tmp_path / "folder"):
        for replace in (True, False):
            with pytest.raises(StorageError):
                write_file(nowhere, b"four", replace=replace)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["dangling", "folder", "x"]


def test_threads_that_wait_for_a_sync_share_the_next_one() -> None:
    calls: list[int] = []
    all_there = threading.Barrier(11)

    def sync() -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            all_there.wait(20)
        else:
            # On a busy machine the others come late.
            time.sleep(0.1)

    shared = SharedSync(sync)

    def work() -> None:
        all_there.wait(20)
        shared.sync()

    first = threading.Thread(target=shared.sync)
    first.start()
    others = [threading.Thread(target=work) for _ in range(10)]
    for other in others:
        other.start()
    for thread in (first, *others):
        thread.join(20)
    assert 2 <= len(calls) < 11, "one that has begun is too early for them; the next will do for those that wait"
    before = len(calls)
    shared.sync()
    assert len(calls) == before + 1, "one that has ended is too early"


def test_a_sync_that_fails_fails_for_its_thread_and_is_made_again_for_the_next() -> None:
    results = iter([OSError(5, "Input/output error"), None])

    def sync() -> None:
        if error := next(results):
            raise error

    shared = SharedSync(sync)
    with pytest.raises(OSError, match="Input/output"):
        shared.sync()
    shared.sync()
    assert next(results, "all were made") == "all were made"
