"""What makes content that is read once a binary file for those who ask: `io.TextIOWrapper`, `tarfile`, pandas."""

from __future__ import annotations

import io
import os
from typing import Any, NoReturn


class SequentialFile:
    """A binary file, in all but reading and closing, whose content is read once from its beginning to its end."""

    mode = "rb"
    name: Any = None
    """It has no name: the file that the sender had may be called after a patient."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return False."""
        return False

    def seekable(self) -> bool:
        """Return False."""
        return False

    def isatty(self) -> bool:
        """Return False."""
        return False

    def flush(self) -> None:
        """Do nothing: there is nothing to be written."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> NoReturn:
        """Raise io.UnsupportedOperation."""
        raise io.UnsupportedOperation("a message is read from its beginning to its end; to seek in it, save it first")

    def tell(self) -> NoReturn:
        """Raise io.UnsupportedOperation."""
        raise io.UnsupportedOperation("a message has no position")

    def fileno(self) -> NoReturn:
        """Raise io.UnsupportedOperation."""
        raise io.UnsupportedOperation("a message is not a file of the operating system")

    def write(self, block: Any, /) -> NoReturn:
        """Raise io.UnsupportedOperation."""
        raise io.UnsupportedOperation("a message is read, not written")

    def truncate(self, size: int | None = None, /) -> NoReturn:
        """Raise io.UnsupportedOperation."""
        raise io.UnsupportedOperation("a message is read, not written")
