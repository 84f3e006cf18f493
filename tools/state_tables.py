"""Draw state tables between the marks of their pages.

docs/sending.md has that of a send (`TRANSITIONS` in nel_mesh/protocol/upload_states.py), docs/agent.md that of the
agent's messages (nel_mesh/ledger/states.py).

tools/state_tables.py           write it
tools/state_tables.py --check   fail if it is not current
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from nel_mesh.ledger import states
from nel_mesh.protocol.upload_states import EVENTS, TRANSITIONS, Event, State, Step

DOCS = Path(__file__).resolve().parent.parent / "docs"
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


def messages_of_the_agent() -> str:
    """Return a table for each direction: the states, and what leads from each to which."""
    lines = []
    for direction, table_of in states.TRANSITIONS.items():
        lines += [f"| {direction} | what happens | then |", "| --- | --- | --- |"]
        for state, steps in table_of.items():
            following = [(event, after) for event, after in steps.items() if after is not state]
            for number, (event, after) in enumerate(following):
                lines.append(f"| {f'`{state}`' if number == 0 else ''} | {event} | `{after}` |")
            if not following:
                lines.append(f"| `{state}` | | |")
        lines.append("")
    return "\n".join(lines[:-1])


PAGES = {"sending.md": drawing, "agent.md": messages_of_the_agent}


def page(text: str, draw: Callable[[], str]) -> str:
    """Return the page with the tables as they are now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{draw()}\n{END}{after}"


def main() -> int:
    """Run the tool."""
    for name, draw in PAGES.items():
        path = DOCS / name
        text = path.read_text(encoding="utf-8")
        if page(text, draw) != text and "--check" in sys.argv:
            print(f"docs/{name} is not current: run `make reference`")
            return 1
        path.write_text(page(text, draw), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
