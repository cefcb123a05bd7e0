"""Certificates: the identities' credentials as main delivers them, ready for TLS, and who waits for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.trust import CertificateKey, TrustBundle
from hostmesh.proxy.waiting import WaitingRoom
from hostmesh.transport.loop import Loop
from hostmesh.transport.tls.engine import ClientContext, ServerContext, TlsError, TlsProvider
from hostmesh.wire.x509 import BadCertificate, chain_keys, leaf_identities


class Certificate:
    """One identity's credentials with both TLS sides, made when first needed."""

    __slots__ = ("_client", "_server", "_tls", "credentials", "identities", "keys")

    def __init__(self, credentials: Credentials, tls: TlsProvider) -> None:
        self.credentials = credentials
        self.keys, self.identities = _names(credentials)
        self._tls = tls
        self._client: ClientContext | None = None
        self._server: ServerContext | None = None

    def client(self) -> ClientContext:
        """The client side.

        Raises:
            TlsError: the credentials are not usable.
        """
        if self._client is None:
            self._client = self._tls.client_context(self.credentials)
        return self._client

    def server(self) -> ServerContext:
        """The server side.

        Raises:
            TlsError: the credentials are not usable.
        """
        if self._server is None:
            self._server = self._tls.server_context(self.credentials)
        return self._server


class Certificates:
    """One certificate for each identity. A valid one is used as long as it is valid, whatever the CA says.

    Args:
        loop: for the waiters' time limits.
        tls: makes contexts.
        want: asks main for an identity that somebody waits for.
        wait: seconds a connection waits for a certificate.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        loop: Loop,
        tls: TlsProvider,
        want: Callable[[Identity], None],
        wait: float,
        clock: Callable[[], float],
    ) -> None:
        self._tls = tls
        self._want = want
        self._clock = clock
        self._bundle: TrustBundle | None = None
        self._held: dict[Identity, Certificate] = {}
        self._waiting: WaitingRoom[Identity, Certificate] = WaitingRoom(loop, wait)

    def put(self, credentials: Credentials) -> None:
        """A new or renewed certificate."""
        certificate = self._certificate(credentials)
        self._held[credentials.identity] = certificate
        if not self._revoked(certificate):
            self._waiting.answer(credentials.identity, certificate)

    def trust(self, bundle: TrustBundle) -> None:
        """Peers of new connections are verified by these roots from now on, whatever came with our certificates."""
        before, self._bundle = self._bundle, bundle
        if before is None or before.roots_pem != bundle.roots_pem:
            self._held = {identity: self._certificate(held.credentials) for identity, held in self._held.items()}

    def failed(self, identity: Identity, reason: str) -> None:
        """Main could not get it: who waits now fails with the reason, who comes later asks again."""
        self._waiting.refuse(identity, reason)

    def forget(self, identity: Identity) -> None:
        """The identity does not live on this host any more."""
        self._held.pop(identity, None)
        self._waiting.refuse(identity, f"{identity} is no longer a workload of this host")

    def get(self, identity: Identity, then: Callable[[Certificate | None, str], None]) -> None:
        """Answer with a valid certificate, at once if there is one, or with None and why not."""
        held = self._held.get(identity)
        revoked = held is not None and self._revoked(held)
        if held is not None and not revoked and self._clock() < held.credentials.not_after:
            then(held, "")
            return
        first = not self._waiting.has(identity)
        lost = "is revoked" if revoked else "has expired"
        reason = f"certificate {lost} and no new one came" if held is not None else "no certificate came"
        self._waiting.enter(identity, f"{reason} for {identity}", then)
        if first:
            self._want(identity)

    def _certificate(self, credentials: Credentials) -> Certificate:
        if self._bundle is not None:
            credentials = replace(credentials, roots_pem=self._bundle.roots_pem)
        return Certificate(credentials, self._tls)

    def _revoked(self, certificate: Certificate) -> bool:
        return self._bundle is not None and self._bundle.revokes(certificate.keys, certificate.identities)


def _names(credentials: Credentials) -> tuple[tuple[CertificateKey, ...], tuple[Identity, ...]]:
    """What revocation knows it by. None for a chain that cannot be read: making a context of it says why."""
    try:
        return chain_keys(credentials.chain_pem), leaf_identities(credentials.chain_pem)
    except (BadCertificate, ValueError):
        return (), (credentials.identity,)


__all__ = ["Certificate", "Certificates", "TlsError"]
