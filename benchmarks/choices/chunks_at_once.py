"""How many chunks of a message to fetch at once.

Decided: two, and four once a chunk comes at less than 100 MB/s. Where the processor is the limit, each more costs: to
receive 256 MB of gzipped CSV took 0.51 s of processor time one by one, 0.60 with two, 0.75 with four, 0.90 with eight.
Where each connection is held to 20 MB/s, four take a third of the time of one.
"""

from __future__ import annotations

from benchmarks.choices.variants import compare

if __name__ == "__main__":
    variants = {str(count): {"settings": {"chunks_at_once": count}} for count in (1, 2, 3, 4, 6, 8)}
    print(compare(["receive-held", "receive-csv", "receive-plain", "receive-plain-disk"], variants, head="at once"))
