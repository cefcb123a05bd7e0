"""SPIFFE identity of a workload (Istio: spiffe://<trust domain>/ns/<namespace>/sa/<service account>)."""

from __future__ import annotations

from dataclasses import dataclass, field

_SCHEME = "spiffe://"


class InvalidIdentity(ValueError):
    """The text is not a SPIFFE ID in Istio's form."""


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Who a workload is. Compared exactly: trust domain, namespace and service account."""

    trust_domain: str
    namespace: str
    service_account: str

    @classmethod
    def parse(cls, text: str) -> Identity:
        """Read `spiffe://<td>/ns/<ns>/sa/<sa>`.

        Raises:
            InvalidIdentity: anything else, a trailing slash included.
        """
        if not text.startswith(_SCHEME):
            raise InvalidIdentity(f"{text!r} does not start with {_SCHEME}")
        parts = text[len(_SCHEME) :].split("/")
        if len(parts) != 5 or parts[1] != "ns" or parts[3] != "sa":
            raise InvalidIdentity(f"{text!r} is not spiffe://<trust domain>/ns/<namespace>/sa/<service account>")
        return cls(parts[0], parts[2], parts[4])

    @property
    def principal(self) -> str:
        """The identity as AuthorizationPolicy compares it: without the scheme."""
        return f"{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    def __str__(self) -> str:
        return _SCHEME + self.principal


@dataclass(frozen=True, slots=True)
class Credentials:
    """A private key with its certificates, as the TLS engines take them. Lives in memory only.

    `chain_pem` is leaf first then intermediates, never the root; `roots_pem` may hold several roots;
    times are seconds since the epoch.
    """

    identity: Identity
    key_pem: bytes = field(repr=False)
    chain_pem: bytes = field(repr=False)
    roots_pem: bytes = field(repr=False)
    not_before: float
    not_after: float
    serial: int = 0
