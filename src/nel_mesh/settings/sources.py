"""Where settings come from: keyword arguments, the environment, a file.

Each source is read into a `Reading`: what it gives, with the label by which its owner knows it, and the
faults that can be seen without knowing what the values mean. What they mean is for `settings.py`. Absent
everywhere: null, an empty or blank string, an empty list, and empty items of a list.

The error texts name settings, never values: any value may be a secret, or may be one that went to the wrong
place.
"""

from __future__ import annotations

import codecs
import dataclasses
import difflib
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pydantic import SecretStr

from nel_mesh.errors import ConfigurationError

SECTION = "MeshConfiguration"
"""The object of an `appsettings.json` that holds NEL.MESH's settings."""

PROFILES = "profiles"
"""The object or table, among a file's settings, that holds its profiles; in upper or lower case."""

_PREFIX = "mesh_"
_DOTNET_PREFIX = SECTION.casefold() + "__"

# How alike a foreign `MESH_…` variable must be to one of ours before we call it a slip of the pen. At 0.85
# PASSWROD and PASSWD are, while MAILBOX and CLIENT_CERT, which another program may well use, are not.
_TYPO_SIMILARITY = 0.85


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """One value, not yet believed, and how its source calls it."""

    value: object = dataclasses.field(repr=False)  # it may be a secret
    label: str


@dataclasses.dataclass(slots=True)
class Reading:
    """What one source gives, by the setting's name, and what is wrong with it."""

    given: dict[str, Given] = dataclasses.field(default_factory=dict)
    faults: list[str] = dataclasses.field(default_factory=list)

    def add(self, name: str, value: object, label: str) -> None:
        """Takes note of a value, unless it is absent."""
        value = _present(value)
        if value is not None:
            self.given[name] = Given(value, label)


def combine(readings: Iterable[Reading]) -> Reading:
    """All readings as one; where two give a setting, the later wins."""
    combined = Reading()
    for reading in readings:
        combined.given |= reading.given
        combined.faults += reading.faults
    return combined


def dotnet_name(name: str) -> str:
    """A setting's name as NEL.MESH spells it: `mex_os_name` is `MexOSName`."""
    return "".join("OS" if word == "os" else word.capitalize() for word in name.split("_"))


def variable_name(name: str) -> str:
    """A setting's name in the environment: `mailbox_id` is `MESH_MAILBOX_ID`."""
    return (_PREFIX + name).upper()


def from_keywords(keywords: Mapping[str, object], names: Iterable[str]) -> Reading:
    """Keyword arguments, by the settings' own names."""
    known = {name: name for name in names}
    reading = Reading()
    for keyword, value in keywords.items():
        label = f"keyword argument `{keyword}`"
        if keyword in known:
            reading.add(keyword, value, label)
        else:
            reading.faults.append(_unknown(label, keyword, known, lambda name: f"`{name}`"))
    return reading


