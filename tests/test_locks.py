"""Locks between processes, and where a file system lacks them (A10)."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nel_mesh.errors import StorageError
from nel_mesh.io.locks import FileLock, KeyLock

HOLD = """
import sys
from pathlib import Path
from nel_mesh.io.locks import KeyLock

lock = KeyLock(Path(sys.argv[1]), sys.argv[2])
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


@pytest.mark.usefixtures("no_locks")
def test_without_locks_of_the_file_system_a_lock_is_a_name_a10(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.lock")
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_locks")
def test_a_lock_by_name_dies_with_its_process_a10(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    ended = int(done.stdout)
    (tmp_path / "a.locked").write_text(f"{socket.gethostname()} {ended}")
    assert FileLock(tmp_path / "a.lock").acquire()
    for held in (f"{socket.gethostname()} {os.getpid()}", f"another-host {ended}", ""):
        (tmp_path / "b.locked").write_text(held)
        assert not FileLock(tmp_path / "b.lock").acquire(), "nobody can tell that its process has ended"


def test_a_lock_is_not_taken_through_a_symbolic_link_r18(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"theirs")
    (tmp_path / "a.lock").symlink_to(tmp_path / "target")
    with pytest.raises(StorageError):
        FileLock(tmp_path / "a.lock").acquire()
    assert (tmp_path / "target").read_bytes() == b"theirs"


def test_a_key_is_locked_for_all_but_its_owner(tmp_path: Path) -> None:
    first, second, other = (KeyLock(tmp_path / "lock", key) for key in ("M1", "M1", "M2"))
    assert first.acquire()
    assert not second.acquire()
    assert other.acquire(), "another key of the same file"
    other.release()
    assert not second.acquire(), "to close another opening of the file gives nothing back"
    first.release()
    assert second.acquire()
    second.release()
    second.release()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"], "one file, however many keys"


def test_a_key_is_locked_for_other_processes_until_its_own_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock"), "M1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"True\n"
        lock = KeyLock(tmp_path / "lock", "M1")
        assert not lock.acquire()
        process.kill()
        process.wait()
        assert lock.acquire()
        lock.release()


def test_a_lock_that_was_not_taken_leaves_no_file_open(tmp_path: Path) -> None:
    holder = KeyLock(tmp_path / "lock", "M1")
    assert holder.acquire()
    opened = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        assert not KeyLock(tmp_path / "lock", "M1").acquire()
    assert len(list(Path("/proc/self/fd").iterdir())) == opened
    holder.release()


@pytest.mark.usefixtures("no_locks")
def test_without_locks_of_the_file_system_each_key_has_a_file_a10(tmp_path: Path) -> None:
    first, second, other = (KeyLock(tmp_path / "lock", key) for key in ("M1", "M1", "M2"))
    assert first.acquire()
    assert not second.acquire()
    assert other.acquire()
    first.release()
    assert second.acquire()
    second.release()
    other.release()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_elsewhere_than_on_linux_each_key_has_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(fcntl, "F_OFD_SETLK")
    first, second = KeyLock(tmp_path / "lock", "M1"), KeyLock(tmp_path / "lock", "M1")
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_a_disk_error_of_a_key_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(StorageError):
        KeyLock(tmp_path / "lock", "M1").acquire()


def test_a_key_is_not_locked_through_a_symbolic_link_r18(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(StorageError):
        KeyLock(tmp_path / "lock", "M1").acquire()
    assert not (tmp_path / "target").exists()
