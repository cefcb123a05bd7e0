"""ProxyServer: one worker's proxy, fed by the process around it."""

from __future__ import annotations

import logging
import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

from hostmesh.config.proxy import ProxyConfig
from hostmesh.model.address import IPAddress
from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.trust import TrustBundle
from hostmesh.proxy import failure as failures
from hostmesh.proxy.attribution import Attribution, from_kernel
from hostmesh.proxy.certificates import Certificates
from hostmesh.proxy.connections import Connections, OpenConnection
from hostmesh.proxy.context import Context
from hostmesh.proxy.demand import Demand
from hostmesh.proxy.hooks import Hooks
from hostmesh.proxy.journal import Journal
from hostmesh.proxy.locals import LocalWorkloads
from hostmesh.proxy.names import Names
from hostmesh.proxy.quarter import Quarter
from hostmesh.proxy.revocation import Revocation
from hostmesh.state.store import MeshState
from hostmesh.telemetry.metrics import Metrics
from hostmesh.transport.loop import Loop
from hostmesh.transport.tls.engine import TlsProvider

_log = logging.getLogger("hostmesh.proxy")

ListenerKind = Literal["outbound", "inbound", "inbound_plaintext", "socks5"]

WantSockets = Callable[[int, bool, int], None]
"""Number of the workload whose network namespace it is, whether for IPv6, how many."""

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
        want_sockets: asked for sockets of a workload's network namespace, which `put_sockets` brings.
        alone: no other process accepts on the same listeners.
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
        want_sockets: WantSockets | None = None,
        alone: bool = False,
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
            names=Names(loop, hooks.want_name, config.certificate_wait),
            demand=Demand(loop, hooks.want_address, hooks.used_addresses, config.certificate_wait),
            clock=clock,
            rng=rng,
            alone=alone,
        )
        self._want_sockets = want_sockets
        self._host = Quarter(self._context)
        self._quarters: dict[int, Quarter] = {}
        self._leaving: list[Quarter] = []
        self._drained: Callable[[], None] | None = None

    def set_listener(self, kind: ListenerKind | str, sock: socket.socket, namespace: int = 0) -> None:
        """Start to accept on a bound, listening socket, which this server closes when it drains.

        Args:
            kind: what is done with its connections.
            sock: the listener.
            namespace: number of the workload whose network namespace it is in, 0 on the host.

        Raises:
            ValueError: no such kind.
        """
        self._quarter(namespace).listen(kind, sock)

    def put_sockets(self, namespace: int, sockets: Sequence[socket.socket], *, ipv6: bool) -> None:
        """Answer `want_sockets`; none at all if they could not be made."""
        quarter = self._quarters.get(namespace)
        if quarter is None or quarter.context.stock is None:
            for sock in sockets:
                sock.close()
        else:
            quarter.context.stock.put(sockets, ipv6=ipv6)

    def leave_namespace(self, namespace: int) -> None:
        """The workload's network namespace is not captured any more: what is open there may finish."""
        quarter = self._quarters.pop(namespace, None)
        if quarter is not None:
            quarter.drain()
            self._leaving = [one for one in (*self._leaving, quarter) if len(one)]

    def set_local_workloads(self, workloads: Sequence[LocalWorkload], host_ports: Iterable[int] = ()) -> None:
        """Replace the list of captured workloads, and of the ports where somebody else of this host listens."""
        if not self._context.locals.set(workloads, host_ports):
            return
        for quarter in self._all():
            quarter.inbound.locals_changed()

    def state_changed(self) -> None:
        """The mesh state is not what it was: let waiting connections go on, judge inbound ones again."""
        self._context.locals.changed()
        self._context.connections.state_changed()

    def put_credentials(self, credentials: Credentials) -> None:
        """A new or renewed certificate. Tunnels made with the old one take no new streams."""
        self._context.certificates.put(credentials)
        for quarter in self._all():
            quarter.pool.retire(credentials.identity)

    def set_trust(self, bundle: TrustBundle) -> None:
        """Whom the mesh trusts from now on: new handshakes are judged by it, and tunnels of the revoked end."""
        context = self._context
        context.certificates.trust(bundle)
        if context.revocation.update(bundle):
            for quarter in self._all():
                context.revocation.end_revoked(quarter.pool.tunnels(), "source")
                context.revocation.end_revoked(quarter.inbound.tunnels(), "destination")

    def forget(self, identity: Identity) -> None:
        """The identity does not live on this host any more."""
        self._context.certificates.forget(identity)
        for quarter in self._all():
            quarter.pool.retire(identity)

    def credentials_failed(self, identity: Identity, reason: str) -> None:
        """Main could not get a certificate: who waits for it fails with the reason."""
        self._context.certificates.failed(identity, reason)

    def put_name(self, hostname: str, addresses: tuple[IPAddress, ...], lifetime: float, reason: str) -> None:
        """The addresses of a hostname for `lifetime` seconds; without any, `reason` says why."""
        self._context.names.put(hostname, addresses, lifetime, reason)

    def addresses_known(self, learned: Iterable[str], refused: Mapping[str, str]) -> None:
        """All that the learned names mean is in the state; of the refused ones nothing will be known for now."""
        self._context.demand.learned(learned)
        self._context.demand.refused(refused)

    def connections(self) -> Iterator[OpenConnection]:
        """What is open now; it may be taken bit by bit."""
        return self._context.connections.describe()

    def drain(self, deadline: float, drained: Callable[[], None] | None = None) -> None:
        """Stop accepting at once, tell peers to go, end what is left after `deadline` seconds.

        Args:
            deadline: seconds from now.
            drained: called when nothing is open any more.
        """
        self._drained = drained
        for quarter in self._all():
            quarter.drain()
        self._context.loop.call_later(deadline, self._end)
        self._check_drained()

    def _end(self) -> None:
        if pending := len(self._context.connections):
            fields = {"connections": pending}
            _log.warning(
                "drain duration expired with pending connections, forcefully shutting down", extra={"fields": fields}
            )
        self._context.connections.close_all(failures.DRAINED)
        for quarter in self._all():
            quarter.close_all(failures.DRAINED)

    def _check_drained(self) -> None:
        if len(self._context.connections) or any(len(quarter) for quarter in self._all()):
            self._context.loop.call_later(DRAIN_CHECK, self._check_drained)
            return
        drained, self._drained = self._drained, None
        if drained is not None:
            drained()

    def _quarter(self, namespace: int) -> Quarter:
        if not namespace:
            return self._host
        quarter = self._quarters.get(namespace)
        if quarter is None:
            if self._want_sockets is None:
                raise ValueError("nobody makes sockets in other network namespaces")
            want = partial(self._want_sockets, namespace)
            quarter = self._quarters[namespace] = Quarter.of_namespace(self._context, namespace, want)
        return quarter

    def _all(self) -> list[Quarter]:
        return [self._host, *self._quarters.values(), *self._leaving]
