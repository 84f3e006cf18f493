"""Tracebacks without locals, so that no crash report holds a token, a subject or content.

pytest, rich and Sentry show the local variables of every frame that an error came through. Ours hold passwords,
tokens, headers and content. When an error leaves a public method, those frames have ended, and `frame.clear()` empties
them; file, line and function stay. The frames of the caller are not touched.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import opcode
import sys
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar, cast

_Thing = TypeVar("_Thing", bound=Callable[..., Any])

_GENERATORS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_YIELD = opcode.opmap["YIELD_VALUE"]


def without_locals(thing: _Thing) -> _Thing:
    """Decorate a function or a class: an error that leaves it has no locals in the frames below its caller.

    Of a class, its constructor and public methods.
    """
    if not isinstance(thing, type):
        return cast(_Thing, _wrapped(thing))
    for name, member in list(vars(thing).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if inspect.isfunction(member):
            setattr(thing, name, _wrapped(member))
        elif isinstance(member, classmethod):
            setattr(thing, name, classmethod(_wrapped(member.__func__)))
    return thing


def clear_locals(error: BaseException, handled: BaseException | None = None) -> None:
    """Clear the locals of the frames that an error, its causes and its context came through.

    `handled` is the error that the caller was handling at the time of the call: it is the caller's.
    """
    for one in _errors_of(error, handled):
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if not _is_suspended(frame):
                with contextlib.suppress(RuntimeError):  # it is running still
                    frame.clear()


def _errors_of(error: BaseException, handled: BaseException | None) -> Iterator[BaseException]:
    """The error, its causes and its context, and theirs, except the one that the caller was handling."""
    seen = {id(handled)}
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            left += [one.__cause__, one.__context__]
            left += one.exceptions if isinstance(one, BaseExceptionGroup) else ()


def _wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def call_async(*args: Any, **keywords: Any) -> Any:
            handled = sys.exception()
            try:
                return await method(*args, **keywords)
            except BaseException as error:
                args = keywords = ()  # type: ignore[assignment] # they are locals too
                clear_locals(error, handled)
                raise

        return call_async

    @functools.wraps(method)
    def call(*args: Any, **keywords: Any) -> Any:
        handled = sys.exception()
        try:
            return method(*args, **keywords)
        except BaseException as error:
            args = keywords = ()  # type: ignore[assignment] # they are locals too
            clear_locals(error, handled)
            raise

    return call


def _is_suspended(frame: FrameType) -> bool:
    """Whether it may be a generator's or coroutine's that goes on later. Before Python 3.13 clear() would end it."""
    code = frame.f_code
    return bool(code.co_flags & _GENERATORS) and code.co_code[frame.f_lasti] == _YIELD
