"""Clusters of a waypoint's Envoy: endpoints behind HBONE, and what the proxy itself calls."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from urllib.parse import urlsplit

from hostmesh.model.waypoint import AppProtocol, ExtAuthz, JwtRule, WaypointEndpoint, WaypointPort, WaypointProgram
from hostmesh.waypoint import names
from hostmesh.waypoint.shape import Json, file_source, internal_address, message, socket_address, typed
from hostmesh.waypoint.tls import upstream_tls

_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_UNLIMITED = 1 << 31
CONNECT_TIMEOUT = "10s"
_SYSTEM_ROOTS = ssl.get_default_verify_paths().cafile or ""
"""Whom this host trusts on the web; distributions do not agree where they stand."""


def clusters(program: WaypointProgram, directory: str) -> list[Json]:
    """All of them; endpoints stand in files of their own, so that a change of them cuts nothing."""
    made = [_main_internal(), _connect_originate(program.trust_domain, directory)]
    for service in program.services:
        made += [_service(service.hostname, port, directory) for port in service.ports]
    made += [_encap(one) for one in program.workloads]
    made += [_authorizer(one) for one in program.authorizers]
    return made + [_key_set(number, rule) for number, rule in enumerate(_key_sets(program).values())]


def _key_sets(program: WaypointProgram) -> dict[str, JwtRule]:
    return {rule.jwks_uri: rule for one in program.authentications for rule in one.rules if rule.jwks_uri}


def key_set_uris(program: WaypointProgram) -> list[str]:
    """Where keys are fetched from, once each, in order."""
    return list(_key_sets(program))


def endpoints(hostname: str, port: WaypointPort) -> Json:
    """A ClusterLoadAssignment."""
    return _load(names.cluster(port.port, hostname), port.endpoints)


def _load(cluster: str, among: Iterable[WaypointEndpoint]) -> Json:
    made = [_endpoint(one) for one in among]
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": made}] if made else []}


def _endpoint(one: WaypointEndpoint) -> Json:
    metadata: Json = {names.METADATA: _about(one)}
    if one.identity:
        address = internal_address(names.CONNECT_ORIGINATE, one.authority)
        metadata[names.ORIGINAL_DST] = {"local": one.authority}
        metadata["envoy.transport_socket_match"] = {"hbone": "yes"}
    else:
        address = socket_address(one.address, one.port)
    made: Json = {"endpoint": {"address": address}, "metadata": {"filter_metadata": metadata}}
    if one.weight != 1:
        made["load_balancing_weight"] = one.weight
    return made


def _about(one: WaypointEndpoint) -> Json:
    """Who it must be, and what access log and metrics call it."""
    known = {"workload": one.workload, "namespace": one.namespace, "principal": one.identity, "owner": one.owner}
    known |= {"service": one.service, "revision": one.revision, "cluster": one.cluster, "server_name": one.server_name}
    return {key: value for key, value in known.items() if value}


def _service(hostname: str, port: WaypointPort, directory: str) -> Json:
    name = names.cluster(port.port, hostname)
    protocol: Json = {"use_downstream_protocol_config": {"http2_protocol_options": {}}}
    if port.protocol is AppProtocol.HTTP:
        protocol = {"explicit_http_config": {"http_protocol_options": {}}}
    elif port.protocol is AppProtocol.HTTP2:
        protocol = {"explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "name": name,
        "type": "EDS",
        "connect_timeout": CONNECT_TIMEOUT,
        "eds_cluster_config": {"eds_config": file_source(directory, endpoints_file(hostname, port.port))},
        "typed_extension_protocol_options": {_HTTP: message(_HTTP, **protocol)},
        "transport_socket_matches": _hbone(),
        "circuit_breakers": _unlimited(),
    }


def endpoints_file(hostname: str, port: int) -> str:
    """The file's name."""
    return f"eds-{port}-{hostname}.json".replace("*", "_")


