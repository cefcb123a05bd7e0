"""YAML text to checked objects: the one door through which documents come in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar, cast, overload

from hostmesh.config.strict_yaml import Document, InvalidYaml, Problem, load_what_is_readable, parse, suggest
from hostmesh.control.documents.authorization_policy import AuthorizationPolicy
from hostmesh.control.documents.base import Finding, Resource, check_metadata
from hostmesh.control.documents.destination_rule import DestinationRule, check_destination_rule
from hostmesh.control.documents.gateway import Gateway, check_gateway
from hostmesh.control.documents.grpc_route import GRPCRoute, check_grpc_route
from hostmesh.control.documents.http_route import HTTPRoute
from hostmesh.control.documents.http_route_rules import check_http_route
from hostmesh.control.documents.namespace import Namespace, check_namespace
from hostmesh.control.documents.network_policy import NetworkPolicyDocument, check_network_policy
from hostmesh.control.documents.peer_authentication import PeerAuthentication, check_peer_authentication
from hostmesh.control.documents.policy_rules import check_authorization_policy
from hostmesh.control.documents.request_authentication import RequestAuthentication, check_request_authentication
from hostmesh.control.documents.service import CoreService, check_service
from hostmesh.control.documents.service_entry import ServiceEntry, check_service_entry
from hostmesh.control.documents.tcp_route import TCPRoute, check_tcp_route
from hostmesh.control.documents.telemetry import Telemetry, check_telemetry
from hostmesh.control.documents.wasm_plugin import WasmPlugin, check_wasm_plugin
from hostmesh.control.documents.workload_entry import WorkloadEntry, check_workload_entry
from hostmesh.control.documents.workload_group import WorkloadGroup, check_workload_group

DEFAULT_NAMESPACE = "default"

ResourceT = TypeVar("ResourceT", bound=Resource)
ResourceT_co = TypeVar("ResourceT_co", bound=Resource, covariant=True)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of document: where its schema lives and who checks it."""

    name: str
    api_versions: tuple[str, ...]
    model: type[Resource]
    check: Callable[[Any], Iterator[Finding]]
    namespaced: bool = True
    dry_run: bool = False


_NETWORKING = ("networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3")
_SECURITY = ("security.istio.io/v1", "security.istio.io/v1beta1")
_TELEMETRY = ("telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1")
_GATEWAY = ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1")
_GATEWAY_ALPHA = "gateway.networking.k8s.io/v1alpha2"

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("WorkloadEntry", _NETWORKING, WorkloadEntry, check_workload_entry),
        Kind("ServiceEntry", _NETWORKING, ServiceEntry, check_service_entry),
        Kind("AuthorizationPolicy", _SECURITY, AuthorizationPolicy, check_authorization_policy, dry_run=True),
        Kind("PeerAuthentication", _SECURITY, PeerAuthentication, check_peer_authentication),
        Kind("RequestAuthentication", _SECURITY, RequestAuthentication, check_request_authentication),
        Kind("Gateway", _GATEWAY, Gateway, check_gateway),
        Kind("WasmPlugin", ("extensions.istio.io/v1alpha1",), WasmPlugin, check_wasm_plugin),
        Kind("Telemetry", _TELEMETRY, Telemetry, check_telemetry),
        Kind("HTTPRoute", _GATEWAY, HTTPRoute, check_http_route),
        Kind("GRPCRoute", (*_GATEWAY[:1], _GATEWAY_ALPHA), GRPCRoute, check_grpc_route),
        Kind("TCPRoute", (_GATEWAY_ALPHA, *_GATEWAY[:1]), TCPRoute, check_tcp_route),
        Kind("WorkloadGroup", _NETWORKING, WorkloadGroup, check_workload_group),
        Kind("DestinationRule", _NETWORKING, DestinationRule, check_destination_rule),
        Kind("NetworkPolicy", ("networking.k8s.io/v1",), NetworkPolicyDocument, check_network_policy),
        Kind("Service", ("v1",), CoreService, check_service),
        Kind("Namespace", ("v1",), Namespace, check_namespace, namespaced=False),
    )
}

INSTEAD: Mapping[str, str] = {
    "VirtualService": "ambient meshes route by HTTPRoute, GRPCRoute and TCPRoute",
    "TLSRoute": "TLS of applications passes a waypoint as TCP: write a TCPRoute",
    "UDPRoute": "a mesh does not carry UDP",
    "ReferenceGrant": "it is not needed: routes of the mesh may name backends of other namespaces",
    "GatewayClass": "the class istio-waypoint is there without a document",
    "EnvoyFilter": "a waypoint's Envoy is programmed by the other documents only",
    "Sidecar": "there are no sidecars in an ambient mesh; who may call whom says an AuthorizationPolicy",
    "ProxyConfig": "agents are configured by agent.yaml",
    "Deployment": "what runs on a host is said by a WorkloadEntry or a WorkloadGroup",
    "Pod": "what runs on a host is said by a WorkloadEntry or a WorkloadGroup",
}
"""What to write instead of kinds that a cluster has, and this control plane does not."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """What must be unique; `namespace` is empty for kinds without."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Object(Generic[ResourceT_co]):
    """A checked document; `warnings` are what its author should know."""

    key: ObjectKey
    resource: ResourceT_co
    document: Document = field(repr=False)
    warnings: tuple[Problem, ...] = ()

    @property
    def line(self) -> int:
        """Where it starts in its file."""
        return self.document.line(())

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.document.source}:{self.line}"

    @property
    def age(self) -> tuple[str, str, str]:
        """Sorts the oldest object first; without a creation time it counts as new, then names decide."""
        created = self.resource.metadata.creation_timestamp
        text = created.isoformat() if isinstance(created, datetime) else created or "~"
        return (text, self.key.namespace, self.key.name)


