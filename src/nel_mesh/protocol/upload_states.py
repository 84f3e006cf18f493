"""The states of a send as a table: what to do in each, and what each end of that leads to."""

################################################################
# Exactly once
################################################################
#
# Rule 1: every decision about a send is made in the four files upload_*.py. As many as possible are
# rows of `TRANSITIONS`, here; what does not fit into a table (how an exception or a tracking becomes
# an event) is a function in upload_events.py. upload_plan.py has what is decided before the first
# request, upload_record.py what a later process has to know.
#
# Rule 2: no I/O and no clock. `_async/upload.py` does the step that `STEPS` gives for a state, says
# as an event how that ended, and gets the next state. It knows how to read a file, to make a request
# and to write a record, and nothing of MESH.
#
#
# Theory
# ======
#
# MESH takes a message in one request, or in several chunks:
#
# - One request (MESH API, "Send message"): `POST .../outbox` creates the message and delivers it.
#   It is not idempotent; each repeat creates another message.
# - Several (MESH API, "Send chunked message"): `POST .../outbox` with `Mex-Chunk-Range: 1:n` begins
#   an upload and gives it a message id, `POST .../outbox/{message id}/{k}` adds a chunk, and the
#   message is delivered when chunk n arrives. An upload that is never finished is never delivered.
#
# So one request of each send delivers: the only one, or the last. All others may be lost, repeated
# or abandoned without harm, and the question of exactly once is what became of that one request:
#
# 1. It never arrived whole: no connection, a break before its last byte was handed over, or a
#    response that says that nothing was done (425, 429, 503). By its announced length MESH cannot
#    have it. The message is not sent.
#
# 2. It may have arrived whole, and its response is lost: a break, a time-out, a 500, 502 or 504
#    from a gateway, or a success without a message id. Then MESH has to be asked:
#
#    - the only request: its message id was in the lost response, so by local id (MESH API, "Track
#      outbox" by local id; deprecated, but there is no other way). A local id that the caller chose
#      may have been used before, so what is found must fit in recipient, workflow id, file name and
#      time. MESH is given half a minute to know its own message. Not found after that is still no
#      proof for this process, as its request may be under way inside MESH. It is for a later
#      process that goes on from a record, and that is the only case in which a single request is
#      repeated.
#    - the last chunk: it is repeated, as it has an address of its own, and meets 423 if it had
#      arrived. If that does not settle it, it is tracked by message id.
#
# 3. The process ends (a kill, a power cut) while it is open. The record on disk says how far the
#    send had come, and is always behind rather than ahead of MESH. A record that says that the
#    delivering request may have been made puts the next process where 2 has left this one.
#
# Each state has an outcome: what to say of the message if the send ends there by something that is
# not about MESH, such as a full disk (`LOCAL_FAILURE`) or Ctrl-C (`INTERRUPTED`). These two are
# events like the others.
#
#
# Implementation
# --------------
#
# `STEPS` has the step of each state, `EVENTS` the events in which a step can end, and `TRANSITIONS`
# the next state for each of them. tests/protocol/test_upload_states.py shows that no row is missing, and
# runs the table against a model of MESH that loses requests and responses, with kills between any
# two steps. tools/state_tables.py draws it in docs/sending.md.

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Final

from nel_mesh.errors import Outcome


class State(enum.Enum):
    """Where a send is; the value is what the documentation calls it."""

    # Enum's own hash is a function in Python, and a small message looks ten states and events up.
    __hash__ = object.__hash__

    BEGINNING = "nothing sent yet"
    READING_RECORD = "a record may exist"
    ONLY = "the only request"
    FIRST = "first chunk"
    MIDDLE = "middle chunk"
    LAST = "last chunk"
    RESUMED_MIDDLE = "middle chunk, resumed"
    RESUMED_LAST = "last chunk, may have been sent before"
    LOOKING_UP = "after a lost response"
    LOOKING_UP_EARLIER = "after an interruption"
    TRACKING = "after a lost response to the last chunk"
    FORGOTTEN = "MESH has forgotten the upload"
    SENT = "sent"
    NOT_SENT = "not sent"
    UNKNOWN = "unknown"