def from_environment(environ: Mapping[str, str], names: Iterable[str], lists: Iterable[str]) -> Reading:
    """The environment: `MESH_MAILBOX_ID`, and .NET's `MeshConfiguration__MailboxId`.

    Upper and lower case are the same. Where a setting is given both ways the `MESH_` form wins, and of two
    variables that differ only in case the one in capitals. A list in a `MESH_` variable is a JSON list of
    strings, or else one item; .NET's way, `MeshConfiguration__TlsRootCertificates__0`, has one variable for
    each item.

    An unknown `MeshConfiguration__` variable is a fault. An unknown `MESH_` variable is another program's,
    unless it is so like one of ours that it must be misspelt.

    Args:
        environ: the variables, as in `os.environ`.
        names: the settings that there are.
        lists: those of them that are lists.
    """
    names, lists = list(names), set(lists)
    ours, dotnet = Reading(), Reading()
    known = {name: name for name in names}
    known_dotnet = {dotnet_name(name).casefold(): name for name in names}
    items: dict[str, dict[int, str]] = {}
    # Capitals sort first, so in reverse order they are read last and win.
    for variable in sorted(environ, reverse=True):
        value, folded, label = environ[variable], variable.casefold(), f"environment variable {variable}"
        if folded.startswith(_DOTNET_PREFIX):
            key, _, index = folded.removeprefix(_DOTNET_PREFIX).partition("__")
            name = known_dotnet.get(key)
            if name is None or (index and (name not in lists or not index.isdecimal())):
                dotnet.faults.append(_unknown(label, key, known_dotnet, lambda n: f"{SECTION}__{dotnet_name(n)}"))
            elif index:
                items.setdefault(name, {})[int(index)] = value
            else:
                _add_text(dotnet, name, value, label, lists)
        elif folded.startswith(_PREFIX):
            key = folded.removeprefix(_PREFIX)
            if key in known:
                _add_text(ours, key, value, label, lists)
            else:
                ours.faults += (
                    f"{label}: there is no such setting; did you mean {variable_name(name)}?"
                    for name in difflib.get_close_matches(key, names, n=1, cutoff=_TYPO_SIMILARITY)
                )
    for name, numbered in items.items():
        label = f"environment variables {SECTION}__{dotnet_name(name)}__…"
        dotnet.add(name, [numbered[index] for index in sorted(numbered)], label)
    return combine([dotnet, ours])


def _add_text(reading: Reading, name: str, text: str, label: str, lists: set[str]) -> None:
    if name in lists and text.lstrip().startswith("["):
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError):
            reading.faults.append(
                f'{label}: it begins like a JSON list and is none; write ["…", "…"], or one item alone'
            )
            return
        reading.add(name, value, label)
    else:
        reading.add(name, text, label)


def from_file(path: str | os.PathLike[str], names: Iterable[str], profile: str | None = None) -> Reading:
    """A settings file, in one of three shapes.

    - JSON with a `MeshConfiguration` object: NEL.MESH's `appsettings.json`, read as .NET reads it (comments,
      trailing commas, a byte order mark, keys in any case). Everything beside that object is other people's,
      and ignored.
    - Any other JSON object: the settings' own names (`mailbox_id`) at the top level.
    - TOML: likewise at the top level.

    A name that ends in `.json` or `.toml` says which; for any other, a file that starts with a brace or a
    comment of JSON's is JSON. Text is UTF-8, or UTF-16 with its byte order mark.

    Args:
        path: the file.
        names: the settings that there are.
        profile: whose settings win over the file's others; upper and lower case are the same. None or empty:
            no profile's. Of the profiles that are not chosen only their being profiles is looked at.

    Raises:
        ConfigurationError: the file cannot be read, is not what its name says, or has no such profile; names
            the place, quotes nothing.
    """
    document = _document(path, list(names))
    everyones = _entries(document, document.entries, document.path.name)
    everyones.faults[:0] = document.faults
    if not profile or not profile.strip() or document.faults:
        return everyones
    name = _chosen(document, profile.strip())
    return combine(
        [everyones, _entries(document, document.profiles[name], f"profile '{name}' of {document.path.name}")]
    )


def profiles(path: str | os.PathLike[str]) -> list[str]:
    """The names of a settings file's profiles, in its order.

    Raises:
        ConfigurationError: as `from_file`; or what should be profiles are none.
    """
    document = _document(path, [])
    if document.faults:
        raise ConfigurationError("; ".join(document.faults), faults=tuple(document.faults))
    return list(document.profiles)


def _chosen(document: _Document, profile: str) -> str:
    for name in document.profiles:
        if name.casefold() == profile.casefold():
            return name
    there = ", ".join(document.profiles)
    raise _unreadable(
        document.path,
        f"there is no profile '{profile}'; " + (f"there are: {there}" if there else "it has no profiles"),
    )


def _document(path: str | os.PathLike[str], names: list[str]) -> _Document:
    path = Path(path).expanduser()
    text = _text(path)
    kind = path.suffix.lower()
    if kind == ".json" or (kind != ".toml" and text.lstrip().startswith(("{", "/"))):
        return _from_json(text, path, names)
    return _from_toml(text, path, names)


