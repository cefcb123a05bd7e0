"""Which objects use which waypoint (Istio `istio.io/use-waypoint`), and where it is.

Unlike istiod, an object that names a waypoint which is missing, not ready or not for it is not left without: its
traffic is sent to an address that leads nowhere and so is refused. Policies attached to the waypoint are the reason
why it was named, and going around them is the one thing that must not happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hostmesh.config.strict_yaml import Problem
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.gateway import GATEWAY_NAME, HBONE_PORT, Gateway
from hostmesh.control.documents.read import Object
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate.namespaces import Namespaces
from hostmesh.control.translate.policies import selected
from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, parse_ip
from hostmesh.model.identity import Identity
from hostmesh.model.service import WeightedWaypoint
from hostmesh.model.workload import DEFAULT_SERVICE_ACCOUNT

USE_WAYPOINT = "istio.io/use-waypoint"
USE_WAYPOINT_NAMESPACE = "istio.io/use-waypoint-namespace"
CANARY = "istio.io/use-waypoint-canary"
CANARY_NAMESPACE = "istio.io/use-waypoint-canary-namespace"
CANARY_WEIGHT = "istio.io/use-waypoint-canary-weight"
"""An annotation: percents of the connections that go through the canary."""
INGRESS = "istio.io/ingress-use-waypoint"
NOWHERE = "waypoint.hostmesh.internal"
"""Names under it belong to no service: what is sent there is refused."""

Key = tuple[str, str]
"""Namespace and name of a Gateway."""


@dataclass(frozen=True, slots=True)
class Attached:
    """An object's waypoint; `gateway` is None when it leads nowhere. `weighted` are that and its canary."""

    address: GatewayAddress
    gateway: Key | None
    weighted: tuple[WeightedWaypoint, ...] = ()
    canary: Key | None = None


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
        namespace = item.key.namespace
        if GATEWAY_NAME in labels:
            return None
        name, where, own = self._named(namespace, labels)
        if name in ("", "none"):
            return None
        gateway = self.gateways.get((where, name))
        if gateway is not None and gateway.resource.traffic not in (traffic, "all") and not own:
            return None  # the namespace's waypoint is not for such objects, and nobody said it was
        found = self._found((where, name), namespace, traffic)
        if isinstance(found, GatewayAddress):
            primary = Attached(found, (where, name))
            return self._with_canary(item, labels, primary) if traffic == "service" else primary
        if own:
            self.warnings.append(_problem(item, found))
        return Attached(GatewayAddress(NamespacedHostname(where, f"{name}.{where}.{NOWHERE}"), HBONE_PORT), None)

    def for_ingress(self, item: Object[Resource], labels: Mapping[str, str]) -> bool:
        """Whether Istio's ingress gateways are to go through the waypoint; a namespace may say so for all."""
        return labels.get(INGRESS, self.namespaces.labels(item.key.namespace).get(INGRESS)) == "true"

    def _found(self, key: Key, namespace: str, traffic: str) -> GatewayAddress | str:
        """Where a waypoint is for objects of a namespace, or why it is nowhere."""
        where, name = key
        gateway = self.gateways.get(key)
        if gateway is None:
            return f"there is no waypoint {where}/{name}"
        if gateway.resource.traffic not in (traffic, "all"):
            return f"the waypoint {where}/{name} is for {gateway.resource.traffic}, not for {traffic}"
        if not self._admits(gateway, namespace):
            return f"the waypoint {where}/{name} does not admit the namespace {namespace} (allowedRoutes)"
        return self._address(gateway) or (
            f"the waypoint {where}/{name} has no address yet: register the host that runs it, "
            f"a WorkloadEntry with the label {GATEWAY_NAME}: {name}"
        )

    def _with_canary(self, item: Object[Resource], labels: Mapping[str, str], primary: Attached) -> Attached:
        """A canary that is not there, or whose share is not said, gets nothing: the other one enforces the policies."""
        namespace, metadata = item.key.namespace, item.resource.metadata
        own = CANARY in labels
        source = labels if own else self.namespaces.labels(namespace)
        name = source.get(CANARY, "none")
        if name == "none":
            return primary
        key = (source.get(CANARY_NAMESPACE, namespace), name)
        annotations = metadata.annotations if own else self.namespaces.annotations(namespace)
        text = annotations.get(CANARY_WEIGHT, "")
        found = self._found(key, namespace, "service")
        why = found if isinstance(found, str) else ""
        if key == primary.gateway:
            why = f"{name} is the waypoint itself"
        elif not (text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) <= 100):
            why = f"the annotation {CANARY_WEIGHT} is {text!r}, not a number from 0 to 100"
        if why or isinstance(found, str):
            problem = item.document.problem(("metadata", "labels", CANARY), f"{why}: the canary gets nothing")
            self.warnings.extend([problem] if own else [])
            return primary
        weights = (WeightedWaypoint(primary.address, 100 - int(text)), WeightedWaypoint(found, int(text)))
        return replace(primary, weighted=weights, canary=key)

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
        """What is wrong with the objects seen so far, and namespaces that name a waypoint which they cannot use."""
        found = list(self.warnings)
        for item in self.namespaces.objects:
            name, where, _ = self._named(item.key.name, {})
            if name in ("", "none"):
                continue
            gateway = self.gateways.get((where, name))
            why = self._found((where, name), item.key.name, gateway.resource.traffic if gateway else "")
            if isinstance(why, str):
                found.append(_problem(item, why))
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
