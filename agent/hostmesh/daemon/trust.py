"""Trust: whom this host trusts, by the newest trust bundle and by what came with certificates since."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from hostmesh.daemon.messages import trust_update
from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.trust import TrustBundle
from hostmesh.rpc.roots import Roots
from hostmesh.wire.proto import worker_pb2 as pb
from hostmesh.wire.x509 import BadCertificate, chain_keys, issuer_key_id, leaf_identities, split_pem
from hostmesh.xds.codec import decode_trust

_log = logging.getLogger("hostmesh.trust")

RENEW_SPREAD = 0.1
"""Part of a certificate's life over which hosts replace those of a former signer."""
MAX_RENEW_SPREAD = 600.0

REVOKED = "the certificate has been revoked"


class Certificates(Protocol):
    """What becomes of this host's own certificates."""

    def available(self) -> list[Credentials]:
        """Those in use."""

    def discard(self, identity: Identity, reason: str) -> None:
        """It is not to be used any more."""

    def renew_within(self, identity: Identity, seconds: float) -> None:
        """It should be replaced."""


class Trust:
    """Without a bundle (from another control plane than hostmesh's) certificates bring their roots themselves.

    Args:
        roots: where the roots of the control plane's own port are kept.
    """

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._bundle: TrustBundle | None = None
        self._known: dict[bytes, None] = {}
        self._dismissed: set[bytes] = set()

    def take(self, encoded: bytes) -> None:
        """A bundle that the codec has accepted replaces what was known; roots that it lacks are dismissed for good."""
        self._bundle = decode_trust(encoded)
        told = dict.fromkeys(split_pem(self._bundle.roots_pem))
        self._dismissed |= self._known.keys() - told.keys()
        if told != self._known:
            _log.info("the mesh has %d root certificates now", len(told))
        self._known = told
        self._roots.learn(self._bundle.roots_pem)

    def learn(self, credentials: Credentials) -> bool:
        """A certificate may bring a root before the bundle does; tells whether it has."""
        if self._bundle is None:
            return False
        came = split_pem(credentials.roots_pem)
        fresh = [root for root in came if root not in self._known and root not in self._dismissed]
        self._known.update(dict.fromkeys(fresh))
        return bool(fresh)

    def messages(self) -> Iterable[pb.ToWorker]:
        """What workers must know; nothing before the first bundle."""
        if self._bundle is not None:
            yield trust_update(replace(self._bundle, roots_pem=b"".join(self._known)))

    @property
    def revoked(self) -> frozenset[Identity]:
        """Identities that are revoked whatever certificates they have."""
        return self._bundle.revoked_identities if self._bundle is not None else frozenset()

    def revokes(self, credentials: Credentials) -> bool:
        """Whether a certificate of this host is worth nothing any more."""
        if self._bundle is None:
            return False
        chain = credentials.chain_pem
        try:
            return self._bundle.revokes(chain_keys(chain), leaf_identities(chain))
        except BadCertificate:
            return False

    def review(self, certificates: Certificates) -> None:
        """Discard what is revoked, replace in good time what another authority has signed than signs now."""
        for credentials in certificates.available():
            if self.revokes(credentials):
                _log.warning("certificate of %s has been revoked", credentials.identity)
                certificates.discard(credentials.identity, REVOKED)
            elif self.outdated(credentials):
                spread = min(RENEW_SPREAD * (credentials.not_after - credentials.not_before), MAX_RENEW_SPREAD)
                certificates.renew_within(credentials.identity, spread)

    def outdated(self, credentials: Credentials) -> bool:
        """Whether another authority has signed a certificate than signs now."""
        if self._bundle is None or not self._bundle.signer:
            return False
        try:
            return issuer_key_id(credentials.chain_pem) != self._bundle.signer
        except BadCertificate:
            return False
