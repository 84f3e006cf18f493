"""A function of the caller's as the destination of messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class HandlerDestination:
    """Hand each message, open, to a function, which must read it to its end.

    If the function raises, or returns before the end, the message is not acknowledged, and comes again in the next
    run. So make it idempotent, for example by using the message id as a key.

    Args:
        handler: called with a `Message`; an async function with an `AsyncMessage`, for the async client.
    """

    handler: Callable[[Any], Any]
