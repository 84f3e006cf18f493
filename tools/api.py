"""Writes docs/api.md, the reference of the public names, from their docstrings and api.md here.

tools/api.py           writes it
tools/api.py --check   says whether it is current
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nel_mesh
import nel_mesh.sandbox
import nel_mesh.settings
from docstrings import attribute_docstrings, class_tree
from nel_mesh.sandbox import pytest_plugin

TEMPLATE = Path(__file__).with_suffix(".md")
TARGET = Path(__file__).resolve().parent.parent / "docs" / "api.md"

ASYNC = {"AsyncMeshClient": "MeshClient", "AsyncMessage": "Message"}
"""Classes that have the names of another, awaited."""

_SPELT_OUT = {"Text": "str | None", "Flag": "bool | None", "Timestamp": "datetime | None"}
_WIDTH = 120


def reference() -> str:
    """The whole page. In the template, `{errors}` stands for them all, `{Name}` for one public name."""

    def described(found: re.Match[str]) -> str:
        name = found[1]
        if name == "errors":
            return "\n".join(section for kind in _errors() for section in _section(kind.__name__, kind))
        if name == "fixtures":
            return "\n".join(_fixtures())
        if not found[0].startswith("{sandbox."):
            return "\n".join(_section(name, getattr(nel_mesh, name)))
        title = f"sandbox.{name}" if name in nel_mesh.__all__ else name
        return "\n".join(_section(title, getattr(nel_mesh.sandbox, name)))

    made = re.sub(r"^\{(?:sandbox\.)?(\w+)\}$", described, TEMPLATE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", made)


def _errors() -> list[type]:
    found = [kind for kind in map(_public, nel_mesh.__all__) if isinstance(kind, type)]
    errors = [kind for kind in found if issubclass(kind, nel_mesh.MeshError)]
    # As in errors.py, where the tree is drawn.
    return sorted(errors, key=lambda kind: list(vars(nel_mesh.errors)).index(kind.__name__))


def _public(name: str) -> Any:
    return getattr(nel_mesh, name)


def _section(name: str, thing: Any) -> Iterator[str]:
    yield f"### {name}\n"
    if name in ASYNC:
        yield from _awaited(thing, ASYNC[name])
        return
    if isinstance(thing, type):
        yield from _class(name, thing)
    elif callable(thing):
        yield from _function(name, thing)


def _awaited(thing: type, other: str) -> Iterator[str]:
    plain = [name for name, member in _members(thing) if not _is_awaited(member)]
    yield f"All of [`{other}`](#{other.lower()}), under the same names: a call is awaited, `async with` and `async for`"
    yield "stand where the other has `with` and `for`.\n"
    if plain:
        yield f"Not awaited themselves: {', '.join(f'`{name}`' for name in plain)}.\n"


def _is_awaited(member: Any) -> bool:
    return inspect.iscoroutinefunction(member)


def _class(name: str, kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield from _docstring(kind)
        said = attribute_docstrings(kind)
        yield "| | |\n| --- | --- |"
        yield from (f"| `{one.name}` | {said.get(one.name) or f'`{one.value}`'} |" for one in kind)
        yield ""
        return
    base = kind.__mro__[1].__name__
    if base in nel_mesh.__all__:
        yield f"A [`{base}`](#{base.lower()}).\n"
    elif not issubclass(kind, Exception) and (call := _call(kind)):
        yield f"`{name}({call})`\n"
    yield from _docstring(kind)
    fields = list(_fields(kind))
    if fields:
        yield "| field | |\n| --- | --- |"
        yield from (f"| `{field}` | `{annotation.replace('|', chr(92) + '|')}` |" for field, annotation in fields)
        yield ""
    for attribute, text in attribute_docstrings(kind).items():
        if not attribute.startswith("_") and attribute not in getattr(kind, "model_fields", {}):
            yield f"#### {name}.{attribute}\n\n{text}\n"
    for member_name, member in _members(kind):
        yield from _member(name, member_name, member)


def _call(kind: type) -> str:
    """The constructor's parameters, without their types; empty for what only this library makes."""
    if hasattr(kind, "model_fields") or not re.search(r"^Args:", inspect.getdoc(kind) or "", re.MULTILINE):
        return ""
    parts, starred = [], False
    for one in inspect.signature(kind).parameters.values():
        if one.kind is one.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        simple = isinstance(one.default, (str, int, float, bool, type(None)))
        parts.append(
            one.name if one.default is one.empty else f"{one.name}={one.default!r}" if simple else f"{one.name}=..."
        )
    return ", ".join(parts)


