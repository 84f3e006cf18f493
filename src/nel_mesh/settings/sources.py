"""Settings as they are given: a `Reading` of each source, and the sources that are no file (keywords, environment).

A reading has the values, each with its source's own name for it, and the faults that can be seen without knowing
what a value means; `model.py` knows that. These count as absent in every source: null, an empty or blank string, an
empty list, and empty items of a list.

No fault quotes a value: any value may be a secret, or may have been given in the wrong place.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping

from pydantic import SecretStr

from nel_mesh.errors import FaultKind, SettingFault

SECTION = "MeshConfiguration"
"""The section of .NET's configuration that holds NEL.MESH's settings."""

OLD_DOTNET_NAMES = {
    "Key": "shared_key",
    "RootCertificate": "tls_root_certificates",
    "IntermediateCertificates": "tls_intermediate_certificates",
    "ClientCertificate": "client_signing_certificate",
    "ClientCertificatePassword": "client_signing_certificate_password",
    "ChunkSize": "max_chunk_size_in_megabytes",
}
"""The keys of older versions of NEL.MESH, and the settings that they are now."""

_ZERO_IS_ABSENT = {"max_request_timeout_in_seconds", "max_chunk_size_in_megabytes"}
"""NEL.MESH's integers: .NET has 0 for one that is not given, and NEL.MESH takes a timeout of 0 or less for none."""

_PREFIX = "mesh_"
_DOTNET_PREFIX = SECTION.casefold() + "__"

# How similar a foreign `MESH_...` variable must be to one of ours to be called a typo. At 0.85 PASSWROD and PASSWD
# are, while MAILBOX and CLIENT_CERT, which another program may well use, are not.
_TYPO_SIMILARITY = 0.85


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """One value, not yet validated, and where it was given."""

    value: object = dataclasses.field(repr=False)  # it may be a secret
    label: str


@dataclasses.dataclass(slots=True)
class Reading:
    """The values that a source gives, by the setting's name, and its faults.

    Attributes:
        spell: how the source spells a setting's name.
    """

    given: dict[str, Given] = dataclasses.field(default_factory=dict)
    faults: list[SettingFault] = dataclasses.field(default_factory=list)
    spell: Callable[[str], str] = "`{}`".format

    def add(self, name: str, value: object, label: str) -> bool:
        """Add a value, unless it counts as absent. Returns whether it was added."""
        value = _present(value)
        if value is not None:
            self.given[name] = Given(value, label)
        return value is not None

    def fault(self, setting: str | None, label: str, kind: FaultKind, message: str) -> None:
        """Add a fault."""
        self.faults.append(SettingFault(setting, label, kind, message))

    def unknown(self, label: str, key: str, known: Mapping[str, str], spell: Callable[[str], str]) -> None:
        """Add the fault of a name that no setting has, with the name that was probably meant.

        Args:
            label: where it was given.
            key: the name.
            known: the settings' names, by their keys in this source.
            spell: how this source spells a setting's name.
        """
        like = _most_similar(key, known)
        advice = (
            f"did you mean {spell(like)}?" if like else "take it out, or see the settings' documentation for its name"
        )
        self.fault(None, label, "unknown_name", f"there is no such setting; {advice}")


def combine(readings: Iterable[Reading]) -> Reading:
    """Combine readings into one; where two give a setting, the later wins."""
    combined = Reading()
    for reading in readings:
        combined.given |= reading.given
        combined.faults += reading.faults
    return combined


def dotnet_name(name: str) -> str:
    """A setting's name as NEL.MESH spells it: `mex_os_name` is `MexOSName`."""
    return "".join("OS" if word == "os" else word.capitalize() for word in name.split("_"))


def dotnet_names(names: Iterable[str]) -> dict[str, str]:
    """The settings by their keys in .NET's configuration, in lower case; also the keys of older versions."""
    names = list(names)
    old = {key.casefold(): name for key, name in OLD_DOTNET_NAMES.items() if name in names}
    return {**old, **{dotnet_name(name).casefold(): name for name in names}}