class _Document:
    """A settings file, in its own words: the settings for everyone, and each profile's.

    Args:
        path: the file.
        entries: what is in it, by the keys that it has.
        known: the settings' names, by their keys in this kind of file.
        spell: how this kind of file spells a setting's name.
        prefix: what stands before a key to say where it is; with one, keys may be in any case.
    """

    def __init__(
        self,
        path: Path,
        entries: Iterable[tuple[str, object]],
        known: Mapping[str, str],
        spell: Callable[[str], str],
        *,
        prefix: str = "",
        faults: Iterable[str] = (),
    ) -> None:
        self.path = path
        self.known = known
        self.spell = spell
        self.prefix = prefix
        self.faults = list(faults)
        self.entries: list[tuple[str, object]] = []
        self.profiles: dict[str, list[tuple[str, object]]] = {}
        for key, value in entries:
            if key.casefold() == PROFILES:
                self._add_profiles(key, value)
            else:
                self.entries.append((key, value))

    def show(self, key: str) -> str:
        """A key as whoever wrote it will find it."""
        return f"{self.prefix}{key}" if self.prefix else f"`{key}`"

    def _add_profiles(self, key: str, value: object) -> None:
        label = f"{self.show(key)} in {self.path.name}"
        if value is None:
            return
        found = _pairs(value)
        if found is None:
            self.faults.append(f"{label}: it must hold profiles, each by its name")
            return
        folded = {name.casefold() for name in self.profiles}
        for name, settings in found:
            pairs = [] if settings is None else _pairs(settings)
            if pairs is None:
                self.faults.append(f"{label}: '{name}' holds no settings; put it into a profile, which has a name")
            elif name.casefold() in folded:
                self.faults.append(f"{label}: profile '{name}' is there more than once; leave one")
            else:
                folded.add(name.casefold())
                self.profiles[name] = pairs


def _pairs(value: object) -> list[tuple[str, object]] | None:
    """The keys and values of a JSON object or TOML table; None for anything else."""
    if isinstance(value, _Pairs):
        return list(value)
    return list(value.items()) if isinstance(value, dict) else None


def _text(path: Path) -> str:
    problem = data = None
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        problem = "there is no such file"
    except (OSError, ValueError) as error:
        # Windows calls opening a folder "permission denied".
        is_folder = isinstance(error, IsADirectoryError) or os.path.isdir(path)  # noqa: PTH112  takes NUL
        problem = "it is a folder" if is_folder else getattr(error, "strerror", None) or "it is not a path"
    if data is None:
        raise _unreadable(path, f"{problem}; give the path of a settings file")
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    # Raised out here because the UnicodeDecodeError holds the file's content, and would be this error's
    # context.
    raise _unreadable(path, f"line {line} is not UTF-8 text; save the file as UTF-8")


def _from_json(text: str, path: Path, names: list[str]) -> _Document:
    problem, document = "", None
    try:
        document = json.loads(
            strict_json(text),
            # As .NET's reader does: every scalar is text, so a password of digits stays as it was written.
            parse_int=str,
            parse_float=str,
            parse_constant=str,
            object_pairs_hook=_Pairs,
        )
    except json.JSONDecodeError as error:
        # Only the part before a colon: some messages go on to quote the text.
        reason = error.msg.partition(":")[0].removesuffix(" at")
        problem = f"line {error.lineno}, column {error.colno}: not valid JSON ({reason})"
    except RecursionError:
        problem = "it is nested too deep for a settings file"
    if problem:
        raise _unreadable(path, problem)
    if not isinstance(document, _Pairs):
        raise _unreadable(path, f"it must hold one JSON object, with the settings or with {SECTION} in it")

    sections = [value for key, value in document if key.casefold() == SECTION.casefold()]
    if not sections:
        return _plain(document, path, names)
    section = _Pairs() if sections[0] is None else sections[0]
    fault = None
    if len(sections) > 1:
        fault = f"{SECTION} in {path.name}: it is there {len(sections)} times; leave one"
    elif not isinstance(section, _Pairs):
        fault = f"{SECTION} in {path.name}: it must be an object with the settings in it"
    return _Document(
        path,
        section if isinstance(section, _Pairs) and fault is None else (),
        {dotnet_name(name).casefold(): name for name in names},
        lambda name: f"{SECTION}:{dotnet_name(name)}",
        prefix=f"{SECTION}:",
        faults=[fault] if fault else (),
    )


