"""SharedInbound: one certificate for all workloads of this host, for peers that name no server (stock ztunnel)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hostmesh.config.agent import AgentConfig
from hostmesh.identity.manager import SecretManager
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.node import inbound_identity
from hostmesh.wire.x509 import leaf_identities


class SharedInbound:
    """Wants it while workloads share this host's addresses, and again when it does not name one that is known.

    Args:
        config: whether it is to be at all.
        secrets: has it, among the others.
        known: whether the mesh has a workload here, so that the authority may name it.
    """

    def __init__(self, config: AgentConfig, secrets: SecretManager, known: Callable[[LocalWorkload], bool]) -> None:
        self._identity = inbound_identity(config.settings.trust_domain, config.node)
        self._enabled = config.settings.certificates.shared_inbound
        self._secrets = secrets
        self._known = known
        self._asked: frozenset[Identity] = frozenset()

    def wanted(self, workloads: Iterable[LocalWorkload]) -> tuple[Identity, ...]:
        """What to have a certificate for, beside the workloads' own."""
        several = sum(not workload.in_namespace for workload in workloads) > 1
        return (self._identity,) if self._enabled and several else ()

    def to_lose(self, gone: Iterable[Identity]) -> tuple[Identity, ...]:
        """Of what is not needed any more, what running workers must lose.

        Where it was switched off, those of the program before go on showing it until they end: they would show nothing
        to whoever names no server, and new ones do not have it.
        """
        return tuple(one for one in gone if self._enabled or one != self._identity)

    def review(self, workloads: Iterable[LocalWorkload]) -> None:
        """Ask for another one, once, if a workload has come since; it names more than need be when one has gone."""
        held = self._secrets.credentials(self._identity)
        if held is None:
            return
        needed = frozenset(one.identity for one in workloads if not one.in_namespace and self._known(one))
        if needed != self._asked and not needed <= set(leaf_identities(held.chain_pem)):
            self._asked = needed
            self._secrets.renew(self._identity)
