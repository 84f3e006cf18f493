"""Faults as values: an effect, and the requests it applies to. `fault_injection` injects them."""

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
    """The effect of a fault. Every cut is of the TCP connection, with TLS and without."""

    CUT_BEFORE_BODY = "cut-before-body"
    CUT_DURING_BODY = "cut-during-body"
    CUT_AFTER_BODY = "cut-after-body"
    LOSE_RESPONSE = "lose-response"
    CUT_RESPONSE = "cut-response"
    DELAY = "delay"
    TRICKLE = "trickle"
    RESPOND = "respond"
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
"""The effects that apply only to downloads."""

# The text form gives the first of each without its name.
_TAKES: Final[dict[Effect, tuple[str, ...]]] = {
    Effect.CUT_DURING_BODY: ("at_byte",),
    Effect.CUT_RESPONSE: ("at_byte",),
    Effect.DELAY: ("seconds",),
    Effect.TRICKLE: ("bytes_per_second", "seconds"),
    Effect.RESPOND: ("status", "retry_after", "done", "content_type", "body"),
    Effect.TRUNCATE_GZIP: ("at_byte",),
    Effect.CORRUPT_GZIP: ("at_byte",),
    Effect.LONGER_LENGTH: ("by_bytes",),
    Effect.SHORTER_LENGTH: ("by_bytes",),
}
_NEEDS: Final = {Effect.DELAY: "seconds", Effect.TRICKLE: "bytes_per_second", Effect.RESPOND: "status"}
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
    """A fault to inject. The page on testing has a table of the effects.

        Fault("send_message", "lose-response")
        Fault("retrieve_chunk", "cut-response", chunk=3, at_byte=1000)
        Fault("any", "respond", nth="every", status=503, retry_after=2)

    A request gets at most one fault: the first planned of those that are due. The others wait for the next matching
    request, as does a fault that does not fit its request, such as damage to the gzip of a plain body.

    Args:
        operation: the operation of the request, such as "send_message", as in `Sandbox.requests`; or "any".
        effect: the effect, by its name.
        nth: the number of the matching request, counted from 1 since the fault was added; or "every".
        chunk: only requests for this chunk, from 1; a request for the message is for chunk 1.
        message_id: only requests with this message in the path.
        at_byte: the position of the cut or damage in the body, counted from 0 on the wire. None is the middle, and for
            "corrupt-gzip" the checksum at the end.
        by_bytes: the error of the announced length in bytes; None is 1.
        seconds: from 0 to 600. The length of a "delay"; for "trickle" the time after which the rest comes at once, 10
            if None.
        bytes_per_second: the speed of a response that trickles, from 1.
        status: the status of the response, from 200 to 599.
        retry_after: the `Retry-After` of the response, in seconds or any text.
        done: whether the operation is done before the response.
        content_type: the content type of the response.
        body: the body of the response. None is XML for status 500 and HTML for others.

    Raises ValueError, naming the argument, for an unknown operation or effect, a number out of bounds, and an argument
    that the effect needs or does not take.
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
            raise ValueError(f"{effect}: it applies only to retrieve_message and retrieve_chunk, not {self.operation}")
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
        """Parse the text form: `OPERATION:WHICH:EFFECT[=VALUE][,NAME=VALUE...]`.

            send_message:2:lose-response
            retrieve_message:*:delay=0.5
            retrieve_chunk:cut-response=1000,chunk=3
            any:1:respond=503,retry-after=2
            send_chunk:1:respond=504,done

        WHICH is a number, or `*` for every; by default 1. The value after an effect is its first argument; the names
        are those of the arguments, with - for _. `body` must be last, and takes the rest of the text.

        Raises ValueError, naming the part that cannot be read.
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
        """Whether a request matches this fault."""
        return (
            self.operation in (ANY, operation)
            and (self.effect not in ONLY_DOWNLOADS or operation in DOWNLOADS)
            and self.chunk in (None, chunk)
            and self.message_id in (None, message_id)
        )


def as_faults(given: Iterable[Fault | str]) -> tuple[Fault, ...]:
    """Convert faults, each a Fault or its text form."""
    return tuple(Fault.parse(fault) if isinstance(fault, str) else fault for fault in given)


PlanFault: TypeAlias = Callable[[Fault | str], Fault]
"""A callable that plans a fault or its text form: `Sandbox.add_fault`, or the pytest fixture `mesh_fault`."""


class DueFault:
    """A planned fault that is due for a request."""

    def __init__(self, planned: _Planned, plan: FaultPlan) -> None:
        self.fault = planned.fault
        self._planned = planned
        self._plan = plan

    def mark_fired(self) -> None:
        """Note that the fault is injected, before the client can see any effect of it."""
        self._plan.settle(self._planned, fired=True)

    def mark_skipped(self) -> None:
        """Note that the fault was not injected; after `mark_fired` this changes nothing."""
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
    """The planned faults. May be used from any thread."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._planned: list[_Planned] = []
        self.replace(faults)

    @property
    def empty(self) -> bool:
        """Whether no fault is planned."""
        return not self._planned

    def replace(self, faults: Iterable[Fault]) -> None:
        """Plan these faults in place of all others."""
        planned = [_Planned(fault) for fault in faults]
        with self._lock:
            self._planned = planned

    def add(self, fault: Fault) -> None:
        """Plan one more fault; it counts requests from now on."""
        with self._lock:
            self._planned.append(_Planned(fault))

    def all(self) -> tuple[Fault, ...]:
        """The faults that can still be injected, in the order in which they were added."""
        with self._lock:
            return tuple(planned.fault for planned in self._planned)

    def pending(self) -> tuple[Fault, ...]:
        """The faults that have not been injected yet."""
        with self._lock:
            return tuple(planned.fault for planned in self._planned if not planned.fired)

    def take(self, operation: Operation, message_id: str, chunk: int | None) -> DueFault | None:
        """Count a request, and return the fault that is due for it."""
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
        """Note whether a fault was injected; one for a single request is then removed."""
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
