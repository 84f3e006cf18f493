"""The hazard log: each hazard has a control, and each test that it names is there."""

from __future__ import annotations

import ast
import re

import pytest
from pages import ROOT

ROWS = re.findall(r"^\| (H\d+) .*$", (ROOT / "docs/hazards.md").read_text(encoding="utf-8"), re.MULTILINE)
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/hazards.md").read_text(encoding="utf-8"))


def test_each_hazard_has_a_test() -> None:
    lines = (ROOT / "docs/hazards.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if re.match(r"\| H\d+ ", line)]
    assert [f"H{number}" for number in range(1, 13)] == ROWS
    assert [row for row in rows if "`tests/" not in row] == []


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda value: value)
def test_the_test_is_there(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