def _fields(kind: type) -> Iterator[tuple[str, str]]:
    """A model's fields with their types; a settings' are on a page of their own."""
    if not hasattr(kind, "model_fields") or kind is nel_mesh.MeshSettings:
        return
    for statement in class_tree(kind).body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            annotation = ast.unparse(statement.annotation)
            annotation = re.sub(r"^Annotated\[(.*?), .*\]$", r"\1", annotation)
            yield statement.target.id, _SPELT_OUT.get(annotation, annotation)


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(kind).items():
        is_ours = (getattr(member, "__module__", None) or "").startswith("nel_mesh") and hasattr(member, "__name__")
        is_public = not name.startswith("_") or name == "__call__"
        if is_public and (isinstance(member, property) or (is_ours and not isinstance(member, type))):
            yield name, member


def _member(owner: str, name: str, member: Any) -> Iterator[str]:
    yield f"#### {owner}.{name}\n"
    if isinstance(member, property):
        yield from _docstring(member.fget)
        return
    function = member.__func__ if isinstance(member, classmethod) else member
    yield from _function(name, function, bound=True)


def _function(name: str, function: Callable[..., Any], *, bound: bool = False) -> Iterator[str]:
    signature = inspect.signature(function)
    given = [_shown(one) for one in list(signature.parameters.values())[1 if bound else 0 :]]
    bare = signature.replace(parameters=given)
    result = f" -> {bare.return_annotation}" if bare.return_annotation is not bare.empty else ""
    line = f"def {name}{_unquoted(str(bare.replace(return_annotation=bare.empty)))}{result}: ..."
    if len(line) > _WIDTH:
        starred, parts = False, []
        for one in given:
            if one.kind is one.KEYWORD_ONLY and not starred:
                parts.append("    *,")
                starred = True
            parts.append(f"    {_unquoted(str(one))},")
        line = "\n".join([f"def {name}(", *parts, f"){result}: ..."])
    yield f"```python\n{line}\n```\n"
    yield from _docstring(function)


def _shown(one: inspect.Parameter) -> inspect.Parameter:
    """A parameter; where its default is an object, that there is one must do."""
    simple = one.default in (one.empty, ()) or isinstance(one.default, str | int | float | None)
    return one if simple else one.replace(default=...)


def _unquoted(text: str) -> str:
    """A signature as ruff writes it: annotations are names, not texts; double quotation marks."""
    text = re.sub(r": '([^']*)'", r": \1", text)
    return re.sub(r"'([^']*)'", r'"\1"', text).replace("Ellipsis", "...")


def _fixtures() -> Iterator[str]:
    for name, fixture in vars(pytest_plugin).items():
        if type(fixture).__name__ == "FixtureFunctionDefinition":
            yield f"### {name}\n"
            yield from _docstring(fixture._get_wrapped_function())


def _docstring(thing: Any) -> Iterator[str]:
    """A docstring as Markdown: paragraphs, Google's sections as lists, indented examples as blocks."""
    text = inspect.getdoc(thing) or ""
    for block in re.split(r"\n\n(?!\s)|\n(?=(?:Args|Returns|Raises|Attributes):\n)", text):
        title, _, rest = block.partition("\n")
        if title in ("Args:", "Raises:", "Attributes:"):
            yield f"{title.rstrip(':')}:\n" if title != "Args:" else "Arguments:\n"
            yield from _items(textwrap.dedent(rest), code=True)
        elif title == "Returns:":
            yield f"Returns: {' '.join(rest.split())}\n"
        else:
            yield from _paragraph(block)


def _items(text: str, *, code: bool) -> Iterator[str]:
    """`name: text`, each with its continuation lines, as a list."""
    for item in re.split(r"\n(?=\S)", text.split("\n\n")[0]):
        names, _, said = item.partition(":")
        shown = ", ".join(f"`{name.strip()}`" for name in names.split(","))
        yield f"- {shown}: {' '.join(said.split())}"
    yield ""
    for more in text.split("\n\n")[1:]:
        yield from _paragraph(more)


def _paragraph(block: str) -> Iterator[str]:
    for part in block.split("\n\n"):
        if part.startswith("    "):
            example = textwrap.dedent(part)
            yield f"```{_language(example)}\n{example}\n```\n"
        elif re.search(r"^(?:- |\d\. )", part, re.MULTILINE):
            yield f"{part}\n"
        elif part.strip():
            yield f"{' '.join(part.split())}\n"


def _language(example: str) -> str:
    try:
        compile(example, "example", "exec")
    except SyntaxError:
        return "text"
    return "python"


def main() -> int:
    """Runs the tool."""
    made = reference()
    if "--check" in sys.argv:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == made:
            return 0
        print(f"{TARGET.name} is not what the docstrings say: run `make reference`")
        return 1
    TARGET.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
