"""What the wheel's metadata asks for."""

from __future__ import annotations

import dataclasses
import email
import tomllib
import zipfile
from collections.abc import Collection
from email.message import Message
from pathlib import Path

from packaging.requirements import Requirement

from distribution.environments import canonical


@dataclasses.dataclass(frozen=True)
class Requirements:
    """The requirements of a wheel.

    Attributes:
        base: what everybody gets.
        extras: what each extra adds.
        oldest_python: the lowest Python allowed, such as `3.11`.
    """

    base: tuple[Requirement, ...]
    extras: dict[str, tuple[Requirement, ...]]
    oldest_python: str

    @classmethod
    def of(cls, wheel: Path) -> Requirements:
        """Reads them from a wheel."""
        metadata = metadata_of(wheel)
        every = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
        extras = metadata.get_all("Provides-Extra", [])
        here = [one for one in every if one.marker is None or one.marker.evaluate({"extra": ""})]
        return cls(
            base=tuple(here),
            extras={
                extra: tuple(
                    one for one in every if one not in here and one.marker and one.marker.evaluate({"extra": extra})
                )
                for extra in extras
            },
            oldest_python=str(metadata["Requires-Python"]).removeprefix(">="),
        )

    def lowest(self) -> list[str]:
        """Each direct requirement at its lowest allowed version; those without one are given as they are."""
        return [_lowest(one) for one in (*self.base, *(one for extra in self.extras.values() for one in extra))]

    def unbounded(self) -> list[str]:
        """Requirements without a lowest version: nobody knows what they work with."""
        every = (*self.base, *(one for extra in self.extras.values() for one in extra))
        return [str(one) for one in every if "==" not in _lowest(one)]

    def not_in_base(self, pyproject: Path) -> set[str]:
        """Names that only an extra, or development, asks for."""
        names = {one.name for extra in self.extras.values() for one in extra}
        for group in _groups(pyproject).values():
            names |= {Requirement(text).name for text in group}
        return {canonical(name) for name in names} - {canonical(one.name) for one in self.base}

    def development(self, pyproject: Path, *, but: Collection[str]) -> list[str]:
        """What the development group asks for, less what is named, and what the package asks for itself."""
        ours = {canonical(one.name) for one in (*self.base, *(one for extra in self.extras.values() for one in extra))}
        return [
            text
            for text in _groups(pyproject)["dev"]
            if canonical(Requirement(text).name) not in {*ours, *map(canonical, but)}
        ]


def metadata_of(wheel: Path) -> Message:
    """The metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def _lowest(one: Requirement) -> str:
    bounds = [part.version for part in one.specifier if part.operator in (">=", "==", "~=")]
    extras = f"[{','.join(sorted(one.extras))}]" if one.extras else ""
    return f"{one.name}{extras}=={bounds[0]}" if bounds else f"{one.name}{extras}"


def _groups(pyproject: Path) -> dict[str, list[str]]:
    groups = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("dependency-groups", {})
    return {name: [text for text in group if isinstance(text, str)] for name, group in groups.items()}
