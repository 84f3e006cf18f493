"""Messages for the tests of stores."""

from __future__ import annotations

import hashlib
from typing import Any

from nel_mesh.sandbox import Sandbox

MIB = 1024 * 1024


def content_of(length: int) -> bytes:
    return hashlib.shake_128(str(length).encode()).digest(length)


CHUNKS = [content_of(length) for length in (5 * MIB + 1000, 2000, 5 * MIB + 3000, 100)]
"""As short as S3's parts allow. The end of the second is not durable there: it is too little for a part."""
CONTENT = b"".join(CHUNKS)


def deliver(mesh: Sandbox, content: bytes | list[bytes], **options: Any) -> str:
    checksum = hashlib.sha256(content if isinstance(content, bytes) else b"".join(content)).hexdigest()
    more = {"workflow_id": "PATH V2", "subject": "Jane Doe", "file_name": "jane.csv", "checksum": f"sha256 {checksum}"}
    return mesh.deliver_message("X26ABC2", content, **{**more, **options})
