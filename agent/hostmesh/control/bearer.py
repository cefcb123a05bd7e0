"""BearerTokens: JWTs by which proxies are known that present no client certificate, as a stock ztunnel.

They look like a Kubernetes service account's: audience `istio-ca`, subject `system:serviceaccount:<namespace>:<name>`.
That of a node (namespace `hostmesh-nodes`) may ask for the workloads registered on it; any other is one workload. The
signing key (P-256, ES256) is kept with the authority's keys; a verifier elsewhere takes the JWKS.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwk, jwt
from joserfc.errors import JoseError

from hostmesh.control.pem_files import key_pem
from hostmesh.control.shelf import Overtaken, Shelf
from hostmesh.model.identity import Identity

AUDIENCE = "istio-ca"
DEFAULT_TTL = 86400.0
MAX_TTL = 90 * 86400.0
MIN_TTL = 60.0
_KEY = "jwt-key.pem"
_ALGORITHM = "ES256"
_SUBJECT = "system:serviceaccount"
_LEEWAY = 60
_MAX_LENGTH = 8192


class BadBearer(Exception):
    """Nobody is known by this token; the text says why and what to do."""


class BearerTokens:
    """Mints and judges them.

    Args:
        shelf: where the key is kept; made at the first start.
        trust_domain: of all identities.
        now: seconds since the epoch.

    Raises:
        CaBroken: the key can be neither read nor written.
    """

    def __init__(self, shelf: Shelf, trust_domain: str, now: Callable[[], float] = time.time) -> None:
        self._trust_domain = trust_domain
        self._now = now
        self._key = jwk.ECKey.import_key(_load(shelf))
        self._key_id = self._key.thumbprint()

    @property
    def issuer(self) -> str:
        """As the tokens name it."""
        return f"https://{self._trust_domain}/hostmesh"

    def mint(self, namespace: str, service_account: str, ttl: float = DEFAULT_TTL) -> str:
        """A token for an identity.

        Raises:
            ValueError: the lifetime is not allowed, or the names are none.
        """
        if not MIN_TTL <= ttl <= MAX_TTL:
            raise ValueError(f"a bearer token is good for {MIN_TTL:.0f} s to 90 days, not {ttl:g} s")
        for what, name in (("namespace", namespace), ("service account", service_account)):
            if not name or any(character in name for character in ":/ \n"):
                raise ValueError(f"{name!r} is no {what}")
        now = int(self._now())
        claims = {
            "iss": self.issuer,
            "aud": [AUDIENCE],
            "sub": f"{_SUBJECT}:{namespace}:{service_account}",
            "iat": now,
            "nbf": now,
            "exp": now + math.ceil(ttl),
        }
        return jwt.encode({"alg": _ALGORITHM, "kid": self._key_id}, claims, self._key)

    def judge(self, token: str) -> tuple[Identity, float]:
        """Who is known by it, and until when.

        Raises:
            BadBearer: nobody.
        """
        if len(token) > _MAX_LENGTH:
            raise BadBearer("the bearer token is too long to be one of this mesh")
        try:
            claims = jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError) as error:
            raise BadBearer(f"the bearer token is not one that this mesh has signed ({error}); {_NEXT}") from error
        return self._identity(claims), self._times(claims)

    def jwks(self) -> Mapping[str, Any]:
        """The public key as verifiers take it."""
        public = self._key.as_dict(private=False)
        return {"keys": [{**public, "kid": self._key_id, "use": "sig", "alg": _ALGORITHM}]}

    def _times(self, claims: Mapping[str, Any]) -> float:
        now = self._now()
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expires, int) or not isinstance(begins, int):
            raise BadBearer(f"the bearer token does not say from when and how long it is good; {_NEXT}")
        if now >= expires + _LEEWAY:
            raise BadBearer(
                f"the bearer token has expired {now - expires:.0f} s ago by this control plane's clock; {_NEXT}"
            )
        if now < begins - _LEEWAY:
            raise BadBearer(
                f"the bearer token is good only in {begins - now:.0f} s by this control plane's clock; "
                "set the clocks of the control planes (timedatectl)"
            )
        return float(expires)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        if claims.get("iss") != self.issuer:
            raise BadBearer(f"the bearer token was issued by {claims.get('iss')!r}, not by {self.issuer}; {_NEXT}")
        audience = claims.get("aud")
        if AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
            raise BadBearer(f"the bearer token is for the audience {audience!r}, not for {AUDIENCE}; {_NEXT}")
        parts = str(claims.get("sub", "")).split(":")
        if len(parts) != 4 or ":".join(parts[:2]) != _SUBJECT or not all(parts):
            raise BadBearer(f"the bearer token names no service account; {_NEXT}")
        return Identity(self._trust_domain, parts[2], parts[3])


_NEXT = "make another with `hostmesh token create --jwt` on a control plane"


def _load(shelf: Shelf) -> bytes:
    found = shelf.read(_KEY)
    if found is not None:
        return found
    made = key_pem(ec.generate_private_key(ec.SECP256R1()))
    try:
        shelf.put([(_KEY, made)])
    except Overtaken:  # another control plane of the mesh has made it at this very moment
        return shelf.read(_KEY) or made
    return made
