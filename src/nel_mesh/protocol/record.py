"""The text of the records that let a transfer resume: JSON, versioned, and refused if it is anything else."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from nel_mesh.errors import StorageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """How far a transfer has come, as a value that has a text.

    It is made several times for each message, so not a model, whose values are checked each time: only a text is.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    version: int = 1

    def replaced(self, **values: Any) -> Self:
        """Return the record with other values. As `dataclasses.replace`, which takes seven times as long."""
        record = object.__new__(type(self))
        vars(record).update(vars(self) | values)
        return record

    def to_bytes(self) -> bytes:
        """Return the record's text."""
        return self._text().dump_json(self, indent=1) + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes, place: str) -> Self:
        """Read a record. Raises StorageError for anything else, as it must not be taken for a new transfer.

        Args:
            content: the record's text.
            place: where it is, for the error.
        """
        try:
            record: Self = cls._text().validate_json(content)
        except ValidationError:
            raise StorageError(
                f"{place}: this is no record of a transfer that this version can read ({cls.__name__}); "
                "if it is in the way of a new transfer, remove it"
            ) from None
        return record

    @classmethod
    @functools.cache
    def _text(cls) -> TypeAdapter[Any]:
        return TypeAdapter(cls)
