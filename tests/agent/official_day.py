"""A small day against NHS England's own sandbox: what an agent promises must not rest on a server of ours.

    make day runs it after the large one; by itself: python tests/agent/official_day.py --messages 200 --kills 8

Two mailboxes send to each other through one agent, which is killed again and again. At the end both folders and both
archives hold each file once, and the inboxes are empty. `test_official_day.py` runs a small part of it in `make test`.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from agents import ALICE, BOB, Site, until

from nel_mesh import MeshClient
from nel_mesh.ledger.chain import check_chain
from nel_mesh.ledger.search import Filter
from nel_mesh.ledger.states import Direction, State
from variants import settings_for

_PATIENCE_SECONDS = 240
OTHER = {ALICE: BOB, BOB: ALICE}


def configure(folder: Path, url: str) -> Site:
    """Write the configuration for two mailboxes of the official sandbox, which has no TLS."""
    site = Site(folder, None)
    text = ""
    for mailbox, other in OTHER.items():
        (folder / "out" / mailbox).mkdir(parents=True)
        text += (
            f'[mailboxes.{mailbox}]\nsettings = {{ url = "{url}", password = "password", shared_key = "TestKey" }}\n'
        )
        text += f'[[mailboxes.{mailbox}.receive]]\ninto = "in/{mailbox}"\nsidecar = true\n'
        text += f'[[mailboxes.{mailbox}.send]]\nfrom = "out/{mailbox}"\nto = "{other}"\nworkflow_id = "DAY"\n'
        text += "settle_in_seconds = 0\n"
    site.write(text)
    return site


def digests(folder: Path, *, with_sidecars: bool = False) -> collections.Counter[str]:
    """Count the files of a folder by their content; each must have its sidecar."""
    found: collections.Counter[str] = collections.Counter()
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(".") or path.name.endswith(".json"):
            continue
        assert not with_sidecars or path.with_name(f"{path.name}.json").is_file(), "a file without its sidecar"
        found[hashlib.sha256(path.read_bytes()).hexdigest()] += 1
    return found


def run(folder: Path, url: str, *, messages: int, kills: int, say: Callable[[str], object] = print) -> None:
    """Run the day. Raises AssertionError if anything is lost, doubled or damaged."""
    chance = random.Random(3)
    site = configure(folder, url)
    expected = {mailbox: collections.Counter[str]() for mailbox in OTHER}
    began = time.monotonic()
    try:
        for kill in range(kills + 1):
            for number in range(messages // (kills + 1)):
                sender = chance.choice(list(OTHER))
                content = chance.randbytes(int(1000 * 2000 ** (chance.random() ** 4)))
                expected[sender][hashlib.sha256(content).hexdigest()] += 1
                place = folder / "out" / sender / f".{kill}-{number}.bin"
                place.write_bytes(content)
                place.rename(place.with_name(f"{kill}-{number}.bin"))
            process = site.start()
            if kill < kills:
                time.sleep(chance.uniform(0.0, 0.8))
                process.send_signal(signal.SIGKILL)
                process.wait()
        total = sum(sum(counter.values()) for counter in expected.values())
        with site.ledger() as ledger:
            acknowledged = Filter(states=(State.ACKNOWLEDGED,))
            until(lambda: len(ledger.search.messages(acknowledged, limit=10_000)) >= total, _PATIENCE_SECONDS)
            until(lambda: not any((folder / "out").glob("*/*.bin")), _PATIENCE_SECONDS)
            code, said = site.stop(process)
            assert (code, "Traceback" in said) == (0, False), said
            rows = ledger.search.messages(Filter(), limit=10_000)
            states = collections.Counter((row.direction, row.state) for row in rows)
            checked = check_chain(ledger.database)
            assert checked is not None
            assert checked.broken is None
        assert states[Direction.IN, State.ACKNOWLEDGED] == total == sum(states.values()) / 2, states
        for sender, recipient in OTHER.items():
            assert digests(folder / "in" / recipient, with_sidecars=True) == expected[sender]
            assert digests(folder / "out" / sender / "sent") == expected[sender]
            with MeshClient(settings_for(url, mailbox_id=recipient, password="password")) as mesh:
                assert list(mesh.iter_message_ids()) == []
        say(
            f"official sandbox: {total} messages, {kills} kills, {time.monotonic() - began:.0f} s: "
            "lost 0, doubled 0, damaged 0; ledger, folders and server agree"
        )
    finally:
        site.close()


def main() -> int:
    """Start the official sandbox, and run the day against it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--port", type=int, default=8702)
    options = parser.parse_args()
    url = f"http://127.0.0.1:{options.port}"
    command = [sys.executable, "-W", "ignore", "-m", "uvicorn", "mesh_sandbox.api:app", "--port", str(options.port)]
    environment = {**os.environ, "AUTH_MODE": "full", "SHARED_KEY": "TestKey", "STORE_MODE": "memory"}
    with (
        tempfile.TemporaryDirectory(prefix="nel-mesh-day-") as folder,
        subprocess.Popen([*command, "--log-level", "warning"], env=environment) as server,
    ):
        try:
            until(lambda: _answers(url))
            run(Path(folder), url, messages=options.messages, kills=options.kills)
        finally:
            server.terminate()
    return 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    os.environ.pop("MESH_SETTINGS", None)
    sys.exit(main())
