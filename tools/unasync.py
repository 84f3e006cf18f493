"""Makes src/nel_mesh/_sync from src/nel_mesh/_async, a line at a time, in the manner of httpcore's script.

    python tools/unasync.py            writes what has changed
    python tools/unasync.py --check    writes nothing, and fails if anything would change

It also fails if a substitution was of no use anywhere, or if a trace of async survives: either means that the table
and the source have drifted apart.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "src" / "nel_mesh"
HEADER = "# Generated from _async/{name} by tools/unasync.py: edit that one, then run `make generate`.\n"

SUBSTITUTIONS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\basync (def|with|for)\b", r"\1"),
        (r"\bawait ", ""),
        (r"\b__aenter__\b", "__enter__"),
        (r"\b__aexit__\b", "__exit__"),
        (r"\b__aiter__\b", "__iter__"),
        (r"\b__anext__\b", "__next__"),
        (r"\ba(iter|next)\(", r"\1("),
        (r"\bStopAsyncIteration\b", "StopIteration"),
        (r"\b_Async(Blocks|Each|Lane|MessageIds|Sent)\b", r"_\1"),
        (r"\bAwaitable\[(object|bytes)\]", r"\1"),
        (r"\bAwaitable, ", ""),
        (r"\bAsyncJournal\.open\(", "Journal("),
        (r"\basynccontextmanager\b", "contextmanager"),
        (r"\bAbstractAsyncContextManager\b", "AbstractContextManager"),
        (r"\bAsync(Generator\[\w+, None)\]", r"\1, None]"),
        (r"\bAsync(Generator|Iterator|Iterable)\b", r"\1"),
        (r"\baclosing\b", "closing"),
        (r"\bAsyncExitStack\b", "ExitStack"),
        (r"\benter_async_context\b", "enter_context"),
        (
            r"\bAsync(Ahead|Answer|Arrival|Beside|Body|Chunk|Clock|Contents|ContentSource|Crew|Disk|Early|Handler|"
            r"HttpBroker|Inbox|Journal|Lanes|Line|MailboxOperations|MeshClient|Message|Part|Pending|Receiver|ReportHandler|Sender|Socket|Turns)\b",
            r"\1",
        ),
        (
            r'"""The one source of the client; `_sync` is generated from it by tools/unasync.py."""',
            '"""The sync client, generated from `_async` by tools/unasync.py; never edited."""',
        ),
    )
]
SURVIVORS = re.compile(r"async|await|\banext\b|aclos", re.IGNORECASE)


def main() -> int:
    unused = {pattern for pattern, _ in SUBSTITUTIONS}
    made: dict[str, str] = {}
    problems: list[str] = []
    for source in sorted((ROOT / "_async").glob("*.py")):
        lines = []
        for number, original in enumerate(source.read_text().splitlines(keepends=True), 1):
            line = original
            for pattern, replacement in SUBSTITUTIONS:
                line, count = pattern.subn(replacement, line)
                if count:
                    unused.discard(pattern)
            if SURVIVORS.search(line) and "_async" not in line:
                problems.append(f"{source.name}:{number}: survives: {line.strip()}")
            lines.append(line)
        made[source.name] = HEADER.format(name=source.name) + "".join(lines)
    problems += [f"substitution of no use: {pattern.pattern}" for pattern in unused]
    target = ROOT / "_sync"
    target.mkdir(exist_ok=True)
    made = {name: _formatted(text, target / name) for name, text in made.items()}
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


def _formatted(text: str, path: Path) -> str:
    """What the formatter and the import sorter make of it, since lines become shorter and names sort anew."""
    ruff = [sys.executable, "-m", "ruff"]
    sort = [*ruff, "check", "--quiet", "--fix", "--select", "I", "--stdin-filename", str(path), "-"]
    text = subprocess.run(sort, input=text, capture_output=True, text=True, check=False).stdout
    style = [*ruff, "format", "--quiet", "--stdin-filename", str(path), "-"]
    return subprocess.run(style, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
