"""What destinations make of a message's metadata."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from nel_mesh.models import MessageMetadata
from nel_mesh.protocol import checksum


def sidecar_of(metadata: MessageMetadata) -> bytes:
    """Return all of it as JSON, for the file or object beside the content.

    The agent's outgoing folders take the same names; see `agent/outgoing.py`.
    """
    return json.dumps(metadata.model_dump(mode="json", exclude_none=True), indent=2).encode()


def new_digest(metadata: MessageMetadata) -> Any:
    """Return a hash of the algorithm of the sender's checksum; None if there is none."""
    expected = checksum.recognise(metadata.checksum)
    if expected is None:
        return None
    try:
        return hashlib.new(expected.algorithm, usedforsecurity=False)
    except ValueError:
        # Reported once, by `Upload.digest`.
        return None


def copy_digest(digest: Any) -> Any:
    """Return a copy of a hash, to go back to; None of None."""
    return None if digest is None else digest.copy()