def _from_toml(text: str, path: Path, names: list[str]) -> _Document:
    problem = ""
    table: dict[str, object] = {}
    try:
        table = tomllib.loads(text, parse_float=str)
    except tomllib.TOMLDecodeError as error:
        # Its message can quote the text, so only the place is taken from it.
        place = re.search(r"\(at (line \d+, column \d+|end of document)\)$", str(error))
        problem = f"{place[1] if place else 'somewhere'}: not valid TOML (strings need quotation marks)"
    except RecursionError:
        problem = "it is nested too deep for a settings file"
    if problem:
        raise _unreadable(path, problem)
    return _plain(table.items(), path, names)


def _plain(entries: Iterable[tuple[str, object]], path: Path, names: list[str]) -> _Document:
    return _Document(path, entries, {name: name for name in names}, lambda name: f"`{name}`")


def _entries(document: _Document, entries: Iterable[tuple[str, object]], where: str) -> Reading:
    reading = Reading()
    seen: set[str] = set()
    for key, value in entries:
        name = document.known.get(key.casefold() if document.prefix else key)
        if name is None:
            reading.faults.append(_unknown(f"{document.show(key)} in {where}", key, document.known, document.spell))
            continue
        label = f"{document.spell(name)} in {where}"
        if name in seen:
            reading.faults.append(f"{label}: it is given more than once; leave one")
        seen.add(name)
        reading.add(name, value, label)
    return reading


# Possessive and atomic, so that no match is found by ending a comment early or late.
_JSON_PIECES = re.compile(
    r"""
      (?P<kept> "(?:[^"\\\n]|\\.)*"? )               # a string, whatever is in it
    | //[^\n]* | /\*.*?\*/
    | , (?= (?: \s | //[^\n]*+ | /(?>\*.*?\*/) )*+ [}\]] )
    """,
    re.VERBOSE | re.DOTALL,
)


def strict_json(text: str) -> str:
    """JSON as .NET's configuration reader takes it, made strict: comments and trailing commas become blanks.

    Line feeds stay where they are, so line and column of an error found later are those of the original.
    """
    return _JSON_PIECES.sub(lambda piece: piece["kept"] or re.sub(r"[^\n]", " ", piece[0]), text)


class _Pairs(list[tuple[str, object]]):
    """A JSON object as its pairs: a dict would hide that a key came twice."""


def _present(value: object) -> object:
    """The value, or None if it is what counts as absent; a path as its text."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, SecretStr):
        return value if value.get_secret_value().strip() else None
    if isinstance(value, _Pairs):
        return dict(value)
    if isinstance(value, list | tuple):
        return [item for item in map(_present, value) if item is not None] or None
    return value


def _unreadable(path: Path, problem: str) -> ConfigurationError:
    fault = f"settings file {path}: {problem}"
    return ConfigurationError(fault, faults=(fault,))


def _unknown(label: str, key: str, known: Mapping[str, str], spell: Callable[[str], str]) -> str:
    suggestion = _suggestion(key, known, spell) or "take it out, or see the settings' documentation for its name"
    return f"{label}: there is no such setting; {suggestion}"


def _suggestion(key: str, known: Mapping[str, str], spell: Callable[[str], str]) -> str | None:
    plain = {name.replace("_", ""): name for name in known.values()}
    wanted = re.sub(r"[_\-:. ]", "", key.casefold())
    for like in difflib.get_close_matches(wanted, plain, n=1):
        return f"did you mean {spell(plain[like])}?"
    return None
