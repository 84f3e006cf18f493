"""Tokens (protocol/token.py)."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh.protocol import token

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEYS = {"password": "p", "shared_key": "k"}


def make(nonce_count: int = 0, *, mailbox_id: str = "M") -> token.Token:
    header = token.authorization(mailbox_id=mailbox_id, nonce="n", now=NOW, nonce_count=nonce_count, **KEYS)
    parsed = token.parse(header)
    assert parsed is not None
    return parsed


def test_a_token_is_what_the_api_says() -> None:
    made = token.authorization(
        mailbox_id="x26hc005",
        password="password",
        shared_key="BackBone",
        nonce="2942264f-46e5-450f-90fc-22a0c09efa37",
        now=datetime(2020, 6, 4, 18, 18, 59, tzinfo=timezone(timedelta(hours=1))),
    )
    message = "X26HC005:2942264f-46e5-450f-90fc-22a0c09efa37:0:password:202006041718"
    digest = hmac.new(b"BackBone", message.encode(), hashlib.sha256).hexdigest()
    assert made == f"NHSMESH X26HC005:2942264f-46e5-450f-90fc-22a0c09efa37:0:202006041718:{digest}"


@given(st.text(max_size=300))
def test_any_header_is_a_token_or_none(text: str) -> None:
    parsed = token.parse(text)
    assert parsed is None or text.startswith("NHSMESH ")


@given(st.integers(0, 10**12))
def test_a_token_parses_to_its_parts(nonce_count: int) -> None:
    made = make(nonce_count, mailbox_id="x26")
    assert dataclasses.replace(made, digest="") == token.Token("X26", "n", str(nonce_count), "202611221200", "")
    assert made.time == NOW
    assert token.is_genuine(made, **KEYS)


@pytest.mark.parametrize("part", ["mailbox_id", "nonce", "nonce_count", "timestamp", "digest"])
def test_no_part_of_a_token_can_be_changed(part: str) -> None:
    made = make()
    value = getattr(made, part)
    changed = dataclasses.replace(made, **{part: value[:-1] + ("1" if value[-1] != "1" else "2")})
    assert not token.is_genuine(changed, **KEYS)


def test_a_token_is_of_one_password_and_shared_key() -> None:
    assert not token.is_genuine(make(), password="q", shared_key="k")
    assert not token.is_genuine(make(), password="p", shared_key="q")


@pytest.mark.parametrize("count", ["001", "1234567890", "12345678901234567890"])
def test_s1_the_nonce_count_is_hashed_as_it_came(count: str) -> None:
    digest = hmac.new(b"k", f"M:n:{count}:p:202611221200".encode(), hashlib.sha256).hexdigest()
    parsed = token.parse(f"NHSMESH M:n:{count}:202611221200:{digest}")
    assert parsed is not None
    assert token.is_genuine(parsed, **KEYS)


def test_s2_the_digest_is_compared_in_either_case() -> None:
    made = make()
    parsed = token.parse(f"NHSMESH M:n:0:202611221200:{made.digest.upper()}")
    assert parsed is not None
    assert token.is_genuine(parsed, **KEYS)


@pytest.mark.parametrize(("minutes", "timely"), [(0, True), (120, True), (121, False), (-120, True), (-121, False)])
def test_a_token_is_timely_within_two_hours(minutes: int, timely: bool) -> None:
    assert token.is_timely(make(), now=NOW + timedelta(minutes=minutes)) is timely


def test_a_timestamp_that_is_no_date_is_not_timely() -> None:
    assert not token.is_timely(dataclasses.replace(make(), timestamp="209913999999"), now=NOW)


def test_a_token_does_not_show_its_digest() -> None:
    parsed = token.Token("X26ABC1", "nonce", "0", "202611221200", "d1gest")
    assert "X26ABC1" in repr(parsed)
    assert "d1gest" not in repr(parsed)
    assert token.is_timely(dataclasses.replace(parsed, timestamp="2026"), now=datetime.now(UTC)) is False
