"""What Windows does otherwise, as far as it can be tried elsewhere: a process that takes itself for one on Windows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there it is not pretended")

PRETEND = """
import os, sys, types
from pathlib import Path
folder = Path(sys.argv[1])
def refuse(*arguments):
    raise AssertionError("not on Windows")
def pretend():
    # Not before paths are made: pathlib asks for the name then.
    os.name = "nt"
    sys.modules["fcntl"] = None
    ordinary = os.open
    os.open = lambda path, *more: refuse() if os.path.isdir(path) else ordinary(path, *more)
"""

LOCK = """
import errno
from nel_mesh.io.locks import FileLock
held, path = set(), folder / "x.lock"
class Msvcrt(types.ModuleType):
    LK_NBLCK = 2
    def locking(self, descriptor, mode, count):
        assert (mode, count) == (2, 1)
        at = os.fstat(descriptor).st_ino
        if at in held:
            raise OSError(errno.EACCES, "Permission denied")
        held.add(at)
sys.modules["msvcrt"] = Msvcrt("msvcrt")
first, second = FileLock(path), FileLock(path)
pretend()
assert first.acquire()
assert not second.acquire()
first.release()
assert not path.exists()
"""

FOLDERS = """
from nel_mesh.io.files import make_folder, sync_folder
pretend()
make_folder(folder / "a" / "b")
sync_folder(folder / "a" / "b")
assert (folder / "a" / "b").is_dir()
"""

PRIVATE = """
from nel_mesh.io.files import is_open_to_others, write_file
path = folder / "mesh.toml"
pretend()
assert write_file(path, b"a\\nb\\n", replace=False)
assert not write_file(path, b"b\\n", replace=False)
assert write_file(path, b"c\\n")
path.chmod(0o644)
assert path.read_bytes() == b"c\\n"
assert not is_open_to_others(path)
assert sorted(folder.iterdir()) == [path]
"""

PLACES = """
from nel_mesh.cli import session
os.environ["LOCALAPPDATA"] = str(folder)
kind = type(folder)
session.Path = kind
pretend()
assert session.transfers_folder() == folder / "nel-mesh" / "transfers"
"""

SHELL = """
from nel_mesh.cli.sandbox import in_a_shell
pretend()
assert in_a_shell({"MESH_PASSWORD": "it's $x"}) == ["$env:MESH_PASSWORD = 'it''s $x'"]
"""

SIGNALS = """
import signal, threading
from nel_mesh.io import signals
signal.SIGBREAK = signal.SIGUSR1
pretend()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK):
    with signals.told_to_stop() as wait:
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        wait()
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


@pytest.mark.parametrize(
    "program",
    [LOCK, FOLDERS, PRIVATE, PLACES, SHELL, SIGNALS],
    ids=["lock", "folders", "private file", "places", "shell", "signals"],
)
def test_a_process_that_takes_itself_for_one_on_windows(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRETEND + program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
