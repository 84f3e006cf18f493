"""Generate src/nel_mesh/_sync from src/nel_mesh/_async.

    python tools/unasync.py            write what has changed
    python tools/unasync.py --check    write nothing; fail if anything would change

The async source is rewritten as text, so that the two stay comparable line by line:

- `async`, `await` and the `a` of `anext` go, `AsyncName` becomes `Name`, and `async_name` (a module or function)
  becomes `name`;
- `await in_thread(f, *arguments)` becomes `f(*arguments)`: the blocking client waits in its own thread.

The generator fails if a rule was used nowhere, or if a trace of async survives: then its table and the source have
drifted apart.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "src" / "nel_mesh"
HEADER = "# Generated from _async/{name} by tools/unasync.py: edit that file, then run `make generate`.\n"

SUBSTITUTIONS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\basync (def|with|for)\b", r"\1"),
        (r"\bawait ", ""),
        (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
        (r"\ba(iter|next)\(", r"\1("),
        (r"\bAwaitable\[(object|bytes)\]", r"\1"),
        (r"\bAwaitable, ", ""),
        (r"\bStopAsyncIteration\b", "StopIteration"),
        (r"\basynccontextmanager\b", "contextmanager"),
        (r"\bAbstractAsyncContextManager\b", "AbstractContextManager"),
        (r"\bAsyncGenerator\[(\w+), None\]", r"Generator[\1, None, None]"),
        (r"\baclosing\b", "closing"),
        (r"\b(_?)Async(?=[A-Z])", r"\1"),
        (r"\basync_(\w+)", r"\1"),
        (
            r'"""The one source of the client; `_sync` is generated from it by tools/unasync.py\."""',
            '"""The sync client, generated from `_async` by tools/unasync.py; never edited."""',
        ),
    )
]
SURVIVORS = re.compile(r"async|await|\banext\b|aclos|in_thread", re.IGNORECASE)
IN_THREAD = "await in_thread("
IMPORTED = re.compile(r"(?<=import )in_thread, |, in_thread\b|^from \S+ import in_thread\n", re.MULTILINE)


def main() -> int:
    unused = {pattern for pattern, _ in SUBSTITUTIONS}
    made: dict[str, str] = {}
    problems: list[str] = []
    for source in sorted((ROOT / "_async").glob("*.py")):
        text = IMPORTED.sub("", without_threads(source.read_text()))
        lines = []
        for original in text.splitlines(keepends=True):
            line = original
            for pattern, replacement in SUBSTITUTIONS:
                line, count = pattern.subn(replacement, line)
                if count:
                    unused.discard(pattern)
            if SURVIVORS.search(line) and "_async" not in line:
                problems.append(f"{source.name}: survives: {line.strip()}")
            lines.append(line)
        made[source.name] = HEADER.format(name=source.name) + "".join(lines)
    problems += [f"rule without a use: {pattern.pattern}" for pattern in unused]
    target = ROOT / "_sync"
    target.mkdir(exist_ok=True)
    made = {name: formatted(text, target / name) for name, text in made.items()}
    present = {path.name: path.read_text() for path in target.glob("*.py")}
    changed = sorted(name for name in made.keys() | present.keys() if made.get(name) != present.get(name))
    if "--check" in sys.argv:
        problems += [f"_sync/{name} is not what _async makes: run `make generate`" for name in changed]
    elif not problems:
        for name in changed:
            if name in made:
                (target / name).write_text(made[name])
            else:
                (target / name).unlink()
    print("\n".join(problems) or f"_sync: {len(made)} files, {len(changed)} changed")
    return 1 if problems else 0


def without_threads(text: str) -> str:
    """Replace each `await in_thread(f, *arguments)` by `f(*arguments)`, innermost first."""
    while (start := text.rfind(IN_THREAD)) >= 0:
        function, comma, end = _call(text, start + len(IN_THREAD))
        arguments = text[comma + 1 : end] if comma < end else ""
        text = f"{text[:start]}{function}({arguments}{text[end:]}"
    return text


def _call(text: str, start: int) -> tuple[str, int, int]:
    """Return a call's first argument, the place of the comma after it (or of the end), and of the closing bracket."""
    depth, comma = 0, -1
    for place in range(start, len(text)):
        character = text[place]
        if character in "([{":
            depth += 1
        elif character in ")]}":
            if depth == 0:
                comma = comma if comma >= 0 else place
                return text[start:comma].strip(), comma, place
            depth -= 1
        elif character == "," and depth == 0 and comma < 0:
            comma = place
    raise SystemExit("a call of in_thread without its end")


def formatted(text: str, path: Path) -> str:
    """Format and sort imports again, since lines become shorter and names sort differently."""
    ruff = [sys.executable, "-m", "ruff"]
    sort = [*ruff, "check", "--quiet", "--fix", "--select", "I", "--stdin-filename", str(path), "-"]
    text = subprocess.run(sort, input=text, capture_output=True, text=True, check=False).stdout
    style = [*ruff, "format", "--quiet", "--stdin-filename", str(path), "-"]
    return subprocess.run(style, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
