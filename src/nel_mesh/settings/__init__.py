"""The settings of one mailbox: where they come from, and what each may be."""

from __future__ import annotations

from nel_mesh.settings.model import DIRECT, ENVIRONMENTS, MeshSettings, SettingsKeywords, profiles

__all__ = ["DIRECT", "ENVIRONMENTS", "MeshSettings", "SettingsKeywords", "profiles"]
