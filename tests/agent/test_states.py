"""The states of a message, as values."""

from __future__ import annotations

import pytest

from nel_mesh.ledger.states import (
    DUE,
    FINAL,
    FIRST,
    NEEDS_PERSON,
    TRANSITIONS,
    Direction,
    Event,
    ImpossibleTransition,
    State,
    next_state,
)


@pytest.mark.parametrize("direction", Direction)
def test_every_state_is_reached_and_every_path_can_end(direction: Direction) -> None:
    table = TRANSITIONS[direction]
    reached, waiting = set[State](), {FIRST[direction]}
    while waiting:
        state = waiting.pop()
        reached.add(state)
        waiting |= set(table[state].values()) - reached
    assert reached == set(table)
    for state in table:
        ahead, waiting = set[State](), {state}
        while waiting:
            one = waiting.pop()
            ahead.add(one)
            waiting |= set(table[one].values()) - ahead
        assert ahead & FINAL


@pytest.mark.parametrize("direction", Direction)
def test_what_is_due_can_be_begun_and_what_is_final_cannot(direction: Direction) -> None:
    for state, steps in TRANSITIONS[direction].items():
        assert (Event.BEGUN in steps) == (state in DUE[direction])
        if state in FINAL:
            assert state not in DUE[direction]


def test_a_stored_message_is_never_fetched_again_or_given_up() -> None:
    reachable = set(TRANSITIONS[Direction.IN][State.STORED].values())
    assert reachable == {State.STORED, State.ACKNOWLEDGED}


def test_a_message_whose_response_was_lost_becomes_no_other_attempt() -> None:
    """Only a look-up under its record ends this state: it is never an ordinary retry."""
    assert State.RETRYING not in TRANSITIONS[Direction.OUT][State.UNKNOWN].values()
    assert State.SENDING not in TRANSITIONS[Direction.OUT][State.UNKNOWN].values()


def test_what_mesh_has_is_never_sent_again() -> None:
    for state in (State.ACCEPTED, State.COLLECTED):
        assert not set(TRANSITIONS[Direction.OUT][state].values()) & DUE[Direction.OUT]


def test_an_impossible_step_is_refused() -> None:
    with pytest.raises(ImpossibleTransition, match="listed cannot be acknowledged"):
        next_state(Direction.IN, State.LISTED, Event.ACKNOWLEDGED)


def test_what_needs_a_person_waits_for_one() -> None:
    assert not NEEDS_PERSON & {State.RETRYING, State.LISTED, State.FETCHING, State.WAITING, State.SENDING}
