"""The events of a send: what a plan, a record, a response, an error and a tracking mean for its state."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from nel_mesh.errors import (
    Busy,
    ConnectionFailed,
    ConnectionLost,
    Gone,
    MeshError,
    NotFound,
    Outcome,
    OutcomeUnknown,
    Refused,
    ResponseError,
    UploadFinished,
)
from nel_mesh.models import Tracking
from nel_mesh.protocol import responses, wire
from nel_mesh.protocol.upload_plan import UploadPlan
from nel_mesh.protocol.upload_record import SendRecord
from nel_mesh.protocol.upload_states import Event, Next

LOOK_UP_DELAYS_IN_SECONDS: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0)
"""The waits before each look-up of a message by its local id. We assume that MESH knows its messages after 30 s."""

ACCEPTED: Final = 202
"""The status of a chunk that was accepted, by the MESH API."""

_CLOCK_GRAIN = timedelta(seconds=2)
"""MESH's timestamps and its `Date` may have whole seconds only; the two can round apart."""


def event_of_plan(plan: UploadPlan) -> Event:
    """Return how `Step.BEGIN` ended."""
    return Event.ONE_REQUEST if len(plan.slices) == 1 else Event.SEVERAL_CHUNKS


def event_of_record(record: SendRecord | None) -> Event:
    """Return how `Step.READ_RECORD` ended."""
    if record is None:
        return Event.NO_RECORD
    if record.sent:
        return Event.RECORD_SENT
    total = record.chunks
    if total == 1:
        return Event.RECORD_NOT_SENT if record.not_sent else Event.RECORD_OPEN
    if record.chunks_done == 0:
        return Event.RECORD_NO_CHUNK
    return Event.RECORD_ALL_BUT_LAST if record.chunks_done == total - 1 else Event.RECORD_SOME_CHUNKS


def event_of_acceptance(number: int, total: int) -> Event:
    """Return how `Step.SEND_CHUNK` ended when MESH accepted chunk `number` of `total`."""
    left = total - number
    if left == 0:
        return Event.ACCEPTED_ALL
    return Event.ACCEPTED_ONE_LEFT if left == 1 else Event.ACCEPTED_MORE_LEFT


def accepted_message_id(number: int, status: int, message_id: str | None, upload_id: str | None) -> str:
    """Return the message id of a chunk that MESH has accepted.

    A proxy can put a page of its own in place of the response, so a success counts if it has a message id; for a later
    chunk, whose message id is known, the status of the MESH API is enough.

    Args:
        number: the chunk.
        status: the status, 2xx. MESH API: 202.
        message_id: the message id in the response.
        upload_id: the message id of the upload, from the second chunk on.

    Raises ServerError for anything else: MESH may have the chunk.
    """
    if number == 1 and message_id is not None:
        return message_id
    if number > 1 and upload_id is not None and (status == ACCEPTED or message_id == upload_id):
        return upload_id
    unexpected = responses.unexpected_response("send_message", status=status)
    unexpected.may_have_acted = True
    raise unexpected


def event_of_failure(failure: MeshError, *, delivers: bool) -> Event:
    """Return how `Step.SEND_CHUNK` ended when it raised, after all attempts; `delivers` says of which request."""
    if isinstance(failure, UploadFinished):
        return Event.ALREADY_COMPLETE
    if failure.may_have_acted and delivers:
        return Event.LOST
    if isinstance(failure, (NotFound, Gone)):
        return Event.FORGOTTEN
    if failure.may_have_acted:
        return Event.LOST
    if isinstance(failure, (ConnectionFailed, ConnectionLost, Busy)):
        return Event.NOT_RECEIVED
    return Event.REFUSED if isinstance(failure, ResponseError) else Event.LOCAL_FAILURE


def event_of_look_up(
    tracking: Tracking, plan: UploadPlan, *, began: datetime | None, recent_message_ids: Collection[str]
) -> Event:
    """Return how `Step.LOOK_UP` ended when MESH knows a message by the local id.

    A local id that the caller chose may have been used before. Then only a message that was uploaded after this send
    began can be this one: to take an older message for it would lose this one without a word.

    Args:
        tracking: what was found.
        plan: the upload.
        began: when this send began, by the server's clock; None if that is not known.
        recent_message_ids: ids that other sends of this client have led to.
    """
    if tracking.message_id in recent_message_ids or not _is_same(tracking, plan, began):
        return Event.FOUND_OTHER
    if tracking.failed:
        return Event.FAILED
    return Event.FOUND if tracking.delivered else Event.FOUND_OTHER


def _is_same(tracking: Tracking, plan: UploadPlan, began: datetime | None) -> bool:
    if tracking.local_id not in (None, plan.local_id):
        return False
    if tracking.workflow_id not in (None, plan.headers[wire.WORKFLOW_ID]):
        return False
    if plan.local_id_generated:
        return True
    to = plan.headers[wire.TO].upper()
    # MESH itself finds the mailbox for a recipient that is a patient's GP practice.
    if not to.startswith("GPPROVIDER") and (tracking.recipient or to).upper() != to:
        return False
    file_name = plan.headers.get(wire.FILE_NAME)
    if file_name and tracking.file_name not in (None, file_name):
        return False
    if began is None or tracking.upload_timestamp is None:
        return False
    return tracking.upload_timestamp >= began - _CLOCK_GRAIN


def event_of_tracking(tracking: Tracking) -> Event:
    """Return how `Step.TRACK` ended when MESH answered."""
    if tracking.failed:
        return Event.FAILED
    return Event.DELIVERED if tracking.delivered else Event.NOT_DELIVERED


# What to raise


def failure_of(tracking: Tracking) -> Refused:
    """Return the failure of a message that MESH took and then failed; it will not be delivered."""
    return Refused(
        f"MESH took the message, and then failed it (status {tracking.status})",
        event=wire.printable(tracking.status_event),
        code=wire.printable(tracking.status_code),
        description=wire.printable(tracking.status_description),
        message_id=tracking.message_id,
    )


def error(end: Next, failure: MeshError) -> MeshError:
    """Return the error with which a send ends that has no receipt: the failure, or OutcomeUnknown with its reason."""
    if not end.reason:
        return failure
    return OutcomeUnknown(
        f"{end.reason} ({failure.reason})",
        outcome=Outcome.UNKNOWN,
        status=failure.status,
        event=failure.event,
        code=failure.code,
        description=failure.description,
    )
