"""`make fleet-load`: what many mailboxes cost two agents of a fleet, and what a flood in one does to the others.

    make fleet-load LOAD="--mailboxes 5000 --interval 5 --minutes 15 --flood 20000"
    make fleet-load LOAD="--mailboxes 100 1000 10000 --minutes 1"

The sandbox runs in this process, and PostgreSQL beside it: both take their share of the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
from agents import Site
from scale import cpu_seconds, memory_mebibytes
from visits import watch_visits

from nel_mesh.ledger.ledger import Ledger
from nel_mesh.sandbox import Sandbox, SandboxConfiguration, SandboxMailbox
from postgresql_server import PostgreSQL, temporary_postgresql

FIRST_ROUND_SECONDS = 1800.0
FLOOD_SECONDS = 120.0
NODES = ("one", "two")
LAST_LINES = 10

LATENESS = """
SELECT count(*), coalesce(sum((late_seconds > %s)::int), 0), coalesce(max(late_seconds), 0),
       coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY late_seconds), 0)
FROM visit_log WHERE what = 'begin' AND number > %s AND subject <> %s
"""
OVERDUE = "SELECT coalesce(max(extract(epoch FROM now() - next_visit_at)), 0) FROM mailbox WHERE owner IS NULL"
STATEMENTS = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements"


def row(url: str, statement: str, *arguments: object) -> Any:
    """The first row of a query."""
    with psycopg.connect(url) as connection:
        return connection.execute(statement, arguments).fetchone()


def database_seconds(database: PostgreSQL) -> float:
    """The CPU time of PostgreSQL: of those of its processes that have ended, and of those that are there."""
    assert database.process is not None
    parent = database.process.pid
    fields = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / 100
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for pid in [str(parent), *children]:
        # One that has ended meanwhile counts with the next look, in its parent's time.
        with contextlib.suppress(OSError):
            ended += cpu_seconds(int(pid))
    return ended


class AgentEnded(Exception):
    """An agent has ended, which none was to do; the text says which, how, and what it said last."""


def wait(site: Site, seconds: float) -> None:
    """Let time pass. Raises AgentEnded."""
    end = time.monotonic() + seconds
    while True:
        for name, process in zip(NODES, site.processes, strict=True):
            code = process.poll()
            if code is not None:
                last = "\n  ".join(site.said(process).splitlines()[-LAST_LINES:])
                raise AgentEnded(f"agent {name} has ended with exit code {code}; it said last:\n  {last}")
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 1.0))


class Load:
    """A fleet with many mailboxes, and what is measured of it."""

    def __init__(self, folder: Path, server: Sandbox, database: PostgreSQL, url: str, names: list[str]) -> None:
        self.server, self.database, self.url, self.names = server, database, url, names
        self.site = Site(folder, server, url)

    def start(self, interval: float) -> None:
        """Start two agents, and wait until each mailbox was visited once."""
        text = f"[agent]\ndisk_reserve_in_megabytes = 0\n[defaults]\npoll_interval_in_minutes = {interval / 60}\n"
        for name in self.names:
            text += f'[mailboxes.{name}]\nsettings = "{self.site.settings[name]}"\n'
            text += f'[[mailboxes.{name}.receive]]\ninto = "in/{name}"\n'
        self.site.config.write_text(text)
        with Ledger(self.url):
            pass
        watch_visits(self.url)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        began = time.monotonic()
        for name in NODES:
            self.site.launch(name)
        while row(self.url, "SELECT count(*) FROM mailbox WHERE last_success_at IS NOT NULL")[0] < len(self.names):
            said = [self.site.said(one)[-500:] for one in self.site.processes]
            assert time.monotonic() - began < FIRST_ROUND_SECONDS, said
            wait(self.site, 1)
        seconds = time.monotonic() - began
        print(f"{len(self.names)} mailboxes, 2 processes: started, and all visited once, after {seconds:.0f} s")

    def measure(self, seconds: float, interval: float, *, without: str = "") -> None:
        """Let them work, and print what that takes, and how late visits began."""
        number = row(self.url, "SELECT coalesce(max(number), 0) FROM visit_log")[0]
        statements = row(self.url, STATEMENTS)[0]
        processes = self.site.processes
        before = [cpu_seconds(one.pid) for one in processes], database_seconds(self.database), time.process_time()
        began = time.monotonic()
        wait(self.site, seconds)
        seconds = time.monotonic() - began
        used = [(cpu_seconds(one.pid) - cpu) / seconds for one, cpu in zip(processes, before[0], strict=True)]
        database = (database_seconds(self.database) - before[1]) / seconds
        sandbox = (time.process_time() - before[2]) / seconds
        statements = int(row(self.url, STATEMENTS)[0] - statements)
        count, late, longest, median = row(self.url, LATENESS, interval * 0.1, number, without)
        overdue = float(row(self.url, OVERDUE)[0])
        size = row(self.url, "SELECT pg_database_size('fleet') / 1000000")[0]
        print(f"{seconds:.0f} s: {count} visits, {count / seconds:.1f} a second, late by more than 10 %: {late};")
        print(f"  begun after being due: median {median:.1f} s, longest {longest:.1f} s; waiting now {overdue:.1f} s")
        print("  of a core: agents " + ", ".join(f"{one:.0%}" for one in used), end="")
        print(f", PostgreSQL {database:.0%}, sandbox {sandbox:.0%}; ", end="")
        print("MiB of memory: " + ", ".join(f"{memory_mebibytes(one.pid):.0f}" for one in processes))
        print(f"  database: {size} MB, {statements / seconds:.0f} statements a second", flush=True)

    def flood(self, count: int, interval: float) -> None:
        """Put many messages into one mailbox, and look how late the visits of the others are."""
        flooded = self.names[0]
        began = time.monotonic()
        for _ in range(count):
            self.server.deliver_message(flooded, b"x", file_name="a.csv")
        print(
            f"a flood of {count} messages into one mailbox, put there in {time.monotonic() - began:.0f} s; the others:"
        )
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("UPDATE mailbox SET next_visit_at = now() WHERE mailbox_id = %s", (flooded,))
        self.measure(FLOOD_SECONDS, interval, without=flooded)
        left = len(self.server.messages(recipient=flooded, status="accepted"))
        print(f"  {count - left} of the {count} were received by then", flush=True)


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mailboxes", type=int, nargs="+", default=[5000])
    parser.add_argument("--interval", type=float, default=5, help="minutes between visits")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--flood", type=int, default=0)
    options = parser.parse_args()
    # What it has started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    interval = 60 * options.interval
    for count in options.mailboxes:
        names = [f"X26F{number:05}" for number in range(count)]
        boxes = tuple(SandboxMailbox(mailbox_id=name) for name in names)
        with (
            tempfile.TemporaryDirectory(prefix="nel-mesh-load-") as folder,
            Sandbox(SandboxConfiguration(mailboxes=boxes)) as server,
            temporary_postgresql(is_durable=True, library="pg_stat_statements") as database,
            database.database("fleet", "template1") as url,
        ):
            load = Load(Path(folder), server, database, url, names)
            try:
                load.start(interval)
                load.measure(60 * options.minutes, interval)
                if options.flood:
                    load.flood(options.flood, interval)
            except AgentEnded as ended:
                print(ended, file=sys.stderr)
                return 1
            finally:
                load.site.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
