"""Send what lies in the outgoing folders of one mailbox, each file exactly once, and file it away.

The steps, each durable before the next, so that a kill between any two is harmless:

1. The file is noted in the ledger, with the local id that it will be sent under.
2. `send_file` sends it, under a record in the ledger: after a kill it resumes, or asks MESH for the local id.
3. The receipt is noted: the message is accepted.
4. The file is moved into the archive, that is noted, and the record is forgotten. Until then, a file of that stamp is
   known, and not taken again.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from nel_mesh import (
    BadRequest,
    Gone,
    InvalidArgument,
    MeshClient,
    MeshError,
    NotFound,
    Outcome,
    Refused,
    SendProgress,
    SourceError,
    StorageError,
    Tracking,
)
from nel_mesh.agent.configuration import MailboxPlan
from nel_mesh.agent.outgoing import Layout, OutgoingFile, stamp_of
from nel_mesh.agent.receiving import retry_delay
from nel_mesh.agent.tables import Defaults
from nel_mesh.agent.transfers import Transfers
from nel_mesh.ledger.ledger import Ledger
from nel_mesh.ledger.messages import LedgerMessage
from nel_mesh.ledger.outgoing import NewSend
from nel_mesh.ledger.states import Event, State
from nel_mesh.ledger.transfers import LedgerRecord

_BATCH = 200
"""How many files are noted in one transaction."""

_AT_ONCE = 500
"""How many messages are taken from the ledger at a time."""

COMPOSED = "composed:"
"""What the stamp of a message begins with that a person gave by hand: its file stays where it is."""

_KEPT = ("resent:", COMPOSED)
"""Stamps of messages whose files are nobody else's to change, and are not moved."""
_RUN_SECONDS = 285.0
"""How long a run lasts. A send that takes longer goes on by itself, and the next run sends what came meanwhile."""

_REFUSALS = (Refused, BadRequest, InvalidArgument)
"""Errors by which a message is refused as it is: the next attempt would end as this one did."""


@dataclasses.dataclass(frozen=True, slots=True)
class OutgoingFolder:
    """One outgoing folder of a mailbox.

    Attributes:
        number: of its route in the configuration.
        folder: its path.
        layout: how messages lie in it.
        is_shared: whether every machine of the fleet reaches it; without a fleet, always.
    """

    number: int
    folder: Path
    layout: Layout
    is_shared: bool


