"""Faults to be planned for a sandbox: what may go wrong, with which request. Values only; `sabotage` does them."""

from __future__ import annotations

import dataclasses
import enum
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeAlias

from nel_mesh.sandbox.operations import Operation

ANY: Final = "any"
EVERY: Final = "every"
MAX_SECONDS: Final = 600.0
TRICKLE_SECONDS: Final = 10.0


class Effect(enum.StrEnum):
    """What a fault does. Every cut is of the TCP connection itself, with TLS and without."""

    CUT_BEFORE_BODY = "cut-before-body"
    CUT_DURING_BODY = "cut-during-body"
    CUT_AFTER_BODY = "cut-after-body"
    LOSE_ANSWER = "lose-answer"
    CUT_ANSWER = "cut-answer"
    DELAY = "delay"
    TRICKLE = "trickle"
    ANSWER = "answer"
    TRUNCATE_GZIP = "truncate-gzip"
    CORRUPT_GZIP = "corrupt-gzip"
    LONGER_LENGTH = "longer-length"
    SHORTER_LENGTH = "shorter-length"
    MISSING_CHUNK = "missing-chunk"
    SKIP_CHUNK = "skip-chunk"
    REPEAT_CHUNK = "repeat-chunk"
    REPEAT_CONTENT = "repeat-content"
    WRONG_RANGE = "wrong-range"


DOWNLOADS: Final = frozenset({Operation.RETRIEVE_MESSAGE, Operation.RETRIEVE_CHUNK})

ONLY_DOWNLOADS: Final = frozenset(
    {
        Effect.TRUNCATE_GZIP,
        Effect.CORRUPT_GZIP,
        Effect.MISSING_CHUNK,
        Effect.SKIP_CHUNK,
        Effect.REPEAT_CHUNK,
        Effect.REPEAT_CONTENT,
        Effect.WRONG_RANGE,
    }
)
"""The effects that only a download can suffer."""

