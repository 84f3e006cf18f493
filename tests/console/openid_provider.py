"""A server of OpenID Connect for the tests, over a real socket: it lets in whoever comes, as the person it is told."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from nel_mesh.agent.health import served

CLIENT, SECRET = "made-up-client", "canary-client-secret"


class Provider:
    """What the server says.

    Attributes:
        url: its address.
        name: who comes.
        changes: claims that it gives otherwise than it should.
        algorithm: how it signs.
        is_other_key: whether it signs with a key that it does not publish.
    """

    def __init__(self) -> None:
        self.url = ""
        self.name = "bob"
        self.changes: dict[str, Any] = {}
        self.algorithm = "RS256"
        self.is_other_key = False
        self._key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
        self._other = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
        self._codes: dict[str, dict[str, str]] = {}

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._describe),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/keys", lambda request: JSONResponse({"keys": [self._key.as_dict(private=False)]})),
            ]
        )

    def _describe(self, request: Request) -> Response:
        said = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        said |= {"authorization_endpoint": f"{self.url}/authorize", "token_endpoint": f"{self.url}/token"}
        return JSONResponse(said)

    def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe()
        self._codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"]})
        return RedirectResponse(f"{asked['redirect_uri']}?{back}", status_code=303)

    async def _token(self, request: Request) -> Response:
        form = {name: value[0] for name, value in parse_qs((await request.body()).decode()).items()}
        expected = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        asked = self._codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            asked is None
            or request.headers.get("authorization") != f"Basic {expected}"
            or challenge != asked["code_challenge"]
            or form["redirect_uri"] != asked["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "1",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "preferred_username": self.name,
        } | self.changes
        claims = {name: value for name, value in claims.items() if value is not None}
        key: Any = self._other if self.is_other_key else self._key
        if self.algorithm.startswith("HS"):
            key = OctKey.import_key(SECRET * 3)
        token = jwt.encode({"alg": self.algorithm, "kid": "one"}, claims, key, algorithms=[self.algorithm])
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": token})


@contextlib.contextmanager
def openid_provider() -> Iterator[Provider]:
    """Serve one while the block runs."""
    provider = Provider()
    with served("127.0.0.1:0", provider.application()) as url:
        provider.url = url
        yield provider
