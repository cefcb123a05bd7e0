"""Telemetry documents resolved: what one service of a waypoint, or one workload, says (Istio's precedence).

The mesh's document (root namespace, attached to nothing), then the namespace's, then the waypoint's, then the service's
own; what a more special one says counts. Of several with the same reach the oldest counts, as in Istio.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hostmesh.config.strict_yaml import Problem, suggest
from hostmesh.control.documents import cel
from hostmesh.control.documents.read import Object
from hostmesh.control.documents.telemetry import AccessLogging, Mode, Telemetry
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate.policies import selected
from hostmesh.control.translate.services import Backed
from hostmesh.control.translate.waypoints import Key
from hostmesh.model.network_policy import Member
from hostmesh.model.telemetry import DEFAULT_LOG, AccessLog, MetricChange
from hostmesh.model.telemetry import Telemetry as Resolved
from hostmesh.model.workload import Workload

_PEER = "filter_state['io.istio.peer_principal']"
_IN_TAG = {"connection.uri_san_peer_certificate": _PEER, "connection.mtls": "true"}
_IN_FILTER = _IN_TAG | {"connection.uri_san_peer_certificate": f"string({_PEER})"}
"""The connection that a waypoint judges is inside its tunnel: what the tunnel proves is carried along."""

_SERVER: frozenset[Mode] = frozenset(("SERVER", "CLIENT_AND_SERVER"))
_CLIENT: frozenset[Mode] = frozenset(("CLIENT", "CLIENT_AND_SERVER"))


@dataclass(frozen=True, slots=True)
class Levels:
    """All Telemetry documents, the oldest first, and the mesh's access log providers by name, perhaps all of them."""

    documents: Sequence[Object[Telemetry]]
    root_namespace: str
    providers: Mapping[str, AccessLog]
    all_providers: bool

    @classmethod
    def of(cls, documents: Sequence[Object[Telemetry]], mesh: MeshConfig) -> Levels:
        """From the mesh's settings, which may say anew what Istio's default provider does."""
        providers = {DEFAULT_LOG: AccessLog(), **{one.provider: one for one in mesh.access_logs or ()}}
        return cls(documents, mesh.root_namespace, providers, mesh.access_logs is not None)

    def of_service(self, gateway: Key, backed: Backed | None) -> Resolved:
        """What a waypoint says about one of its services; without one, about workloads that it serves by address."""
        found = [*self._general(gateway[0]), *self._attached(gateway, backed)]
        return self._resolve(found)

    def unlogged(self, workloads: Iterable[Workload], members: Iterable[Member]) -> Iterator[Workload]:
        """The workloads, with what their agents are not to log."""
        labels = {one.uid: one.labels for one in members} if self.documents else {}
        selecting = [one for one in self.documents if one.resource.selector_labels]
        known: dict[tuple[str, object], tuple[str, ...]] = {}
        for workload in workloads:
            if workload.uid not in labels:
                yield workload
                continue
            own = (one for one in selecting if self._selects(one, workload.namespace, labels[workload.uid]))
            document = next(own, None)
            key = (workload.namespace, document and document.key)
            if key not in known:
                known[key] = self._silent(workload.namespace, document)
            yield replace(workload, unlogged=known[key]) if known[key] else workload

    def _selects(self, item: Object[Telemetry], namespace: str, labels: Mapping[str, str]) -> bool:
        return item.key.namespace in (namespace, self.root_namespace) and selected(
            item.resource.selector_labels, labels
        )

    def _silent(self, namespace: str, own: Object[Telemetry] | None) -> tuple[str, ...]:
        """The directions of which an agent logs nothing, of a workload of the namespace with a document of its own."""
        found = [*self._general(namespace), *([own] if own is not None else [])]
        return tuple(
            direction
            for direction, modes in (("outbound", _CLIENT), ("inbound", _SERVER))
            if not self._logs(found, modes)
        )

    def problems(self) -> Iterator[Problem]:
        """Providers that are not there, and documents that an older one keeps from counting."""
        first: dict[object, Object[Telemetry]] = {}
        for item in self.documents:
            for number, logging in enumerate(item.resource.spec.access_logging):
                for position, provider in enumerate(logging.providers):
                    if provider.name not in self.providers and self.all_providers:
                        why = f"there is no access log provider {provider.name!r}, nothing is written for it; "
                        path = ("spec", "accessLogging", number, "providers", position, "name")
                        yield item.document.problem(path, why + suggest(provider.name, self.providers))
            if item.resource.spec.targets:
                continue
            older = first.setdefault((item.key.namespace, *sorted(item.resource.selector_labels.items())), item)
            if older is not item:
                why = f"has no effect: {older.key} at {older.where} is older and speaks for the same"
                yield item.document.problem(("metadata", "name"), why)

    def _general(self, namespace: str) -> Iterator[Object[Telemetry]]:
        for scope in dict.fromkeys((self.root_namespace, namespace)):
            plain = (one for one in self.documents if one.key.namespace == scope and _general(one.resource))
            yield from list(plain)[:1]

    def _attached(self, gateway: Key, backed: Backed | None) -> Iterator[Object[Telemetry]]:
        waypoint: list[Object[Telemetry]] = []
        service: list[Object[Telemetry]] = []
        for item in self.documents:
            for target in item.resource.spec.targets:
                if target.kind == "GatewayClass":
                    if item.key.namespace == self.root_namespace:
                        waypoint.append(item)
                elif target.kind == "Gateway":
                    if (item.key.namespace, target.name) == gateway:
                        waypoint.append(item)
                elif backed is not None:
                    key = backed.source.key
                    if (key.kind, key.namespace, key.name) == (target.kind, item.key.namespace, target.name):
                        service.append(item)
        yield from waypoint[:1]
        yield from service[:1]

    def _resolve(self, found: Sequence[Object[Telemetry]]) -> Resolved:
        return Resolved(tuple(self._logs(found, _SERVER)), tuple(_metrics(found)))

    def _logs(self, found: Iterable[Object[Telemetry]], modes: frozenset[Mode]) -> list[AccessLog]:
        """Who names providers names all of them; who names none means those of the less special document."""
        logs: dict[str, AccessLog | None] = {DEFAULT_LOG: self.providers[DEFAULT_LOG]}
        for item in found:
            said = [one for one in item.resource.spec.access_logging if one.match.mode in modes]
            named = dict.fromkeys(provider.name for one in said for provider in one.providers)
            if named:
                logs = {name: self.providers.get(name) for name in named}
            for one in said:
                for name in [provider.name for provider in one.providers] or list(logs):
                    logs[name] = self._changed(name, one)
        return [log for log in logs.values() if log is not None]

    def _changed(self, name: str, logging: AccessLogging) -> AccessLog | None:
        provider = self.providers.get(name)
        if logging.disabled or provider is None:
            return None
        if logging.filter is None:
            return provider
        return replace(provider, filter=cel.for_waypoint(logging.filter.expression, _IN_FILTER))


def _general(telemetry: Telemetry) -> bool:
    return not telemetry.selector_labels and not telemetry.spec.targets


def _metrics(found: Iterable[Object[Telemetry]]) -> Iterator[MetricChange]:
    for item in found:
        for metrics in item.resource.spec.metrics:
            for override in metrics.overrides:
                if override.match.mode == "CLIENT":
                    continue
                metric = override.match.metric or "ALL_METRICS"
                tags = tuple(
                    (name, cel.for_waypoint(tag.value, _IN_TAG) if tag.operation == "UPSERT" else "")
                    for name, tag in sorted(override.tag_overrides.items())
                )
                yield MetricChange("" if metric == "ALL_METRICS" else metric, override.disabled, tags)
