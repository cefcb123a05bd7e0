"""Gateway API Gateway: a waypoint (class `istio-waypoint`), or where another network begins (class `istio-remote`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from hostmesh.config.strict_yaml import Path, suggest
from hostmesh.control.documents.base import Finding, PortNumber, Resource, Strict, Text, check_labels
from hostmesh.control.documents.names import is_dns_label, is_fqdn, is_ip

WAYPOINT_CLASS = "istio-waypoint"
REMOTE_CLASS = "istio-remote"
CLASSES = (WAYPOINT_CLASS, REMOTE_CLASS)

NETWORK = "topology.istio.io/network"
"""Label: the network behind a remote gateway."""
SERVICE_ACCOUNT = "gateway.istio.io/service-account"
TRUST_DOMAIN = "gateway.istio.io/trust-domain"
"""Annotations: with the namespace, the identity that a remote gateway answers with."""

WAYPOINT_FOR = "istio.io/waypoint-for"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""Label of the WorkloadEntries that are the waypoint."""

XFCC = "ambient.istio.io/xfcc-include-client-identity"
"""Annotation: endpoints are told in x-forwarded-client-cert who called the waypoint."""

TRAFFIC = ("service", "workload", "all", "none")
HBONE = "HBONE"
HBONE_PORT = 15008


class LabelSelector(Strict):
    """Chooses namespaces."""

    match_labels: dict[str, str] = Field(default={})


class RouteNamespaces(Strict):
    """Whose objects may use the waypoint."""

    from_: Literal["Same", "All", "Selector"] = Field(default="Same", alias="from")
    selector: LabelSelector | None = None


class AllowedRoutes(Strict):
    """Kinds are accepted and mean nothing here: routes are attached to services."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: object = None


class Listener(Strict):
    """Where HBONE is accepted; a remote gateway may have others, which mean nothing here."""

    name: Text
    port: PortNumber
    protocol: str
    hostname: str = ""
    tls: object = None
    allowed_routes: AllowedRoutes = AllowedRoutes()


class GatewayAddressSpec(Strict):
    """Where agents find it, when its WorkloadEntries are not to say so."""

    type: Literal["IPAddress", "Hostname"] = "IPAddress"
    value: Text


class GatewaySpec(Strict):
    """A waypoint has one listener, a remote gateway one that speaks HBONE."""

    gateway_class_name: Text
    listeners: Annotated[list[Listener], Field(min_length=1)]
    addresses: Annotated[list[GatewayAddressSpec], Field(max_length=16)] = Field(default=[])


class Gateway(Resource):
    """Of a waypoint `istio.io/waypoint-for` says whether it is for services, workloads, all or none."""

    spec: GatewaySpec

    @property
    def is_waypoint(self) -> bool:
        """Else it leads to another network."""
        return self.spec.gateway_class_name == WAYPOINT_CLASS

    @property
    def network(self) -> str:
        """What is behind a remote gateway."""
        return self.metadata.labels.get(NETWORK, "")

    @property
    def hbone_port(self) -> int:
        """Where a remote gateway accepts HBONE."""
        return next(listener.port for listener in self.spec.listeners if listener.protocol == HBONE)

    @property
    def traffic(self) -> str:
        """What it is for."""
        return self.metadata.labels.get(WAYPOINT_FOR, "service")

    @property
    def tells_caller(self) -> bool:
        """Whether endpoints are told who calls."""
        return self.metadata.annotations.get(XFCC) == "true"

    @property
    def namespaces(self) -> RouteNamespaces:
        """Whose objects may use it."""
        return self.spec.listeners[0].allowed_routes.namespaces


def check_gateway(gateway: Gateway) -> Iterator[Finding]:
    """Rules beyond the shape."""
    spec = gateway.spec
    if spec.gateway_class_name not in CLASSES:
        known = suggest(spec.gateway_class_name, CLASSES)
        why = f"the class {spec.gateway_class_name!r} is not served here; {known}"
        yield Finding(("spec", "gatewayClassName"), why)
    yield from _check_remote(gateway) if spec.gateway_class_name == REMOTE_CLASS else _check_waypoint(gateway)
    for number, address in enumerate(spec.addresses):
        right = is_ip(address.value) if address.type == "IPAddress" else is_fqdn(address.value)
        if not right:
            yield Finding(("spec", "addresses", number, "value"), f"{address.value!r} is not of type {address.type}")


def _check_remote(gateway: Gateway) -> Iterator[Finding]:
    spec, metadata = gateway.spec, gateway.metadata
    if not gateway.network:
        yield Finding(
            ("metadata", "labels", NETWORK), f"needed: the network that is behind a gateway of {REMOTE_CLASS}"
        )
    if not metadata.annotations.get(SERVICE_ACCOUNT):
        why = "needed: the service account that the gateway answers as; nobody else is believed"
        yield Finding(("metadata", "annotations", SERVICE_ACCOUNT), why)
    if not spec.addresses:
        yield Finding(("spec", "addresses"), "needed: where the gateway is reached")
    speaking = [listener for listener in spec.listeners if listener.protocol == HBONE]
    if len(speaking) != 1:
        yield Finding(("spec", "listeners"), f"{len(speaking)} listeners of protocol HBONE; exactly one is needed")


def _check_waypoint(gateway: Gateway) -> Iterator[Finding]:
    spec = gateway.spec
    if not is_dns_label(gateway.metadata.name) or gateway.metadata.name == "none":
        yield Finding(("metadata", "name"), "a waypoint is named by a DNS label, and not 'none', which opts out")
    if gateway.traffic not in TRAFFIC:
        why = f"{gateway.traffic!r} is unknown; {suggest(gateway.traffic, TRAFFIC)}"
        yield Finding(("metadata", "labels", WAYPOINT_FOR), why)
    if gateway.metadata.annotations.get(XFCC, "true") not in ("true", "false"):
        why = f'must be "true" or "false" (got {gateway.metadata.annotations[XFCC]!r})'
        yield Finding(("metadata", "annotations", XFCC), why)
    if len(spec.listeners) > 1:
        yield Finding(("spec", "listeners", 1), "a waypoint has exactly one listener: HBONE on 15008")
    yield from _check_listener(spec.listeners[0], ("spec", "listeners", 0))


def _check_listener(listener: Listener, path: Path) -> Iterator[Finding]:
    if listener.protocol != HBONE:
        yield Finding((*path, "protocol"), f"a waypoint speaks HBONE only, not {listener.protocol!r}")
    if listener.port != HBONE_PORT:
        yield Finding((*path, "port"), f"HBONE is on port {HBONE_PORT}, not {listener.port}")
    if listener.hostname:
        yield Finding((*path, "hostname"), "a waypoint's listener has no hostname; remove the field")
    if listener.tls is not None:
        yield Finding((*path, "tls"), "a waypoint's TLS is the mesh's own; remove the field")
    namespaces = listener.allowed_routes.namespaces
    where = (*path, "allowedRoutes", "namespaces")
    if namespaces.from_ == "Selector" and namespaces.selector is None:
        yield Finding((*where, "selector"), "`from: Selector` needs a selector")
    if namespaces.selector is not None:
        yield from check_labels(namespaces.selector.match_labels, (*where, "selector", "matchLabels"))
