"""What a person may have done with a message: each is refused where it could deliver twice, or lose a message."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from sqlalchemy import Connection, delete, select, update

from nel_mesh.errors import InvalidArgument
from nel_mesh.io.clock import Clock
from nel_mesh.ledger.database import Database
from nel_mesh.ledger.messages import Copy, LedgerMessage, Messages
from nel_mesh.ledger.presence import AskStores, Presence, is_in_store, of_files
from nel_mesh.ledger.schema import copies, mailboxes
from nel_mesh.ledger.schema import messages as table
from nel_mesh.ledger.states import Direction, Event, State

_AT_ONCE = 100
"""How many messages are acted on in one transaction."""

_DELIVERED = (State.ACKNOWLEDGED, State.GONE)
"""Of these a copy was stored, and MESH has given the message up."""

_Place = tuple[int, str, str | None]


def _place(copy: Copy) -> _Place:
    return copy.message, copy.destination, copy.location


@dataclasses.dataclass(frozen=True, slots=True)
class Effect:
    """What an action would do to a message, or did.

    Attributes:
        message: the message.
        text: what happens, in one sentence.
        is_refused: whether it does not happen; the text says why, and the safe way.
    """

    message: LedgerMessage
    text: str
    is_refused: bool = False


class Actions:
    """What a person may have done with messages of a ledger.

    Args:
        database: the ledger's.
        clock: where time comes from.
        messages: its messages.
        ask: says of copies whether they are where they were stored.
    """

    def __init__(self, database: Database, clock: Clock, messages: Messages, ask: AskStores = of_files) -> None:
        self._database = database
        self._clock = clock
        self._messages = messages
        self._ask = ask

    def preview(self, action: str, numbers: Iterable[int], *, asks_stores: bool = True) -> list[Effect]:
        """Say what an action would do to each message.

        Args:
            action: one of `ACTIONS`.
            numbers: the messages, by their numbers in the ledger.
            asks_stores: whether stores are asked for copies. If not, what depends on their response is not refused.
        """
        _check(action)
        numbers = list(numbers)
        there = self._presences(action, numbers) if asks_stores else None
        with self._database.read() as connection:
            messages = [self._messages.locked(connection, number) for number in numbers]
            return [self._decide(connection, action, message, there) for message in messages]

    def run(self, action: str, numbers: Iterable[int], *, actor: str, reason: str) -> list[Effect]:
        """Do it, where it is not refused. What it does to a message is one transaction; the reason is kept."""
        _check(action)
        effects = []
        numbers = list(numbers)
        there = self._presences(action, numbers)
        for batch in _batches(numbers):
            with self._database.write() as connection:
                for number in batch:
                    effect = self._decide(connection, action, self._messages.locked(connection, number), there)
                    if not effect.is_refused:
                        self._do(connection, action, effect.message, actor, reason)
                    effects.append(effect)
        return effects

    def _presences(self, action: str, numbers: Sequence[int]) -> dict[_Place, Presence]:
        """Ask for the copies of messages that would be delivered again: before a transaction, as stores take time."""
        if action != "deliver again":
            return {}
        known: list[Copy] = []
        with self._database.read() as connection:
            for number in numbers:
                if self._messages.locked(connection, number).state in _DELIVERED:
                    known += self._messages.copies(connection, number)
        return dict(zip(map(_place, known), self._ask(known), strict=True))

    def _decide(
        self, connection: Connection, action: str, message: LedgerMessage, there: Mapping[_Place, Presence] | None
    ) -> Effect:
        if action != "deliver again":
            return ACTIONS[action](message)
        owner = connection.scalar(select(mailboxes.c.owner).where(mailboxes.c.mailbox_id == message.mailbox_id))
        if (owner or message.owner) is not None and message.state is State.ACKNOWLEDGED:
            text = "Its mailbox is being visited at this moment: once more in a minute."
            return Effect(message, text, is_refused=True)
        known = self._messages.copies(connection, message.id)
        if there is None:
            there = dict(zip(map(_place, known), of_files(known), strict=True))
            known, unasked = [copy for copy in known if not is_in_store(copy)], known
            effect = _deliver_again(message, known, there)
            if effect.is_refused or known == unasked:
                return effect
            return Effect(message, "The preview asks the store whether its copy is still there.")
        return _deliver_again(message, known, there)

    def _do(self, connection: Connection, action: str, message: LedgerMessage, actor: str, reason: str) -> None:
        said = {"action": action, "reason": reason}
        now = self._clock.now()
        match action:
            case "retry" | "release" | "acknowledge":
                is_fresh = action == "release"
                values = {"own_failures": 0} if is_fresh else {}
                if message.state in (State.LISTED, State.WAITING, State.STORED):
                    connection.execute(update(table).where(table.c.id == message.id).values(next_attempt_at=now))
                    self._messages.note(connection, message, action, actor=actor, details=said)
                    return
                self._messages.step(
                    connection, message, Event.RELEASED, actor=actor, said=said, next_attempt_at=now, **values
                )
            case "deliver again":
                # The journal must not know it, or it would only be acknowledged.
                connection.execute(delete(copies).where(copies.c.message == message.id))
                if message.state is State.GONE:
                    self._messages.note(connection, message, action, actor=actor, details=said)
                    return
                self._messages.step(
                    connection,
                    message,
                    Event.RELEASED,
                    actor=actor,
                    said=said,
                    next_attempt_at=now,
                    own_failures=0,
                    stored_at=None,
                )
            case "resend":
                self._resend(connection, message, actor, said)
            case _:
                connection.execute(update(table).where(table.c.id == message.id).values(seen_at=now))
                self._messages.note(connection, message, "seen", actor=actor, details=said)

    def _resend(self, connection: Connection, message: LedgerMessage, actor: str, said: dict[str, str]) -> None:
        options = dict(message.options or {})
        # A new message: MESH would take the old local id for the old one.
        options.pop("local_id", None)
        copy = self._messages.insert(
            connection,
            actor=actor,
            direction=Direction.OUT,
            mailbox_id=message.mailbox_id,
            local_id=self._clock.unique(),
            source=message.archived_as,
            node=message.node,
            stamp=f"resent:{message.id}",
            options=options,
            route=message.route,
            workflow_id=message.workflow_id,
            sender=message.sender,
            recipient=message.recipient,
            subject=message.subject,
            file_name=message.file_name,
            bytes=message.bytes,
            next_attempt_at=self._clock.now(),
        )
        values = {"resent_as": copy.id, "seen_at": self._clock.now()}
        connection.execute(update(table).where(table.c.id == message.id).values(**values))
        self._messages.note(connection, message, "resent", actor=actor, details={**said, "as": copy.id})


def _retry(message: LedgerMessage) -> Effect:
    match message.state:
        case State.RETRYING | State.LISTED | State.WAITING | State.STORED:
            return Effect(message, "The next attempt is made at once, not at its appointed time.")
        case State.UNKNOWN:
            return Effect(message, "MESH is asked at once whether it has the message; it is sent only if it has not.")
        case State.QUARANTINED:
            return Effect(message, "It is in quarantine: `release` lets it out.", is_refused=True)
        case State.FETCHING | State.SENDING:
            return Effect(message, "An attempt is being made now.", is_refused=True)
        case State.REFUSED | State.UNDELIVERED:
            return Effect(message, "It cannot be sent as it was: correct the cause, then `resend`.", is_refused=True)
        case _:
            return Effect(message, f"It is {message.state}: there is nothing left to try.", is_refused=True)


def _release(message: LedgerMessage) -> Effect:
    if message.state is State.QUARANTINED:
        return Effect(message, "It is fetched again, from the beginning of its attempts.")
    return Effect(message, "It is not in quarantine; `retry` makes the next attempt at once.", is_refused=True)


def _resend(message: LedgerMessage) -> Effect:
    if message.direction is not Direction.OUT:
        return Effect(message, "It was received. Only messages that were sent can be sent again.", is_refused=True)
    if message.resent_as is not None:
        return Effect(message, f"It was sent again already, as number {message.resent_as}.", is_refused=True)
    match message.state:
        case State.UNDELIVERED | State.REFUSED if message.archived_as:
            return Effect(message, "It goes out again as a new message. MESH did not deliver the old one.")
        case State.UNDELIVERED | State.REFUSED:
            return Effect(message, "Its file was not kept; put the file into the outgoing folder.", is_refused=True)
        case State.ACCEPTED | State.COLLECTED:
            text = "MESH has it, so the recipient would get it twice. To send it all the same, put the file into the"
            return Effect(message, f"{text} outgoing folder again.", is_refused=True)
        case State.UNKNOWN:
            text = "MESH may have it, so the recipient could get it twice. `retry` asks MESH."
            return Effect(message, text, is_refused=True)
        case _:
            return Effect(message, "It is on its way already; `retry` makes the next attempt at once.", is_refused=True)


def _seen(message: LedgerMessage) -> Effect:
    if message.state in (State.UNDELIVERED, State.REFUSED):
        return Effect(message, "It is no longer shown as needing a person.")
    return Effect(message, "Only what was refused or not delivered can be marked as seen.", is_refused=True)


def _acknowledge(message: LedgerMessage) -> Effect:
    if message.direction is not Direction.IN:
        return Effect(message, "It was sent. Its recipient acknowledges it.", is_refused=True)
    match message.state:
        case State.STORED:
            return Effect(message, "MESH is told at once that it is stored here, and removes it from the inbox.")
        case State.ACKNOWLEDGED:
            return Effect(message, "It is acknowledged already.", is_refused=True)
        case State.GONE:
            return Effect(message, "It is not in the inbox any more.", is_refused=True)
        case State.QUARANTINED:
            text = "It is not stored here, and MESH would remove it: it would be lost. `release` fetches it again; or"
            text += " fetch it by hand with `nel-mesh receive`, which acknowledges it."
            return Effect(message, text, is_refused=True)
        case _:
            text = "It is not stored here yet, and MESH would remove it: it would be lost. It is acknowledged by itself"
            return Effect(message, f"{text} once it is stored.", is_refused=True)


def _deliver_again(
    message: LedgerMessage, known: Sequence[Copy] = (), there: Mapping[_Place, Presence] | None = None
) -> Effect:
    there = there or {}
    if message.direction is not Direction.IN:
        return Effect(message, "It was sent, not received: `resend` sends a message again.", is_refused=True)
    match message.state:
        case state if state in _DELIVERED:
            pass
        case State.STORED:
            return Effect(message, "It is stored, and about to be acknowledged.", is_refused=True)
        case State.QUARANTINED:
            return Effect(message, "It was not delivered yet: `release` fetches it again.", is_refused=True)
        case _:
            return Effect(message, "It was not delivered yet, and is on its way: `retry`.", is_refused=True)
    for copy in known:
        presence = there.get(_place(copy), Presence(None, "it was stored a moment ago"))
        if presence.is_there:
            text = "Its copy is still where it was stored, so a program that reads there could get it twice. Take it"
            return Effect(message, f"{text} from there.", is_refused=True)
        if presence.is_there is None:
            text = "Its copy may still be where it was stored, so a program that reads there could get it twice. That"
            text = f"{text} could not be found out: {presence.reason}. Correct that, and try again."
            return Effect(message, text, is_refused=True)
    text = "It is stored again as soon as MESH lists it again: ask the service desk to put it back into the inbox."
    return Effect(message, text)


ACTIONS: Mapping[str, Callable[[LedgerMessage], Effect]] = {
    "retry": _retry,
    "release": _release,
    "resend": _resend,
    "deliver again": _deliver_again,
    "acknowledge": _acknowledge,
    "seen": _seen,
}
"""The actions by name; each decides by the message, and for `deliver again` by its copies."""


def _check(name: str) -> None:
    if name not in ACTIONS:
        raise InvalidArgument(f"action: expected one of {', '.join(ACTIONS)}, not {name!r}")


def _batches(numbers: Iterable[int]) -> Iterator[list[int]]:
    left = iter(numbers)
    while batch := list(islice(left, _AT_ONCE)):
        yield batch
