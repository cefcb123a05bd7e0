"""Revocation: peers whose certificates the mesh has taken back, at the handshake and while their tunnels live."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from cryptography import x509

from hostmesh.model.trust import TrustBundle
from hostmesh.proxy import failure as failures
from hostmesh.proxy.failure import Failure
from hostmesh.proxy.proof import Parties
from hostmesh.proxy.tunnel import Tunnel
from hostmesh.telemetry.labels import Reporter
from hostmesh.telemetry.metrics import Metrics


class Revocation:
    """Judges peers by the newest trust bundle; before the first one nobody is revoked.

    Args:
        metrics: where rejections are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._bundle: TrustBundle | None = None
        self._issuers: frozenset[bytes] = frozenset()

    def update(self, bundle: TrustBundle) -> bool:
        """Take a new bundle; tells whether open tunnels must be judged again."""
        before, self._bundle = self._bundle, bundle
        self._issuers = _subjects(bundle.roots_pem)
        return before != bundle

    def objection(self, parties: Parties | None, reporter: Reporter) -> Failure | None:
        """Why two ends must not be connected, or not any longer; it is counted."""
        failure = None if parties is None else self._judge(parties)
        if failure is not None:
            self._metrics.crl_rejections[reporter] += 1
        return failure

    def end_revoked(self, tunnels: Iterable[Tunnel], reporter: Reporter) -> None:
        """Close those that must not live any longer, streams included."""
        for tunnel in tunnels:
            failure = self.objection(tunnel.parties, reporter)
            if failure is not None:
                tunnel.close(failure)

    def _judge(self, parties: Parties) -> Failure | None:
        bundle = self._bundle
        if bundle is None:
            return None
        if bundle.revokes(parties.peer.certificates, parties.peer.identities):
            return failures.CERTIFICATE_REVOKED
        if bundle.revokes(parties.own, parties.identities):
            return failures.OWN_CERTIFICATE_REVOKED
        if not any(issuer in self._issuers for issuer, _ in parties.peer.certificates):
            return failures.ISSUER_DISMISSED
        return None


@lru_cache(maxsize=4)
def _subjects(roots_pem: bytes) -> frozenset[bytes]:
    return frozenset(root.subject.public_bytes() for root in x509.load_pem_x509_certificates(roots_pem))
