"""The messages of a sandbox: their state in memory, their bodies on disk.

Every method may be called from any thread. A body has a temporary name until it is complete. In a folder that is kept,
each message has a record beside its bodies, replaced at each change of its state; what has no record is not there.
"""

from __future__ import annotations

import bisect
import dataclasses
import enum
import heapq
import json
import os
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from nel_mesh.io.files import write_file
from nel_mesh.io.locks import FileLock
from nel_mesh.sandbox.configuration import INBOX_LIFE, UNCOLLECTED_LIFE
from nel_mesh.sandbox.errors import DESCRIPTIONS, Refusal, invalid_range


class MessageStatus(enum.StrEnum):
    """The state of a message."""

    UPLOADING = "uploading"
    ACCEPTED = "accepted"
    ACKNOWLEDGED = "acknowledged"
    UNDELIVERABLE = "undeliverable"
    """Nobody acknowledged it in time."""
    ERROR = "error"
    """MESH gave it up; here only by a control operation."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The sender's headers of a message, passed on to the recipient as they came."""

    workflow_id: str = ""
    subject: str = ""
    local_id: str = ""
    file_name: str = ""
    partner_id: str = ""
    checksum: str = ""
    content_type: str = ""
    content_encoding: str = ""
    compressed: str = ""
    encrypted: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReportReason:
    """The failure that a REPORT is about."""

    linked_message_id: str
    event: str
    code: str
    description: str


def not_collected(message_id: str) -> ReportReason:
    """The failure of a message that nobody acknowledged in time (MESH API, "Error codes", 14)."""
    return ReportReason(
        linked_message_id=message_id,
        event="SEND",
        code="14",
        description=DESCRIPTIONS["14"],
    )


def _usual_problem(message_id: str, status: MessageStatus) -> ReportReason:
    if status is MessageStatus.UNDELIVERABLE:
        return not_collected(message_id)
    return ReportReason(linked_message_id=message_id, event="TRANSFER", code="", description="")


@dataclasses.dataclass(slots=True, kw_only=True)
class StoredMessage:
    """A message and its state.

    `sizes` are the lengths on the wire of the chunks that have arrived. `position` orders delivered messages; it is 0
    before delivery. `expires` is when the message leaves the inbox if nobody acknowledges it; before delivery, when it
    would if it were delivered at once. A REPORT has a `failure`, no chunks, and no sender. `problem` is why a message
    was not delivered, where that is known.
    """

    message_id: str
    sender: str
    recipient: str
    description: Description
    total_chunks: int
    created: datetime
    expires: datetime
    status: MessageStatus = MessageStatus.UPLOADING
    changed: datetime
    sizes: list[int] = dataclasses.field(default_factory=list)
    position: int = 0
    failure: ReportReason | None = None
    problem: ReportReason | None = None

    @property
    def message_type(self) -> str:
        """DATA or REPORT."""
        return "REPORT" if self.failure else "DATA"


class IncomingBody:
    """A body on its way to disk. It is removed at the end of the `with` block, unless it has been stored."""

    def __init__(self, path: Path, *, durable: bool) -> None:
        self.path = path
        self.size = 0
        self._durable = durable
        # Blocking writes: the page cache takes less time than a switch of threads.
        self._file = path.open("wb")

    def write(self, block: bytes) -> None:
        """Write a block of the body."""
        self.size += len(block)
        self._file.write(block)

    def close(self) -> None:
        """End the body, so that it can be stored."""
        if self._durable:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> IncomingBody:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class _Inbox:
    """The messages delivered to one mailbox, oldest first; acknowledged ones are removed in batches."""

    def __init__(self) -> None:
        self._messages: list[StoredMessage] = []
        self.waiting = 0

    def add(self, message: StoredMessage) -> None:
        self._messages.append(message)
        self.waiting += 1

    def put_back(self, message: StoredMessage) -> None:
        """Add a message that has left the inbox, in its old place."""
        self._messages = [one for one in self._messages if one is not message]
        bisect.insort(self._messages, message, key=lambda one: one.position)
        self.waiting += 1

    def removed(self) -> None:
        """Note that one of the messages has left the inbox."""
        self.waiting -= 1
        if len(self._messages) > 2 * self.waiting + 1000:
            self._messages = [message for message in self._messages if _waits(message)]

    def page(self, after: int, limit: int) -> list[StoredMessage]:
        """Return the first `limit` messages in the inbox whose position is beyond `after`."""
        found: list[StoredMessage] = []
        start = bisect.bisect_right(self._messages, after, key=lambda message: message.position)
        for index in range(start, len(self._messages)):
            if len(found) == limit:
                break
            if _waits(self._messages[index]):
                found.append(self._messages[index])
        return found


