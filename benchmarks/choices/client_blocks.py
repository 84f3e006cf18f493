"""The client's three block sizes, tried in the client itself: what is read of a file, of the network, and made of gzip.

Decided: 112 KiB, seven TLS records, in the sync client. What is larger than 128 KiB, glibc takes from the kernel and
gives back each time: to send 1 GB took 1.5 s of processor time at 64 KiB, 1.1 at 112, 1.9 at 256. Sending, the async
client takes 1 MiB at a time, for it waits for a thread each time: 4.0 s at 128 KiB, 1.5 at 1 MiB.
"""

from __future__ import annotations

from benchmarks.choices.variants import compare

_TRIED = (
    ("", "Contents.SEND_BLOCK", ["send-plain", "send-csv"]),
    ("async", "AsyncContents.SEND_BLOCK", ["send-plain", "send-csv"]),
    ("", "NETWORK_BLOCK", ["receive-plain", "receive-csv"]),
    ("async", "NETWORK_BLOCK", ["receive-plain", "receive-csv"]),
    ("", "OUTPUT_BLOCK_BYTES", ["receive-csv", "receive-xml"]),
    ("async", "OUTPUT_BLOCK_BYTES", ["receive-csv", "receive-xml"]),
)

if __name__ == "__main__":
    for colour, name, rows in _TRIED:
        variants = {f"{kib} KiB": {"constants": {name: kib * 1024}} for kib in (32, 64, 128, 256, 512, 1024, 4096)}
        print(compare(rows, variants, head=f"{name}{', async' if colour else ''}", colour=colour))
