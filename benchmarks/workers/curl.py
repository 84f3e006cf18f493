"""curl, in one process and over one connection: what TLS and the disk allow."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measure import Measured, cpu_of_children, job, report


def main() -> None:
    """Does the job."""
    asked = job()
    lines = [line for number, part in enumerate(asked["parts"], 1) for line in _transfer(asked, part, number)]
    # `next` between transfers, none after the last.
    configuration = "\n".join(lines[:-1])
    began = time.perf_counter()
    with Path(asked.get("into", "/dev/null")).open("wb") as file:
        done = subprocess.run(
            ["curl", "--disable", "--config", "-"],
            input=configuration.encode(),
            stdout=file,
            stderr=subprocess.PIPE,
            check=False,
        )
    whole = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"curl failed: {done.stderr.decode()}")
    statuses, times = zip(*(line.split() for line in done.stderr.decode().splitlines()), strict=True)
    if not set(statuses) <= {"200", "202", "206"}:
        sys.exit(f"curl was refused: {set(statuses)}")
    result = Measured()
    # By its own clock, so that the start of its process, which the others do not pay for either, does not count.
    result.seconds = sum(float(one) for one in times)
    result.cpu_seconds = cpu_of_children()
    report(result, whole=whole)


def _transfer(asked: dict[str, Any], part: str, number: int) -> list[str]:
    """One transfer as curl's configuration has it: a chunk to send, or the address of one to receive."""
    lines = [
        "silent",
        "show-error",
        "http1.1",
        f'cacert = "{asked["authority"]}"',
        f'cert = "{asked["client"]}"',
        'noproxy = "*"',
        'write-out = "%{stderr}%{http_code} %{time_total}\\n"',
    ]
    url = f"{asked['url']}/messageexchange/{asked['mailbox']}"
    if asked["operation"] == "send":
        # Neither form encoding nor a wait for "100 Continue", which the other clients do not ask for.
        lines += [
            f'upload-file = "{part}"',
            'request = "POST"',
            'header = "Expect:"',
            f'url = "{url}/outbox{"" if number == 1 else f"/BENCH1/{number}"}"',
        ]
    else:
        # To its standard output, which is the file: so all chunks go into one, one after another.
        lines.append(f'url = "{url}/inbox/{part}"')
    return [*lines, "next"]


if __name__ == "__main__":
    main()