def read(text: str, source: str) -> tuple[Object[Resource], ...]:
    """Read and check every document of a file by itself.

    Args:
        text: YAML, any number of documents.
        source: what complaints call the file.

    Raises:
        InvalidYaml: every problem of the file.
    """
    objects: list[Object[Resource]] = []
    documents, problems = load_what_is_readable(text, source)
    for document in documents:
        try:
            objects.append(_object(document))
        except InvalidYaml as invalid:
            problems.extend(invalid.problems)
    if problems:
        raise InvalidYaml(sorted(problems, key=lambda problem: problem.line))
    return tuple(objects)


def check_together(objects: Iterable[Object[Resource]]) -> tuple[Problem, ...]:
    """What is wrong with objects that are each right: the same object twice."""
    first: dict[ObjectKey, Object[Resource]] = {}
    problems: list[Problem] = []
    for item in objects:
        other = first.setdefault(item.key, item)
        if other is not item:
            why = f"{item.key} is already defined at {other.where}; remove one of the two"
            problems.append(item.document.problem(("metadata", "name"), why))
    return tuple(problems)


class Documents(Sequence[Object[Resource]]):
    """All objects of a mesh, sorted by key; those of a kind are looked for once.

    Args:
        objects: in any order.
    """

    def __init__(self, objects: Iterable[Object[Resource]]) -> None:
        self._all = sorted(objects, key=lambda item: (item.key.kind, item.key.namespace, item.key.name))
        self._by_kind: dict[type[Resource], list[Object[Resource]]] = {}
        for item in self._all:
            self._by_kind.setdefault(type(item.resource), []).append(item)
        self._sorted: dict[type[Resource], tuple[Object[Resource], ...]] = {}

    def of(self, model: type[Resource]) -> tuple[Object[Resource], ...]:
        """Those of one kind, the oldest first."""
        found = self._sorted.get(model)
        if found is None:
            listed = self._by_kind.get(model, ())
            dated = any(item.resource.metadata.creation_timestamp for item in listed)
            # Those without a creation time are as old as each other, and sorted already.
            found = self._sorted[model] = _oldest_first(listed) if dated else tuple(listed)
        return found

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, index: int) -> Object[Resource]: ...

    @overload
    def __getitem__(self, index: slice) -> list[Object[Resource]]: ...

    def __getitem__(self, index: int | slice) -> Object[Resource] | list[Object[Resource]]:
        return self._all[index]

    def __iter__(self) -> Iterator[Object[Resource]]:
        return iter(self._all)


def of_kind(objects: Iterable[Object[Resource]], model: type[ResourceT]) -> tuple[Object[ResourceT], ...]:
    """Those objects that are of one kind, the oldest first."""
    if isinstance(objects, Documents):
        return cast("tuple[Object[ResourceT], ...]", objects.of(model))
    return _oldest_first(cast("Object[ResourceT]", item) for item in objects if isinstance(item.resource, model))


def _oldest_first(objects: Iterable[Object[ResourceT]]) -> tuple[Object[ResourceT], ...]:
    return tuple(sorted(objects, key=lambda item: item.age))


def _object(document: Document) -> Object[Resource]:
    kind = _kind(document)
    resource = parse(document, kind.model, value=text_keys(document.value))
    found = [*check_metadata(resource, namespaced=kind.namespaced, dry_run=kind.dry_run), *kind.check(resource)]
    fatal = [document.problem(finding.path, finding.why) for finding in found if finding.fatal]
    if fatal:
        raise InvalidYaml(sorted(fatal, key=lambda problem: problem.line))
    warnings = tuple(document.problem(finding.path, finding.why) for finding in found if not finding.fatal)
    namespace = (resource.metadata.namespace or DEFAULT_NAMESPACE) if kind.namespaced else ""
    return Object(ObjectKey(kind.name, namespace, resource.metadata.name), resource, document, warnings)


def _kind(document: Document) -> Kind:
    value = document.value
    if not isinstance(value, dict):
        raise InvalidYaml([document.problem((), "not an object: a document has apiVersion, kind, metadata and spec")])
    name, version = value.get("kind"), value.get("apiVersion")
    for field_name, given in (("kind", name), ("apiVersion", version)):
        if not isinstance(given, str):
            raise InvalidYaml([document.problem((field_name,), "required, but missing")])
    kind = KINDS.get(str(name))
    if kind is None:
        known = INSTEAD.get(str(name)) or suggest(str(name), KINDS)
        raise InvalidYaml([document.problem(("kind",), f"unknown kind {name!r}; {known}")])
    if version not in kind.api_versions:
        why = f"{kind.name} has no version {version!r}; {suggest(str(version), kind.api_versions)}"
        raise InvalidYaml([document.problem(("apiVersion",), why)])
    return kind


def text_keys(value: object) -> object:
    """Keys as JSON would have them, as Kubernetes reads YAML: `8080:` is the text key "8080"."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _json_key(key): text_keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [text_keys(item) for item in value]
    return value


def _json_key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)
