"""Gateway API Gateway of class `istio-waypoint`: a waypoint that runs on one or several hosts of the mesh."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from hostmesh.config.strict_yaml import Path, suggest
from hostmesh.control.documents.base import Finding, Resource, Strict, Text, check_labels
from hostmesh.control.documents.names import is_dns_label, is_fqdn, is_ip

WAYPOINT_CLASS = "istio-waypoint"
WAYPOINT_FOR = "istio.io/waypoint-for"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""Label of the WorkloadEntries that are the waypoint."""

TRAFFIC = ("service", "workload", "all", "none")
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
    """Where HBONE is accepted."""

    name: Text
    port: int
    protocol: str
    hostname: str = ""
    tls: object = None
    allowed_routes: AllowedRoutes = AllowedRoutes()


class GatewayAddressSpec(Strict):
    """Where agents find it, when its WorkloadEntries are not to say so."""

    type: Literal["IPAddress", "Hostname"] = "IPAddress"
    value: Text


class GatewaySpec(Strict):
    """One HBONE listener."""

    gateway_class_name: Text
    listeners: Annotated[list[Listener], Field(min_length=1)]
    addresses: Annotated[list[GatewayAddressSpec], Field(max_length=16)] = Field(default=[])


class Gateway(Resource):
    """A waypoint: `istio.io/waypoint-for` says whether for services, workloads, all or none."""

    spec: GatewaySpec

    @property
    def traffic(self) -> str:
        """What it is for."""
        return self.metadata.labels.get(WAYPOINT_FOR, "service")

    @property
    def namespaces(self) -> RouteNamespaces:
        """Whose objects may use it."""
        return self.spec.listeners[0].allowed_routes.namespaces


def check_gateway(gateway: Gateway) -> Iterator[Finding]:
    """Rules beyond the shape."""
    spec = gateway.spec
    if spec.gateway_class_name != WAYPOINT_CLASS:
        known = suggest(spec.gateway_class_name, [WAYPOINT_CLASS])
        why = f"the class {spec.gateway_class_name!r} is not served here; {known}"
        yield Finding(("spec", "gatewayClassName"), why)
    if not is_dns_label(gateway.metadata.name) or gateway.metadata.name == "none":
        yield Finding(("metadata", "name"), "a waypoint is named by a DNS label, and not 'none', which opts out")
    if gateway.traffic not in TRAFFIC:
        why = f"{gateway.traffic!r} is unknown; {suggest(gateway.traffic, TRAFFIC)}"
        yield Finding(("metadata", "labels", WAYPOINT_FOR), why)
    if len(spec.listeners) > 1:
        yield Finding(("spec", "listeners", 1), "a waypoint has exactly one listener: HBONE on 15008")
    yield from _check_listener(spec.listeners[0], ("spec", "listeners", 0))
    for number, address in enumerate(spec.addresses):
        right = is_ip(address.value) if address.type == "IPAddress" else is_fqdn(address.value)
        if not right:
            yield Finding(("spec", "addresses", number, "value"), f"{address.value!r} is not of type {address.type}")


def _check_listener(listener: Listener, path: Path) -> Iterator[Finding]:
    if listener.protocol != "HBONE":
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
