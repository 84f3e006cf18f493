"""The settings of one mailbox: their sources, their meaning and their limits."""

from __future__ import annotations

from nel_mesh.settings.files import profiles
from nel_mesh.settings.model import DIRECT, ENVIRONMENTS, MeshSettings, SettingsKeywords, is_loopback

__all__ = ["DIRECT", "ENVIRONMENTS", "MeshSettings", "SettingsKeywords", "is_loopback", "profiles"]
