"""TrustBundle: whom the mesh trusts and whom no more (RFC 5280 revocation, SPIFFE trust bundle)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hostmesh.model.identity import Identity

CertificateKey = tuple[bytes, int]
"""What tells a certificate from every other: its issuer's name (DER) and its serial number."""


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """All of it at one moment; a later bundle replaces it as a whole.

    `roots_pem` holds one root or several; `signer` is the subject key identifier of the authority that signs now,
    empty if that is not known. `crls_pem` are the lists that `revoked` was read from, for those who want them whole.
    """

    trust_domain: str
    roots_pem: bytes
    revoked: frozenset[CertificateKey] = frozenset()
    revoked_identities: frozenset[Identity] = frozenset()
    signer: bytes = b""
    crls_pem: bytes = b""

    def revokes(self, certificates: Iterable[CertificateKey], identities: Iterable[Identity]) -> bool:
        """Whether any of a peer's certificates or identities is revoked; costs as much as the peer has of them."""
        return not self.revoked.isdisjoint(certificates) or not self.revoked_identities.isdisjoint(identities)
