"""Draw the state table of a send, `TRANSITIONS` in nel_mesh/protocol/upload.py, between the marks in docs/sending.md.

tools/state_tables.py           write it
tools/state_tables.py --check   fail if it is not current
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from nel_mesh.protocol.upload import EVENTS, TRANSITIONS, Event, State, Step

PAGE = Path(__file__).resolve().parent.parent / "docs" / "sending.md"
BEGIN, END = "<!-- tools/state_tables.py: begin -->", "<!-- tools/state_tables.py: end -->"

NEXT = {
    State.BEGINNING: "send",
    State.ONLY: "send the message",
    State.FIRST: "send chunk 1",
    State.MIDDLE: "next chunk",
    State.RESUMED_MIDDLE: "next chunk",
    State.LAST: "next chunk",
    State.RESUMED_LAST: "last chunk",
    State.LOOKING_UP: "look up by local id",
    State.LOOKING_UP_EARLIER: "look up by local id",
    State.TRACKING: "track by message id",
    State.FORGOTTEN: "start again",
    State.SENT: "**sent**",
    State.NOT_SENT: "**not sent**",
    State.UNKNOWN: "**unknown**",
}

LOCAL = {
    "failure here": (Event.LOCAL_FAILURE,),
    "interrupted": (Event.INTERRUPTED,),
}

RECORDS = {event.value: (event,) for event in EVENTS[Step.READ_RECORD]}

RESPONSES = {
    "accepted": (Event.ACCEPTED_MORE_LEFT, Event.ACCEPTED_ONE_LEFT, Event.ACCEPTED_ALL),
    "refused, or never complete": (Event.REFUSED, Event.NOT_RECEIVED),
    "response lost": (Event.LOST,),
    "404, 410": (Event.FORGOTTEN,),
    "423": (Event.ALREADY_COMPLETE,),
    **LOCAL,
}

ANSWERS = {
    "MESH has it": (Event.FOUND, Event.DELIVERED),
    "MESH failed it": (Event.FAILED,),
    "MESH does not know it": (Event.NOT_FOUND,),
    "incomplete, or perhaps another": (Event.FOUND_OTHER, Event.NOT_DELIVERED),
    "asking fails": (Event.LOOK_UP_FAILED,),
    **LOCAL,
}


def drawing() -> str:
    """Return the tables."""
    sending = [state for state in TRANSITIONS if Event.REFUSED in TRANSITIONS[state]]
    asking = [state for state in TRANSITIONS if Event.LOOK_UP_FAILED in TRANSITIONS[state]]
    record = TRANSITIONS[State.READING_RECORD]
    first = "| with `resume` | first |\n| --- | --- |\n"
    first += "".join(f"| {name} | {NEXT[record[event].state]} |\n" for name, (event,) in RECORDS.items())
    return "\n".join((first, table("request", sending, RESPONSES), table("question", asking, ANSWERS)))


def table(title: str, states: list[State], columns: Mapping[str, tuple[Event, ...]]) -> str:
    """Return one table: a row for each state, a column for each group of events."""
    lines = [f"| {title} | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    for state in states:
        cells = []
        for events in columns.values():
            # What stands in one column leads to the same state.
            (cell,) = {NEXT[row[event].state] for row in [TRANSITIONS[state]] for event in events if event in row} or {
                " "
            }
            cells.append(cell)
        lines.append(f"| {state.value} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return the page with the tables as they are now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{drawing()}\n{END}{after}"


def main() -> int:
    """Run the tool."""
    text = PAGE.read_text(encoding="utf-8")
    if page(text) == text:
        return 0
    if "--check" in sys.argv:
        print("docs/sending.md is not current: run `make reference`")
        return 1
    PAGE.write_text(page(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
