"""Listeners of a waypoint's Envoy: HBONE ends, the service's chain is chosen inside, HBONE begins again."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from hostmesh.model.telemetry import Telemetry
from hostmesh.model.wasm import WasmPhase
from hostmesh.model.waypoint import AppProtocol, L7Action, WaypointPort, WaypointProgram, WaypointService
from hostmesh.waypoint import ext_authz, jwt, names, own_headers, tunnels, wasm
from hostmesh.waypoint.access_log import access_logs, refused_tunnels
from hostmesh.waypoint.metrics import http_metrics, on_tunnel, tcp_metrics
from hostmesh.waypoint.rbac import Judge, Place, applying, rules
from hostmesh.waypoint.routes import weighted
from hostmesh.waypoint.shape import Json, cidr, file_source, message, socket_address, typed
from hostmesh.waypoint.tls import downstream_tls
from hostmesh.waypoint.virtual_hosts import HTTP, on_connect

_RBAC = "filters.http.rbac.v3.RBAC"
_SNIFF_TIMEOUT = "5s"
_MAX_STREAMS = 100
_NAMED = "type.googleapis.com/google.protobuf.StringValue"


def listeners(
    program: WaypointProgram, directory: str, bind: str = "0.0.0.0", port: int = names.HBONE_PORT
) -> list[Json]:
    """All three."""
    return [_terminate(program, directory, bind, port), _main(program, directory), _originate(directory)]


def routes_file(name: str) -> str:
    """The file of a route configuration."""
    return f"rds-{name}.json".replace("|", "-").replace("*", "_").replace(":", "_")


def _terminate(program: WaypointProgram, directory: str, bind: str, port: int) -> Json:
    manager = typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=names.CONNECT_TERMINATE,
        codec_type="HTTP2",
        stream_idle_timeout="0s",
        use_remote_address=False,
        access_log=[tunnels.report(tunnels.ACCEPTED, directory), *refused_tunnels(program.telemetry.logs)],
        access_log_options={"flush_access_log_on_new_request": True},
        upgrade_configs=[{"upgrade_type": "CONNECT"}],
        http2_protocol_options={
            "allow_connect": True,
            "max_concurrent_streams": _MAX_STREAMS,
            "connection_keepalive": {"interval": "10s", "timeout": "20s"},
        },
        rds={
            "route_config_name": names.CONNECT_TERMINATE,
            "config_source": file_source(directory, routes_file(names.CONNECT_TERMINATE)),
        },
        http_filters=[
            on_tunnel(),
            typed(
                names.CONNECT_AUTHORITY,
                "filters.http.set_filter_state.v3.Config",
                on_request_headers=on_connect("%REQ(:AUTHORITY)%"),
            ),
            typed(names.L4_DENY, _RBAC),
            typed(names.L4_ALLOW, _RBAC),
            _router(),
        ],
    )
    return {
        "name": names.CONNECT_TERMINATE,
        "address": socket_address(bind, port),
        "connection_balance_config": {"exact_balance": {}},
        "filter_chains": [{"transport_socket": downstream_tls(program.trust_domain, directory), "filters": [manager]}],
    }


def _main(program: WaypointProgram, directory: str) -> Json:
    chains = []
    for service in program.behind:
        for port in service.ports:
            if port.protocol in HTTP:
                name = names.chain(port.port, "http", service.hostname)
                chains.append(_chain(name, [_http(name, program, directory, port, service)]))
            if port.protocol in (AppProtocol.TCP, AppProtocol.SNIFFED):
                name = names.chain(port.port, "tcp", service.hostname)
                chains.append(_chain(name, _tcp_service(name, service, port, program)))
    for one in program.workloads:
        http, tcp = names.direct("http", one.address), names.direct("tcp", one.address)
        place = Place(Judge.TCP, 0, (one.address,))
        again = _network_state(names.LOCAL_IP, f"%FILTER_STATE({names.LOCAL_IP}:PLAIN)%")
        chains.append(_chain(http, [again, _http(http, program, directory, WaypointPort(0))]))
        proxy = _tcp(tcp, names.encap(one.address), program.telemetry)
        chains.append(_chain(tcp, [again, *_tcp_rbac(program, "", place), proxy]))
    made: Json = {
        "name": names.MAIN_INTERNAL,
        "internal_listener": {},
        "listener_filters": [
            typed(names.ORIGINAL_DST, "filters.listener.original_dst.v3.OriginalDst"),
            _inspector(program),
        ],
        "listener_filters_timeout": _SNIFF_TIMEOUT,
        "continue_on_listener_filters_timeout": True,
        "filter_chains": chains,
    }
    if chains:
        made["filter_chain_matcher"] = _matcher(program)
    else:  # a listener needs a chain; nothing is served, so it closes what comes
        made["filter_chains"] = [_chain("nothing-served", [_tcp("nothing-served", names.MISSING, program.telemetry)])]
    return made


def _chain(name: str, filters: list[Json]) -> Json:
    return {"name": name, "filters": filters}


def _inspector(program: WaypointProgram) -> Json:
    """Says whether HTTP is spoken; never asked on ports of which it is known, where a server may speak first."""
    made = typed("envoy.filters.listener.http_inspector", "filters.listener.http_inspector.v3.HttpInspector")
    ports = [port for service in program.behind for port in service.ports]
    sniffed = {port.port for port in ports if port.protocol is AppProtocol.SNIFFED}
    declared = sorted({port.port for port in ports} - sniffed)
    if declared and not program.workloads:
        parts = [{"destination_port_range": {"start": port, "end": port + 1}} for port in declared]
        made["filter_disabled"] = parts[0] if len(parts) == 1 else {"or_match": {"rules": parts}}
    return made


def _matcher(program: WaypointProgram) -> Json:
    by_address = [
        {"ranges": [cidr(vip) for vip in service.vips], "on_match": {"matcher": _by_port(service)}}
        for service in program.behind
    ]
    by_address += [
        {
            "ranges": [cidr(one.address)],
            "on_match": {"matcher": _by_protocol(names.direct("http", one.address), names.direct("tcp", one.address))},
        }
        for one in program.workloads
    ]
    return {
        "matcher_tree": {
            "input": _input("destination-ip", "DestinationIPInput"),
            "custom_match": {
                "name": "ip",
                "typed_config": message("xds.type.matcher.v3.IPMatcher", range_matchers=by_address),
            },
        }
    }


def _by_port(service: WaypointService) -> Json:
    cases = {}
    for port in service.ports:
        http = names.chain(port.port, "http", service.hostname)
        tcp = names.chain(port.port, "tcp", service.hostname)
        if port.protocol is AppProtocol.SNIFFED:
            cases[str(port.port)] = {"matcher": _by_protocol(http, tcp)}
        else:
            cases[str(port.port)] = _to_chain(tcp if port.protocol is AppProtocol.TCP else http)
    return {
        "matcher_tree": {
            "input": _input("destination-port", "DestinationPortInput"),
            "exact_match_map": {"map": cases},
        }
    }


def _by_protocol(http: str, tcp: str) -> Json:
    return {
        "matcher_tree": {
            "input": _input("application-protocol", "ApplicationProtocolInput"),
            "exact_match_map": {"map": {"'h2c'": _to_chain(http), "'http/1.1'": _to_chain(http)}},
        },
        "on_no_match": _to_chain(tcp),
    }


def _to_chain(name: str) -> Json:
    return {"action": {"name": name, "typed_config": {"@type": _NAMED, "value": name}}}


def _input(name: str, kind: str) -> Json:
    return {
        "name": name,
        "typed_config": message(f"envoy.extensions.matching.common_inputs.network.v3.{kind}"),
    }


def _http(
    name: str,
    program: WaypointProgram,
    directory: str,
    port: WaypointPort,
    service: WaypointService | None = None,
) -> Json:
    said = program.telemetry if service is None else service.telemetry
    plugins = partial(wasm.filters, program, service.hostname if service is not None else "", port.port)
    return typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        codec_type={AppProtocol.HTTP: "AUTO", AppProtocol.HTTP2: "HTTP2"}.get(port.protocol, "AUTO"),
        normalize_path=True,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        use_remote_address=False,
        stream_idle_timeout="0s",
        server_name="istio-envoy",
        forward_client_cert_details="ALWAYS_FORWARD_ONLY" if program.tells_caller else "SANITIZE",
        upgrade_configs=[{"upgrade_type": "websocket"}],
        access_log=[
            *access_logs(name, said.logs),
            # a port of HTTP/1 carries no gRPC, and a waypoint of many services has that many filters fewer to check
            *http_metrics(service, said.metrics, grpc=port.protocol is not AppProtocol.HTTP),
        ],
        rds={"route_config_name": name, "config_source": file_source(directory, routes_file(name))},
        http_filters=[
            *own_headers.filters(program),
            *[one for authorizer in program.authorizers for one in ext_authz.filters(authorizer)],
            *plugins(WasmPhase.AUTHN),
            *jwt.filters(program),
            *plugins(WasmPhase.AUTHZ),
            *[typed(rbac, _RBAC) for rbac in (names.RBAC_AUDIT, names.RBAC_DENY, names.RBAC_ALLOW)],
            typed("envoy.filters.http.grpc_stats", "filters.http.grpc_stats.v3.FilterConfig", emit_filter_state=True),
            typed("envoy.filters.http.cors", "filters.http.cors.v3.Cors"),
            *plugins(WasmPhase.STATS),
            *plugins(WasmPhase.LAST),
            _router(),
        ],
    )


def _tcp_service(name: str, service: WaypointService, port: WaypointPort, program: WaypointProgram) -> list[Json]:
    place = Place(Judge.TCP, port.port, service.vips)
    # a route whose weights are all 0 takes the connections and leads nowhere
    default = names.MISSING if port.tcp_backends else names.cluster(port.port, service.hostname)
    proxy = _tcp(name, default, service.telemetry, service, weighted(port.tcp_backends))
    return [*_tcp_rbac(program, service.hostname, place), proxy]


def _tcp_rbac(program: WaypointProgram, hostname: str, place: Place) -> Iterable[Json]:
    """Judged at the CONNECT too; here once more, because the port may have been expected to speak HTTP.

    Who is revoked is refused there in any case; here each revocation would change the filter, which cuts everybody.
    """
    policies = [one for one in applying(program.policies, hostname) if one.namespace != names.OURS]
    for action in (L7Action.DENY, L7Action.ALLOW):
        if (made := rules(policies, action, place)) is not None:
            yield typed(
                f"envoy.filters.network.rbac.{action.value.lower()}",
                "filters.network.rbac.v3.RBAC",
                stat_prefix="tcp.",
                rules=made,
            )


def _tcp(
    stat_prefix: str,
    cluster: str,
    said: Telemetry,
    service: WaypointService | None = None,
    shares: list[Json] | None = None,
) -> Json:
    destination: Json = {"weighted_clusters": {"clusters": shares}} if shares else {"cluster": cluster}
    return typed(
        "envoy.filters.network.tcp_proxy",
        "filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=stat_prefix,
        access_log=[*access_logs(stat_prefix, said.logs, tcp=True), *tcp_metrics(service, said.metrics)],
        access_log_options={"flush_access_log_on_connected": True},
        **destination,
    )


def _network_state(key: str, value: str) -> Json:
    return typed(
        f"hostmesh.again.{key}",
        "filters.network.set_filter_state.v3.Config",
        on_new_connection=[
            {
                "object_key": key,
                "format_string": {"text_format_source": {"inline_string": value}, "omit_empty_values": True},
                "skip_if_empty": True,
                "shared_with_upstream": "ONCE",
            }
        ],
    )


def _originate(directory: str) -> Json:
    expected = [
        _network_state("envoy.network.upstream_subject_alt_names", f"%DYNAMIC_METADATA({names.METADATA}:principal)%"),
        _network_state("envoy.network.upstream_server_name", f"%DYNAMIC_METADATA({names.METADATA}:server_name)%"),
    ]
    proxy = typed(
        "envoy.filters.network.tcp_proxy",
        "filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=names.CONNECT_ORIGINATE,
        cluster=names.CONNECT_ORIGINATE,
        access_log=[tunnels.report(tunnels.OPENED, directory)],
        access_log_options={"flush_access_log_on_connected": True},
        tunneling_config={"hostname": "%DOWNSTREAM_LOCAL_ADDRESS%"},
    )
    return {
        "name": names.CONNECT_ORIGINATE,
        "internal_listener": {},
        "listener_filters": [typed(names.ORIGINAL_DST, "filters.listener.original_dst.v3.OriginalDst")],
        "filter_chains": [{"filters": [*expected, proxy]}],
    }


def _router() -> Json:
    return typed("envoy.filters.http.router", "filters.http.router.v3.Router")
