"""`make fleet`: three agents with one ledger on PostgreSQL, and one thing after another that goes wrong.

    make fleet FLEET="--trials 200 --seed 1"
    make fleet FLEET="--alone"    one agent with three workers, and its ledger in a file

In each trial messages of several sizes are received into a folder and into S3, and files are sent from a shared folder.
At a random moment, or in the middle of a message of eight chunks, a process is killed, or frozen and later thawed; or
PostgreSQL is stopped as a crash stops it and started again; or, as root, a machine is cut off from it without a word,
and the cut is healed. Then everything must be there, once, nothing may have been acknowledged before it was stored, and
no two visits of a mailbox may have overlapped (`visits.py`).

An agent that is alone is killed and started again, or frozen; while it is frozen, a second one on its folder must say
that it is there, and do nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import network
from agents import Site
from visits import Findings, Requests, judge, steps_of, watch_visits

from nel_mesh.agent.membership import ALONE_HEARTBEAT_SECONDS, HEARTBEAT_SECONDS
from nel_mesh.ledger.chain import check_chain
from nel_mesh.ledger.ledger import FILE_NAME
from nel_mesh.sandbox import Sandbox, SandboxConfiguration, SandboxMailbox
from postgresql_server import PostgreSQL, temporary_postgresql
from stores import S3, s3_environment, temporary_seaweedfs

SENDER, INTO_FOLDER, INTO_S3 = "X26ABC1", "X26ABC2", "X26ABC3"
NODES = ("one", "two", "three")
POLL_SECONDS = 3.0
SIZES = (10, 3_000, 300_000, 4_000_000)
FREEZE_SECONDS = 14.0
DONE_WITHIN_SECONDS = 60.0
SECOND = "second"
"""What a second agent on the folder of a frozen one calls itself."""
STARTED_SECONDS = 5.0
ALONE_KINDS = ("kill", "freeze", "kill in a transfer", "freeze in a transfer")
KINDS = (*ALONE_KINDS[:2], "database", *ALONE_KINDS[2:])
CUT = "network"
CUT_OFF = "three"
"""The machine that has a network of its own, where that can be made."""

CHUNKS, CHUNK_BYTES = 8, 5_300_000
CHUNK_DELAY_SECONDS = 0.4

CONFIGURATION = """
[agent]
disk_reserve_in_megabytes = 0
{agent}
[defaults]
poll_interval_in_minutes = {poll}
retry_initial_delay_in_seconds = 0.2
retry_max_delay_in_seconds = 2
[mailboxes.X26ABC1]
settings = "{sender}"
[[mailboxes.X26ABC1.send]]
from = "out"
to = "X26ABC2"
workflow_id = "WF"
settle_in_seconds = 0
shared = {shared}
[mailboxes.X26ABC2]
settings = "{into_folder}"
[[mailboxes.X26ABC2.receive]]
into = "in"
"""
ALONE_CONFIGURATION = 'node = "one"\nworkers = 3\nstop_within_in_seconds = 1'
INTO_S3_CONFIGURATION = """
[mailboxes.X26ABC3]
settings = "{into_s3}"
[[mailboxes.X26ABC3.receive]]
into = "s3://test-results/fleet/{{message_id}}"
"""


class Trials:
    """The fleet, and what is found of it."""

    def __init__(
        self,
        site: Site,
        server: Sandbox,
        database: PostgreSQL | None,
        s3: S3 | None,
        chance: random.Random,
        cuttable: network.Network | None,
        kinds: Sequence[str] = (),
    ) -> None:
        self.site, self.server, self.database, self.s3, self.chance = site, server, database, s3, chance
        self.cuttable = cuttable
        self.inboxes = (INTO_FOLDER,) if s3 is None else (INTO_FOLDER, INTO_S3)
        self.nodes = NODES if database is not None else NODES[:1]
        every_kind = KINDS if database is not None else ALONE_KINDS
        self.kinds = kinds or ((*every_kind, CUT) if cuttable is not None else every_kind)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.files: dict[str, bytes] = {}
        self.delivered: dict[str, tuple[str, str]] = {}
        self.looked_at: set[str] = set()
        self.early = 0
        self.fenced = 0
        self.takeovers: dict[str, list[float]] = defaultdict(list)
        self.whole: dict[str, list[float]] = defaultdict(list)
        self.fetched: list[int] = []

    def configure(self) -> None:
        """Write the configuration, and make the folders and tables."""
        text = CONFIGURATION + (INTO_S3_CONFIGURATION if self.s3 is not None else "")
        names = {"sender": SENDER, "into_folder": INTO_FOLDER, "into_s3": INTO_S3}
        given: dict[str, object] = {name: self.site.settings.get(mailbox_id) for name, mailbox_id in names.items()}
        is_alone = self.database is None
        given |= {"agent": ALONE_CONFIGURATION if is_alone else "", "shared": "false" if is_alone else "true"}
        self.site.config.write_text(text.format(poll=POLL_SECONDS / 60, **given), encoding="utf-8")
        for name in ("in", "out"):
            (self.site.folder / name).mkdir()
        with self.site.ledger():
            pass

    @property
    def ledger(self) -> str | Path:
        """The ledger's URL, or its file."""
        return self.site.url or self.site.folder / "nel-mesh-agent" / FILE_NAME

    def launch(self, name: str) -> None:
        before: tuple[str, ...] = ("env", f"MESH_MEX_CLIENT_VERSION={name}")
        if self.cuttable is not None and name == CUT_OFF:
            before = (*self.cuttable.before, *before)
        self.processes[name] = self.site.launch(name, before=before)

    def put(self, trial: int) -> None:
        """Put files into the outgoing folder, and messages into both inboxes."""
        for number in range(6):
            name, content = f"{trial}-{number}.csv", self.chance.randbytes(self.chance.choice(SIZES))
            hidden = self.site.folder / "out" / f".{name}"
            hidden.write_bytes(content)
            self.files[name] = content
            hidden.rename(self.site.folder / "out" / name)
        for mailbox in self.inboxes:
            for number in range(4):
                name, content = f"{trial}-{mailbox}-{number}.csv", self.chance.randbytes(self.chance.choice(SIZES))
                message_id = self.server.deliver_message(mailbox, content, file_name=name)
                self.delivered[message_id] = (mailbox, digest(content))

    def put_large(self, trial: int) -> tuple[str, str]:
        """Put a message of many chunks into an inbox, wait until it is being received; return its id and by whom."""
        mailbox = self.chance.choice(self.inboxes)
        chunks = [self.chance.randbytes(CHUNK_BYTES) for _ in range(CHUNKS)]
        self.server.add_fault(f"retrieve_chunk:*:delay={CHUNK_DELAY_SECONDS}")
        message_id = self.server.deliver_message(mailbox, chunks, file_name=f"{trial}-{mailbox}-large.csv")
        self.delivered[message_id] = (mailbox, digest(b"".join(chunks)))
        last = self.chance.randint(3, CHUNKS - 2)
        end = time.monotonic() + DONE_WITHIN_SECONDS
        while True:
            assert time.monotonic() < end, "the large message was not received"
            for number, node in self.chunks_of(message_id):
                if number >= last:
                    return message_id, node
            time.sleep(0.02)

    def chunks_of(self, message_id: str) -> list[tuple[int, str]]:
        """Return which chunks of a message were asked for, and by whom, as far as the sandbox remembers."""
        found = []
        for request in self.server.requests():
            _, is_there, rest = urlsplit(request.path).path.partition(f"/inbox/{message_id}")
            if is_there and request.operation in ("retrieve_message", "retrieve_chunk"):
                found.append((int(rest.strip("/") or 1), request.headers["mex-clientversion"]))
        return found

    def keys(self) -> list[str]:
        """Return the keys of the objects in S3 that are messages."""
        return self.s3.messages() if self.s3 is not None else []

    def look(self) -> bool:
        """Look whether what was acknowledged since the last look is stored; whether all is acknowledged."""
        done = [one for one in self.server.messages(status="acknowledged") if one.message_id not in self.looked_at]
        if done:
            folder = {path.name for path in (self.site.folder / "in").glob("*.csv")}
            keys = {key.rpartition("/")[2] for key in self.keys()}
            for one in done:
                name = one.description.file_name
                is_there = one.message_id in keys if one.recipient == INTO_S3 else name in folder
                self.early += not is_there
                self.looked_at.add(one.message_id)
        return len(self.looked_at) == len(self.files) + len(self.delivered)

    def disturb_alone(self, kind: str, name: str) -> None:
        """Kill the one agent, or freeze it until a second one has said that it is there."""
        process = self.processes[name]
        if kind.startswith("kill"):
            process.kill()
            process.wait()
            self.launch(name)
            return
        process.send_signal(signal.SIGSTOP)
        second = self.site.launch(before=("env", f"MESH_MEX_CLIENT_VERSION={SECOND}"))
        assert second.wait(DONE_WITHIN_SECONDS) != 0, "two agents work in one folder"
        assert "another agent is working here" in self.site.said(second)
        process.send_signal(signal.SIGCONT)

    def disturb(self, kind: str, name: str, database: PostgreSQL) -> None:
        """Do one thing that goes wrong, and undo it."""
        process = self.processes[name]
        began = time.monotonic()
        match kind:
            case "kill" | "kill in a transfer":
                process.kill()
                process.wait()
                self.takeovers[kind].append(self.lost(name, began))
            case "freeze" | "freeze in a transfer" | "network":
                if kind == CUT and self.cuttable is not None:
                    begin, end = self.cuttable.cut, self.cuttable.heal
                else:
                    begin = functools.partial(process.send_signal, signal.SIGSTOP)
                    end = functools.partial(process.send_signal, signal.SIGCONT)
                begin()
                self.takeovers[kind].append(self.lost(name, began))
                time.sleep(max(0.0, FREEZE_SECONDS - (time.monotonic() - began)))
                end()
                self.wait_until_fenced(name)
            case _:
                database.stop(signal.SIGQUIT)
                time.sleep(self.chance.uniform(0.5, 8))
                database.start()

    def wait_until_fenced(self, name: str) -> None:
        """Wait until a process that was frozen, or cut off, has ended for what the ledger told it."""
        process = self.processes[name]
        assert process.wait(20) != 0, "it was fenced and did not end"
        assert "its work was given to others" in self.site.said(process)
        self.fenced += 1

    def lost(self, name: str, began: float) -> float:
        """Wait until the work of a node was given to others; return how long after it stopped."""
        with self.site.ledger() as ledger:
            while not any(node.name == name and node.ended_at for node in ledger.nodes.all()):
                others = {node: process.poll() for node, process in self.processes.items() if node != name}
                assert time.monotonic() - began < 60, f"the work of {name} was not given to others; those: {others}"
                self.look()
                time.sleep(0.1)
        return time.monotonic() - began

    @property
    def heartbeat_seconds(self) -> float:
        return ALONE_HEARTBEAT_SECONDS if self.database is None else HEARTBEAT_SECONDS

    def until_all_work(self) -> None:
        """Wait until every process has joined the fleet, and is heard; start those that have ended, again."""
        end = time.monotonic() + DONE_WITHIN_SECONDS
        with self.site.ledger() as ledger:
            while True:
                self.start_again()
                # One that ended without its database has not said so.
                oldest = ledger.clock.now() - timedelta(seconds=2 * self.heartbeat_seconds)
                if [node.name for node in ledger.nodes.working() if node.heartbeat_at > oldest] == sorted(self.nodes):
                    return
                assert time.monotonic() < end, "not every process works"
                time.sleep(0.1)

    def start_again(self) -> None:
        """Start the processes that have ended, as their supervisor does."""
        for node, process in list(self.processes.items()):
            if process.poll() is not None:
                print(f"node {node} ended: {self.site.said(process).splitlines()[-1:]}", flush=True)
                self.launch(node)

    def run(self, trial: int) -> None:
        kind = self.kinds[trial % len(self.kinds)]
        name = CUT_OFF if kind == CUT else self.chance.choice(self.nodes)
        self.until_all_work()
        self.put(trial)
        large = None
        if kind.endswith("in a transfer"):
            large, name = self.put_large(trial)
        else:
            time.sleep(self.chance.uniform(0.0, POLL_SECONDS))
        began = time.monotonic()
        if self.database is None:
            self.disturb_alone(kind, name)
        else:
            self.disturb(kind, name, self.database)
            if large is None and kind != "database":
                self.launch(name)
        done, end = -1, 0.0
        while not self.look():
            if done != (done := len(self.looked_at)):
                end = time.monotonic() + DONE_WITHIN_SECONDS
            assert time.monotonic() < end, f"trial {trial}: {kind} of {name}: it stands still, and not all is done"
            time.sleep(0.2)
        self.whole[kind].append(time.monotonic() - began)
        if large is not None:
            self.server.clear_faults()
            asked = self.chunks_of(large)
            # On a busy machine it may have fetched everything before it was stopped.
            if self.database is None or {node for _, node in asked} != {name}:
                self.fetched.append(len(asked))
            if self.database is not None:
                self.launch(name)

    def tell(self) -> None:
        """Print what is not done, and who has it."""
        statements = [
            "SELECT name, epoch, heartbeat_at, ended_at, doing FROM node",
            "SELECT mailbox_id, owner, epoch, next_visit_at, last_visit_at, reason FROM mailbox",
            "SELECT id, direction, state, owner, attempts, reason, next_attempt_at FROM message"
            " WHERE state NOT IN ('acknowledged', 'accepted', 'collected')",
        ]
        if self.database is not None:
            statements += [
                "SELECT id, status, lock, worker_id FROM procrastinate_jobs",
                "SELECT id, last_heartbeat, now() FROM procrastinate_workers",
            ]
        with self.site.ledger() as ledger, ledger.database.read() as connection:
            for statement in statements:
                print(statement, *connection.exec_driver_sql(statement).all(), sep="\n  ", flush=True)

    def check(self) -> tuple[int, int]:
        """Compare all that was sent and received; return how much is lost, and doubled."""
        expected = {name: digest(content) for name, content in self.files.items()}
        for message_id, (mailbox, content) in self.delivered.items():
            if mailbox == INTO_FOLDER:
                description = self.server._message(message_id).description
                expected[description.file_name or ""] = content
        found = {path.name: digest(path.read_bytes()) for path in (self.site.folder / "in").glob("*.csv")}
        lost = sum(found.get(name) != content for name, content in expected.items())
        doubled = len(set(found) - set(expected))
        keys = self.keys()
        stored = {key.rpartition("/")[2]: digest(self.s3.content(key)) for key in keys} if self.s3 is not None else {}
        wanted = {key: content for key, (mailbox, content) in self.delivered.items() if mailbox == INTO_S3}
        lost += sum(stored.get(message_id) != content for message_id, content in wanted.items())
        doubled += len(keys) - len(stored) + len(set(stored) - set(wanted))
        sent = [one.description.file_name for one in self.server.delivered(INTO_FOLDER) if one.sender == SENDER]
        doubled += len(sent) - len(set(sent))
        lost += len(set(self.files) - set(sent))
        return lost, doubled


