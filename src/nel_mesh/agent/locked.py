"""Whether another program is still using a file, as far as the operating system says so."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl


def is_locked(path: Path) -> bool:
    """Whether a program holds a lock on the file, or has it open for itself alone (Windows).

    Both kinds of POSIX locks are tried. A file that cannot be opened to be read counts as not locked: sending it says
    why.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except PermissionError:
        # On Windows that is what another program's exclusive access is called.
        return os.name == "nt"
    except OSError:
        return False
    try:
        if sys.platform == "win32":
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.lockf(descriptor, fcntl.LOCK_UN)
        except BlockingIOError:
            return True
        except OSError:
            # A share without locks.
            return False
        return False
    finally:
        os.close(descriptor)
