"""A real PostgreSQL for the tests: a process of its own, which can be stopped hard and started again.

Where the tests run as root, it runs as the user `nobody`, as it refuses root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

from ports import free_ports
from stores import START_SECONDS, MissingServer

STOP_SECONDS = 20.0

PASSWORD = "canary-ledger-password"
TEMPLATE = "nel_mesh_template"


def programs() -> Path:
    """The folder of initdb and postgres."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    if found is None:
        raise MissingServer("`make services` brings postgresql")
    return Path(found).resolve().parent


class PostgreSQL:
    """A server, whose superuser is `mesh`.

    Args:
        folder: its folder, which is removed by its owner.
        is_durable: whether it survives being killed; it syncs then.
        address: where it listens.
        library: a library of its own that it loads, such as the one that counts statements.
    """

    def __init__(
        self, folder: Path, *, is_durable: bool = False, address: str = "127.0.0.1", library: str = ""
    ) -> None:
        self._programs = programs()
        self._folder = folder
        self._data = folder / "data"
        self._address = address
        (self.port,) = free_ports(1)
        self._user = "nobody" if os.name == "posix" and os.getuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)
        password = folder / "password"
        password.write_text(PASSWORD)
        if self._user is not None:
            shutil.chown(password, self._user)
        command: list[str | Path] = [
            self._programs / "initdb",
            "--pgdata",
            self._data,
            "--username",
            "mesh",
            "--auth",
            "scram-sha-256",
        ]
        command += ["--pwfile", password, "--encoding", "UTF8", "--no-locale", "--no-sync"]
        subprocess.run(command, user=self._user, check=True, capture_output=True, cwd=folder)
        settings = {"listen_addresses": address, "unix_socket_directories": "", "max_connections": 300}
        settings |= {"log_min_messages": "warning", "deadlock_timeout": "1s", "shared_preload_libraries": library}
        if not is_durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.write(lines)
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self._folder / "log.txt"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-p", str(self.port)],
                user=self._user,
                stdout=output,
                stderr=output,
                cwd=self._folder,
            )
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it: SIGINT breaks its connections, SIGQUIT stops it as a crash does."""
        if self.process is not None:
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                # Before version 16 it forks and ends in signal handlers, and can lock itself out.
                self._kill(self.process)
            self.process = None

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        """Kill it, and wait for its children, which end when they notice: a new one refuses to start beside them."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        process.wait()
        end = time.monotonic() + STOP_SECONDS
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < end, "children of PostgreSQL do not end"
            time.sleep(0.05)

    def url(self, database: str, *, port: int | None = None) -> str:
        """The URL of a database."""
        return f"postgresql://mesh:{PASSWORD}@{self._address}:{port or self.port}/{database}"

    def execute(self, statement: str, *names: str, database: str = "postgres") -> None:
        """Run a statement; `{}` in it stands for names."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    @contextlib.contextmanager
    def database(self, name: str, template: str = "template0") -> Iterator[str]:
        """A database while the block runs; gives its URL."""
        self.execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        try:
            yield self.url(name)
        finally:
            if self.process is not None:
                self.execute("DROP DATABASE {} WITH (FORCE)", name)


@contextlib.contextmanager
def temporary_postgresql(
    *, is_durable: bool = False, address: str = "127.0.0.1", library: str = ""
) -> Iterator[PostgreSQL]:
    """A server in a folder of its own, which ends with the block."""
    programs()
    with tempfile.TemporaryDirectory(prefix="nel-mesh-postgresql-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = PostgreSQL(folder, is_durable=is_durable, address=address, library=library)
        server.start()
        try:
            yield server
        finally:
            server.stop()
