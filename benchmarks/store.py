"""What was measured, kept in `.bench/results`, so that a row can be run again without running all the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Store:
    """One JSON file for each row or section."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, name: str, value: dict[str, Any]) -> None:
        """Replaces what was measured before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")

    def load(self, name: str) -> dict[str, Any] | None:
        """What was measured last, or None."""
        path = self._folder / f"{name}.json"
        found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
        return found
