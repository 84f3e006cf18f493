"""`make fleet-load`: what many mailboxes cost two agents of a fleet, and what a flood in one does to the others.

    make fleet-load LOAD="--mailboxes 5000 --interval 5 --minutes 15 --flood 20000"

The sandbox runs in this process, and PostgreSQL beside it: both take their share of the machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
from agents import Site
from scale import cpu_seconds, memory_mebibytes

from nel_mesh.ledger.ledger import Ledger
from nel_mesh.sandbox import Sandbox, SandboxConfiguration, SandboxMailbox
from postgresql_server import temporary_postgresql

LATEST = """
SELECT count(*), coalesce(max(extract(epoch FROM now() - next_visit_at)), 0) FROM mailbox
WHERE owner IS NULL AND next_visit_at < now() - make_interval(secs => %s)
"""
FLOOD_SECONDS = 60.0


def value(url: str, statement: str, *arguments: object) -> Any:
    """The first row of a query."""
    with psycopg.connect(url) as connection:
        return connection.execute(statement, arguments).fetchone()


def lateness(url: str, seconds: float, interval: float) -> tuple[int, float]:
    """Look once a second; return how often a mailbox was late by more than 10 %, and the longest lateness."""
    late, longest = 0, 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        count, most = value(url, LATEST, interval * 0.1)
        late += count
        longest = max(longest, float(most))
        time.sleep(1)
    return late, longest


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mailboxes", type=int, default=5000)
    parser.add_argument("--interval", type=float, default=5, help="minutes between visits")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--flood", type=int, default=20000)
    options = parser.parse_args()
    names = [f"X26F{number:05}" for number in range(options.mailboxes)]
    boxes = tuple(SandboxMailbox(mailbox_id=name) for name in names)
    interval = 60 * options.interval
    with (
        tempfile.TemporaryDirectory(prefix="nel-mesh-load-") as folder,
        Sandbox(SandboxConfiguration(mailboxes=boxes)) as server,
        temporary_postgresql(is_durable=True) as database,
        database.database("fleet", "template1") as url,
    ):
        site = Site(Path(folder), server, url)
        text = f"[agent]\ndisk_reserve_in_megabytes = 0\n[defaults]\npoll_interval_in_minutes = {options.interval}\n"
        for name in names:
            text += f'[mailboxes.{name}]\nsettings = "{site.settings[name]}"\n'
            text += f'[[mailboxes.{name}.receive]]\ninto = "in/{name}"\n'
        site.config.write_text(text)
        with Ledger(url):
            pass
        began = time.monotonic()
        processes = [site.launch(name) for name in ("one", "two")]
        while value(url, "SELECT count(*) FROM mailbox WHERE last_success_at IS NOT NULL")[0] < len(names):
            assert time.monotonic() - began < 900, [site.said(process)[-500:] for process in processes]
            time.sleep(0.5)
        print(f"{len(names)} mailboxes, 2 processes: the first round was done after {time.monotonic() - began:.0f} s")
        cpu = [cpu_seconds(process.pid) for process in processes]
        commits = value(url, "SELECT xact_commit FROM pg_stat_database WHERE datname = 'fleet'")[0]
        began = time.monotonic()
        late, longest = lateness(url, 60 * options.minutes, interval)
        seconds = time.monotonic() - began
        used = [(cpu_seconds(one.pid) - before) / seconds for one, before in zip(processes, cpu, strict=True)]
        commits = value(url, "SELECT xact_commit FROM pg_stat_database WHERE datname = 'fleet'")[0] - commits
        size = value(url, "SELECT pg_database_size('fleet') / 1000000")[0]
        print(f"{seconds:.0f} s: {late} looks at a mailbox late by more than 10 %, the longest by {longest:.1f} s")
        print("of a core, each process: " + ", ".join(f"{one:.0%}" for one in used))
        print("MiB of memory: " + ", ".join(f"{memory_mebibytes(one.pid):.0f}" for one in processes))
        print(f"database: {size} MB, {commits / seconds:.0f} transactions a second", flush=True)
        flooded = names[0]
        for _ in range(options.flood):
            server.deliver_message(flooded, b"x", file_name="a.csv")
        late, longest = lateness(url, FLOOD_SECONDS, interval)
        left = len(server.messages(recipient=flooded, status="accepted"))
        print(f"{options.flood} messages in one mailbox: {options.flood - left} received in {FLOOD_SECONDS:.0f} s;")
        print(
            f"  of the others, {late} looks at one late by more than 10 %, the longest by {longest:.1f} s", flush=True
        )
        site.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
