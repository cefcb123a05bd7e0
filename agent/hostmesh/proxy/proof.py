"""Proof: what the two ends of a tunnel have shown each other (SPIFFE X509-SVID)."""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.model.identity import Identity
from hostmesh.model.trust import CertificateKey


@dataclass(frozen=True, slots=True)
class Proof:
    """What the peer of a handshake has proven: whom its leaf names, perhaps nobody, and all certificates it showed.

    `expires_at` is the leaf's, in seconds since the epoch.
    """

    identities: tuple[Identity, ...]
    certificates: tuple[CertificateKey, ...]
    expires_at: float


@dataclass(frozen=True, slots=True)
class Parties:
    """Whose certificates carry a tunnel: the peer's, and our own with the identities it names."""

    peer: Proof
    own: tuple[CertificateKey, ...]
    identities: tuple[Identity, ...]
