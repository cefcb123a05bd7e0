"""Material: what the authority signs with and whom it tells everybody to trust."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from hostmesh.control.issue import Signer, key_id
from hostmesh.control.rotation import Rotation


@dataclass(frozen=True, slots=True)
class Material:
    """All of it at one moment.

    `signer` signs leaves; `others` are authorities that are trusted beside it (in a rotation); `chain` is what leaves
    carry below the roots, the signer's own certificate first, empty if that is a root; `roots` are all anchors, the
    signer's first; `server_chain` is what the control plane's own certificate carries instead of `chain`.
    """

    signer: Signer
    roots: tuple[x509.Certificate, ...]
    others: tuple[Signer, ...] = ()
    chain: tuple[x509.Certificate, ...] = ()
    server_chain: tuple[x509.Certificate, ...] = ()
    rotation: Rotation | None = None
    plugged: bool = False

    @property
    def signers(self) -> tuple[Signer, ...]:
        """Every authority whose revocation list is kept."""
        return (self.signer, *self.others)

    @property
    def signer_id(self) -> bytes:
        """Its subject key identifier, which its leaves name."""
        return key_id(self.signer.certificate)
