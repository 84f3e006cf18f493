"""Write docs/api.md, docs/commands.md and docs/settings.md from the code and the templates beside this file.

    tools/reference.py           write them
    tools/reference.py --check   fail if one of them is not current

In a template, a line `{name}` stands for a generated part (see PARTS), or for one public name of nel_mesh; a line
`{sandbox.name}` for one of nel_mesh.sandbox, and `{instrumentation.name}` likewise.
"""

from __future__ import annotations

import ast
import enum
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic.fields import FieldInfo

import nel_mesh
import nel_mesh.instrumentation
import nel_mesh.sandbox
from nel_mesh import MeshSettings
from nel_mesh.cli.app import COMMANDS, app
from nel_mesh.cli.exit_codes import ExitCode
from nel_mesh.sandbox import pytest_plugin
from nel_mesh.settings import model, sources

TOOLS = Path(__file__).resolve().parent
DOCS = TOOLS.parent / "docs"
PAGES = ("api", "commands", "settings")
WIDTH = 86
"""What fits beside the navigation of the site on a screen of 1,280 pixels."""

ASYNC = {"AsyncMeshClient": "MeshClient", "AsyncMessage": "Message", "AsyncTransport": "Transport"}
"""Classes with the methods of another class, awaited."""

GROUPS = {
    "The mailbox": ("mailbox_id", "password", "shared_key", "url", "allow_plain_http"),
    "Certificates": ("tls_", "client_signing_"),
    "Timeouts": (
        "connect_timeout",
        "read_timeout",
        "write_timeout",
        "max_request_timeout",
        "response_head",
        "min_bytes",
    ),
    "Retries": ("max_attempts", "retry_", "max_retry_after"),
    "Sizes and numbers": (),
    "Proxy": ("proxy",),
    "Defaults of the command line": ("default_",),
    "Headers of the handshake": ("mex_",),
}
"""The tables of settings, each with the prefixes of its settings; the one without takes the rest."""

_ALIASES = {"Text": "str | None", "Flag": "bool | None", "Timestamp": "datetime | None"}


