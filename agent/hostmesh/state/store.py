"""MeshState: everything the control plane has told, indexed for the look-ups of the byte path (ztunnel's state).

All look-ups are dictionary look-ups; indexes hold the resources themselves and no copies, and an entry with one
resource holds it without a container, so that 100,000 workloads fit into every proxy worker.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from itertools import chain
from typing import TypeVar, cast

from hostmesh.model.address import IPAddress, NamespacedHostname, NetworkAddress
from hostmesh.model.authorization import Authorization, PolicyScope
from hostmesh.model.service import HealthPolicy, Service, Visibility, hostname_alias
from hostmesh.model.workload import HealthStatus, NetworkMode, Protocol, Workload
from hostmesh.state.cidr import CidrIndex
from hostmesh.state.index import Index

_DERIVED = 4096
"""How many derived facts are kept between two changes."""

_Fact = TypeVar("_Fact")
_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class MeshState:
    """Workloads, services and policies. `generation` grows at each change that is one; equal re-sends are none.

    Where several services claim a VIP or hostname, those of the client's namespace come first, then canonical ones,
    then the latest. `client_namespace` "" is a client that sees everything.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._workloads: dict[str, Workload] = {}
        self._workloads_by_ip: dict[str, Index[IPAddress, Workload]] = {}
        self._workloads_by_name: Index[str, Workload] = Index()
        self._workloads_by_hostname: Index[str, Workload] = Index()
        self._endpoints: dict[NamespacedHostname, dict[str, Workload]] = {}
        self._services: dict[NamespacedHostname, Service] = {}
        self._services_by_vip: dict[str, Index[IPAddress, Service]] = {}
        self._services_by_hostname: Index[str, Service] = Index()
        self._services_by_cidr: dict[str, CidrIndex[Service]] = {}
        self._policies: dict[str, Authorization] = {}
        self._policies_by_scope: dict[str | None, dict[str, Authorization]] = {}
        self._derived: dict[Hashable, object] = {}
        self._known: set[str] | None = None
        self.on_demand = False
        """Whether only a part of the mesh is here. Kept beside `_known`: each connection asks, and a property's call is
        interpreted."""

    # What is known at all

    def follow_on_demand(self) -> None:
        """From now on what is not here need not be nobody's: only of names that were learnt is all known."""
        if self._known is None:
            self._known = set()
            self.on_demand = True
            self._changed()

    def knows(self, place: NetworkAddress | NamespacedHostname) -> bool:
        """Whether what is here about an address or service is all there is, be it nothing."""
        return self._known is None or str(place) in self._known

    def knows_hostname(self, hostname: str) -> bool:
        """Whether the services that are here with a hostname are all there are, be it none."""
        return self._known is None or hostname_alias(hostname) in self._known

    def learn(self, name: str) -> None:
        """All that the name means is here now."""
        if self._known is not None:
            self._known.add(name)

    def forget(self, name: str) -> None:
        """What the name means is not followed any more."""
        if self._known is not None and name in self._known:
            self._known.discard(name)
            self._changed()

    # Changes

    def upsert_workload(self, workload: Workload) -> bool:
        """Add or replace by uid. Returns False if nothing changed."""
        old = self._workloads.get(workload.uid)
        if old == workload:
            return False
        self._link_workload(workload)
        if old is not None:
            self._unlink_workload(old)
        self._changed()
        return True

    def upsert_service(self, service: Service) -> bool:
        """Add or replace by namespace and hostname; its endpoints stay. Returns False if nothing changed."""
        old = self._services.get(service.namespaced_hostname)
        if old == service:
            return False
        self._link_service(service)
        if old is not None:
            self._unlink_service(old)
        self._changed()
        return True

    def upsert_authorization(self, policy: Authorization) -> bool:
        """Add or replace by `namespace/name`. Returns False if nothing changed."""
        old = self._policies.get(policy.key)
        if old == policy:
            return False
        if old is not None:
            self._unlink_policy(old)
        self._policies[policy.key] = policy
        if policy.scope is not PolicyScope.WORKLOAD_SELECTOR:
            self._policies_by_scope.setdefault(_scope_key(policy), {})[policy.key] = policy
        self._changed()
        return True

    def remove_address(self, key: str) -> bool:
        """Remove the workload with that uid, else the service `namespace/hostname`. False: neither is known."""
        workload = self._workloads.get(key)
        if workload is not None:
            self._unlink_workload(workload)
            self._changed()
            return True
        namespace, _, hostname = key.partition("/")
        service = self._services.get(NamespacedHostname(namespace, hostname))
        if service is None:
            return False
        self._unlink_service(service)
        self._changed()
        return True

    def remove_authorization(self, key: str) -> bool:
        """Remove by `namespace/name`. Returns False if it is not there."""
        policy = self._policies.get(key)
        if policy is None:
            return False
        self._unlink_policy(policy)
        self._changed()
        return True

    # Workloads

    def workload(self, uid: str) -> Workload | None:
        """By uid."""
        return self._workloads.get(uid)

    def workloads_at(self, address: NetworkAddress) -> tuple[Workload, ...]:
        """Everything that lives at an address, pods first, then HBONE, then by uid; host-network ones never."""
        index = self._workloads_by_ip.get(address.network)
        if index is None:
            return ()
        found = index.get(address.ip)
        return found if len(found) < 2 else tuple(sorted(found, key=_claim_on_address))

    def workloads_with_hostname(self, key: NamespacedHostname) -> tuple[Workload, ...]:
        """Workloads of that namespace that have the hostname, by uid."""
        found = (w for w in self._workloads_by_hostname.get(key.hostname) if w.namespace == key.namespace)
        return tuple(sorted(found, key=lambda workload: workload.uid))

    def local_workload(self, name: str, namespace: str, service_account: str, node: str = "") -> Workload | None:
        """A workload of this node by what its registration says.

        A workload that names another node is never it; one that names none (WorkloadEntry) is, unless another one
        names this node. `node` "" accepts any.
        """
        found = [
            workload
            for workload in self._workloads_by_name.get(name)
            if workload.namespace == namespace
            and workload.service_account == service_account
            and (not node or workload.node in ("", node))
        ]
        return min(found, key=lambda workload: (workload.node != node, workload.uid), default=None)

    # Services

    def service_by_hostname(self, key: NamespacedHostname) -> Service | None:
        """By key, whatever its visibility."""
        return self._services.get(key)

    def services_by_host(self, hostname: str, client_namespace: str = "") -> tuple[Service, ...]:
        """Services with exactly that hostname that the client may see, best first."""
        return _ranked(self._services_by_hostname.get(hostname), client_namespace)

    def service_at(self, address: NetworkAddress, client_namespace: str = "") -> Service | None:
        """The service a VIP leads to; an exact VIP that the client may see goes before any range."""
        exact = self._services_by_vip.get(address.network)
        services = _ranked(exact.get(address.ip), client_namespace) if exact is not None else ()
        if services:
            return services[0]
        ranges = self._services_by_cidr.get(address.network)
        if ranges is None:
            return None
        best: tuple[bool, int, bool] | None = None
        winner: Service | None = None
        for length, candidates in ranges.covering(address.ip):
            for service in _ranked(candidates, client_namespace)[:1]:
                rank = (service.namespace == client_namespace, length, service.canonical)
                if best is None or rank > best:
                    best, winner = rank, service
        return winner

    def endpoints(self, service: Service) -> tuple[Workload, ...]:
        """Workloads that list the service and that its health policy admits."""
        key = service.namespaced_hostname
        return self.derive(("endpoints", key), lambda: self._admitted_endpoints(key))

    def listed(self, service: Service) -> Collection[Workload]:
        """The same, and those that its health policy does not admit."""
        return self._endpoints.get(service.namespaced_hostname, {}).values()

    # Policies

    def policies_for(self, workload: Workload) -> tuple[Authorization, ...]:
        """Policies that select the workload: its namespace's, global ones, then those it names and that are known."""
        scoped = self._policies_by_scope
        found = dict(chain(scoped.get(workload.namespace, {}).items(), scoped.get(None, {}).items()))
        for key in workload.authorization_policies:
            policy = self._policies.get(key)
            if policy is not None:
                found[key] = policy
        return tuple(found.values())

    def missing_policies(self, workload: Workload) -> tuple[str, ...]:
        """Keys that the workload names and nobody knows; they are not enforced, so they deserve a warning."""
        return tuple(key for key in workload.authorization_policies if key not in self._policies)

    # Snapshots for the config dump

    def workloads(self) -> tuple[Workload, ...]:
        """All, by uid."""
        return tuple(workload for _, workload in sorted(self._workloads.items()))

    def services(self) -> tuple[Service, ...]:
        """All, by hostname then namespace."""
        return tuple(sorted(self._services.values(), key=lambda service: (service.hostname, service.namespace)))

    def policies(self) -> tuple[Authorization, ...]:
        """All, by key."""
        return tuple(policy for _, policy in sorted(self._policies.items()))

    def staged(self) -> dict[NamespacedHostname, tuple[Workload, ...]]:
        """Endpoints of services that are not known (yet)."""
        return {
            key: tuple(endpoints.values()) for key, endpoints in self._endpoints.items() if key not in self._services
        }

    def derive(self, key: Hashable, compute: Callable[[], _Fact]) -> _Fact:
        """A fact computed from this state, remembered until the next change. One key always has one type of fact."""
        if key in self._derived:
            return cast("_Fact", self._derived[key])
        fact = compute()
        if len(self._derived) >= _DERIVED:
            self._derived.clear()
        self._derived[key] = fact
        return fact

    # Indexes. What replaces something is linked first: a key that goes and comes again would have Python tidy up a
    # dictionary of a hundred thousand once in a while, for 25 ms.

    def _changed(self) -> None:
        self.generation += 1
        self._derived.clear()

    def _link_workload(self, workload: Workload) -> None:
        self._workloads[workload.uid] = workload
        for network, ip in _indexed_addresses(workload):
            self._workloads_by_ip.setdefault(network, Index()).add(ip, workload)
        self._workloads_by_name.add(workload.name, workload)
        if workload.hostname:
            self._workloads_by_hostname.add(workload.hostname, workload)
        for key in workload.services:
            self._endpoints.setdefault(key, {})[workload.uid] = workload

    def _unlink_workload(self, workload: Workload) -> None:
        _drop(self._workloads, workload.uid, workload)
        for network, ip in _indexed_addresses(workload):
            self._workloads_by_ip[network].discard(ip, workload)
        self._workloads_by_name.discard(workload.name, workload)
        if workload.hostname:
            self._workloads_by_hostname.discard(workload.hostname, workload)
        for key in workload.services:
            endpoints = self._endpoints[key]
            _drop(endpoints, workload.uid, workload)
            if not endpoints:
                del self._endpoints[key]

    def _link_service(self, service: Service) -> None:
        self._services[service.namespaced_hostname] = service
        self._services_by_hostname.add(service.hostname, service)
        for vip in dict.fromkeys(service.vips):
            self._services_by_vip.setdefault(vip.network, Index()).add(vip.ip, service)
        for cidr_vip in dict.fromkeys(service.cidr_vips):
            self._services_by_cidr.setdefault(cidr_vip.network, CidrIndex()).add(cidr_vip.cidr, service)

    def _unlink_service(self, service: Service) -> None:
        _drop(self._services, service.namespaced_hostname, service)
        self._services_by_hostname.discard(service.hostname, service)
        for vip in dict.fromkeys(service.vips):
            self._services_by_vip[vip.network].discard(vip.ip, service)
        for cidr_vip in dict.fromkeys(service.cidr_vips):
            self._services_by_cidr[cidr_vip.network].discard(cidr_vip.cidr, service)

    def _unlink_policy(self, policy: Authorization) -> None:
        del self._policies[policy.key]
        if policy.scope is not PolicyScope.WORKLOAD_SELECTOR:
            del self._policies_by_scope[_scope_key(policy)][policy.key]

    def _admitted_endpoints(self, key: NamespacedHostname) -> tuple[Workload, ...]:
        endpoints = self._endpoints.get(key, {}).values()
        service = self._services.get(key)
        balancing = service.load_balancing if service is not None else None
        if balancing is not None and balancing.health_policy is HealthPolicy.ALLOW_ALL:
            return tuple(endpoints)
        return tuple(workload for workload in endpoints if workload.status is HealthStatus.HEALTHY)


