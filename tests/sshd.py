"""OpenSSH's sshd for the tests: on a free port of this machine, with keys made for it, and only SFTP."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ports import free_ports
from stores import START_SECONDS, MissingServer, process


class SftpAccount:
    """An account of a running server of SFTP.

    Attributes:
        port: the server's port.
        home: the folder whose `.ssh` has its host key and a key that it accepts.
        folder: where the account's files are, and where it begins.
    """

    def __init__(self, port: int, home: Path, folder: Path) -> None:
        self.port = port
        self.home = home
        self.folder = folder

    def url(self, name: str = "") -> str:
        return f"sftp://127.0.0.1:{self.port}/{self.folder.as_posix()}/{name}"

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh" / "known_hosts"

    @property
    def environment(self) -> dict[str, str]:
        """Where its keys are found; no agent of this machine is asked."""
        return {"HOME": str(self.home), "SSH_AUTH_SOCK": ""}

    def files(self) -> dict[str, bytes]:
        """All files but records and journal, by their names."""
        found = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in found.items() if ".nel-mesh/" not in name}


def _key(path: Path) -> str:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise MissingServer("`make services` brings ssh-keygen")
    subprocess.run([program, "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[SftpAccount]:
    """sshd for the user who runs the tests."""
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    if not Path(program).exists():
        raise MissingServer("`make services` brings sshd")
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    ssh = folder / "home" / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    files = folder / "files"
    files.mkdir()
    accepted = folder / "accepted"
    accepted.write_text(_key(ssh / "id_ed25519"))
    host = _key(folder / "host")
    (port,) = free_ports(1)
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}")
    configuration = folder / "sshd.conf"
    configuration.write_text(
        f"""
ListenAddress 127.0.0.1
Port {port}
HostKey {folder / "host"}
PidFile none
AuthorizedKeysFile {accepted}
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp -d {files}
"""
    )
    log = folder / "log.txt"
    with process([program, "-D", "-e", "-f", str(configuration)], log) as running:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                assert running.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
        yield SftpAccount(port, folder / "home", files)
