"""The table `[console]` of the configuration: how the console is reached, and how long a session lasts."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class OpenIdOptions(BaseModel):
    """Login by OpenID Connect, in the table `[console.openid]`.

    Attributes:
        issuer: the address of the organisation's server, `https:` or on this machine.
        client_id: what that server calls the console.
        client_secret_file: a file with the secret that it gave the console.
        name_claim: which of its claims is the name of the account; one that the person cannot change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str
    client_id: str
    client_secret_file: Path
    name_claim: str = "preferred_username"

    @field_validator("issuer")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        if not re.match(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]", value):
            raise ValueError("the issuer must begin with https://, or be on this machine")
        return value


class ConsoleOptions(BaseModel):
    """How the console is reached.

    Attributes:
        certificate: a PEM file with the certificate of the console, and of the authorities between.
        private_key: a PEM file with its private key.
        trusted_proxy: the address of a web server in front of it, which does TLS, and whose word of the visitor's
            address and scheme is taken.
        hosts: the names by which it is reached, besides those of this machine's loopback and its own address.
        idle_minutes: a session that was not used for so long ends.
        session_hours: a session ends after so long in any case.
        openid: login by OpenID Connect.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    certificate: Path | None = None
    private_key: Path | None = None
    trusted_proxy: str | None = None
    hosts: tuple[str, ...] = ()
    idle_minutes: Annotated[float, Field(gt=0, le=1440)] = 30
    session_hours: Annotated[float, Field(gt=0, le=168)] = 12
    openid: OpenIdOptions | None = None

    @field_validator("trusted_proxy")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ipaddress.ip_address(value)
            except ValueError:
                raise ValueError(
                    "expected the address of the proxy, such as 10.0.0.2; no name, and no network"
                ) from None
        return value

    @model_validator(mode="after")
    def _is_complete(self) -> ConsoleOptions:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together")
        return self

    def absolute(self, folder: Path) -> ConsoleOptions:
        """Return them with each path from the folder of the configuration."""
        names = ("certificate", "private_key")
        paths = {name: folder / path for name in names if (path := getattr(self, name)) is not None}
        if self.openid is not None:
            secret = {"client_secret_file": folder / self.openid.client_secret_file}
            return self.model_copy(update={**paths, "openid": self.openid.model_copy(update=secret)})
        return self.model_copy(update=paths)
