"""ProxyServer: one worker's proxy, fed by the process around it."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Sequence
from typing import Literal

from hostmesh.config.proxy import ProxyConfig
from hostmesh.kernel.sockets import local_address
from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.trust import TrustBundle
from hostmesh.proxy import failure as failures
from hostmesh.proxy.attribution import Attribution, from_kernel
from hostmesh.proxy.certificates import Certificates
from hostmesh.proxy.connections import Connections, OpenConnection
from hostmesh.proxy.context import Context
from hostmesh.proxy.hooks import Hooks
from hostmesh.proxy.inbound import Inbound
from hostmesh.proxy.journal import Journal
from hostmesh.proxy.listener import Listener
from hostmesh.proxy.locals import LocalWorkloads
from hostmesh.proxy.outbound import Outbound
from hostmesh.proxy.passthrough import Passthrough
from hostmesh.proxy.pool import Pool
from hostmesh.proxy.revocation import Revocation
from hostmesh.state.store import MeshState
from hostmesh.telemetry.metrics import Metrics
from hostmesh.transport.loop import Loop
from hostmesh.transport.tls.engine import TlsProvider

ListenerKind = Literal["outbound", "inbound", "inbound_plaintext"]

DRAIN_CHECK = 0.05
"""Seconds between two looks at whether a draining worker is empty."""


class ProxyServer:
    """Everything runs on `loop`; nothing blocks.

    Args:
        loop: the worker's.
        config: what does not change in the worker's life.
        tls: the engine in use.
        state: filled by the caller, who calls `state_changed` after each batch of changes.
        hooks: what is asked and told.
        attribution: who made a captured connection, and where to.
        clock: seconds since the epoch, for certificates.
        rng: uniform in [0, 1), for load balancing.
    """

    def __init__(
        self,
        loop: Loop,
        config: ProxyConfig,
        tls: TlsProvider,
        state: MeshState,
        hooks: Hooks,
        *,
        attribution: Attribution = from_kernel,
        clock: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.metrics = Metrics()
        self._context = Context(
            loop=loop,
            config=config,
            state=state,
            metrics=self.metrics,
            journal=Journal(loop, hooks.log),
            certificates=Certificates(loop, tls, hooks.want_credentials, config.certificate_wait, clock),
            revocation=Revocation(self.metrics),
            locals=LocalWorkloads(loop, state, config.node, config.certificate_wait),
            connections=Connections(loop, state),
            attribution=attribution,
            clock=clock,
            rng=rng,
        )
        self._pool = Pool(self._context)
        self._inbound = Inbound(self._context)
        self._listeners: list[Listener] = []
        self._drained: Callable[[], None] | None = None

    def set_listener(self, kind: ListenerKind | str, sock: socket.socket) -> None:
        """Start to accept on a bound, listening socket, which this server closes when it drains.

        Raises:
            ValueError: no such kind.
        """
        context, config = self._context, self._context.config
        if kind == "outbound":
            outbound = Outbound(context, self._pool, local_address(sock))
            listener = Listener(context.loop, sock, outbound.accepted)
        elif kind == "inbound":
            listener = Listener(context.loop, sock, self._inbound.accepted)
        elif kind == "inbound_plaintext":
            listener = Listener(context.loop, sock, Passthrough(context).accepted)
        else:
            raise ValueError(f"no listener is called {kind!r}")
        if kind != "inbound":  # tunnels have their own keepalive
            listener.keep_alive(config.tcp_keepalive_time, config.tcp_keepalive_interval, config.tcp_keepalive_probes)
        self._listeners.append(listener)

    def set_local_workloads(self, workloads: Sequence[LocalWorkload]) -> None:
        """Replace the list of captured workloads."""
        self._context.locals.set(workloads)
        self._inbound.locals_changed()

    def state_changed(self) -> None:
        """The mesh state is not what it was: let waiting connections go on, judge inbound ones again."""
        self._context.locals.changed()
        self._context.connections.state_changed()

    def put_credentials(self, credentials: Credentials) -> None:
        """A new or renewed certificate. Tunnels made with the old one take no new streams."""
        self._context.certificates.put(credentials)
        self._pool.retire(credentials.identity)

    def set_trust(self, bundle: TrustBundle) -> None:
        """Whom the mesh trusts from now on: new handshakes are judged by it, and tunnels of the revoked end."""
        context = self._context
        context.certificates.trust(bundle)
        if context.revocation.update(bundle):
            context.revocation.end_revoked(self._pool.tunnels(), "source")
            context.revocation.end_revoked(self._inbound.tunnels(), "destination")

    def forget(self, identity: Identity) -> None:
        """The identity does not live on this host any more."""
        self._context.certificates.forget(identity)
        self._pool.retire(identity)

    def credentials_failed(self, identity: Identity, reason: str) -> None:
        """Main could not get a certificate: who waits for it fails with the reason."""
        self._context.certificates.failed(identity, reason)

    def connections(self) -> list[OpenConnection]:
        """What is open now."""
        return self._context.connections.describe()

    def drain(self, deadline: float, drained: Callable[[], None] | None = None) -> None:
        """Stop accepting at once, tell peers to go, end what is left after `deadline` seconds.

        Args:
            deadline: seconds from now.
            drained: called when nothing is open any more.
        """
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._drained = drained
        self._inbound.drain()
        self._pool.retire_all()
        self._context.loop.call_later(deadline, self._end)
        self._check_drained()

    def _end(self) -> None:
        self._context.connections.close_all(failures.DRAINED)
        self._inbound.close_all(failures.DRAINED)
        self._pool.close_all(failures.DRAINED)

    def _check_drained(self) -> None:
        if len(self._context.connections) or len(self._inbound) or len(self._pool):
            self._context.loop.call_later(DRAIN_CHECK, self._check_drained)
            return
        drained, self._drained = self._drained, None
        if drained is not None:
            drained()
