"""Logging in by OpenID Connect: the organisation's own server says who somebody is; the account says what they may.

The code flow with PKCE. What is under way is kept in a cookie of the browser, not the session's, as that is not sent
when another site leads back here. Only accounts that were made for it are logged in so: the
server cannot take over one that has a password here.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from nel_mesh import InvalidArgument, StorageError
from nel_mesh.agent.console_options import OpenIdOptions
from nel_mesh.console.accounts import LoginRefused

CALLBACK = "/login/openid/back"

_SIGNATURES = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
"""Signatures by the server's own key: none by a shared secret, and never none at all."""

_TIMEOUT_SECONDS = 10
_LEEWAY_SECONDS = 60


class OpenId:
    """The organisation's server, as one login meets it.

    Args:
        options: those of the configuration.
        here: the address of the console, as the browser names it.
    """

    def __init__(self, options: OpenIdOptions, here: str) -> None:
        self._options = options
        self._session = OAuth2Session(
            options.client_id,
            _secret(options.client_secret_file),
            scope="openid profile",
            redirect_uri=f"{here}{CALLBACK}",
            code_challenge_method="S256",
            default_timeout=_TIMEOUT_SECONDS,
        )

    def begin(self) -> tuple[str, dict[str, str]]:
        """Begin a login; return the address to go to, and what is to be kept until the browser is back.

        Raises:
            StorageError: the server cannot be asked.
        """
        kept = {name: secrets.token_urlsafe(48) for name in ("state", "nonce", "code_verifier")}
        address, _ = self._session.create_authorization_url(
            self._discovered()["authorization_endpoint"],
            state=kept["state"],
            nonce=kept["nonce"],
            code_verifier=kept["code_verifier"],
        )
        return str(address), kept

    def finish(self, code: str, kept: dict[str, str], now: float) -> str:
        """Take the code of the server, and return the name of the person.

        Raises:
            LoginRefused: the server refuses the code, or what it says is not signed by it, not for this login, or old.
            StorageError: the server cannot be asked.
        """
        if not code:
            raise LoginRefused("Your organisation's server did not let you in.")
        found = self._discovered()
        try:
            answer = self._session.fetch_token(
                found["token_endpoint"], code=code, code_verifier=kept["code_verifier"], timeout=_TIMEOUT_SECONDS
            )
            keys = KeySet.import_key_set({"keys": list(self._get(found["jwks_uri"]).get("keys", []))})
            token = jwt.decode(str(answer.get("id_token", "")), keys, algorithms=_SIGNATURES)
            expected = jwt.JWTClaimsRegistry(
                int(now),
                _LEEWAY_SECONDS,
                iss={"essential": True, "value": self._options.issuer},
                aud={"essential": True, "value": self._options.client_id},
                nonce={"essential": True, "value": kept["nonce"]},
                exp={"essential": True},
                iat={"essential": True},
                sub={"essential": True},
            )
            expected.validate(token.claims)
        except (AuthlibBaseError, JoseError, ValueError, requests.RequestException) as error:
            # Not its text: it can quote what the server sent.
            raise LoginRefused(f"The login of your organisation was not accepted ({type(error).__name__}).") from None
        name = token.claims.get(self._options.name_claim)
        if not isinstance(name, str) or not name:
            raise LoginRefused(f"Your organisation's server does not say your name ({self._options.name_claim}).")
        return name

    def _discovered(self) -> dict[str, str]:
        found = self._get(f"{self._options.issuer.rstrip('/')}/.well-known/openid-configuration")
        names = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
        if found.get("issuer") != self._options.issuer or not all(isinstance(found.get(name), str) for name in names):
            raise StorageError("the server of OpenID Connect describes itself as another; compare `issuer`")
        wanted = urlsplit(self._options.issuer).scheme
        if any(urlsplit(found[name]).scheme not in ("https", wanted) for name in names[1:]):
            raise StorageError("the server of OpenID Connect names an address without TLS")
        return {name: found[name] for name in names}

    def _get(self, address: str) -> dict[str, Any]:
        try:
            answer = requests.get(address, timeout=_TIMEOUT_SECONDS, allow_redirects=False)
            answer.raise_for_status()
            found = answer.json()
        except (requests.RequestException, ValueError) as error:
            text = f"the server of OpenID Connect cannot be asked ({type(error).__name__}); try again later"
            raise StorageError(text) from None
        if not isinstance(found, dict):
            raise StorageError("the server of OpenID Connect says nothing that can be understood")
        return found


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise InvalidArgument("client_secret_file in [console.openid] cannot be read") from None