# The first of each is the one that the text form gives a value without its name.
_TAKES: Final[dict[Effect, tuple[str, ...]]] = {
    Effect.CUT_DURING_BODY: ("at_byte",),
    Effect.CUT_ANSWER: ("at_byte",),
    Effect.DELAY: ("seconds",),
    Effect.TRICKLE: ("bytes_per_second", "seconds"),
    Effect.ANSWER: ("status", "retry_after", "done", "content_type", "body"),
    Effect.TRUNCATE_GZIP: ("at_byte",),
    Effect.CORRUPT_GZIP: ("at_byte",),
    Effect.LONGER_LENGTH: ("by_bytes",),
    Effect.SHORTER_LENGTH: ("by_bytes",),
}
_NEEDS: Final = {Effect.DELAY: "seconds", Effect.TRICKLE: "bytes_per_second", Effect.ANSWER: "status"}
_EXTRAS: Final = ("at_byte", "by_bytes", "seconds", "bytes_per_second", "status", "retry_after", "done")
_OPTIONS: Final = (*_EXTRAS, "content_type", "body")
_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "chunk": int,
    "at_byte": int,
    "by_bytes": int,
    "seconds": float,
    "bytes_per_second": int,
    "status": int,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is to go wrong. The sandbox's documentation has a table of the effects.

        Fault("send_message", "lose-answer")
        Fault("retrieve_chunk", "cut-answer", chunk=3, at_byte=1000)
        Fault("any", "answer", nth="every", status=503, retry_after=2)

    A request suffers one fault at the most: the one planned first, of those whose turn it is. The others wait for the
    next request that matches, and so does a fault that cannot be done to its request, such as damage to the gzip of
    a body that is none.

    Args:
        operation: what the request asks for, such as "send_message", as `Sandbox.requests` has it; or "any".
        effect: what to do.
        nth: the how many-th matching request, counted from 1 since the fault was added; or "every".
        chunk: only requests for this chunk, counted from 1; a message's own request is for chunk 1.
        message_id: only requests whose path names this message.
        at_byte: bytes after which the body is cut or damaged, counted from 0 and as they are on the wire. The middle
            if None; for "corrupt-gzip" the checksum at the end.
        by_bytes: how many bytes the announced length is wrong by; 1 if None.
        seconds: from 0 to 600. For "delay" how long; for "trickle" after how long the rest comes at once, 10 if None.
        bytes_per_second: how fast the answer's body trickles, from 1.
        status: of the answer, from 200 to 599.
        retry_after: of the answer, in seconds or as any text.
        done: whether MESH does what it was asked to before it gives that answer.
        content_type: of the answer's body.
        body: of the answer. If None, XML for 500 and HTML for any other status.

    Raises ValueError, naming what is wrong, for an unknown operation or effect, a number out of its bounds, and an
    argument that the effect needs or does not take.
    """

    operation: str
    effect: str
    _: dataclasses.KW_ONLY
    nth: int | Literal["every"] = 1
    chunk: int | None = None
    message_id: str | None = None
    at_byte: int | None = None
    by_bytes: int | None = None
    seconds: float | None = None
    bytes_per_second: int | None = None
    status: int | None = None
    retry_after: int | str | None = None
    done: bool = False
    content_type: str | None = None
    body: bytes | str | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "effect", _one_of("effect", self.effect, list(Effect)))
        object.__setattr__(self, "operation", _one_of("operation", self.operation, [*Operation, ANY]))
        if self.nth != EVERY:
            _check_number("nth", self.nth, 1)
        _check_number("chunk", self.chunk, 1)
        _check_number("at_byte", self.at_byte, 0)
        _check_number("by_bytes", self.by_bytes, 1)
        _check_number("seconds", self.seconds, 0, MAX_SECONDS, kind=(int, float))
        _check_number("bytes_per_second", self.bytes_per_second, 1)
        _check_number("status", self.status, 200, 599)
        self._check_options()

    def _check_options(self) -> None:
        effect = Effect(self.effect)
        if effect in ONLY_DOWNLOADS and self.operation != ANY and self.operation not in DOWNLOADS:
            raise ValueError(f"{effect}: only retrieve_message and retrieve_chunk can suffer it, not {self.operation}")
        takes = _TAKES.get(effect, ())
        for name in _OPTIONS:
            value = getattr(self, name)
            if value is not None and value is not False and name not in takes:
                raise ValueError(f"{name}: the effect {effect} does not take it")
        needed = _NEEDS.get(effect)
        if needed and getattr(self, needed) is None:
            raise ValueError(f"{needed}: the effect {effect} needs it")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Reads the text form: `OPERATION:WHICH:EFFECT[=VALUE][,NAME=VALUE...]`.

            send_message:2:lose-answer
            retrieve_message:*:delay=0.5
            retrieve_chunk:cut-answer=1000,chunk=3
            any:1:answer=503,retry-after=2
            send_chunk:1:answer=504,done

        WHICH is a number or `*` for every; 1 if it is left out. The value after an effect is the first that the
        effect takes; the names are Fault's own, with - for _. `body` must be last, and takes the rest as it is.

        Raises ValueError, saying what cannot be read.
        """
        operation, _, rest = text.strip().partition(":")
        which, colon, what = rest.partition(":")
        if not colon or not (which == "*" or which.isdigit()):
            which, what = "1", rest
        what, has_body, body = what.partition(",body=")
        named, *parts = what.split(",")
        effect, has_value, value = named.partition("=")
        fields: dict[str, Any] = {"nth": EVERY if which == "*" else int(which)}
        if has_value:
            takes = _TAKES.get(_one_of("effect", effect, list(Effect)))
            if takes is None:
                raise ValueError(f"{effect}: it takes no value")
            fields[takes[0]] = _read(takes[0], value)
        for part in parts:
            name, has_value, value = part.partition("=")
            name = name.strip().replace("-", "_")
            if name == "done" and not has_value:
                fields[name] = True
            elif not has_value or name not in (*_EXTRAS, "chunk", "message_id", "content_type") or name == "done":
                raise ValueError(f"cannot read {part[:40]!r} in the fault {text[:80]!r}")
            else:
                fields[name] = _read(name, value)
        if has_body:
            fields["body"] = body
        return cls(operation, effect, **fields)

    def __str__(self) -> str:
        takes = _TAKES.get(Effect(self.effect), ())
        text = f"{self.operation}:{'*' if self.nth == EVERY else self.nth}:{self.effect}"
        for name in (*takes[:1], "chunk", "message_id", *takes[1:]):
            value = getattr(self, name)
            if value is None or value is False:
                continue
            if isinstance(value, bytes):
                value = value.decode("latin-1")
            if name in takes[:1]:
                text += f"={value}"
            else:
                text += ",done" if value is True else f",{name.replace('_', '-')}={value}"
        return text

    def concerns(self, operation: Operation, message_id: str, chunk: int | None) -> bool:
        """Whether a request is of the kind that this fault counts."""
        return (
            self.operation in (ANY, operation)
            and (self.effect not in ONLY_DOWNLOADS or operation in DOWNLOADS)
            and self.chunk in (None, chunk)
            and self.message_id in (None, message_id)
        )