class Step(enum.Enum):
    """What to do in a state."""

    BEGIN = "begin"
    READ_RECORD = "read the record"
    SEND_CHUNK = "send the next request"
    LOOK_UP = "look up by local id"
    TRACK = "track by message id"
    START_AGAIN = "start again at chunk 1"


class Event(enum.Enum):
    """How a step ended."""

    __hash__ = object.__hash__

    ONE_REQUEST = "the content fits into one request"
    SEVERAL_CHUNKS = "the content takes several chunks"

    NO_RECORD = "there is no record"
    RECORD_SENT = "the record says: sent"
    RECORD_NOT_SENT = "one request; the record says: not sent"
    RECORD_OPEN = "one request; the record does not say"
    RECORD_NO_CHUNK = "the record has no chunk"
    RECORD_SOME_CHUNKS = "the record has some chunks"
    RECORD_ALL_BUT_LAST = "the record has all chunks but the last"

    ACCEPTED_MORE_LEFT = "accepted, several chunks left"
    ACCEPTED_ONE_LEFT = "accepted, one chunk left"
    ACCEPTED_ALL = "accepted, nothing left"
    REFUSED = "refused"
    NOT_RECEIVED = "lost before it was complete"
    LOST = "lost after it was complete"
    FORGOTTEN = "404 or 410"
    ALREADY_COMPLETE = "423: MESH has all chunks"

    FOUND = "found"
    FOUND_OTHER = "found, but perhaps another message"
    NOT_FOUND = "not found"
    DELIVERED = "MESH has the whole message"
    NOT_DELIVERED = "MESH does not say that it has the whole message"
    FAILED = "MESH took the message, and then failed it"
    LOOK_UP_FAILED = "asking failed"

    STARTED_AGAIN = "the record is reset"

    LOCAL_FAILURE = "a failure on this machine (source, disk)"
    INTERRUPTED = "interrupted (Ctrl-C, cancelled)"


STEPS: Final[Mapping[State, Step]] = {
    State.BEGINNING: Step.BEGIN,
    State.READING_RECORD: Step.READ_RECORD,
    State.ONLY: Step.SEND_CHUNK,
    State.FIRST: Step.SEND_CHUNK,
    State.MIDDLE: Step.SEND_CHUNK,
    State.LAST: Step.SEND_CHUNK,
    State.RESUMED_MIDDLE: Step.SEND_CHUNK,
    State.RESUMED_LAST: Step.SEND_CHUNK,
    State.LOOKING_UP: Step.LOOK_UP,
    State.LOOKING_UP_EARLIER: Step.LOOK_UP,
    State.TRACKING: Step.TRACK,
    State.FORGOTTEN: Step.START_AGAIN,
}
"""The step of each state. A state without one is an end."""

OUTCOMES: Final[Mapping[State, Outcome]] = {
    State.SENT: Outcome.SENT,
    State.NOT_SENT: Outcome.NOT_SENT,
    State.UNKNOWN: Outcome.UNKNOWN,
}
"""The states in which a send ends, and what to say of the message there."""

EVENTS: Final[Mapping[Step, tuple[Event, ...]]] = {
    Step.BEGIN: (Event.ONE_REQUEST, Event.SEVERAL_CHUNKS),
    Step.READ_RECORD: (
        Event.NO_RECORD,
        Event.RECORD_SENT,
        Event.RECORD_NOT_SENT,
        Event.RECORD_OPEN,
        Event.RECORD_NO_CHUNK,
        Event.RECORD_SOME_CHUNKS,
        Event.RECORD_ALL_BUT_LAST,
    ),
    Step.SEND_CHUNK: (
        Event.ACCEPTED_MORE_LEFT,
        Event.ACCEPTED_ONE_LEFT,
        Event.ACCEPTED_ALL,
        Event.REFUSED,
        Event.NOT_RECEIVED,
        Event.LOST,
        Event.FORGOTTEN,
        Event.ALREADY_COMPLETE,
    ),
    Step.LOOK_UP: (Event.FOUND, Event.FOUND_OTHER, Event.NOT_FOUND, Event.FAILED, Event.LOOK_UP_FAILED),
    Step.TRACK: (Event.DELIVERED, Event.NOT_DELIVERED, Event.FAILED, Event.LOOK_UP_FAILED),
    Step.START_AGAIN: (Event.STARTED_AGAIN,),
}
"""The events in which each step can end, besides `ANY_TIME`."""

