"""The text of the records that let a transfer resume: JSON, versioned, and refused if it is anything else."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from nel_mesh.errors import StorageError


class Record(BaseModel):
    """How far a transfer has come, as a value that has a text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1

    def to_bytes(self) -> bytes:
        """Return the record's text."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes, place: str) -> Self:
        """Read a record. Raises StorageError for anything else, as it must not be taken for a new transfer.

        Args:
            content: the record's text.
            place: where it is, for the error.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            raise StorageError(
                f"{place}: this is no record of a transfer that this version can read ({cls.__name__}); "
                "if it is in the way of a new transfer, remove it"
            ) from None
