"""What becomes of a send whose answer was lost ("sending exactly once").

| request lost       | can MESH have acted?  | what to do                                                       |
| ------------------ | --------------------- | ---------------------------------------------------------------- |
| never left         | no                    | try again                                                        |
| the only one       | yes: it makes a message | ask by local id; if that does not settle it, say so            |
| first of several   | yes, harmlessly       | start again: what is never finished is never delivered           |
| a middle one       | yes, harmlessly       | repeat the chunk                                                 |
| the last           | yes: it delivers      | repeat; 423 means that it had arrived; ask by message id         |
"""

from __future__ import annotations

from datetime import datetime, timedelta

from nel_mesh.models import Tracking

_CLOCK_GRAIN = timedelta(seconds=2)
"""MESH's timestamps may have whole seconds only, and its answers' Date has; the two can round apart."""

DELIVERED = frozenset({"accepted", "acknowledged"})
"""The tracking statuses that say that MESH has the whole message."""


SETTLED = DELIVERED | {"error"}
"""The tracking statuses that say what became of a send."""

FINAL = frozenset({"acknowledged", "error"})
"""The tracking statuses after which nothing more happens."""

SETTLING_DELAYS_IN_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0)
"""How long to wait before each time of asking for a message by its local id, after its answer was lost.

We take it that MESH knows its own messages after these 30 seconds.
"""


def is_delivered(tracking: Tracking) -> bool:
    """Whether tracking says that MESH has the whole message."""
    return tracking.status in DELIVERED


def is_same_send(
    tracking: Tracking,
    *,
    local_id: str,
    workflow_id: str,
    to: str,
    file_name: str | None,
    local_id_generated: bool,
    began: datetime | None,
) -> bool:
    """Whether the message that was found by its local id is the one whose answer was lost.

    A local id that the caller chose may have been used before; then only a message that was uploaded after this send
    began can be the one. To take an older one for it would lose a message without a word.

    Args:
        tracking: what was found.
        local_id: what was asked for.
        workflow_id: the workflow id that was sent.
        to: the recipient that was asked for; MESH itself finds the mailbox for one that begins with `GPPROVIDER_`.
        file_name: the file name that was sent, if one was.
        local_id_generated: whether the local id was made for this send, and so is unique.
        began: when this send began by the server's clock; None if that is not known.
    """
    if not is_delivered(tracking):
        return False
    if tracking.local_id not in (None, local_id) or tracking.workflow_id not in (None, workflow_id):
        return False
    if local_id_generated:
        return True
    is_looked_up = to.upper().startswith("GPPROVIDER")
    if not is_looked_up and (tracking.recipient or to).upper() != to.upper():
        return False
    if file_name and tracking.file_name not in (None, file_name):
        return False
    if began is None or tracking.upload_timestamp is None:
        return False
    return tracking.upload_timestamp >= began - _CLOCK_GRAIN
