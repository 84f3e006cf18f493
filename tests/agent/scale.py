"""`make scale`: what an agent costs with many idle mailboxes, and how fast it starts, and sends many small files.

    make scale SCALE="--mailboxes 500 --minutes 2 --files 1000 --starts 7"
    make scale SCALE="--only-starts"

The sandbox runs in this process, and takes its share of the machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agents import Site, until

from java_client import write_configuration
from nel_mesh import MeshClient, MeshSettings
from nel_mesh.ledger.search import Filter
from nel_mesh.ledger.states import State
from nel_mesh.sandbox import Sandbox, SandboxConfiguration, SandboxMailbox

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def memory_mebibytes(pid: int) -> float:
    """The resident memory of a process, now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def idle(site: Site, server: Sandbox, mailboxes: list[str], minutes: float) -> None:
    """Many mailboxes with nothing in them, each polled once a minute; then one message."""
    text = ""
    for mailbox in mailboxes:
        text += f'[mailboxes.{mailbox}]\nsettings = "{site.settings[mailbox]}"\npoll_interval_in_minutes = 1\n'
        text += f'[[mailboxes.{mailbox}.receive]]\ninto = "in/{mailbox}"\n'
    site.write(text)
    process = site.start()
    with site.ledger() as ledger:
        start = time.monotonic()
        until(lambda: all(mailbox.last_success_at for mailbox in ledger.mailboxes.all()))
        say(f"{len(mailboxes)} mailboxes: the first round took {time.monotonic() - start:.1f} s")
        time.sleep(5)
        before, began = cpu_seconds(process.pid), time.monotonic()
        time.sleep(60 * minutes)
        seconds = time.monotonic() - began
        cpu = cpu_seconds(process.pid) - before
        say(f"idle, polled once a minute: {cpu / seconds:.1%} of a core,")
        say(f"  {memory_mebibytes(process.pid):.0f} MiB of memory")
        late = [
            mailbox
            for mailbox in ledger.mailboxes.all()
            if mailbox.last_success_at is None or (ledger.clock.now() - mailbox.last_success_at).total_seconds() > 72
        ]
        say(f"  visits late by more than 10 %: {len(late)}")
        began = time.monotonic()
        server.deliver_message(mailboxes[len(mailboxes) // 2], b"x", file_name="a.csv")
        while not ledger.search.messages(Filter(states=(State.ACKNOWLEDGED,))):
            time.sleep(0.1)
        say(f"a message was stored {time.monotonic() - began:.0f} s after it arrived; the interval is 60 to 66 s")
    site.stop(process)


def small_files(site: Site, sender: str, recipient: str, count: int) -> None:
    """Many small files in an outgoing folder, beside a plain loop of `send_file`."""
    site.write(
        f'[mailboxes.{sender}]\nsettings = "{site.settings[sender]}"\n[[mailboxes.{sender}.send]]\nfrom = "out"\n'
        f'to = "{recipient}"\nworkflow_id = "WF"\nsettle_in_seconds = 0\n'
    )
    folders = [site.folder / "out", site.folder / "loop"]
    for folder in folders:
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.csv").write_bytes(os.urandom(2000))
    began = time.monotonic()
    with MeshClient(MeshSettings.from_file(site.settings[sender])) as mesh:
        for path in folders[1].iterdir():
            mesh.send_file(path, to=recipient, workflow_id="WF")
    loop = count / (time.monotonic() - began)
    process = site.start()
    began = time.monotonic()
    while len(os.listdir(folders[0])) > 1:  # noqa: PTH208  all but the archive
        time.sleep(0.05)
    agent = count / (time.monotonic() - began)
    site.stop(process)
    say(f"{count} files of 2 kB: the agent sends {agent:.0f} a second, exactly once; a plain loop {loop:.0f}")


def starts(folder: Path, server: Sandbox, mailbox: str, count: int) -> None:
    """The time from the start of a process, in place of the Java client, to its first look into the inbox."""
    site = Site(folder, server)
    write_configuration(folder, server, folder / "settings", [mailbox])
    command = site.command("run", "--java-config", str(folder / "meshclient.cfg"))
    found: dict[str, list[float]] = {"without a ledger": [], "with one": []}
    for name in [name for _ in range(count) for name in found]:
        if name == "without a ledger":
            shutil.rmtree(folder / "nel-mesh-agent", ignore_errors=True)
        else:
            # The inbox is due again only after its interval.
            with site.ledger() as ledger:
                ledger.mailboxes.visit_now(mailbox, actor="scale")
        server.reset()
        began = time.monotonic()
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while not server.requests("list_messages"):
                time.sleep(0.002)
            found[name].append(time.monotonic() - began)
            process.terminate()
    for name, seconds in found.items():
        say(f"{name}, an agent looks into its first inbox {statistics.median(seconds):.2f} s after its start (median)")


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mailboxes", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--only-starts", action="store_true")
    options = parser.parse_args()
    mailboxes = [f"X26S{number:04}" for number in range(options.mailboxes)]
    boxes = tuple(SandboxMailbox(mailbox_id=mailbox) for mailbox in mailboxes)
    with (
        tempfile.TemporaryDirectory(prefix="nel-mesh-scale-") as folder,
        Sandbox(SandboxConfiguration(mailboxes=boxes)) as server,
    ):
        for name in ("files", "idle", "starts"):
            (Path(folder) / name).mkdir()
        starts(Path(folder) / "starts", server, mailboxes[0], options.starts)
        if options.only_starts:
            return 0
        server.reset()
        files, many = Site(Path(folder) / "files", server), Site(Path(folder) / "idle", server)
        try:
            small_files(files, mailboxes[0], mailboxes[1], options.files)
            server.reset()
            idle(many, server, mailboxes, options.minutes)
        finally:
            files.close()
            many.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
