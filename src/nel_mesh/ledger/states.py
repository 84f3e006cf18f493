"""The states of a message in the ledger, and what leads from one to the next: tables that are data.

`docs/agent.md` shows them as drawn from here. An event that a state does not know is a bug, not a fault of the
message, and is refused before anything is written.

A kill can come between any two steps. So the events by which work begins (`BEGUN`) are known in the states that work
leaves behind as well: the step is done again, and the records of the transfer make that harmless.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Direction(enum.StrEnum):
    """Which way a message goes."""

    IN = "in"
    OUT = "out"


class State(enum.StrEnum):
    """The state of a message. The text is what the ledger, the command line and the metrics say."""

    # Incoming.
    LISTED = "listed"
    """In the inbox, and not begun."""
    FETCHING = "fetching"
    """On its way to its destinations."""
    STORED = "stored"
    """Complete, verified and durable in all its destinations; only the acknowledgement is open."""
    ACKNOWLEDGED = "acknowledged"
    """MESH was told; the message has left the inbox."""
    QUARANTINED = "quarantined"
    """It failed for its own sake, as often as the configuration allows. It is still in the inbox."""
    GONE = "gone"
    """It left the inbox before it was stored here: it expired, or another program took it."""

    # Outgoing.
    WAITING = "waiting"
    """Found in an outgoing folder, and not begun."""
    SENDING = "sending"
    """On its way to MESH."""
    ACCEPTED = "accepted"
    """MESH has it, and its recipient has not collected it yet."""
    COLLECTED = "collected"
    """The recipient has acknowledged it."""
    UNDELIVERED = "undelivered"
    """MESH gave it up; a report or the tracking says why."""
    REFUSED = "refused"
    """It cannot be sent as it is: MESH or this program refuses it."""
    UNKNOWN = "unknown"
    """The response to the last request was lost; MESH is asked whether it has the message before it is sent again."""

    # Both.
    RETRYING = "retrying"
    """The last attempt failed; the next is at `next_attempt_at`."""


class Event(enum.StrEnum):
    """What can happen to a message."""

    BEGUN = "begun"
    STORED = "stored"
    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    """An attempt failed, for a reason that may pass."""
    CONDEMNED = "condemned"
    """An attempt failed for the message's own sake, and it was the last that is allowed."""
    GONE = "gone"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    LOST_RESPONSE = "lost response"
    COLLECTED = "collected"
    UNDELIVERED = "undelivered"
    RELEASED = "released"
    """A person asked for another attempt."""


FIRST: Mapping[Direction, State] = {Direction.IN: State.LISTED, Direction.OUT: State.WAITING}

_IN: Mapping[State, Mapping[Event, State]] = {
    State.LISTED: {Event.BEGUN: State.FETCHING, Event.GONE: State.GONE},
    State.FETCHING: {
        Event.BEGUN: State.FETCHING,
        Event.STORED: State.STORED,
        # By a run before this one, whose record of it was lost with its destination's journal.
        Event.ACKNOWLEDGED: State.ACKNOWLEDGED,
        Event.FAILED: State.RETRYING,
        Event.CONDEMNED: State.QUARANTINED,
        Event.GONE: State.GONE,
    },
    State.STORED: {
        Event.BEGUN: State.STORED,
        Event.STORED: State.STORED,
        Event.ACKNOWLEDGED: State.ACKNOWLEDGED,
        Event.FAILED: State.STORED,
        # It was acknowledged, and the response was lost.
        Event.GONE: State.ACKNOWLEDGED,
    },
    State.RETRYING: {Event.BEGUN: State.FETCHING, Event.RELEASED: State.LISTED, Event.GONE: State.GONE},
    State.QUARANTINED: {Event.RELEASED: State.LISTED, Event.GONE: State.GONE},
    State.ACKNOWLEDGED: {
        # It was listed all the same, so MESH was told once more, or could not be told.
        Event.ACKNOWLEDGED: State.ACKNOWLEDGED,
        Event.FAILED: State.ACKNOWLEDGED,
        Event.GONE: State.ACKNOWLEDGED,
        # A person asks for it to be delivered again, once it was put back into the inbox.
        Event.RELEASED: State.LISTED,
    },
    # A message that was given back by the service desk is listed again.
    State.GONE: {Event.RELEASED: State.LISTED},
}

_OUT: Mapping[State, Mapping[Event, State]] = {
    State.WAITING: {Event.BEGUN: State.SENDING, Event.REFUSED: State.REFUSED},
    State.SENDING: {
        Event.BEGUN: State.SENDING,
        Event.ACCEPTED: State.ACCEPTED,
        Event.REFUSED: State.REFUSED,
        Event.FAILED: State.RETRYING,
        Event.LOST_RESPONSE: State.UNKNOWN,
    },
    State.RETRYING: {Event.BEGUN: State.SENDING, Event.RELEASED: State.RETRYING, Event.REFUSED: State.REFUSED},
    # The record of the send says that its response was lost; `send_file` looks it up under that record.
    State.UNKNOWN: {
        Event.BEGUN: State.UNKNOWN,
        Event.ACCEPTED: State.ACCEPTED,
        Event.REFUSED: State.REFUSED,
        Event.FAILED: State.UNKNOWN,
        Event.LOST_RESPONSE: State.UNKNOWN,
        Event.RELEASED: State.UNKNOWN,
        Event.UNDELIVERED: State.UNDELIVERED,
    },
    State.ACCEPTED: {
        Event.ACCEPTED: State.ACCEPTED,
        Event.COLLECTED: State.COLLECTED,
        Event.UNDELIVERED: State.UNDELIVERED,
    },
    # A report can come after the tracking has said so, or the other way round.
    State.UNDELIVERED: {Event.UNDELIVERED: State.UNDELIVERED},
    State.COLLECTED: {Event.COLLECTED: State.COLLECTED},
    State.REFUSED: {},
}

TRANSITIONS: Mapping[Direction, Mapping[State, Mapping[Event, State]]] = {Direction.IN: _IN, Direction.OUT: _OUT}

FINAL = frozenset({State.ACKNOWLEDGED, State.GONE, State.COLLECTED, State.UNDELIVERED, State.REFUSED})
"""States that nothing but a person's action ends."""

NEEDS_PERSON = frozenset({State.QUARANTINED, State.UNDELIVERED, State.REFUSED, State.UNKNOWN})
"""States that the front page shows until a person has seen to them."""

DUE = {
    Direction.IN: frozenset({State.LISTED, State.FETCHING, State.STORED, State.RETRYING}),
    Direction.OUT: frozenset({State.WAITING, State.SENDING, State.RETRYING, State.UNKNOWN}),
}
"""States with a next attempt."""


class ImpossibleTransition(RuntimeError):
    """An event came in a state that does not know it: a bug, or two processes at one message."""


def next_state(direction: Direction, state: State, event: Event) -> State:
    """Return the state after an event. Raises ImpossibleTransition if there is none."""
    try:
        return TRANSITIONS[direction][state][event]
    except KeyError:
        raise ImpossibleTransition(f"a message that is {state} cannot be {event}") from None
