"""Refuse files that must not be committed: large ones, private keys, line ends of Windows.

python tools/committable.py FILE...
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LARGEST = 1_000_000
KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}")


def fault(content: bytes) -> str | None:
    """Say why this content must not be committed; None if it may."""
    if len(content) > LARGEST:
        return f"it is large: {len(content)} bytes"
    if KEY.search(content):
        return "it holds a private key; tests make their own"
    if b"\r\n" in content and b"\0" not in content:
        return "its lines end in \\r\\n"
    return None


def main() -> int:
    """Run the tool."""
    faults = [(name, fault(Path(name).read_bytes())) for name in sys.argv[1:] if Path(name).is_file()]
    for name, why in faults:
        if why:
            print(f"{name}: {why}")
    return 1 if any(why for _, why in faults) else 0


if __name__ == "__main__":
    sys.exit(main())
