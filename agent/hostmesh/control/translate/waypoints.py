"""Which objects use which waypoint (Istio `istio.io/use-waypoint`), and where it is.

Unlike istiod, an object that names a waypoint which is missing, not ready or not for it is not left without: its
traffic is sent to an address that leads nowhere and so is refused. Policies attached to the waypoint are the reason
why it was named, and going around them is the one thing that must not happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hostmesh.config.strict_yaml import Problem
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.gateway import GATEWAY_NAME, HBONE_PORT, Gateway
from hostmesh.control.documents.read import Object
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.translate.namespaces import Namespaces
from hostmesh.control.translate.policies import selected
from hostmesh.control.translate.values import MeshConfig
from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, parse_ip
from hostmesh.model.identity import Identity
from hostmesh.model.workload import DEFAULT_SERVICE_ACCOUNT

USE_WAYPOINT = "istio.io/use-waypoint"
USE_WAYPOINT_NAMESPACE = "istio.io/use-waypoint-namespace"
UNREAD = frozenset({"istio.io/use-waypoint-canary", "istio.io/ingress-use-waypoint"})
"""Labels of Istio's that mean nothing here."""
NOWHERE = "waypoint.hostmesh.internal"
"""Names under it belong to no service: what is sent there is refused."""

Key = tuple[str, str]
"""Namespace and name of a Gateway."""


@dataclass(frozen=True, slots=True)
class Attached:
    """An object's waypoint; `gateway` is None when it leads nowhere."""

    address: GatewayAddress
    gateway: Key | None


@dataclass(slots=True)
class Waypoints:
    """All waypoints of the mesh; collects what is wrong with those that use them."""

    gateways: Mapping[Key, Object[Gateway]]
    instances: Mapping[Key, Sequence[Object[WorkloadEntry]]]
    namespaces: Namespaces
    mesh: MeshConfig
    warnings: list[Problem] = field(default_factory=list)

    def of(self, item: Object[Resource], labels: Mapping[str, str], traffic: str) -> Attached | None:
        """The waypoint that an object uses.

        Args:
            item: a Service, ServiceEntry or WorkloadEntry.
            labels: its labels.
            traffic: `service` or `workload`.

        Returns:
            None when neither the object nor its namespace names one, or the object is a waypoint itself.
        """
        for label in sorted(UNREAD & labels.keys()):
            why = f"not read here: all traffic goes through the waypoint that {USE_WAYPOINT} names; remove it"
            self.warnings.append(item.document.problem(("metadata", "labels", label), why))
        namespace = item.key.namespace
        if GATEWAY_NAME in labels:
            return None
        name, where, own = self._named(namespace, labels)
        if name in ("", "none"):
            return None
        key = (where, name)
        gateway = self.gateways.get(key)
        why = f"there is no waypoint {where}/{name}"
        if gateway is not None:
            if gateway.resource.traffic not in (traffic, "all"):
                if not own:
                    return None  # the namespace's waypoint is not for such objects, and nobody said it was
                why = f"the waypoint {where}/{name} is for {gateway.resource.traffic}, not for {traffic}"
            elif not self._admits(gateway, namespace):
                why = f"the waypoint {where}/{name} does not admit the namespace {namespace} (allowedRoutes)"
            elif (address := self._address(gateway)) is None:
                why = (
                    f"the waypoint {where}/{name} has no address yet: register the host that runs it, "
                    f"a WorkloadEntry with the label {GATEWAY_NAME}: {name}"
                )
            else:
                return Attached(address, key)
        if own:
            self.warnings.append(_problem(item, why))
        return Attached(GatewayAddress(NamespacedHostname(where, f"{name}.{where}.{NOWHERE}"), HBONE_PORT), None)

    def port(self, key: Key) -> int:
        """Where it takes HBONE: 15008, or what its WorkloadEntry says for the listener's name.

        Where an agent runs beside it, that has 15008.
        """
        listener = self.gateways[key].resource.spec.listeners[0].name
        return next(
            (one.resource.spec.ports.get(listener, HBONE_PORT) for one in self.instances.get(key, ())), HBONE_PORT
        )

    def identity(self, key: Key) -> Identity | None:
        """Who it is; all of its hosts run it under one identity, and the first one's counts."""
        for one in self.instances.get(key, ()):
            account = one.resource.spec.service_account or DEFAULT_SERVICE_ACCOUNT
            return Identity(self.mesh.trust_domain, one.key.namespace, account)
        return None

    def missing(self) -> list[Problem]:
        """What is wrong with the objects seen so far, and namespaces that name a waypoint which is not there."""
        found = list(self.warnings)
        for item in self.namespaces.objects:
            name, where, _ = self._named(item.key.name, {})
            if name not in ("", "none") and (where, name) not in self.gateways:
                found.append(_problem(item, f"there is no waypoint {where}/{name}"))
        return found

    def _named(self, namespace: str, labels: Mapping[str, str]) -> tuple[str, str, bool]:
        """Name, namespace, and whether the object itself says so."""
        for own, source in ((True, labels), (False, self.namespaces.labels(namespace))):
            if USE_WAYPOINT in source:
                return source[USE_WAYPOINT], source.get(USE_WAYPOINT_NAMESPACE, namespace), own
        return "", "", False

    def _admits(self, gateway: Object[Gateway], namespace: str) -> bool:
        allowed = gateway.resource.namespaces
        if allowed.from_ == "All":
            return True
        if allowed.from_ == "Same":
            return namespace == gateway.key.namespace
        wanted = allowed.selector.match_labels if allowed.selector else {}
        given = {"kubernetes.io/metadata.name": namespace, **self.namespaces.labels(namespace)}
        return selected(wanted, given)

    def _address(self, gateway: Object[Gateway]) -> GatewayAddress | None:
        """A hostname that the document names, else its first IP, else the first of its WorkloadEntries."""
        given = gateway.resource.spec.addresses
        for address in given:
            if address.type == "Hostname":
                return GatewayAddress(NamespacedHostname(gateway.key.namespace, address.value), HBONE_PORT)
        texts = [address.value for address in given]
        texts += [one.resource.spec.address for one in self.instances.get(_key(gateway), ())]
        port = self.port(_key(gateway))
        for text in texts:
            try:
                return GatewayAddress(NetworkAddress(self.mesh.network, parse_ip(text)), port)
            except ValueError:
                continue  # an instance that is named by a host name cannot be dialled by address
        return None


def collect(
    gateways: Iterable[Object[Gateway]],
    entries: Iterable[Object[WorkloadEntry]],
    namespaces: Namespaces,
    mesh: MeshConfig,
) -> Waypoints:
    """The waypoints and the WorkloadEntries that are their instances."""
    instances: dict[Key, list[Object[WorkloadEntry]]] = {}
    for entry in entries:
        name = entry.resource.labels.get(GATEWAY_NAME)
        if name:
            instances.setdefault((entry.key.namespace, name), []).append(entry)
    return Waypoints({_key(gateway): gateway for gateway in gateways}, instances, namespaces, mesh)


def _problem(item: Object[Resource], why: str) -> Problem:
    return item.document.problem(
        ("metadata", "labels", USE_WAYPOINT), f"{why}: what would have to go through it is refused until there is one"
    )


def _key(gateway: Object[Gateway]) -> Key:
    return gateway.key.namespace, gateway.key.name