def digest(content: bytes) -> str:
    """Name a content, in place of keeping it."""
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    """Run the trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=1e9, help="end earlier, after so many minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=(*KINDS, CUT), default=(), help="in turn (all that can be done)")
    parser.add_argument("--alone", action="store_true", help="one agent, with its ledger in a file")
    options = parser.parse_args()
    if options.alone and set(options.kinds) - set(ALONE_KINDS):
        parser.error(f"--alone goes with {', '.join(ALONE_KINDS)}")
    # What it has started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    boxes = tuple(SandboxMailbox(mailbox_id=name) for name in (SENDER, INTO_FOLDER, INTO_S3))
    with (
        tempfile.TemporaryDirectory(prefix="nel-mesh-fleet-") as folder,
        Sandbox(SandboxConfiguration(mailboxes=boxes, requests_remembered=20_000)) as server,
        temporary_seaweedfs() as url,
        contextlib.ExitStack() as stack,
    ):
        cuttable = database = ledger_url = None
        if not options.alone:
            if network.can_be_cut():
                ports = (server.port, urlsplit(url).port or 0)
                cuttable = stack.enter_context(network.network(Path(folder), ports))
            address = cuttable.host if cuttable is not None else "127.0.0.1"
            database = stack.enter_context(temporary_postgresql(is_durable=True, address=address))
            ledger_url = stack.enter_context(database.database("fleet", "template1"))
        os.environ.update(s3_environment(url))
        s3 = S3(url)
        site = Site(Path(folder), server, ledger_url)
        trials = Trials(site, server, database, s3, random.Random(options.seed), cuttable, options.kinds)
        trials.configure()
        watch_visits(trials.ledger)
        requests = Requests(server)
        requests.start()
        count = 0
        try:
            for name in trials.nodes:
                trials.launch(name)
            trials.until_all_work()
            # One that loses its database before it has begun ends at once, and is not told that others do its work.
            time.sleep(STARTED_SECONDS)
            end = time.monotonic() + 60 * options.minutes
            while count < options.trials and time.monotonic() < end:
                trials.run(count)
                count += 1
                if count % 10 == 0:
                    print(f"{count} trials", flush=True)
        except BaseException as error:
            for process in site.processes[-6:]:
                print(f"--- {process.args!r}: {process.poll()}", site.said(process)[-2500:], sep="\n", file=sys.stderr)
            trials.tell()
            print(f"NOT COMPLETED: {error}; what was under way counts as lost", flush=True)
            raise
        finally:
            is_good = report(trials, count, judge(steps_of(trials.ledger), requests.close()))
            site.close()
    return 0 if is_good else 1


def report(trials: Trials, count: int, visits: Findings) -> bool:
    """Print what was found; return whether all was as it must be."""
    lost, doubled = trials.check()
    with trials.site.ledger() as ledger:
        checked = check_chain(ledger.database)
    is_whole = checked is not None and checked.broken is None
    outcome = (lost, doubled, trials.early, visits.overlapping, visits.early, visits.late_sends)
    print(f"{count} trials, {len(trials.files)} files sent, {len(trials.delivered)} messages received besides")
    print("lost {}, doubled {}, acknowledged early {}".format(*outcome))
    print(f"of {visits.visits} visits: overlapping {visits.overlapping}, before they were due {visits.early}")
    print(f"of processes whose work was given to others: {visits.late_reads} requests that only read, ", end="")
    print(f"{visits.late_acknowledgements} acknowledgements, {visits.late_sends} sends")
    print(f"of {CHUNKS} chunks of each large message that another process continued, asked for: {trials.fetched}")
    print(f"frozen and fenced: {trials.fenced}; the chain of events is {'whole' if is_whole else 'broken'}")
    for title, times in (("work given to others after", trials.takeovers), ("all done after", trials.whole)):
        for kind, seconds in times.items():
            values = " ".join(f"{one:.1f}" for one in seconds)
            print(f"{kind}: {title} {statistics.median(seconds):.1f} s, at worst {max(seconds):.1f} s: {values}")
    return not any(outcome) and is_whole


if __name__ == "__main__":
    sys.exit(main())
