"""`make demo`: a conversation between two mailboxes, on real files, through mutual TLS, with an embedded MESH server.

It leaves nothing behind, and ends with a status other than 0 if any step fails.
"""

from __future__ import annotations

import signal

# Until `main` is there to catch it, Ctrl-C just ends the program.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from nel_mesh import MeshClient, MeshError, NotAuthorised, SendProgress
from nel_mesh.agent.service import Agent
from nel_mesh.ledger.search import Filter
from nel_mesh.sandbox import Sandbox, sandbox

WORKFLOW = "PATH_RESULTS"
TESTS = ("Haemoglobin,g/L", "Sodium,mmol/L", "Potassium,mmol/L", "Creatinine,umol/L", "HbA1c,mmol/mol")

CODE = """\
    from nel_mesh import MeshClient, MeshSettings

    with MeshClient(MeshSettings.from_file("appsettings.Development.json")) as mesh:
        mesh.handshake()
        sent = mesh.send_file("results.csv", to="X26ABC2", workflow_id="PATH_RESULTS", compress=True)
        print(mesh.track_message(sent.message_id).status)
        mesh.receive_messages("inbox").raise_for_failed()
"""


class StepFailed(Exception):
    """A step did not do what it shows."""


def main() -> int:
    """Run the demonstration; return 0 if every step did what it shows."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Clean up on SIGTERM too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="nel-mesh-demo-") as folder:
            show(Path(folder))
    except BrokenPipeError:
        # The reader has gone.
        sys.stderr.close()
        return 1
    except (MeshError, StepFailed, OSError) as error:
        print(f"\n  FAILED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n  stopped", file=sys.stderr)
        return 130
    return 0


def show(folder: Path) -> None:
    """Show every step, in order."""
    started = time.monotonic()
    with sandbox() as server:
        heading(f"An embedded MESH server listens on {server.url}, with TLS and client certificates")
        with (
            MeshClient(server.settings("X26ABC1")) as alice,
            MeshClient(server.settings("X26ABC2")) as bob,
        ):
            heading("Handshake: both mailboxes check their access")
            alice.handshake()
            bob.handshake()
            done("X26ABC1 and X26ABC2 are accepted")

            heading("A small message")
            note = b"Dear Bob, the results are on their way. Alice\n"
            small = alice.send_message(note, to="X26ABC2", workflow_id=WORKFLOW, subject="Hello")
            done(f"message {small.message_id}")

            heading("A CSV of 60 MB, compressed, in chunks of 20 MB")
            csv = folder / "results.csv"
            write_csv(csv, 60_000_000)
            began = time.monotonic()
            large = alice.send_file(csv, to="X26ABC2", workflow_id=WORKFLOW, compress=True, progress=bar)
            seconds = time.monotonic() - began
            done(
                f"message {large.message_id}: {large.bytes:,} bytes in {large.chunks} chunks, "
                f"{large.bytes_on_wire:,} on the wire, {seconds:.1f} s"
            )
            check(large.chunks == 3, "the file went in 3 chunks")

            heading("Tracking")
            for sent in (small, large):
                status = alice.track_message(sent.message_id).status
                done(f"{sent.message_id} is {status}")
                check(status == "accepted", "the message was accepted")

            heading("Bob's inbox")
            inbox = list(bob.iter_message_ids())
            for message_id in inbox:
                metadata = bob.message_metadata(message_id)
                done(f"{message_id} from {metadata.sender}, {metadata.workflow_id}, chunks: {metadata.chunks}")
            check(inbox == [small.message_id, large.message_id], "both messages are in the inbox")

            heading("Retrieval: streamed to files, and compared")
            for sent, expected in ((small, hashlib.sha256(note).hexdigest()), (large, digest(csv))):
                path = folder / "inbox" / f"{sent.message_id}.dat"
                with bob.retrieve_message(sent.message_id) as message:
                    length = message.save(path)
                check(digest(path) == expected, "the content is the same")
                done(f"{length:,} bytes, SHA-256 {expected[:16]}... on both sides")

            heading("Acknowledgement: only after the content is stored")
            for message_id in inbox:
                bob.acknowledge_message(message_id)
                status = alice.track_message(message_id).status
                done(f"{message_id} is {status}")
                check(status == "acknowledged", "the message was acknowledged")
            check(list(bob.iter_message_ids()) == [], "the inbox is empty")

        heading("The agent: what is put into one folder arrives in another")
        run_agent(folder, server)

        heading("A wrong password")
        wrong = server.settings("X26ABC1", password="not-the-password")  # noqa: S106 - the point of it
        try:
            with MeshClient(wrong) as mallory:
                mallory.handshake()
        except NotAuthorised as error:
            done(f"{type(error).__name__}: {error}")
        else:
            raise StepFailed("a wrong password was not refused")

    print(f"\nDone in {time.monotonic() - started:.1f} s; no files are left. The code to do it yourself:\n")
    print(CODE)


AGENT = """\
[mailboxes.X26ABC1]
settings = "settings/appsettings.X26ABC1.json"

