"""Whether copies are where they were stored: asked before a message is stored again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from nel_mesh.ledger.messages import Copy


@dataclasses.dataclass(frozen=True, slots=True)
class Presence:
    """Whether a copy is where it was stored.

    Attributes:
        is_there: whether it is; None if that cannot be told.
        reason: why it cannot be told.
    """

    is_there: bool | None
    reason: str = ""


AskStores = Callable[[Sequence[Copy]], Sequence[Presence]]
"""Says of each copy whether it is there."""


def is_in_store(copy: Copy) -> bool:
    """Whether a copy is in a store, which has to be asked over a network."""
    return copy.location is not None and "://" in copy.location


def of_files(copies: Sequence[Copy]) -> list[Presence]:
    """Say of each copy whether its file is there; nothing is asked of a store."""
    return [_of_file(copy) for copy in copies]


def _of_file(copy: Copy) -> Presence:
    if copy.location is None:
        return Presence(None, "its place is not known")
    if is_in_store(copy):
        return Presence(None, "its store was not asked")
    if os.path.lexists(copy.location):
        return Presence(is_there=True)
    if not Path(copy.location).parent.is_dir():
        # A share that is not mounted has none of its folders; that says nothing of the files in them.
        return Presence(None, "its folder is not there; perhaps a disk or share is not connected")
    return Presence(is_there=False)
