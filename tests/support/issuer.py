"""An issuer of JWTs: its keys, its tokens, and the server that its keys are fetched from."""

from __future__ import annotations

import json
import time

from joserfc import jwt
from joserfc.jwk import ECKey
from tests.support.http_app import Behaviour, HttpApp


class Issuer:
    """One issuer with one key."""

    def __init__(self, name: str = "https://issuer.example") -> None:
        self.name = name
        self._key = ECKey.generate_key("P-256", {"kid": name, "use": "sig", "alg": "ES256"})

    @property
    def jwks(self) -> str:
        """The public key set."""
        return json.dumps({"keys": [self._key.as_dict(private=False)]})

    def token(self, *, lifetime: float = 3600.0, **claims: object) -> str:
        """A signed token; `claims` replace the usual ones."""
        now = int(time.time())
        usual = {"iss": self.name, "sub": "ann", "iat": now - 7200, "exp": int(now + lifetime)}
        return jwt.encode({"alg": "ES256", "kid": self.name}, {**usual, **claims}, self._key)

    def bearer(self, *, lifetime: float = 3600.0, **claims: object) -> str:
        """The header that carries one."""
        return f"authorization: Bearer {self.token(lifetime=lifetime, **claims)}"

    def server(self, ip: str) -> HttpApp:
        """Where its keys are fetched from."""
        return HttpApp(ip, "issuer", Behaviour(body=self.jwks.encode(), headers={"content-type": "application/json"}))