def _encap(one: WaypointEndpoint) -> Json:
    name = names.encap(one.address)
    endpoint = {
        "endpoint": {"address": internal_address(names.CONNECT_ORIGINATE, one.address)},
        "metadata": {"filter_metadata": {names.METADATA: _about(one)}},
    }
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": CONNECT_TIMEOUT,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            _HTTP: message(_HTTP, use_downstream_protocol_config={"http2_protocol_options": {}})
        },
        "transport_socket": _through_internal(),
        "circuit_breakers": _unlimited(),
    }


def _main_internal() -> Json:
    endpoint = {"endpoint": {"address": internal_address(names.MAIN_INTERNAL)}}
    return {
        "name": names.MAIN_INTERNAL,
        "type": "STATIC",
        "connect_timeout": CONNECT_TIMEOUT,
        "load_assignment": {"cluster_name": names.MAIN_INTERNAL, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "transport_socket": _internal_upstream([]),
        "circuit_breakers": _unlimited(),
    }


def _connect_originate(trust_domain: str, directory: str) -> Json:
    return {
        "name": names.CONNECT_ORIGINATE,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": CONNECT_TIMEOUT,
        "cleanup_interval": "60s",
        "original_dst_lb_config": {"upstream_port_override": names.HBONE_PORT},
        "typed_extension_protocol_options": {
            _HTTP: message(
                _HTTP,
                common_http_protocol_options={"idle_timeout": "3600s"},
                explicit_http_config={"http2_protocol_options": {"allow_connect": True}},
            )
        },
        "transport_socket": upstream_tls(trust_domain, directory),
        "circuit_breakers": _unlimited(),
    }


def _authorizer(one: ExtAuthz) -> Json:
    name = names.authorizer(one.name)
    made = _called(name, one.address, one.port, one.endpoints)
    protocol = "http2_protocol_options" if one.grpc else "http_protocol_options"
    made["typed_extension_protocol_options"] = {_HTTP: message(_HTTP, explicit_http_config={protocol: {}})}
    return made


def _key_set(number: int, rule: JwtRule) -> Json:
    parts = urlsplit(rule.jwks_uri)
    if parts.scheme != "https":
        return _called(names.key_set(number), parts.hostname or "", parts.port or 80, rule.endpoints)
    if not _SYSTEM_ROOTS:  # nobody could be trusted
        return _called(names.key_set(number), "", 0, ())
    tls = typed(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        sni=parts.hostname,
        common_tls_context={
            "validation_context": {
                "trusted_ca": {"filename": _SYSTEM_ROOTS},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": parts.hostname}}],
            }
        },
    )
    return _called(names.key_set(number), parts.hostname or "", parts.port or 443, rule.endpoints, tls)


def _called(
    name: str, host: str, port: int, inside: tuple[WaypointEndpoint, ...] | None, tls: Json | None = None
) -> Json:
    """What the proxy itself calls: a host outside the mesh or, by their endpoints, a service inside it."""
    made: Json = {"name": name, "connect_timeout": "5s"}
    if tls is not None:
        made["transport_socket"] = tls
    if inside is not None:
        return made | {
            "type": "STATIC",
            "load_assignment": _load(name, inside),
            "transport_socket_matches": _hbone(tls),
        }
    endpoint = {"endpoint": {"address": socket_address(host, port)}}
    load = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return made | {"type": "STRICT_DNS", "load_assignment": load}


def _hbone(within: Json | None = None) -> list[Json]:
    """Endpoints that say so are reached through it, the others without; `within` it may be the service's own TLS."""
    return [{"name": "hbone", "match": {"hbone": "yes"}, "transport_socket": _through_internal(within)}]


def _through_internal(within: Json | None = None) -> Json:
    passed = [{"kind": {"host": {}}, "name": name} for name in (names.ORIGINAL_DST, names.METADATA)]
    return _internal_upstream(passed, within)


def _internal_upstream(passed: list[Json], within: Json | None = None) -> Json:
    plain = typed("envoy.transport_sockets.raw_buffer", "transport_sockets.raw_buffer.v3.RawBuffer")
    return typed(
        "envoy.transport_sockets.internal_upstream",
        "transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
        passthrough_metadata=passed,
        transport_socket=within or plain,
    )


def _unlimited() -> Json:
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(limits, _UNLIMITED)]}
