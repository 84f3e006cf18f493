"""`nel-mesh`, also as `python -m nel_mesh` and `python -m nel_mesh.cli`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        try:
            from nel_mesh.cli.main import run
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("typer", "rich"):
                raise
            sys.stderr.write('nel-mesh needs its extra: pip install "nel-mesh[cli]"\n')
            return 3
        return run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
