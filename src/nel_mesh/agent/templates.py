"""Templates of file names: what the name of an outgoing file says of its message. Pure."""

from __future__ import annotations

import re
import string

from nel_mesh.errors import InvalidArgument

FIELDS = ("to", "workflow_id", "subject", "local_id", "partner_id", "file_name", "any")
"""What a name can say. `any` is there to be ignored; `file_name` is what the recipient gets to see."""

_FREE = frozenset({"file_name", "any", "subject"})


class NameTemplate:
    """A template such as `{to}__{workflow_id}__{file_name}`.

    Args:
        template: text with some of FIELDS in braces, each at most once, and text between any two of them.

    Raises:
        InvalidArgument: it is not such a template.
    """

    def __init__(self, template: str) -> None:
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError:
            raise InvalidArgument(f"name: {template!r} is not a template; each {{ needs its }}") from None
        pattern = ""
        names: list[str] = []
        for literal, name, form, conversion in parts:
            if names and name is not None and not literal:
                raise InvalidArgument(f"name: {{{names[-1]}}} and {{{name}}} need a separator between them")
            pattern += re.escape(literal)
            if name is None:
                continue
            if name not in FIELDS or form or conversion or name in names:
                known = ", ".join(f"{{{field}}}" for field in FIELDS)
                raise InvalidArgument(f"name: in braces is one of {known}, each at most once; not {{{name}}}")
            names.append(name)
            pattern += f"(?P<{name}>{'.+' if name in _FREE else '.+?'})"
        self.fields = frozenset(names)
        self._pattern = re.compile(pattern, re.DOTALL)

    def match(self, name: str) -> dict[str, str] | None:
        """Return what a name says; None if it does not follow the template."""
        found = self._pattern.fullmatch(name)
        if found is None:
            return None
        return {field: value for field, value in found.groupdict().items() if field != "any"}