def page(name: str) -> str:
    """Return one whole page."""
    template = (TOOLS / f"{name}.md").read_text(encoding="utf-8")
    filled = re.sub(r"^\{((?:\w+\.)?\w+)\}$", lambda found: "\n".join(_part(found[1])), template, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", filled).rstrip() + "\n"


def _part(name: str) -> Iterator[str]:
    if name in PARTS:
        return PARTS[name]()
    prefix, _, bare = name.rpartition(".")
    thing = getattr(getattr(nel_mesh, prefix) if prefix else nel_mesh, bare)
    return _section(name if bare in nel_mesh.__all__ else bare, thing)


# Commands.


def _commands() -> Iterator[str]:
    root: Any = typer.main.get_command(app)
    with root.make_context("nel-mesh", [], resilient_parsing=True, terminal_width=WIDTH) as context:
        yield from _help("nel-mesh", root.get_help(context))
        for name in COMMANDS:
            command = root.get_command(context, name)
            below = getattr(command, "commands", None)
            found = {f"{name} {one}": below[one] for one in below} if below else {name: command}
            for title, one in found.items():
                own = type(context)(one, info_name=f"nel-mesh {title}", terminal_width=WIDTH)
                yield from _help(f"nel-mesh {title}", one.get_help(own))


def _help(title: str, text: str) -> Iterator[str]:
    yield f"### {title}\n\n```text"
    yield from (line.rstrip() for line in text.strip().splitlines())
    yield "```\n"


def _exit_codes() -> Iterator[str]:
    return (f"| {int(ExitCode[name])} | {text} |" for name, text in attribute_docstrings(ExitCode).items())


# Settings.


def _environments() -> Iterator[str]:
    return (f"| `{name}` | `{address}` |" for name, address in model.ENVIRONMENTS.items())


def _settings() -> Iterator[str]:
    texts = attribute_docstrings(MeshSettings)
    taken = tuple(itertools.chain.from_iterable(GROUPS.values()))
    for title, prefixes in GROUPS.items():
        yield f"### {title}\n"
        yield "| setting, and in `appsettings.json` | default | meaning |\n| --- | --- | --- |"
        for name, field in MeshSettings.model_fields.items():
            if name.startswith(prefixes) if prefixes else not name.startswith(taken):
                yield _setting(name, texts[name], field)
        yield ""


def _setting(name: str, text: str, field: FieldInfo) -> str:
    text = text.removesuffix("Required.").strip().replace("<", "&lt;")
    meaning, _, default = text.partition(" Default: ")
    bounds = {
        bound: value
        for one in field.metadata
        for bound in ("gt", "ge", "le")
        if (value := getattr(one, bound, None)) is not None
    }
    words = {"gt": "more than", "ge": "at least", "le": "at most"}
    limits = ", ".join(f"{words[bound]} {value:,}" for bound, value in bounds.items())
    if limits and (sentence := f"{limits[0].upper()}{limits[1:]}.") not in meaning:
        meaning = f"{meaning} {sentence}"
    if field.is_required():
        default = "required"
    elif not default:
        default = {None: "none", (): "none", False: "false"}.get(field.default) or f"{field.default:g}"
    return f"| `{name}`<br>`{sources.dotnet_name(name)}` | {default.removesuffix('.')} | {meaning} |"


# Python.


def _errors() -> Iterator[str]:
    """In the order of errors.py, where the tree is drawn."""
    for name, kind in vars(nel_mesh.errors).items():
        if name in nel_mesh.__all__ and isinstance(kind, type) and issubclass(kind, nel_mesh.MeshError):
            yield from _section(name, kind)


def _fixtures() -> Iterator[str]:
    for name, fixture in vars(pytest_plugin).items():
        if type(fixture).__name__ == "FixtureFunctionDefinition":
            yield f"### {name}\n"
            yield from _docstring(fixture._get_wrapped_function())


def _section(name: str, thing: Any) -> Iterator[str]:
    yield f"### {name}\n"
    if name in ASYNC:
        other = ASYNC[name]
        plain = [f"`{one}`" for one, member in _members(thing) if not inspect.iscoroutinefunction(member)]
        yield f"All of [`{other}`](#{other.lower()}), under the same names: await the calls; use `async with`"
        yield "and `async for` in place of `with` and `for`.\n"
        yield f"Not awaited: {', '.join(plain)}.\n" if plain else ""
    elif isinstance(thing, type) and issubclass(thing, enum.Enum):
        yield from _docstring(thing)
        texts = attribute_docstrings(thing)
        yield "| | |\n| --- | --- |"
        yield from (f"| `{one.name}` | {texts.get(one.name) or f'`{one.value}`'} |" for one in thing)
        yield ""
    elif isinstance(thing, type):
        yield from _class(name, thing)
    elif callable(thing):
        yield from _function(name, thing)


def _class(name: str, kind: type) -> Iterator[str]:
    base = kind.__mro__[1].__name__
    is_model = hasattr(kind, "model_fields")
    if base in nel_mesh.__all__:
        yield f"A [`{base}`](#{base.lower()}).\n"
    elif not is_model and not issubclass(kind, Exception) and "\nArgs:\n" in (inspect.getdoc(kind) or ""):
        yield f"`{name}({_parameters(kind)})`\n"
    yield from _docstring(kind)
    # The fields of MeshSettings have a page of their own.
    if is_model and kind is not MeshSettings and (fields := list(_fields(kind))):
        yield "\n".join(["| field | |", "| --- | --- |", *fields, ""])
    for attribute, text in attribute_docstrings(kind).items():
        if not attribute.startswith("_") and attribute not in getattr(kind, "model_fields", {}):
            yield f"#### {name}.{attribute}\n\n{text}\n"
    for member_name, member in _members(kind):
        yield f"#### {name}.{member_name}\n"
        if isinstance(member, property):
            yield from _docstring(member.fget)
        else:
            yield from _function(member_name, getattr(member, "__func__", member), bound=True)


def _parameters(kind: type) -> str:
    """A constructor's parameters without their types."""
    bare = [_shown(one).replace(annotation=one.empty) for one in inspect.signature(kind).parameters.values()]
    return str(inspect.Signature(bare))[1:-1].replace("Ellipsis", "...")


def _fields(kind: type) -> Iterator[str]:
    for statement in _tree(kind).body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            annotation = re.sub(r"^Annotated\[(.*?), .*\]$", r"\1", ast.unparse(statement.annotation))
            escaped = _ALIASES.get(annotation, annotation).replace("|", "\\|")
            yield f"| `{statement.target.id}` | `{escaped}` |"


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(kind).items():
        is_ours = (getattr(member, "__module__", None) or "").startswith("nel_mesh") and hasattr(member, "__name__")
        is_public = not name.startswith("_") or name == "__call__"
        if is_public and (isinstance(member, property) or (is_ours and not isinstance(member, type))):
            yield name, member


def _function(name: str, function: Callable[..., Any], *, bound: bool = False) -> Iterator[str]:
    signature = inspect.signature(function)
    shown = [_shown(one) for one in list(signature.parameters.values())[bound:]]
    given = str(signature.replace(parameters=shown, return_annotation=signature.empty))
    result = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    # As ruff writes it: annotations are names, not texts; double quotation marks.
    given = re.sub(r"'([^']*)'", r'"\1"', re.sub(r": '([^']*)'", r": \1", given)).replace("Ellipsis", "...")
    line = f"def {name}{given}{result}: ..."
    if len(line) > WIDTH:
        line = re.sub(r", (?=[/*],|\*{0,2}\w+: )", ",\n    ", line.replace("(", "(\n    ", 1))
        line = f",\n){result}: ...".join(line.rsplit(f"){result}: ...", 1))
    yield f"```python\n{line}\n```\n"
    yield from _docstring(function)


def _shown(one: inspect.Parameter) -> inspect.Parameter:
    """Show a default that is an object as an ellipsis."""
    simple = one.default in (one.empty, ()) or isinstance(one.default, str | int | float | None)
    return one if simple else one.replace(default=...)


# Docstrings.


def _docstring(thing: Any) -> Iterator[str]:
    """A docstring as Markdown: paragraphs, Google's sections as lists, indented examples as blocks."""
    for block in re.split(r"\n\n(?!\s)|\n(?=(?:Args|Returns|Raises|Attributes):\n)", inspect.getdoc(thing) or ""):
        title, _, rest = block.partition("\n")
        if title in ("Args:", "Raises:", "Attributes:"):
            yield "Arguments:\n" if title == "Args:" else f"{title}\n"
            items, *more = textwrap.dedent(rest).split("\n\n")
            for item in re.split(r"\n(?=\S)", items):
                names, _, text = item.partition(":")
                shown = ", ".join(f"`{name.strip()}`" for name in names.split(","))
                yield f"- {shown}: {' '.join(text.split())}"
            yield ""
            yield from map(_paragraph, more)
        elif title == "Returns:":
            yield f"Returns: {' '.join(rest.split())}\n"
        else:
            yield from map(_paragraph, block.split("\n\n"))


def _paragraph(text: str) -> str:
    if text.startswith("    "):
        example = textwrap.dedent(text)
        try:
            compile(example, "example", "exec")
        except SyntaxError:
            return f"```text\n{example}\n```\n"
        return f"```python\n{example}\n```\n"
    is_list = re.search(r"^(?:- |\d\. )", text, re.MULTILINE)
    return f"{text if is_list else ' '.join(text.split())}\n"


def attribute_docstrings(kind: type) -> dict[str, str]:
    """The texts below a class's attributes, and below those that its constructor makes; each on one line."""
    tree = _tree(kind)
    made = (one.body for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "__init__")
    found = {}
    for statement, text in itertools.chain.from_iterable(map(itertools.pairwise, [tree.body, *made])):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", None)
        if name and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[str(name)] = " ".join(str(text.value.value).split())
    return found


def _tree(kind: type) -> ast.ClassDef:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    return tree


PARTS = {
    "commands": _commands,
    "exit_codes": _exit_codes,
    "environments": _environments,
    "settings": _settings,
    "errors": _errors,
    "fixtures": _fixtures,
}
"""The generated parts of the pages, by their names in the templates."""


def main() -> int:
    """Run the tool."""
    stale = {name: text for name in PAGES if (text := page(name)) != (DOCS / f"{name}.md").read_text(encoding="utf-8")}
    for name, text in stale.items():
        if "--check" in sys.argv:
            print(f"docs/{name}.md is not current: run `make reference`")
        else:
            (DOCS / f"{name}.md").write_text(text, encoding="utf-8")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
