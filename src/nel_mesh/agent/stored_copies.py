"""The copies of messages, wherever they lie: whether they are there, and their content."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nel_mesh import MeshError
from nel_mesh.io.concurrency import for_each
from nel_mesh.io.content import Content, NothingThere
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.messages import Copy, LedgerMessage
from nel_mesh.ledger.presence import Presence, is_in_store, of_files
from nel_mesh.ledger.states import Direction

MOST_ASKED = 100
"""How many copies in stores are asked for at once: each is a request, and a person waits."""

_AT_ONCE = 8


def copies_of(ledger: Ledger, message: LedgerMessage) -> list[Copy]:
    """Return the copies that can be read from here, those on this machine first: files that are there, and stores.

    Of a message that was sent it is its file. The ledger names the places, never a visitor.
    """
    if message.direction is Direction.OUT:
        places = [place for place in (message.archived_as, message.source) if place]
        known = [_file(message, place) for place in places]
    else:
        known = ledger.search.copies(message.id)
    found = [copy for copy in known if is_in_store(copy) or (copy.location and Path(copy.location).is_file())]
    return sorted(found, key=is_in_store)


def _file(message: LedgerMessage, place: str) -> Copy:
    return Copy(message=message.id, destination="", location=place, bytes=message.bytes, stored_at=message.created_at)


def open_copy(copy: Copy) -> Content:
    """Open the content of a copy. Raises what `open_stored` does."""
    # Looking into the ledger loads no store.
    from nel_mesh.sources.stored import open_stored

    return open_stored(copy.destination, copy.location or "")


def presences(copies: Sequence[Copy]) -> list[Presence]:
    """Say of each copy whether it is there. A store that cannot be asked is asked once, and not for each."""
    found = of_files(copies)
    in_stores = [number for number, copy in enumerate(copies) if is_in_store(copy)]
    if len(in_stores) > MOST_ASKED:
        reason = f"more than {MOST_ASKED} copies in stores at once; choose fewer messages"
        for number in in_stores:
            found[number] = Presence(None, reason)
        return found
    broken: dict[str, str] = {}
    for_each(iter(in_stores), partial(_ask, copies, found, broken), max_workers=_AT_ONCE)
    return found


def _ask(copies: Sequence[Copy], found: list[Presence], broken: dict[str, str], number: int) -> None:
    copy = copies[number]
    reason = broken.get(copy.destination)
    if reason is not None:
        found[number] = Presence(None, reason)
        return
    try:
        open_copy(copy).close()
    except NothingThere:
        found[number] = Presence(is_there=False)
    except MeshError as error:
        reason = error.reason.removeprefix("content: ")
        broken[copy.destination] = reason
        found[number] = Presence(None, reason)
    else:
        found[number] = Presence(is_there=True)