def dotnet_value(name: str, value: object) -> object:
    """A value of .NET's configuration; None for one that NEL.MESH takes for not given."""
    if name in _ZERO_IS_ABSENT and isinstance(value, str | int | float):
        try:
            return None if float(value) <= 0 else value
        except ValueError:
            return value
    return value


def variable_name(name: str) -> str:
    """A setting's name in the environment: `mailbox_id` is `MESH_MAILBOX_ID`."""
    return (_PREFIX + name).upper()


def from_keywords(keywords: Mapping[str, object], names: Iterable[str]) -> Reading:
    """Read keyword arguments, which have the settings' own names."""
    known = {name: name for name in names}
    reading = Reading()
    for keyword, value in keywords.items():
        label = f"keyword argument `{keyword}`"
        if keyword in known:
            reading.add(keyword, value, label)
        else:
            reading.unknown(label, keyword, known, reading.spell)
    return reading


def from_environment(environ: Mapping[str, str], names: Iterable[str], lists: Iterable[str]) -> Reading:
    """Read the environment: `MESH_MAILBOX_ID`, and .NET's `MeshConfiguration__MailboxId`.

    Upper and lower case are the same. Where a setting is given both ways the `MESH_` form wins, and of two
    variables that differ only in case the one in capitals. A list in a `MESH_` variable is a JSON list of
    strings, or else one item; .NET's way, `MeshConfiguration__TlsRootCertificates__0`, has one variable for
    each item.

    An unknown `MeshConfiguration__` variable is a fault. An unknown `MESH_` variable is another program's,
    unless it is so similar to one of ours that it must be a typo.

    Args:
        environ: the variables, as in `os.environ`.
        names: the settings that there are.
        lists: those of them that are lists.
    """
    names, lists = list(names), set(lists)
    ours, dotnet = Reading(), Reading()
    known = {name: name for name in names}
    known_dotnet = dotnet_names(names)
    items: dict[str, dict[int, str]] = {}
    # Capitals sort first, so in reverse order they are read last and win.
    for variable in sorted(environ, reverse=True):
        value, folded, label = environ[variable], variable.casefold(), f"environment variable {variable}"
        if folded.startswith(_DOTNET_PREFIX):
            key, _, index = folded.removeprefix(_DOTNET_PREFIX).partition("__")
            name = known_dotnet.get(key)
            if name is None or (index and (name not in lists or not index.isdecimal())):
                dotnet.unknown(label, key, known_dotnet, lambda n: f"{SECTION}__{dotnet_name(n)}")
            elif index:
                items.setdefault(name, {})[int(index)] = value
            else:
                _add_text(dotnet, name, dotnet_value(name, value), label, lists)
        elif folded.startswith(_PREFIX):
            key = folded.removeprefix(_PREFIX)
            if key in known:
                _add_text(ours, key, value, label, lists)
            else:
                for name in difflib.get_close_matches(key, names, n=1, cutoff=_TYPO_SIMILARITY):
                    message = f"there is no such setting; did you mean {variable_name(name)}?"
                    ours.fault(None, label, "unknown_name", message)
    for name, numbered in items.items():
        label = f"environment variables {SECTION}__{dotnet_name(name)}__…"
        dotnet.add(name, [numbered[index] for index in sorted(numbered)], label)
    return combine([dotnet, ours])


def _add_text(reading: Reading, name: str, value: object, label: str, lists: set[str]) -> None:
    if isinstance(value, str) and name in lists and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            message = 'it begins like a JSON list and is none; write ["…", "…"], or one item alone'
            reading.fault(name, label, "invalid", message)
            return
    reading.add(name, value, label)


def _present(value: object) -> object:
    """The value, or None if it counts as absent; a path as its text."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, SecretStr):
        return value if value.get_secret_value().strip() else None
    if isinstance(value, list | tuple):
        return [item for item in map(_present, value) if item is not None] or None
    return value


def _most_similar(key: str, known: Mapping[str, str]) -> str | None:
    plain = {name.replace("_", ""): name for name in known.values()}
    wanted = re.sub(r"[_\-:. ]", "", key.casefold())
    return next((plain[like] for like in difflib.get_close_matches(wanted, plain, n=1)), None)