def as_faults(given: Iterable[Fault | str]) -> tuple[Fault, ...]:
    """Faults, from themselves or their text form."""
    return tuple(Fault.parse(fault) if isinstance(fault, str) else fault for fault in given)


PlanFault: TypeAlias = Callable[[Fault | str], Fault]
"""What plans a fault, given as itself or in its text form: `Sandbox.add_fault`, and the pytest fixture `mesh_fault`."""


class DueFault:
    """A planned fault whose turn has come for one request."""

    def __init__(self, planned: _Planned, plan: FaultPlan) -> None:
        self.fault = planned.fault
        self._planned = planned
        self._plan = plan

    def mark_fired(self) -> None:
        """To be called as soon as the fault is certain to be done, before the client can see anything of it."""
        self._plan.settle(self._planned, fired=True)

    def mark_skipped(self) -> None:
        """To be called if it was not done after all; after `struck` it changes nothing."""
        self._plan.settle(self._planned, fired=False)


class _Planned:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.matched = 0
        self.busy = False
        self.fired = False

    def due(self) -> bool:
        nth = self.fault.nth
        return nth == "every" or (self.matched >= nth and not self.busy)


class FaultPlan:
    """The faults that are still to come; may be used from any thread."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._planned: list[_Planned] = []
        self.replace(faults)

    @property
    def empty(self) -> bool:
        """Whether no request can suffer anything."""
        return not self._planned

    def replace(self, faults: Iterable[Fault]) -> None:
        """Forgets every fault, and plans these."""
        planned = [_Planned(fault) for fault in faults]
        with self._lock:
            self._planned = planned

    def add(self, fault: Fault) -> None:
        """Plans one more; it counts requests from now on."""
        with self._lock:
            self._planned.append(_Planned(fault))

    def all(self) -> tuple[Fault, ...]:
        """Those that can still strike, in the order in which they were added."""
        with self._lock:
            return tuple(planned.fault for planned in self._planned)

    def pending(self) -> tuple[Fault, ...]:
        """Those that have not struck yet."""
        with self._lock:
            return tuple(planned.fault for planned in self._planned if not planned.fired)

    def take(self, operation: Operation, message_id: str, chunk: int | None) -> DueFault | None:
        """Counts a request, and says which fault it is to suffer."""
        with self._lock:
            chosen = None
            for planned in self._planned:
                if not planned.fault.concerns(operation, message_id, chunk):
                    continue
                planned.matched += 1
                if chosen is None and planned.due():
                    chosen = planned
            if chosen is None:
                return None
            chosen.busy = True
            return DueFault(chosen, self)

    def settle(self, planned: _Planned, *, fired: bool) -> None:
        """Notes whether a fault was done; the one that was to be done once is then used up."""
        with self._lock:
            planned.busy = False
            if not fired:
                return
            planned.fired = True
            if planned.fault.nth != EVERY and planned in self._planned:
                self._planned.remove(planned)


def _one_of(name: str, given: str, known: list[Any]) -> Any:
    for value in known:
        if value == given:
            return value
    raise ValueError(f"{name} {str(given)[:40]!r}: use one of {', '.join(known)}")


def _check_number(
    name: str, value: Any, least: float, most: float | None = None, *, kind: tuple[type, ...] = (int,)
) -> None:
    if value is None:
        return
    wanted = f"a number from {least:g}" + (f" to {most:g}" if most else "")
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number or not least <= value <= (most or value):
        raise ValueError(f"{name} {value!r}: {wanted} is needed")


def _read(name: str, text: str) -> Any:
    try:
        return _READERS.get(name, str)(text)
    except ValueError:
        raise ValueError(f"{name}: {text[:40]!r} is not a number") from None
