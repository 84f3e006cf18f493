"""The dead man's switch: a URL that is called as long as all is well, so that somebody notices when it is not."""

from __future__ import annotations

import logging
import urllib.request
from http.client import HTTPException

_TIMEOUT_SECONDS = 10

logger = logging.getLogger("nel_mesh.agent")


def call_alive(url: str) -> None:
    """Call the URL. A failure is logged, without the URL, which can hold a secret."""
    request = urllib.request.Request(url, headers={"User-Agent": "nel-mesh"})  # noqa: S310 - checked when it is read
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            response.read(0)
    except (OSError, HTTPException) as error:
        logger.warning("The alive_url could not be called: %s", type(error).__name__)
