"""`python -m nel_mesh`: the command `nel-mesh`."""

from __future__ import annotations

import sys

from nel_mesh.cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
