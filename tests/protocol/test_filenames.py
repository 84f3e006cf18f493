"""Safe file names (protocol/filenames.py)."""

from __future__ import annotations

import ntpath
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh.protocol import filenames

# Python 3.13 has it there, and 3.15 only there.
is_reserved: Any = getattr(ntpath, "isreserved", lambda name: PureWindowsPath(name).is_reserved())


@given(st.text(max_size=200))
def test_no_name_is_a_path_a_device_or_hidden(requested: str) -> None:
    name = filenames.safe_name(requested, "M1")
    assert name == Path(name).name == PureWindowsPath(name).name
    assert not name.startswith((".", "-", "~"))
    assert not name.endswith((".", " "))
    assert name.isascii()
    assert 0 < len(name) <= 151
    assert not is_reserved(name)
    assert filenames.unique_name(name, "M1", 3) != name


@pytest.mark.parametrize(
    ("requested", "name"),
    [
        ("results.csv", "results.csv"),
        (None, "M1.dat"),
        ("", "M1.dat"),
        ("..", "M1.dat"),
        ("___", "M1.dat"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system32\\cmd.exe", "cmd.exe"),
        (".bashrc", "bashrc"),
        ("con.txt", "_con.txt"),
        ("LPT1", "_LPT1"),
        ("a\0b\nc", "a_b_c"),
        ("file.csv:stream", "stream"),
        ("x" * 400, "x" * 140),
    ],
)
def test_names_are_made_safe(requested: str | None, name: str) -> None:
    assert filenames.safe_name(requested, "M1") == name


def test_a_unique_name_keeps_the_ending() -> None:
    assert filenames.unique_name("results.csv", "M1", 1) == "results.M1.csv"
    assert filenames.unique_name("results.csv", "M1", 2) == "results.M1.2.csv"
    assert filenames.unique_name("results", "M1", 1) == "results.M1"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\\b", ".hidden", "..", "a\0b", "C:x", "a\nb"])
def test_a_name_out_of_a_planted_record_is_refused_r18(name: str) -> None:
    """R18: a record lies in a folder that others may write to."""
    assert not filenames.is_safe(name)


@given(st.text(max_size=200), st.integers(0, 3))
def test_every_name_that_we_give_is_one_that_a_record_may_name(requested: str, attempt: int) -> None:
    name = filenames.safe_name(requested, "M1")
    assert filenames.is_safe(filenames.unique_name(name, "M1", attempt) if attempt else name)
