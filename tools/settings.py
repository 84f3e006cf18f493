"""Writes docs/settings.md, the configuration reference, from the settings themselves and settings.md here.

tools/settings.py           writes it
tools/settings.py --check   says whether it is current
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

from docstrings import attribute_docstrings
from nel_mesh.settings import MeshSettings, sources
from nel_mesh.settings import model as settings

TEMPLATE = Path(__file__).with_suffix(".md")
TARGET = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

GROUPS = {
    "The mailbox": ("mailbox_id", "password", "shared_key", "url"),
    "Certificates": ("tls_", "client_signing_"),
    "Time limits": ("connect_timeout", "read_timeout", "write_timeout", "max_request_timeout"),
    "Trying again": ("max_attempts", "retry_", "max_retry_after"),
    "Size and number": (),
    "Proxy": ("proxy",),
    "What the handshake says of this machine": ("mex_",),
}
"""The tables, each with how the names of its settings begin; the one without takes all that are in no other."""


def reference() -> str:
    """The whole page."""
    template = TEMPLATE.read_text(encoding="utf-8")
    environments = "".join(f"| `{name}` | `{address}` |\n" for name, address in settings.ENVIRONMENTS.items())
    return template.replace("{environments}\n", environments).replace("{settings}", "\n".join(_tables()).rstrip())


def _tables() -> Iterator[str]:
    said = attribute_docstrings(MeshSettings)
    taken = tuple(beginning for beginnings in GROUPS.values() for beginning in beginnings)
    for title, beginnings in GROUPS.items():
        rows = [
            _row(name, said[name], field)
            for name, field in MeshSettings.model_fields.items()
            if (name.startswith(beginnings) if beginnings else not name.startswith(taken))
        ]
        head = "| setting, and in `appsettings.json` | default | meaning |\n| --- | --- | --- |"
        yield "\n".join([f"### {title}", "", head, *rows, ""])


def _row(name: str, text: str, field: FieldInfo) -> str:
    text = text.removesuffix("Required.").strip().replace("<", "&lt;")
    meaning, _, default = text.partition(" Default: ")
    limits = _limits(field)
    if limits and limits not in meaning:
        meaning = f"{meaning} {limits}"
    default = default.removesuffix(".") or _default(field)
    return f"| `{name}`<br>`{sources.dotnet_name(name)}` | {default} | {meaning} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None or field.default == ():
        return "none"
    return f"{field.default:g}"


def _limits(field: FieldInfo) -> str:
    bounds = {name: value for one in field.metadata for name, value in _bounds(one).items()}
    low = f"more than {bounds['gt']:,}" if "gt" in bounds else f"at least {bounds['ge']:,}" if "ge" in bounds else ""
    high = f"at most {bounds['le']:,}" if "le" in bounds else ""
    limits = ", ".join(part for part in (low, high) if part)
    return f"{limits[0].upper()}{limits[1:]}." if limits else ""


def _bounds(constraint: object) -> dict[str, float]:
    return {name: getattr(constraint, name) for name in ("gt", "ge", "le") if hasattr(constraint, name)}


def main() -> int:
    """Runs the tool."""
    made = reference()
    if "--check" in sys.argv:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == made:
            return 0
        print(f"{TARGET.name} is not what the settings say: run `make reference`")
        return 1
    TARGET.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
