"""`make day`: a scripted day of an agent with 20 mailboxes, real processes, and every trouble that operators know.

    make day DAY='--messages 2000 --seconds 100 --seed 1'

The agent is killed every few seconds. Meanwhile, one after another: a destination is down, a disk is full, MESH is
down, a mailbox is flooded, a message is poison, a certificate has expired, a reload has a mistake, a file is written
slowly, and, with the clock of all processes moved on by five days, nobody collects a message. Each must show in `agent
status` while it lasts, and be gone afterwards. At the end the ledger, the folders and the server must agree exactly.

The clock is the one that the agent takes as an argument (`moved_agent.py`), and that of the sandbox. `official_day.py`
is a smaller day against the official sandbox.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from agents import Site
from moved_agent import MovedClock

import certificates
from nel_mesh.ledger.attention import look
from nel_mesh.ledger.chain import check_chain
from nel_mesh.ledger.search import Filter
from nel_mesh.ledger.states import Direction, State
from nel_mesh.sandbox import Sandbox, SandboxConfiguration, SandboxMailbox

MAILBOXES = [f"X26D{number:02}" for number in range(1, 21)]
DOWN, FULL, FLOODED, POISONED, EXPIRED, FORGOTTEN = MAILBOXES[:6]
NOBODY = "X26D99"
"""A mailbox that nobody empties."""
FULL_DISK_BYTES = 600_000
PATIENCE_SECONDS = 240


@dataclasses.dataclass
class Day:
    """The day: the site, the server, and what must have arrived where."""

    site: Site
    server: Sandbox
    chance: random.Random
    expected: dict[str, collections.Counter[str]]
    """Digests of what is to arrive, by mailbox."""
    clock: MovedClock
    forgotten: int = 0
    """Messages that nobody collected."""
    kills: int = 0
    shown: dict[str, float] = dataclasses.field(default_factory=dict)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - START:6.1f} s  {text}", flush=True)

    def put(self, sender: str, content: bytes, name: str) -> None:
        """Put a file into an outgoing folder, as careful programs do."""
        recipient = recipient_of(sender)
        self.expected[recipient][digest(content)] += 1
        out = self.site.folder / "out" / sender
        (out / f".{name}").write_bytes(content)
        (out / f".{name}").rename(out / name)

    def deliver(self, recipient: str, content: bytes, **headers: str) -> str:
        self.expected[recipient][digest(content)] += 1
        return self.server.deliver_message(recipient, content, file_name=f"{self.chance.random()}.csv", **headers)

    def status(self) -> list[dict[str, Any]]:
        """What `agent status` says needs a person, or is retried."""
        if self.clock.moved:
            # The command knows the real time only.
            with self.site.ledger() as ledger:
                return [dataclasses.asdict(one) for one in look(ledger.database, self.clock.now())]
        _, records, _ = self.site.run("status")
        return [record["attention"] for record in records if "attention" in record]

    def see(self, what: str, is_it: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the status shows a trouble."""
        start = time.monotonic()
        wait(lambda: any(is_it(one) for one in self.status()), f"{what}: the status does not show it")
        self.shown[what] = time.monotonic() - start
        self.say(f"{what}: shown after {self.shown[what]:.1f} s")

    def see_gone(self, what: str, is_it: Callable[[dict[str, Any]], bool]) -> None:
        wait(lambda: not any(is_it(one) for one in self.status()), f"{what}: the status still shows it")
        self.say(f"{what}: gone")


START = time.monotonic()


