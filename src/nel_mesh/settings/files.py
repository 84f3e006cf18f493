"""Settings files: NEL.MESH's `appsettings.json` as .NET reads it, plain JSON, TOML, and the profiles in each.

No fault quotes the file, only the place in it.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from nel_mesh.errors import ConfigurationError, SettingFault
from nel_mesh.settings.sources import (
    SECTION,
    Reading,
    combine,
    dotnet_name,
    dotnet_names,
    dotnet_value,
)

PROFILES = "profiles"
"""The object or table, among a file's settings, that holds its profiles; in upper or lower case."""

_Entries = list[tuple[str, object]]


def from_file(path: str | os.PathLike[str], names: Iterable[str], profile: str | None = None) -> Reading:
    """Read a settings file, in one of three forms.

    - JSON with a `MeshConfiguration` object: NEL.MESH's `appsettings.json`, read as .NET reads it (comments,
      trailing commas, a byte order mark, keys in any case; 0 for a number that is not given). Everything beside
      that object belongs to other programs, and is ignored.
    - Any other JSON object: the settings' own names (`mailbox_id`) at the top level.
    - TOML: likewise at the top level.

    A name that ends in `.json` or `.toml` decides; for any other, a file that starts with a brace or a
    comment of JSON's is JSON. Text is UTF-8, or UTF-16 with its byte order mark.

    Args:
        path: the file.
        names: the settings that there are.
        profile: the profile whose settings win over the file's others; upper and lower case are the same. None or
            empty: no profile's. Profiles that are not chosen are only checked for being profiles.

    Raises:
        ConfigurationError: the file cannot be read, is not what its name says, or has no such profile.
    """
    document = _document(path, list(names))
    common = _entries(document, document.entries, document.path.name)
    common.faults[:0] = document.faults
    common.spell = document.spell
    if not profile or not profile.strip() or document.faults:
        return common
    name = _chosen(document, profile.strip())
    own = _entries(document, document.profiles[name], f"profile '{name}' of {document.path.name}")
    return dataclasses.replace(combine([common, own]), spell=document.spell)


def profiles(path: str | os.PathLike[str]) -> list[str]:
    """List the profiles of a settings file, in its order; see `MeshSettings.from_file`.

    Args:
        path: the file: TOML with tables `[profiles.NAME]`; or JSON with an object `profiles`, which in an
            `appsettings.json` is in `MeshConfiguration`.

    Raises:
        ConfigurationError: the file cannot be read, or its `profiles` hold something else.
    """
    document = _document(path, [])
    if document.faults:
        raise ConfigurationError.of(document.faults)
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
    path = Path(path)
    try:
        path = path.expanduser()
    except RuntimeError:
        raise _unreadable(path, "there is no such home folder here; give the path without ~") from None
    text = _text(path)
    form = path.suffix.lower()
    if form == ".json" or (form != ".toml" and text.lstrip().startswith(("{", "/"))):
        return _from_json(text, path, names)
    return _from_toml(text, path, names)


class _Document:
    """A settings file under its own keys: the settings outside of profiles, and each profile's.

    Args:
        path: the file.
        entries: its content, by the keys that it has.
        known: the settings' names, by their keys in this form of file.
        spell: how this form of file spells a setting's name.
        section: the .NET section that the entries are in, where keys may be in any case; None: there is none.
        faults: the faults of the file as a whole.
    """

    def __init__(
        self,
        path: Path,
        entries: Iterable[tuple[str, object]],
        known: Mapping[str, str],
        spell: Callable[[str], str],
        *,
        section: str | None = None,
        faults: Iterable[SettingFault] = (),
    ) -> None:
        self.path = path
        self.known = known
        self.spell = spell
        self.section = section
        self.faults = list(faults)
        self.entries: _Entries = []
        self.profiles: dict[str, _Entries] = {}
        for key, value in entries:
            if key.casefold() == PROFILES:
                self._add_profiles(key, value)
            else:
                self.entries.append((key, value))

    def show(self, key: str) -> str:
        """A key as its author will find it."""
        return f"{self.section}:{key}" if self.section else f"`{key}`"

    def _add_profiles(self, key: str, value: object) -> None:
        if value is None:
            return
        found = _pairs(value)
        if found is None:
            self._fault(key, "it must hold profiles, each by its name")
            return
        folded = {name.casefold() for name in self.profiles}
        for name, settings in found:
            pairs = [] if settings is None else _pairs(settings)
            if pairs is None:
                self._fault(key, f"'{name}' holds no settings; put it into a profile, which has a name")
            elif name.casefold() in folded:
                self._fault(key, f"profile '{name}' is there more than once; keep one")
            else:
                folded.add(name.casefold())
                self.profiles[name] = pairs

    def _fault(self, key: str, message: str) -> None:
        self.faults.append(SettingFault(None, f"{self.show(key)} in {self.path.name}", "invalid", message))


def _pairs(value: object) -> _Entries | None:
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
        if str(path) != str(path).strip():
            problem = "there is no such file; the path begins or ends with a blank or a line feed"
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
    problem = ""
    if len(sections) > 1:
        problem = f"it is there {len(sections)} times; keep one"
    elif not isinstance(section, _Pairs):
        problem = "it must be an object with the settings in it"
    return _Document(
        path,
        section if isinstance(section, _Pairs) and not problem else (),
        dotnet_names(names),
        lambda name: f"{SECTION}:{dotnet_name(name)}",
        section=SECTION,
        faults=[SettingFault(None, f"{SECTION} in {path.name}", "invalid", problem)] if problem else (),
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
    return _Document(path, entries, {name: name for name in names}, "`{}`".format)


def _entries(document: _Document, entries: Iterable[tuple[str, object]], where: str) -> Reading:
    reading = Reading()
    for key, value in entries:
        name = document.known.get(key.casefold() if document.section else key)
        if name is None:
            reading.unknown(f"{document.show(key)} in {where}", key, document.known, document.spell)
            continue
        old = bool(document.section) and key.casefold() != dotnet_name(name).casefold()
        label = f"{document.show(key) if old else document.spell(name)} in {where}"
        if isinstance(value, _Pairs):
            value = dict(value)
        if document.section:
            value = dotnet_value(name, value)
        seen = name in reading.given
        if reading.add(name, value, label) and seen:
            reading.fault(name, label, "invalid", "it is given more than once; keep one")
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


def _unreadable(path: Path, problem: str) -> ConfigurationError:
    return ConfigurationError.of([SettingFault(None, f"settings file {path}", "unreadable", problem)])
