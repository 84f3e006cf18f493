"""Settings loaded as far as they can be: a faulty one does not hide what does not need it."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, Unpack

from nel_mesh.errors import ConfigurationError, SettingFault
from nel_mesh.settings import MeshSettings, SettingsKeywords

_PLACEHOLDERS: SettingsKeywords = {
    "mailbox_id": "X",
    "password": "-",
    "shared_key": "-",
    "url": "https://localhost",
}
"""In place of required settings; the others have defaults."""


class LoadSettings(Protocol):
    """Loads the settings, with some of them replaced. Raises ConfigurationError."""

    def __call__(self, **keywords: Unpack[SettingsKeywords]) -> MeshSettings:
        """Load them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and their faults.

    Attributes:
        settings: the settings, with something harmless in place of each faulty one; None if that is not possible.
        faults: every fault.
    """

    settings: MeshSettings | None
    faults: tuple[SettingFault, ...] = ()

    @property
    def replaced(self) -> frozenset[str]:
        """The settings that are not as they were given."""
        return frozenset(fault.setting for fault in self.faults if fault.setting is not None)


def load_partially(load: LoadSettings) -> Loaded:
    """Load the settings; if they have faults, again without the faulty ones."""
    try:
        return Loaded(load())
    except ConfigurationError as error:
        loaded = Loaded(_usable(error), error.faults)
    if loaded.settings is not None:
        return loaded
    keywords: Any = {name: MeshSettings.model_fields[name].default for name in loaded.replaced}
    keywords |= {name: value for name, value in _PLACEHOLDERS.items() if name in loaded.replaced}
    try:
        return dataclasses.replace(loaded, settings=load(**keywords))
    except ConfigurationError as error:
        return dataclasses.replace(loaded, settings=_usable(error))


def _usable(error: ConfigurationError) -> MeshSettings | None:
    """Return the settings, where only names are wrong that no setting has."""
    return error.settings if isinstance(error.settings, MeshSettings) else None
