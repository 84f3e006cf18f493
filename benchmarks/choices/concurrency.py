"""How many small messages to have under way at once, where the server is 20 ms away.

Decided: nothing yet. The default of `receive_messages(concurrency=...)` is 1, as a handler may not be ready for more;
the rows of the table have 64 under way.
"""

from __future__ import annotations

from benchmarks.choices.variants import compare

if __name__ == "__main__":
    variants = {str(count): {"at_once": count} for count in (1, 4, 8, 16, 32, 64)}
    for colour in ("", "async"):
        print(compare(["send-far", "empty-inbox"], variants, head=f"at once {colour}".strip(), colour=colour))