def recipient_of(sender: str) -> str:
    return MAILBOXES[(MAILBOXES.index(sender) + 1) % len(MAILBOXES)]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wait(is_so: Callable[[], object], failure: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit(f"FAILED: {failure}")
        time.sleep(0.2)


def sizes(count: int, chance: random.Random) -> Iterator[int]:
    """Sizes of messages: most of them small, some large, one of 200 MB."""
    yield 200_000_000
    for _ in range(10):
        yield chance.randint(5_000_000, 30_000_000)
    for _ in range(count - 11):
        yield int(1000 * 1000 ** (chance.random() ** 3))


def main() -> int:
    """Run the day."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    boxes = tuple(SandboxMailbox(mailbox_id=mailbox_id) for mailbox_id in (*MAILBOXES, NOBODY))
    with tempfile.TemporaryDirectory(prefix="nel-mesh-day-") as folder, contextlib.ExitStack() as stack:
        server = stack.enter_context(Sandbox(SandboxConfiguration(mailboxes=boxes)))
        site = Site(Path(folder), server)
        clock = MovedClock(Path(folder) / "clock")
        day = Day(site, server, chance, {mailbox: collections.Counter() for mailbox in MAILBOXES}, clock)
        disk = full_disk(site.folder / "small")
        try:
            run(day, options.messages, options.seconds)
        finally:
            site.close()
            if disk:
                subprocess.run(["/bin/umount", str(site.folder / "small")], check=False)
    return 0


def full_disk(folder: Path) -> bool:
    """Make a small disk, which only root may; without it a file stands where a folder should be."""
    folder.mkdir()
    command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={FULL_DISK_BYTES}", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def configuration(site: Site) -> str:
    text = ""
    for mailbox in MAILBOXES:
        (site.folder / "out" / mailbox).mkdir(parents=True, exist_ok=True)
        into = "small/in" if mailbox == FULL else f"in/{mailbox}"
        text += f'[mailboxes.{mailbox}]\nsettings = "{site.settings[mailbox]}"\n'
        text += f'[[mailboxes.{mailbox}.receive]]\ninto = "{into}"\n'
        text += f'[[mailboxes.{mailbox}.send]]\nfrom = "out/{mailbox}"\nto = "{recipient_of(mailbox)}"\n'
        text += 'workflow_id = "DAY"\nsettle_in_seconds = 1\n'
        if mailbox == FORGOTTEN:
            (site.folder / "forgotten").mkdir(exist_ok=True)
            text += f'[[mailboxes.{mailbox}.send]]\nfrom = "forgotten"\nto = "{NOBODY}"\nworkflow_id = "DAY"\n'
    return text


def run(day: Day, count: int, seconds: float) -> None:
    """Put the messages, make the troubles, and compare at the end."""
    site = day.site
    defaults = "quarantine_after_attempts = 2\nretry_max_delay_in_seconds = 2\n"
    site.write(configuration(site), agent="disk_reserve_in_megabytes = 0\n", defaults=defaults)
    text = site.config.read_text().replace("poll_interval_in_minutes = 0.005", "poll_interval_in_minutes = 0.02")
    site.config.write_text(text)
    is_over = threading.Event()
    keeper = threading.Thread(target=keep_killing, args=(day, is_over))
    keeper.start()
    writer = threading.Thread(target=put_all, args=(day, count, seconds))
    writer.start()
    try:
        troubles(day)
        writer.join()
        day.say(f"all {count} messages were put")
    finally:
        is_over.set()
        keeper.join()
    finish(day)


def keep_killing(day: Day, is_over: threading.Event) -> None:
    """Start the agent, and kill it a few seconds later, again and again; the last one lives."""
    while not is_over.is_set():
        try:
            process = day.site.start()
        except AssertionError:
            # It met the configuration with the mistake.
            continue
        if is_over.wait(day.chance.uniform(2, 9)):
            return
        process.send_signal(signal.SIGKILL)
        process.wait()
        day.kills += 1


def put_all(day: Day, count: int, seconds: float) -> None:
    """Put messages into folders and inboxes, spread over the day."""
    pause = seconds / count
    # The one with the small disk gets small messages only, and few.
    others = [mailbox for mailbox in MAILBOXES if recipient_of(mailbox) != FULL]
    for number, size in enumerate(sizes(count, day.chance)):
        content = day.chance.randbytes(size)
        if number % 3 == 2 and size < 1_000_000:
            day.deliver(day.chance.choice([mailbox for mailbox in MAILBOXES if mailbox != FULL]), content)
        else:
            day.put(day.chance.choice(others), content, f"{number}.bin")
        time.sleep(pause)


def troubles(day: Day) -> None:
    """Make one trouble after another; each must be seen, and end."""
    site, server = day.site, day.server
    # Of `nobody_collects`, later.
    (site.folder / "forgotten" / "message.bin").write_bytes(b"nobody collects it")

    place = site.folder / "in" / DOWN
    wait(lambda: place.is_dir(), "the destination was never made")
    place.rename(place.with_name("away"))
    place.write_text("in its place")
    day.deliver(DOWN, b"for a destination that is down")
    is_down = lambda one: one["kind"] == "retrying" and one["mailbox_id"] == DOWN  # noqa: E731
    day.see("a destination is down", is_down)
    place.unlink()
    place.with_name("away").rename(place)
    day.see_gone("a destination is down", is_down)

    filler = site.folder / "small" / "filler"
    filler.write_bytes(b"x" * (FULL_DISK_BYTES - 100_000))
    for _ in range(3):
        day.deliver(FULL, day.chance.randbytes(50_000))
    is_full = lambda one: one["kind"] == "retrying" and one["mailbox_id"] == FULL  # noqa: E731
    day.see("a disk is full", is_full)
    filler.unlink()
    day.see_gone("a disk is full", is_full)

    faults = [server.add_fault(f"{operation}:*:respond=503") for operation in ("list_messages", "send_message")]
    is_failing = lambda one: one["kind"] == "mailbox fails"  # noqa: E731
    day.see("MESH is down", is_failing)
    assert faults
    server.clear_faults()
    day.see_gone("MESH is down", is_failing)

    for number in range(300):
        day.deliver(FLOODED, f"flood {number}".encode())
    day.say("a mailbox is flooded with 300 messages")

    poison = server.deliver_message(POISONED, b"poison", checksum=f"sha256:{digest(b'other')}")
    is_poison = lambda one: one["kind"] == "quarantined"  # noqa: E731
    day.see("a message is poison", is_poison)
    acknowledge(site, POISONED, poison)
    day.see_gone("a message is poison", is_poison)

    settings = site.settings[EXPIRED]
    good = settings.read_text()
    replace(settings, json.dumps(with_expired(json.loads(good), site.folder)))
    day.say("a certificate is replaced by an expired one")
    is_expired = lambda one: one["kind"] == "mailbox fails" and one["mailbox_id"] == EXPIRED  # noqa: E731
    reload(day)
    day.see("a certificate has expired", is_expired)
    replace(settings, good)
    reload(day)
    day.see_gone("a certificate has expired", is_expired)

    right = site.config.read_text()
    is_refused = lambda one: one["kind"] == "configuration"  # noqa: E731
    day.say("a reload has a mistake")
    refused(day, right)
    reload(day)
    day.see_gone("a reload had a mistake", is_refused)

    slow(day)
    nobody_collects(day)


def nobody_collects(day: Day) -> None:
    """Move the clock of the agent and of MESH: a message is not collected in four days, and given back after five."""
    site, server = day.site, day.server
    wait(lambda: server.messages(recipient=NOBODY), "the message to nobody was not sent")
    day.forgotten = 1
    move_clocks(day, timedelta(days=4.2))
    is_waiting = lambda one: (one["kind"], one["mailbox_id"], one["count"]) == ("not collected", FORGOTTEN, 1)  # noqa: E731
    day.see("nobody collects a message", is_waiting)
    moved = day.clock.now() - timedelta(days=4)

    def others_are_received() -> bool:
        old = [one for one in server.messages(status="accepted") if one.changed < moved]
        return {one.recipient for one in old} == {NOBODY}

    wait(others_are_received, "other messages waited for days")
    move_clocks(day, timedelta(days=1))
    is_back = lambda one: one["kind"] == "undelivered" and one["mailbox_id"] == FORGOTTEN  # noqa: E731
    day.see("a message was given back", is_back)
    day.see_gone("nobody collects a message", is_waiting)
    with site.ledger() as ledger:
        [message] = ledger.search.messages(Filter(states=(State.UNDELIVERED,)))
    code, _, said = site.run("seen", str(message.id))
    assert code == 0, said
    day.see_gone("a message was given back", is_back)


def move_clocks(day: Day, by: timedelta) -> None:
    """Move the clock of MESH and of the agents; the one that runs is killed soon."""
    moved_agent = Path(__file__).with_name("moved_agent.py")
    day.site.program = [sys.executable, str(moved_agent), str(day.site.folder / "clock"), str(day.site.config)]
    count = len(day.site.processes)
    wait(lambda: len(day.site.processes) > count + 1, "the agent was not started again")
    day.clock.move(by)
    day.server.advance(by)


def refused(day: Day, right: str) -> None:
    """Make a mistake in the configuration, until the running agent has said so; put it right for the next one."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        replace(day.site.config, right.replace("workflow_id", "workflow", 1))
        reload(day)
        time.sleep(1.5)
        replace(day.site.config, right)
        with day.site.ledger() as ledger:
            is_noted = bool(ledger.search.events(kind="configuration refused"))
        if is_noted:
            day.say("a reload had a mistake: the ledger says so, and the agent works on")
            return
    raise SystemExit("FAILED: the faulty configuration was not noticed")


def replace(path: Path, text: str) -> None:
    """Replace a file at once, as an agent may be starting."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def reload(day: Day) -> None:
    for process in day.site.processes:
        if process.poll() is None:
            process.send_signal(signal.SIGHUP)


def with_expired(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings with a client certificate that has expired."""
    pair = certificates.root("Expired authority").issue("expired", end=certificates.NOW - certificates.DAY / 2)
    path = folder / "expired.pem"
    path.write_text(pair.pem + pair.key_pem)
    settings["MeshConfiguration"]["ClientSigningCertificate"] = str(path)
    return settings


def acknowledge(site: Site, mailbox: str, message_id: str) -> None:
    """Take a message out of the inbox, as a person would who has dealt with it."""
    command = [sys.executable, "-m", "nel_mesh.cli", "ack", message_id, "--settings", str(site.settings[mailbox])]
    subprocess.run(command, check=True, capture_output=True)


def slow(day: Day) -> None:
    """Write a file slowly under its final name, as careless programs do."""
    sender = MAILBOXES[10]
    content = day.chance.randbytes(2_000_000)
    day.expected[recipient_of(sender)][digest(content)] += 1
    with (day.site.folder / "out" / sender / "slow.bin").open("wb") as file:
        for start in range(0, len(content), 200_000):
            file.write(content[start : start + 200_000])
            file.flush()
            time.sleep(0.4)
    day.say("a file was written slowly")


def finish(day: Day) -> None:
    """Wait until all is done, and compare."""
    site, server = day.site, day.server
    total = sum(sum(counter.values()) for counter in day.expected.values())

    def is_done() -> bool:
        waiting = sum(1 for _ in (site.folder / "out").glob("*/*.bin"))
        return not waiting and not server.messages(status="accepted")

    wait(is_done, "not everything was received")
    time.sleep(2)
    last = next(process for process in site.processes if process.poll() is None)
    last.terminate()
    last.wait(60)
    found = {mailbox: collections.Counter[str]() for mailbox in MAILBOXES}
    for mailbox in MAILBOXES:
        folder = site.folder / ("small/in" if mailbox == FULL else f"in/{mailbox}")
        for path in folder.iterdir():
            if not path.name.startswith((".", "report-")):
                found[mailbox][digest(path.read_bytes())] += 1
    lost = sum(sum((day.expected[mailbox] - found[mailbox]).values()) for mailbox in MAILBOXES)
    more = sum(sum((found[mailbox] - day.expected[mailbox]).values()) for mailbox in MAILBOXES)
    with site.ledger() as ledger:
        rows = ledger.search.messages(Filter(), limit=100_000)
        checked = check_chain(ledger.database)
    broken = checked.broken if checked is not None else None
    states = collections.Counter((row.direction, row.state) for row in rows)
    sent = sum(1 for _ in (site.folder / "out").glob("*/sent/*.bin"))
    day.say(f"{total} messages, {day.kills} kills: lost {lost}, doubled or damaged {more}")
    day.say(f"ledger: {', '.join(f'{way} {state} {count}' for (way, state), count in sorted(states.items()))}")
    checks = {
        "nothing lost": lost == 0,
        "nothing doubled or damaged": more == 0,
        "the ledger has every received message": states[Direction.IN, State.ACKNOWLEDGED] == total + day.forgotten,
        "a message that nobody collected was given back": states[Direction.OUT, State.UNDELIVERED] == day.forgotten
        and len(list((site.folder / "in" / FORGOTTEN).glob("report-*.json"))) == day.forgotten,
        "every sent file is in the archive": sent
        == states[Direction.OUT, State.ACCEPTED] + states[Direction.OUT, State.COLLECTED],
        "nothing else is in the ledger": set(states)
        <= {
            (Direction.IN, State.ACKNOWLEDGED),
            (Direction.IN, State.GONE),
            (Direction.OUT, State.ACCEPTED),
            (Direction.OUT, State.COLLECTED),
            (Direction.OUT, State.UNDELIVERED),
        },
        "only the poison is gone": states[Direction.IN, State.GONE] == 1,
        "the chain of events is whole": broken is None,
        "the status is clean": day.status() == [],
    }
    for name, is_good in checks.items():
        print(f"{'ok' if is_good else 'FAILED':7} {name}")
    if not all(checks.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ.pop("MESH_SETTINGS", None)
    sys.exit(main())
