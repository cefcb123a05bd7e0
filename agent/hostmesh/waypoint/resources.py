"""All that a waypoint's Envoy reads, as files: made from the program, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hostmesh.model.waypoint import WaypointProgram
from hostmesh.waypoint import names, tls
from hostmesh.waypoint.clusters import clusters, endpoints, endpoints_file
from hostmesh.waypoint.listeners import listeners, routes_file
from hostmesh.waypoint.shape import Json, file_source
from hostmesh.waypoint.virtual_hosts import connect_routes, inner_routes

_API = "type.googleapis.com/envoy.config"
_SDS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
_LIMITS: Json = {
    "layers": [
        {
            "name": "limits",
            "static_layer": {
                "overload.global_downstream_max_connections": 50_000,
                # Istio's; with Envoy's own (100) a namespace of forty letters makes a policy that it refuses
                "re2.max_program_size.error_level": 32_768,
            },
        }
    ]
}
LISTENERS = "lds.json"
CLUSTERS = "cds.json"


def files(
    program: WaypointProgram, directory: str, bind: str = "0.0.0.0", port: int = names.HBONE_PORT
) -> dict[str, Json]:
    """Discovery responses by file name, in the order in which they must come to be there: routes before listeners."""
    made: dict[str, Json] = {}
    for service in program.services:
        for one in service.ports:
            name = endpoints_file(service.hostname, one.port)
            made[name] = _response(f"{_API}.endpoint.v3.ClusterLoadAssignment", [endpoints(service.hostname, one)])
    for routes in (connect_routes(program), *inner_routes(program)):
        made[routes_file(routes["name"])] = _response(f"{_API}.route.v3.RouteConfiguration", [routes])
    made[CLUSTERS] = _response(f"{_API}.cluster.v3.Cluster", clusters(program, directory))
    made[LISTENERS] = _response(f"{_API}.listener.v3.Listener", listeners(program, directory, bind, port))
    return made


def secret_files(chain_pem: str, key_pem: str, roots_pem: str, crls_pem: str = "") -> dict[str, Json]:
    """The waypoint's own certificate, the mesh's roots, and what is revoked."""
    made = tls.secrets(chain_pem, key_pem, roots_pem, crls_pem)
    return {tls.SECRETS_FILES[name]: _response(_SDS, [secret]) for name, secret in made.items()}


def bootstrap(node: str, directory: str, admin_socket: str) -> Json:
    """What Envoy is started with; it never changes while it runs."""
    return {
        "node": {"id": f"waypoint~{node}", "cluster": "hostmesh-waypoint"},
        "admin": {"address": {"pipe": {"path": admin_socket, "mode": 0o600}}},
        "bootstrap_extensions": [_internal_listeners()],
        "dynamic_resources": {
            "lds_config": file_source(directory, LISTENERS),
            "cds_config": file_source(directory, CLUSTERS),
        },
        "layered_runtime": _LIMITS,
    }


def validation(made: Mapping[str, Json], secrets: Mapping[str, Json]) -> Json:
    """The same resources as one static configuration, because `envoy --mode validate` reads no discovery files."""
    # a copy in which secrets are found among the static ones
    text = json.dumps({name: response["resources"] for name, response in made.items()})
    resources = json.loads(text, object_hook=lambda part: {k: v for k, v in part.items() if k != "sds_config"})
    listeners_, clusters_ = resources.pop(LISTENERS), resources.pop(CLUSTERS)
    routes = {one[0]["name"]: one[0] for name, one in resources.items() if name.startswith("rds-")}
    loads = {one[0]["cluster_name"]: one[0] for name, one in resources.items() if name.startswith("eds-")}
    for listener in listeners_:
        for chain in listener["filter_chains"]:
            for network_filter in chain["filters"]:
                config = network_filter["typed_config"]
                if "rds" in config:
                    config["route_config"] = _untyped(routes[config.pop("rds")["route_config_name"]])
    for cluster in clusters_:
        if "eds_cluster_config" in cluster:
            del cluster["eds_cluster_config"]
            cluster["type"] = "STATIC"
            cluster["load_assignment"] = _untyped(loads[cluster["name"]])
    return {
        "node": {"id": "validation", "cluster": "hostmesh-waypoint"},
        "layered_runtime": _LIMITS,
        "bootstrap_extensions": [_internal_listeners()],
        "static_resources": {
            "listeners": [_untyped(one) for one in listeners_],
            "clusters": [_untyped(one) for one in clusters_],
            "secrets": [_untyped(one) for response in secrets.values() for one in response["resources"]],
        },
    }


def _untyped(resource: Json) -> Json:
    return {name: value for name, value in resource.items() if name != "@type"}


def _response(kind: str, resources: list[Json]) -> Json:
    return {"resources": [{"@type": kind, **resource} for resource in resources]}


def _internal_listeners() -> Json:
    return {
        "name": "envoy.bootstrap.internal_listener",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
            "buffer_size_kb": 64,
        },
    }
