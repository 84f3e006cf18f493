"""The texts that stand below attributes: Python throws them away, so they are read from the source."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap


def class_tree(kind: type) -> ast.ClassDef:
    """The class, as it is written."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - for mypy
    return tree


def attribute_docstrings(kind: type) -> dict[str, str]:
    """The texts below a class's attributes, and below those that its constructor makes; each on one line."""
    tree = class_tree(kind)
    made = (one.body for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "__init__")
    found = {}
    for statement, text in itertools.chain.from_iterable(map(itertools.pairwise, [tree.body, *made])):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", None)
        if name and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[str(name)] = " ".join(str(text.value.value).split())
    return found
