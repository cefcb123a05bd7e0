"""WasmPlugins of a waypoint, in the order in which they run (Istio: by priority, then the oldest)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from hostmesh.control.documents.read import Object
from hostmesh.control.documents.wasm_plugin import WasmPlugin as Document
from hostmesh.control.translate.services import Backed
from hostmesh.control.translate.waypoint_policies import hostnames_of
from hostmesh.control.translate.waypoints import Key
from hostmesh.model.wasm import WasmFailure, WasmPhase, WasmPlugin


def wasm_plugins(
    documents: Iterable[Object[Document]], gateway: Key, services: Sequence[Backed], root_namespace: str
) -> Iterator[WasmPlugin]:
    """Those that this waypoint runs, for all that it serves or for the services that they name."""
    for item in sorted(documents, key=lambda item: -item.resource.spec.priority):
        spec = item.resource.spec
        hostnames = hostnames_of(item, spec.targets, gateway, services, root_namespace)
        matches = [one for one in spec.match if one.mode != "CLIENT"]
        if hostnames is None or (spec.match and not matches):
            continue
        everywhere = any(not one.ports for one in matches)
        yield WasmPlugin(
            name=item.key.name,
            namespace=item.key.namespace,
            path=spec.path,
            sha256=spec.sha256.lower(),
            phase=WasmPhase(spec.phase),
            failure=WasmFailure(spec.fail_strategy),
            config=json.dumps(spec.plugin_config) if spec.plugin_config is not None else "",
            root_id=spec.plugin_name,
            environment=tuple((one.name, one.value) for one in spec.vm_config.env if one.value_from == "INLINE"),
            host_environment=tuple(one.name for one in spec.vm_config.env if one.value_from == "HOST"),
            hostnames=hostnames,
            ports=() if everywhere else tuple(sorted({port.number for one in matches for port in one.ports})),
        )
