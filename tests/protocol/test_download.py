"""How a download continues after an interruption (protocol/download.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh.errors import StorageError
from nel_mesh.protocol.download import NEXT_STEPS, DownloadRecord, NextStep, Partial, next_step

FRESH = DownloadRecord(message_id="M1")
RUNNING = DownloadRecord(message_id="M1", chunks=3, chunks_done=2, length=2000)
VERIFIED = DownloadRecord(message_id="M1", chunks=3, chunks_done=2, length=3000, name="results.csv")


def test_the_table_knows_every_case() -> None:
    assert set(NEXT_STEPS) == {(verified, partial) for verified in (False, True) for partial in Partial}


@pytest.mark.parametrize(
    ("length", "named", "partial"),
    [
        (None, False, Partial.MISSING),
        (0, False, Partial.SHORT),
        (1999, False, Partial.SHORT),
        (2000, False, Partial.EXACT),
        (2001, False, Partial.LONG),
        (2000, True, Partial.NAMED),
        (None, True, Partial.NAMED),
    ],
)
def test_the_partial_file_is_compared_with_the_record(length: int | None, named: bool, partial: Partial) -> None:
    assert Partial.of(RUNNING, length, named=named) is partial


@pytest.mark.parametrize("partial", Partial)
def test_without_a_durable_chunk_it_starts(partial: Partial) -> None:
    assert next_step(FRESH, partial) is NextStep.START


@pytest.mark.parametrize("partial", Partial)
def test_it_resumes_only_where_all_that_the_record_says_is_there(partial: Partial) -> None:
    resumes = next_step(RUNNING, partial) is NextStep.RESUME
    assert resumes == (partial in (Partial.EXACT, Partial.LONG))


@pytest.mark.parametrize("partial", Partial)
def test_verified_content_is_published_only_if_it_is_exactly_there(partial: Partial) -> None:
    step = next_step(VERIFIED, partial)
    assert (step is NextStep.PUBLISH) == (partial is Partial.EXACT)
    assert (step is NextStep.PUBLISHED) == (partial is Partial.NAMED)


@given(st.dictionaries(st.text(), st.integers() | st.text()), st.integers(0, 10**12))
def test_a_record_keeps_what_the_destination_needs(state: dict[str, object], length: int) -> None:
    record = RUNNING.at(length, state)
    assert (record.length, record.state or {}) == (length, state)
    assert DownloadRecord.from_bytes(record.to_bytes(), "") == record


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.booleans(), st.integers(0, 5))
def test_no_case_relies_on_bytes_that_are_not_there(recorded: int, found: int, verified: bool, chunks: int) -> None:
    name = "a" if verified else None
    record = DownloadRecord(message_id="M1", chunks=5, chunks_done=chunks, length=recorded, name=name)
    step = next_step(record, Partial.of(record, found))
    if step in (NextStep.RESUME, NextStep.PUBLISH):
        assert found >= recorded
    if step is NextStep.PUBLISH:
        assert found == recorded


def test_a_record_survives_its_text_and_nothing_else_does() -> None:
    assert DownloadRecord.from_bytes(VERIFIED.to_bytes(), "") == VERIFIED
    for damaged in (b"", b"{}", b"[]", VERIFIED.to_bytes()[:-5], b'{"message_id": "M1", "more": 1}'):
        with pytest.raises(StorageError, match="record"):
            DownloadRecord.from_bytes(damaged, "")


def test_a_record_begins_with_nothing() -> None:
    assert (FRESH.length, FRESH.chunks_done, FRESH.chunks, FRESH.name, FRESH.state) == (0, 0, None, None, None)
    assert FRESH.is_checksum_open is False
    assert FRESH.at(5, {}).state is None
    assert Partial.of(RUNNING, 2000) is Partial.EXACT