class Sender:
    """Sends the files of one mailbox.

    Args:
        plan: the mailbox.
        defaults: how failures are dealt with.
        client: gives its client, when there is something to send.
        ledger: where it is recorded.
        folders: its outgoing folders.
        transfers: what this process is sending.
        owner: this process, as the ledger calls it.
        node: the machine that the folders belong to; None for those that all reach.
        check_heard: raises an error if another process may send in place of this one; asked before each block.
        is_over: asked before each message; True ends the run.
    """

    def __init__(
        self,
        plan: MailboxPlan,
        defaults: Defaults,
        client: Callable[[], MeshClient],
        ledger: Ledger,
        folders: Sequence[OutgoingFolder],
        *,
        transfers: Transfers,
        owner: str,
        node: str | None,
        check_heard: Callable[[], object],
        is_over: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._defaults = defaults
        self._client = client
        self._ledger = ledger
        self._folders = folders
        self._transfers = transfers
        self._owner = owner
        self._node = node
        self._check_heard = check_heard
        self._is_over = is_over

    def run(self) -> int:
        """Note what is in the folders, and send what is due; return how many messages were sent."""
        for message in self._ledger.outgoing.unfiled(self._plan.mailbox_id, self._node):
            self._file_away(message)
        self._note_files()
        sent = 0
        end = self._ledger.clock.monotonic() + _RUN_SECONDS

        def is_over() -> bool:
            return self._is_over() or self._ledger.clock.monotonic() >= end

        while due := self._ledger.outgoing.due(self._plan.mailbox_id, _AT_ONCE, self._node):
            results: list[bool] = []
            work = partial(self._send_all, due, results, is_over)
            if not self._transfers.run(f"send from {self._plan.mailbox_id}", work, is_over):
                break
            sent += sum(results)
            if is_over() or not any(results):
                break
        return sent

    def _send_all(self, due: Sequence[LedgerMessage], results: list[bool], is_over: Callable[[], bool]) -> None:
        with ThreadPoolExecutor(self._defaults.messages_at_once, thread_name_prefix="send") as threads:
            results += threads.map(lambda message: not is_over() and self._send(message), due)

    def _note_files(self) -> None:
        now = self._ledger.clock.monotonic()
        known = self._ledger.outgoing.unfiled_sources(self._plan.mailbox_id, self._node)
        for folder in self._folders:
            files = (file for file in folder.layout.find(now) if (str(file.path), file.stamp) not in known)
            while batch := list(islice(files, _BATCH)):
                self._note(batch, folder.number)

    def _note(self, files: Sequence[OutgoingFile], route: int) -> None:
        sends = [
            NewSend(
                source=str(file.path),
                stamp=file.stamp,
                options=file.options,
                route=route,
                file_name=file.options.get("file_name"),
                length=file.length,
                node=self._node,
            )
            for file in files
        ]
        noted = self._ledger.outgoing.add(self._plan.mailbox_id, sends)
        for file, message in zip(files, noted, strict=True):
            if file.fault is not None and message.state is State.WAITING:
                self._refused(message, file.fault)

    def _send(self, message: LedgerMessage) -> bool:
        """Send one message; whether MESH has it now. Never raises an error of the message's."""
        with self._transfers.held([message.id]):
            begun = self._ledger.messages.begin([message.id], self._owner)
            return bool(begun) and self._send_begun(begun[0])

    def _send_begun(self, message: LedgerMessage) -> bool:
        try:
            if not self._is_as_found(message):
                return self._settle_without_file(message)
            options: dict[str, Any] = dict(message.options or {})
            options["local_id"] = message.local_id
            record = self._ledger.sends.record(str(message.id))
            receipt = self._client().send_file(
                message.source or "", resume=record, progress=partial(self._check, record), **options
            )
        except MeshError as error:
            self._failed(message, error)
            return False
        self._accepted(message, receipt.message_id, receipt.bytes)
        return True

    def _check(self, record: LedgerRecord, progress: SendProgress) -> None:
        """Stop a send, before its next block goes, that another attempt could not find out about."""
        self._check_heard()
        if not record.is_kept:
            raise StorageError("the ledger could not keep the record of this send, so nothing was sent")

    def _is_as_found(self, message: LedgerMessage) -> bool:
        is_kept = (message.stamp or "").startswith(_KEPT)
        stamp = stamp_of(Path(message.source or ""))
        return stamp is not None and (is_kept or stamp == message.stamp)

    def _settle_without_file(self, message: LedgerMessage) -> bool:
        """Deal with a file that was changed or removed before it was sent: its new version is a message of its own."""
        # An attempt that was killed has left no word of how far it came.
        if message.state is State.UNKNOWN or message.attempts > 1:
            tracking: Tracking | None = self._client().resolve_send(message.local_id or "")
            if tracking is not None:
                self._accepted(message, tracking.message_id, tracking.file_size or message.bytes or 0)
                return True
        error = SourceError("the file was changed or removed before it was sent")
        self._ledger.messages.fail(message.id, Event.REFUSED, error, next_attempt_at=None)
        self._ledger.outgoing.filed(message.id, None)
        return False

    def _accepted(self, message: LedgerMessage, message_id: str, length: int) -> None:
        after = int(self._defaults.track_first_after_in_minutes * 60)
        message = self._ledger.outgoing.accepted(
            message.id, message_id=message_id, length=length, track_after_in_seconds=after
        )
        self._file_away(message)

    def _failed(self, message: LedgerMessage, error: MeshError) -> None:
        if isinstance(error, _REFUSALS) and error.outcome is not Outcome.UNKNOWN:
            self._refused(message, error)
            return
        event = Event.LOST_RESPONSE if error.outcome is Outcome.UNKNOWN else Event.FAILED
        wait = retry_delay(self._defaults, message.attempts, self._ledger.clock.chance())
        after = self._ledger.messages.fail(message.id, event, error, next_attempt_at=self._ledger.clock.now() + wait)
        layout = self._layout_of(message)
        if layout is not None:
            with contextlib.suppress(StorageError):
                layout.delay(after)

    def _refused(self, message: LedgerMessage, error: MeshError) -> None:
        message = self._ledger.messages.fail(message.id, Event.REFUSED, error, next_attempt_at=None)
        self._file_away(message)

    def _file_away(self, message: LedgerMessage) -> None:
        """Move the files of a message where they belong; if that fails, the next run does it."""
        archived: str | None = message.source
        layout = self._layout_of(message)
        try:
            if (message.stamp or "").startswith(_KEPT):
                pass  # It lies where it is kept.
            elif layout is None:
                # There is no such folder any more.
                archived = message.archived_as
            elif message.state is State.REFUSED:
                archived = layout.refuse(message)
            else:
                archived = layout.archive(message)
        except StorageError as error:
            self._ledger.note("file not moved", mailbox_id=message.mailbox_id, number=message.id, reason=error.reason)
            return
        self._ledger.outgoing.filed(message.id, archived)

    def _layout_of(self, message: LedgerMessage) -> Layout | None:
        """Return the layout of the folder that a message came from; the configuration may have changed since."""
        parent = Path(message.source or "").parent
        return next((one.layout for one in self._folders if one.folder == parent), None)


@dataclasses.dataclass(frozen=True, slots=True)
class Tracker:
    """Asks for the status of the messages that a mailbox has sent, at a considerate pace."""

    plan: MailboxPlan
    defaults: Defaults
    client: MeshClient
    ledger: Ledger

    def run(self, is_over: Callable[[], bool]) -> None:
        """Track what is due. Raises MeshError if MESH cannot be asked."""
        for message in self.ledger.outgoing.to_track(self.plan.mailbox_id, _AT_ONCE):
            if is_over():
                return
            self.track(message)

    def track(self, message: LedgerMessage) -> Tracking | None:
        """Ask for the status of a message, and note it; None if MESH knows it no more. Raises MeshError."""
        longest = int(self.defaults.track_at_least_every_in_hours * 3600)
        wait = min(longest, max(1, 2 * (message.track_wait_in_seconds or 0)))
        try:
            tracking = self.client.track_message(message.message_id or "")
        except (NotFound, Gone):
            # It stays accepted, and `status` says when it grows old.
            self.ledger.outgoing.tracked(message.id, None, wait_in_seconds=wait)
            return None
        event = None
        values: Mapping[str, Any] = {}
        if tracking.failed:
            event = Event.UNDELIVERED
            values = {
                "reason": "MESH did not deliver it",
                "status_event": tracking.status_event,
                "status_code": tracking.status_code,
                "status_description": tracking.status_description,
            }
        elif tracking.status == "acknowledged":
            event = Event.COLLECTED
        self.ledger.outgoing.tracked(message.id, event, wait_in_seconds=wait, **values)
        return tracking