[[mailboxes.X26ABC1.send]]
from = "out"
to = "X26ABC2"
workflow_id = "PATH_RESULTS"
settle_in_seconds = 0

[mailboxes.X26ABC2]
settings = "settings/appsettings.X26ABC2.json"

[[mailboxes.X26ABC2.receive]]
into = "in"
"""


def run_agent(folder: Path, server: Sandbox) -> None:
    """Send and receive three files by an agent, and show what its ledger says."""
    server.write_settings(folder / "settings")
    (folder / "agent.toml").write_text(AGENT)
    (folder / "out").mkdir()
    contents = {f"clinic-{number}.csv": f"results of clinic {number}\n".encode() for number in range(1, 4)}
    for name, content in contents.items():
        (folder / "out" / name).write_bytes(content)
    agent = Agent(folder / "agent.toml")
    agent.run(once=True)
    received = {path.name: path.read_bytes() for path in (folder / "in").glob("*.csv")}
    check(received == contents, "every file arrived, whole")
    archived = {path.name for path in (folder / "out" / "sent").iterdir()}
    check(archived == set(contents), "every sent file is in the archive")
    with agent.ledger as ledger:
        for message in ledger.search.messages(Filter()):
            done(f"{message.direction:3} {message.mailbox_id}  {message.message_id}  {message.state}")


def write_csv(path: Path, length: int) -> None:
    """Write a file of invented results, of exactly this length in bytes."""
    chance = random.Random(2026)  # noqa: S311 - the same file each time

    def lines() -> Iterator[str]:
        yield "specimen,taken,test,unit,value\n"
        while True:
            test = chance.choice(TESTS)
            taken = f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
            yield f"{chance.randrange(10**9):09},{taken},{test},{chance.uniform(1, 180):.1f}\n"

    block = "".join(line for line, _ in zip(lines(), range(50_000), strict=False)).encode()
    with path.open("wb") as file:
        for start in range(0, length, len(block)):
            file.write(block[: length - start])


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def heading(text: str) -> None:
    """Print the title of a step."""
    print(f"\n{text}", flush=True)


def done(text: str) -> None:
    """Print the result of a step."""
    print(f"  + {text}", flush=True)


def check(holds: bool, what: str) -> None:
    """End the demonstration if a step did not do what it shows."""
    if not holds:
        raise StepFailed(f"this does not hold: {what}")


def bar(progress: SendProgress) -> None:
    """Draw the progress of a send: over itself in a terminal, once for each chunk elsewhere."""
    share = progress.bytes_done / progress.bytes_total
    text = f"  [{'#' * int(30 * share):30}] {share:4.0%}  chunk {progress.chunk} of {progress.chunks}"
    if sys.stdout.isatty():
        print(f"\r{text}", end="\n" if share == 1 else "", flush=True)
    elif progress.bytes_done == progress.bytes_total or progress.bytes_done % 20_000_000 == 0:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