def _drop(where: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Take it out, unless something else has its place."""
    if where[key] is value:
        del where[key]


def _scope_key(policy: Authorization) -> str | None:
    return policy.namespace if policy.scope is PolicyScope.NAMESPACE else None


def _indexed_addresses(workload: Workload) -> Iterator[tuple[str, IPAddress]]:
    if workload.network_mode is NetworkMode.STANDARD:
        for ip in dict.fromkeys(workload.addresses):
            yield workload.network, ip


def _claim_on_address(workload: Workload) -> tuple[bool, bool, str]:
    return "//Pod/" not in workload.uid, workload.protocol is not Protocol.HBONE, workload.uid


def _ranked(services: tuple[Service, ...], client_namespace: str) -> tuple[Service, ...]:
    """Visible ones, best first; `services` come in the order in which they were added."""
    if len(services) == 1 and services[0].visibility is Visibility.PUBLIC:
        return services
    visible = [service for service in reversed(services) if _visible(service, client_namespace)]
    if len(visible) > 1:
        visible.sort(key=lambda service: (service.namespace != client_namespace, not service.canonical))
    return tuple(visible)


def _visible(service: Service, client_namespace: str) -> bool:
    return service.visibility is Visibility.PUBLIC or client_namespace in ("", service.namespace)