def _waits(message: StoredMessage) -> bool:
    return message.status is MessageStatus.ACCEPTED


class Store:
    """All messages of a sandbox.

    Args:
        folder: the folder that keeps the messages; None is a temporary one, which `close` removes.
        clock: returns the current time, with its time zone.
        inbox_life: how long a message stays in an inbox.

    Raises ValueError for a folder that another sandbox uses, or with a damaged record, and StorageError if it cannot
    be written.
    """

    def __init__(
        self, folder: Path | str | None, clock: Callable[[], datetime], inbox_life: timedelta = INBOX_LIFE
    ) -> None:
        self._clock = clock
        self._inbox_life = inbox_life
        self._lock = threading.RLock()
        self._kept = folder is not None
        self._root = Path(tempfile.mkdtemp(prefix="nel-mesh-sandbox-")) if folder is None else Path(folder)
        self._owner = FileLock(self._root / ".lock")
        if self._kept and not self._owner.acquire():
            raise ValueError(f"data_folder: another sandbox uses {self._root}")
        self._generation = 0
        self._numbers = 0
        self._delivered = 0
        self._last_id_time = datetime.min.replace(tzinfo=UTC)
        try:
            self._open()
        except BaseException:
            self._owner.release()
            raise

    @property
    def folder(self) -> Path:
        """The folder of this store; `close` removes it unless it is kept."""
        return self._root

    def close(self) -> None:
        """Remove the folder and every body, unless they are kept."""
        self._owner.release()
        if not self._kept:
            shutil.rmtree(self._root, ignore_errors=True)

    def now(self) -> datetime:
        """Return the time of the store's clock."""
        return self._clock()

    def reset(self) -> None:
        """Remove every message, and every body that is still arriving."""
        with self._lock:
            old = self._folder
            self._clear()
        shutil.rmtree(old, ignore_errors=True)

    def _open(self) -> None:
        """Read the messages that the folder has kept."""
        kept = sorted(int(path.name) for path in self._root.iterdir() if path.name.isdigit())
        # A reset makes the next folder before it removes the last one.
        for number in kept[:-1]:
            shutil.rmtree(self._root / str(number), ignore_errors=True)
        self._generation = kept[-1] - 1 if kept else 0
        self._clear()
        found = [self._read(path) for path in sorted(self._folder.glob("*.json"))]
        for message in sorted(found, key=lambda one: one.message_id):
            self._messages[message.message_id] = message
            if message.sender and message.description.local_id:
                self._by_local_id[message.sender, message.description.local_id].append(message)
            due = message.expires if _waits(message) else self._deletion(message)
            heapq.heappush(self._deadlines, (due, message.message_id))
        for message in sorted(found, key=lambda one: one.position):
            self._delivered = max(self._delivered, message.position)
            if _waits(message):
                self._inboxes[message.recipient].add(message)
        bodies = {self.body(one, number) for one in found for number in range(1, len(one.sizes) + 1)}
        for path in self._folder.iterdir():
            if path.suffix != ".json" and path not in bodies:
                path.unlink()

    def _read(self, path: Path) -> StoredMessage:
        try:
            record = json.loads(path.read_bytes())
            for name in ("created", "expires", "changed"):
                record[name] = datetime.fromisoformat(record[name])
            for name in ("failure", "problem"):
                record[name] = record[name] and ReportReason(**record[name])
            record["description"] = Description(**record["description"])
            record["status"] = MessageStatus(record["status"])
            message = StoredMessage(**record)
            # The last chunk may have been replaced just before the end.
            message.sizes = [self.body(message, one).stat().st_size for one in range(1, len(message.sizes) + 1)]
        except (ValueError, TypeError, KeyError, OSError):
            raise ValueError(f"data_folder: {path} is damaged; remove it, or the whole folder") from None
        return message

    def _record(self, message: StoredMessage) -> None:
        """Make the state of a message durable, where it is kept."""
        if self._kept:
            content: dict[str, Any] = dataclasses.asdict(message)
            write_file(
                self._folder / f"{message.message_id}.json", json.dumps(content, default=datetime.isoformat).encode()
            )

    def reset_inbox(self, mailbox_id: str) -> None:
        """Remove every message to this mailbox."""
        with self._lock:
            for message in [one for one in self._messages.values() if one.recipient == mailbox_id]:
                self._delete(message)
            self._inboxes.pop(mailbox_id, None)

    def _clear(self) -> None:
        self._generation += 1
        self._folder = self._root / str(self._generation)
        self._folder.mkdir(exist_ok=True)
        self._messages: dict[str, StoredMessage] = {}
        self._by_local_id: dict[tuple[str, str], list[StoredMessage]] = defaultdict(list)
        self._inboxes: dict[str, _Inbox] = defaultdict(_Inbox)
        self._delivered = 0
        self._deadlines: list[tuple[datetime, str]] = []

    def keep_time(self) -> None:
        """Process everything that is due: messages leave inboxes, are reported, and are deleted.

        Events are processed in order, each at its own time.
        """
        if not self._deadlines:
            return
        now = self._clock()
        with self._lock:
            while self._deadlines and self._deadlines[0][0] <= now:
                moment, message_id = heapq.heappop(self._deadlines)
                message = self._messages.get(message_id)
                if message is None:
                    continue
                # A message whose state was set since has a later deadline of its own.
                if message.status is MessageStatus.ACCEPTED and message.expires <= moment:
                    self._expire(message, moment)
                elif message.status is MessageStatus.UNDELIVERABLE and self._deletion(message) <= moment:
                    self._delete(message)

    def _expire(self, message: StoredMessage, moment: datetime) -> None:
        message.status = MessageStatus.UNDELIVERABLE
        message.problem = not_collected(message.message_id)
        message.changed = moment
        self._inboxes[message.recipient].removed()
        heapq.heappush(self._deadlines, (self._deletion(message), message.message_id))
        self._record(message)
        if message.sender:
            about = message.description
            self._report(
                recipient=message.sender,
                description=Description(workflow_id=about.workflow_id, subject=about.subject, local_id=about.local_id),
                failure=message.problem,
                now=moment,
            )

    def _deletion(self, message: StoredMessage) -> datetime:
        """When an undeliverable message is deleted."""
        return message.changed - self._inbox_life + UNCOLLECTED_LIFE

    def _delete(self, message: StoredMessage) -> None:
        del self._messages[message.message_id]
        same = self._by_local_id.get((message.sender, message.description.local_id), [])
        if message in same:
            same.remove(message)
        if self._kept:
            (self._folder / f"{message.message_id}.json").unlink(missing_ok=True)
        for number in range(1, len(message.sizes) + 1):
            self.body(message, number).unlink(missing_ok=True)

    def new_upload(self) -> IncomingBody:
        """Open a file for a body that is about to arrive."""
        with self._lock:
            self._numbers += 1
            return IncomingBody(self._folder / f"arriving-{self._numbers}", durable=self._kept)

    def body(self, message: StoredMessage, number: int) -> Path:
        """The file of chunk `number` of a message, as it was on the wire."""
        return self._folder / f"{message.message_id}.{number}"

    def add(
        self, *, sender: str, recipient: str, description: Description, total_chunks: int, upload: IncomingBody
    ) -> StoredMessage:
        """Store a new message with its only or first chunk; a message of one chunk is delivered at once."""
        with self._lock:
            message = self._new_message(sender, recipient, description, total_chunks, self._clock())
            upload.path.replace(self.body(message, 1))
            message.sizes.append(upload.size)
            self._keep(message)
            return message

    def add_report(self, *, recipient: str, description: Description, failure: ReportReason) -> StoredMessage:
        """Deliver a REPORT, which has no content."""
        with self._lock:
            return self._report(recipient=recipient, description=description, failure=failure, now=self._clock())

    def check_chunk(self, message: StoredMessage, number: int, total: int) -> None:
        """Check that this chunk may come now: the next one, or the last one once more.

        Raises Refusal: 423 if all have arrived, 406 for a number beyond the total, 417 for any other fault.
        """
        identity = message.message_id
        if message.status is not MessageStatus.UPLOADING:
            words = "Messages has been finalised; no more chunks can be uploaded"
            raise Refusal(423, "all chunks have arrived already", event="SEND", description=words, message_id=identity)
        if number > message.total_chunks:
            reason = f"the message has {message.total_chunks} chunks"
            raise Refusal(406, reason, event="SEND", description="Not Acceptable", message_id=identity)
        if total != message.total_chunks:
            raise invalid_range(f"the message was begun with {message.total_chunks} chunks", identity)
        received = len(message.sizes)
        if number not in (received, received + 1):
            raise invalid_range(f"chunk {received + 1} is next, or {received} once more", identity)

    def add_chunk(self, message: StoredMessage, number: int, upload: IncomingBody) -> None:
        """Store a chunk, in place of an earlier copy; the last one delivers the message.

        Raises Refusal as `check_chunk` does, as another request may have come first.
        """
        with self._lock:
            self.check_chunk(message, number, message.total_chunks)
            upload.path.replace(self.body(message, number))
            message.sizes[number - 1 :] = [upload.size]
            self._deliver_if_whole(message, self._clock())
            self._record(message)

    def acknowledge(self, message: StoredMessage) -> None:
        """Remove a message from its inbox; a second time changes nothing."""
        with self._lock:
            if message.status is not MessageStatus.ACCEPTED:
                return
            message.status = MessageStatus.ACKNOWLEDGED
            message.changed = self._clock()
            self._inboxes[message.recipient].removed()
            self._record(message)

    def set_status(self, message: StoredMessage, status: MessageStatus, problem: ReportReason | None = None) -> None:
        """Set the state of a message that has been delivered; accepted puts it back into the inbox.

        A failure without a problem keeps the earlier one; the status undeliverable then has the usual one.

        Raises ValueError for a message that is still being uploaded, and for the status uploading.
        """
        with self._lock:
            if MessageStatus.UPLOADING in (message.status, status):
                raise ValueError("a message cannot be moved into or out of the status uploading")
            was_waiting = _waits(message)
            if problem is None and status in (MessageStatus.UNDELIVERABLE, MessageStatus.ERROR):
                problem = message.problem or _usual_problem(message.message_id, status)
            message.status, message.problem, message.changed = status, problem, self._clock()
            if _waits(message) and not was_waiting:
                message.expires = message.changed + self._inbox_life
                heapq.heappush(self._deadlines, (message.expires, message.message_id))
                self._inboxes[message.recipient].put_back(message)
            elif was_waiting and not _waits(message):
                self._inboxes[message.recipient].removed()
            if status is MessageStatus.UNDELIVERABLE:
                heapq.heappush(self._deadlines, (self._deletion(message), message.message_id))
            self._record(message)

    def expire(self, message: StoredMessage) -> bool:
        """Let a message leave its inbox now, as if nobody had acknowledged it in time; False if it is in none."""
        with self._lock:
            if not _waits(message):
                return False
            self._expire(message, self._clock())
            return True

    def find(self, message_id: str) -> StoredMessage | None:
        """Find the message with this id, in any state."""
        return self._messages.get(message_id)

    def sent_as(self, sender: str, local_id: str) -> list[StoredMessage]:
        """Find all messages that a mailbox sent with one local id, oldest first."""
        with self._lock:
            return list(self._by_local_id.get((sender, local_id), ()))

    def inbox_page(self, mailbox_id: str, *, after: int, limit: int) -> tuple[list[StoredMessage], bool]:
        """Return up to `limit` messages beyond a position, oldest first, and whether more follow."""
        with self._lock:
            found = self._inboxes[mailbox_id].page(after, limit + 1)
        return found[:limit], len(found) > limit

    def inbox_count(self, mailbox_id: str) -> int:
        """Count the messages in an inbox."""
        with self._lock:
            return self._inboxes[mailbox_id].waiting

    def snapshot(self) -> list[StoredMessage]:
        """Copy all messages, oldest first."""
        with self._lock:
            return [dataclasses.replace(message, sizes=list(message.sizes)) for message in self._messages.values()]

    def _report(
        self, *, recipient: str, description: Description, failure: ReportReason, now: datetime
    ) -> StoredMessage:
        message = self._new_message("", recipient, description, 0, now)
        message.failure = failure
        self._keep(message)
        return message

    def _new_message(
        self, sender: str, recipient: str, description: Description, total_chunks: int, now: datetime
    ) -> StoredMessage:
        return StoredMessage(
            message_id=self._new_id(now),
            sender=sender,
            recipient=recipient,
            description=description,
            total_chunks=total_chunks,
            created=now,
            expires=now + self._inbox_life,
            changed=now,
        )

    def new_message_id(self) -> str:
        """Make an id for a message that was refused, as a report of it needs one."""
        with self._lock:
            return self._new_id(self._clock())

    def _new_id(self, now: datetime) -> str:
        # Unique and ascending, even if the clock stands still or goes back.
        self._last_id_time = max(now.astimezone(UTC), self._last_id_time + timedelta(microseconds=1))
        self._numbers += 1
        return f"{self._last_id_time:%Y%m%d%H%M%S%f}_{self._numbers % 0x1000000:06X}"

    def _keep(self, message: StoredMessage) -> None:
        self._messages[message.message_id] = message
        if message.sender and message.description.local_id:
            self._by_local_id[message.sender, message.description.local_id].append(message)
        self._deliver_if_whole(message, message.created)
        self._record(message)

    def _deliver_if_whole(self, message: StoredMessage, now: datetime) -> None:
        if len(message.sizes) < message.total_chunks:
            return
        self._delivered += 1
        message.position = self._delivered
        message.status = MessageStatus.ACCEPTED
        message.changed = now
        message.expires = now + self._inbox_life
        heapq.heappush(self._deadlines, (message.expires, message.message_id))
        self._inboxes[message.recipient].add(message)