ADVANCES: Final = frozenset(
    {Event.ACCEPTED_MORE_LEFT, Event.ACCEPTED_ONE_LEFT, Event.ACCEPTED_ALL, Event.FOUND, Event.DELIVERED}
)
"""The events after which MESH is known to have more of the message."""

ANY_TIME: Final = (Event.LOCAL_FAILURE, Event.INTERRUPTED)
"""The events that can come in every state."""


@dataclasses.dataclass(frozen=True, slots=True)
class Next:
    """The next state, and why the outcome is unknown, if it is and that is not plain from the failure itself."""

    state: State
    reason: str = ""


_SENT = Next(State.SENT)
_NOT_SENT = Next(State.NOT_SENT)
_UNKNOWN = Next(State.UNKNOWN)
_TRACK = Next(State.TRACKING)
_SEVERAL = "MESH says that it has all chunks, before they were sent"
_OTHER = "it may have arrived; what MESH has under its local id may be another message"
_NOT_ASKED = "it may have arrived, and asking for it by its local id failed too"
_NOT_KNOWN = "it may have arrived, and MESH does not know it by its local id (yet)"
_NOT_TRACKED = "the last chunk may have arrived, and tracking does not say that it has"

TRANSITIONS: Final[Mapping[State, Mapping[Event, Next]]] = {
    # No request was made yet, so whatever goes wrong, nothing was sent.
    State.BEGINNING: {
        Event.ONE_REQUEST: Next(State.ONLY),
        Event.SEVERAL_CHUNKS: Next(State.FIRST),
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _NOT_SENT,
    },
    # Until the record says otherwise, an earlier process may have sent all of it.
    State.READING_RECORD: {
        Event.NO_RECORD: Next(State.BEGINNING),
        Event.RECORD_SENT: _SENT,
        Event.RECORD_NOT_SENT: Next(State.ONLY),
        Event.RECORD_OPEN: Next(State.LOOKING_UP_EARLIER),
        Event.RECORD_NO_CHUNK: Next(State.FIRST),
        Event.RECORD_SOME_CHUNKS: Next(State.RESUMED_MIDDLE),
        Event.RECORD_ALL_BUT_LAST: Next(State.RESUMED_LAST),
        Event.LOCAL_FAILURE: _UNKNOWN,
        Event.INTERRUPTED: _UNKNOWN,
    },
    # The only request delivers, and is not idempotent: after it may have acted, it is never
    # repeated from here. A local failure comes before its last block was handed over (the source is
    # checked before that block).
    State.ONLY: {
        Event.ACCEPTED_ALL: _SENT,
        Event.REFUSED: _NOT_SENT,
        Event.NOT_RECEIVED: _NOT_SENT,
        Event.LOST: Next(State.LOOKING_UP),
        Event.FORGOTTEN: _NOT_SENT,
        Event.ALREADY_COMPLETE: _NOT_SENT,
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _UNKNOWN,
    },
    # The first chunk of several delivers nothing; a lost one leaves an upload behind that is never
    # finished.
    State.FIRST: {
        Event.ACCEPTED_MORE_LEFT: Next(State.MIDDLE),
        Event.ACCEPTED_ONE_LEFT: Next(State.LAST),
        Event.REFUSED: _NOT_SENT,
        Event.NOT_RECEIVED: _NOT_SENT,
        Event.LOST: _NOT_SENT,
        Event.FORGOTTEN: _NOT_SENT,
        Event.ALREADY_COMPLETE: _NOT_SENT,
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _NOT_SENT,
    },
    # Nor does a middle one. MESH must not say of an upload in the middle that it is complete.
    State.MIDDLE: {
        Event.ACCEPTED_MORE_LEFT: Next(State.MIDDLE),
        Event.ACCEPTED_ONE_LEFT: Next(State.LAST),
        Event.REFUSED: _NOT_SENT,
        Event.NOT_RECEIVED: _NOT_SENT,
        Event.LOST: _NOT_SENT,
        Event.FORGOTTEN: _NOT_SENT,
        Event.ALREADY_COMPLETE: Next(State.UNKNOWN, _SEVERAL),
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _NOT_SENT,
    },
    # An upload that an earlier process began may be too old for MESH. It was never finished, so a
    # new one is harmless.
    State.RESUMED_MIDDLE: {
        Event.ACCEPTED_MORE_LEFT: Next(State.RESUMED_MIDDLE),
        Event.ACCEPTED_ONE_LEFT: Next(State.LAST),
        Event.REFUSED: _NOT_SENT,
        Event.NOT_RECEIVED: _NOT_SENT,
        Event.LOST: _NOT_SENT,
        Event.FORGOTTEN: Next(State.FORGOTTEN),
        Event.ALREADY_COMPLETE: Next(State.UNKNOWN, _SEVERAL),
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _NOT_SENT,
    },
    # The last chunk delivers. Its repeats meet 423 once it has arrived.
    State.LAST: {
        Event.ACCEPTED_ALL: _SENT,
        Event.REFUSED: _NOT_SENT,
        Event.NOT_RECEIVED: _NOT_SENT,
        Event.LOST: _TRACK,
        Event.FORGOTTEN: _NOT_SENT,
        Event.ALREADY_COMPLETE: _TRACK,
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _UNKNOWN,
    },
    # An earlier process may have sent it. Whatever MESH says to the repeat, tracking decides: an
    # upload that was finished, collected and acknowledged may be unknown (404) or gone (410) as
    # well.
    State.RESUMED_LAST: {
        Event.ACCEPTED_ALL: _SENT,
        Event.REFUSED: _TRACK,
        Event.NOT_RECEIVED: _TRACK,
        Event.LOST: _TRACK,
        Event.FORGOTTEN: _TRACK,
        Event.ALREADY_COMPLETE: _TRACK,
        Event.LOCAL_FAILURE: _UNKNOWN,
        Event.INTERRUPTED: _UNKNOWN,
    },
    State.LOOKING_UP: {
        Event.FOUND: _SENT,
        Event.FOUND_OTHER: Next(State.UNKNOWN, _OTHER),
        Event.NOT_FOUND: Next(State.UNKNOWN, _NOT_KNOWN),
        Event.FAILED: _NOT_SENT,
        Event.LOOK_UP_FAILED: Next(State.UNKNOWN, _NOT_ASKED),
        Event.LOCAL_FAILURE: _UNKNOWN,
        Event.INTERRUPTED: _UNKNOWN,
    },
    # The process that made the request has ended, so nothing of it is under way any more.
    State.LOOKING_UP_EARLIER: {
        Event.FOUND: _SENT,
        Event.FOUND_OTHER: Next(State.UNKNOWN, _OTHER),
        Event.NOT_FOUND: Next(State.ONLY),
        Event.FAILED: _NOT_SENT,
        Event.LOOK_UP_FAILED: Next(State.UNKNOWN, _NOT_ASKED),
        Event.LOCAL_FAILURE: _UNKNOWN,
        Event.INTERRUPTED: _UNKNOWN,
    },
    State.TRACKING: {
        Event.DELIVERED: _SENT,
        Event.NOT_DELIVERED: Next(State.UNKNOWN, _NOT_TRACKED),
        Event.FAILED: _NOT_SENT,
        Event.LOOK_UP_FAILED: Next(State.UNKNOWN, _NOT_TRACKED),
        Event.LOCAL_FAILURE: _UNKNOWN,
        Event.INTERRUPTED: _UNKNOWN,
    },
    # The record must be reset before chunk 1 goes: with the old message id it would lead the next
    # process here again, and then to a second message.
    State.FORGOTTEN: {
        Event.STARTED_AGAIN: Next(State.FIRST),
        Event.LOCAL_FAILURE: _NOT_SENT,
        Event.INTERRUPTED: _NOT_SENT,
    },
    # Only what came after can fail: the record, or the comparison of an old record with new
    # arguments.
    State.SENT: {Event.LOCAL_FAILURE: _SENT, Event.INTERRUPTED: _SENT},
    State.NOT_SENT: {Event.LOCAL_FAILURE: _NOT_SENT, Event.INTERRUPTED: _NOT_SENT},
    State.UNKNOWN: {Event.LOCAL_FAILURE: _UNKNOWN, Event.INTERRUPTED: _UNKNOWN},
}
"""The next state for each state and event."""
