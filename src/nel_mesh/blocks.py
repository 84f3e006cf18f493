"""The type of what is passed on from the network to a file, block after block."""

from __future__ import annotations

from typing import TypeAlias

Block: TypeAlias = bytes | memoryview
"""Bytes of a body or of content. A memoryview is valid only until the next block is asked for."""
