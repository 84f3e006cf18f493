from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from consoles import Filled, Served, served_console


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A console, with a user of each role."""
    with served_console(tmp_path) as console:
        yield console


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("console")


@pytest.fixture(scope="module")
def shared(shared_folder: Path) -> Iterator[Served]:
    """A console for the tests of a module that change nothing."""
    with served_console(shared_folder) as console:
        yield console


@pytest.fixture(scope="module")
def filled(shared: Served, shared_folder: Path) -> Filled:
    """Messages in each state, in that console."""
    return Filled(shared.ledger, shared_folder)
