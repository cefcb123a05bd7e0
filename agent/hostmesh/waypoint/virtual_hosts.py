"""Route configurations of a waypoint's Envoy: who may CONNECT where, and where requests inside go.

Each is a file of its own. Policies stand in them, per virtual host: a changed one holds at once for open tunnels,
while a changed filter would wait until their listener has drained.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hostmesh.model.waypoint import AppProtocol, L7Action, L7Policy, WaypointPort, WaypointProgram, WaypointService
from hostmesh.waypoint import ext_authz, names
from hostmesh.waypoint.jwt import requirement
from hostmesh.waypoint.metrics import source_state
from hostmesh.waypoint.rbac import PEER_SERIAL, Judge, Place, applying, rules
from hostmesh.waypoint.routes import http_routes
from hostmesh.waypoint.shape import Json, per_filter

_RBAC = "filters.http.rbac.v3.RBACPerRoute"
_STATE = "filters.http.set_filter_state.v3.Config"
_NOT_FOUND = {"name": "not-served-here", "match": {"connect_matcher": {}}, "direct_response": {"status": 404}}
HTTP = (AppProtocol.HTTP, AppProtocol.HTTP2, AppProtocol.SNIFFED)


def connect_routes(program: WaypointProgram) -> Json:
    """The outer configuration: one virtual host per port of a service, one for the workloads, and 404 for the rest."""
    hosts = [_service_host(service, port, program.policies) for service in program.behind for port in service.ports]
    hosts.append({"name": "workloads", "domains": ["*"], "routes": [*_workload_routes(program), _NOT_FOUND]})
    return {"name": names.CONNECT_TERMINATE, "virtual_hosts": hosts}


def inner_routes(program: WaypointProgram) -> list[Json]:
    """The configurations of the chains that speak HTTP."""
    made = [
        _inner(service, port, program) for service in program.behind for port in service.ports if port.protocol in HTTP
    ]
    for one in program.workloads:
        name = names.direct("http", one.address)
        place = Place(Judge.HTTP, 0, (one.address,))
        everything = {"match": {"prefix": "/"}, "route": {"cluster": names.encap(one.address), "timeout": "0s"}}
        made.append(_configuration(name, [everything], _http_policies(applying(program.policies, ""), place, program)))
    return made


def _service_host(service: WaypointService, port: WaypointPort, policies: Iterable[L7Policy]) -> Json:
    judge = Judge.CONNECT_TCP if port.protocol is AppProtocol.TCP else Judge.CONNECT_HTTP
    place = Place(judge, port.port, service.vips)
    return {
        "name": names.chain(port.port, "connect", service.hostname),
        "domains": [names.host_port(host, port.port) for host in (*service.vips, service.hostname)],
        "routes": [_tunnel()],
        "typed_per_filter_config": {
            # the chain inside is found by address, whatever name the client connects by
            names.CONNECT_AUTHORITY: per_filter(
                _STATE, on_request_headers=on_connect(names.host_port(service.vips[0], port.port))
            ),
            **_l4_policies(applying(policies, service.hostname), place),
        },
    }


def _workload_routes(program: WaypointProgram) -> list[Json]:
    routes = []
    for one in program.workloads:
        host = f"[{one.address}]" if ":" in one.address else one.address
        place = Place(Judge.CONNECT_HTTP, 0, (one.address,))
        route: Json = _tunnel()
        route["match"]["headers"] = [
            {"name": ":authority", "string_match": {"safe_regex": {"regex": f"{re.escape(host)}:[0-9]+"}}}
        ]
        route["typed_per_filter_config"] = _l4_policies(applying(program.policies, ""), place)
        routes.append(route)
    return routes


def _tunnel() -> Json:
    return {
        "match": {"connect_matcher": {}},
        "route": {
            "cluster": names.MAIN_INTERNAL,
            "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
        },
    }


def on_connect(local: str) -> list[Json]:
    """Filter state for the connection inside: its addresses, who opened the tunnel, and what its baggage says.

    All but the addresses are hashed objects: connections inside are then never reused for another caller.
    """
    values = (
        (names.LOCAL_IP, "", local),
        (names.REMOTE_IP, "", "%DOWNSTREAM_REMOTE_ADDRESS%"),
        ("io.istio.peer_principal", "envoy.hashable_string", "%DOWNSTREAM_PEER_URI_SAN%"),
        ("hostmesh.peer_address", "envoy.network.ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
        (PEER_SERIAL, "envoy.hashable_string", "%DOWNSTREAM_PEER_SERIAL%"),
        *source_state(),
    )
    return [
        {
            "object_key": key,
            **({"factory_key": factory} if factory else {}),
            "format_string": {"text_format_source": {"inline_string": value}},
            "shared_with_upstream": "ONCE",
        }
        for key, factory, value in values
    ]


def _l4_policies(policies: list[L7Policy], place: Place) -> Json:
    return _per_route(policies, place, {names.L4_DENY: L7Action.DENY, names.L4_ALLOW: L7Action.ALLOW})


def _http_policies(policies: list[L7Policy], place: Place, program: WaypointProgram) -> Json:
    actions = {
        names.RBAC_AUDIT: L7Action.AUDIT,
        names.RBAC_DENY: L7Action.DENY,
        names.RBAC_ALLOW: L7Action.ALLOW,
    }
    made = _per_route(policies, place, actions)
    for one in program.authorizers:
        asked = [policy for policy in policies if policy.provider == one.name]
        shadow = rules(asked, L7Action.CUSTOM, place)
        rbac: Json = (
            {"shadow_rules": shadow, "shadow_rules_stat_prefix": ext_authz.shadow_prefix(one.name)} if shadow else {}
        )
        made[names.custom(one.name, "rbac")] = per_filter(_RBAC, rbac=rbac)
    return made


def _per_route(policies: list[L7Policy], place: Place, actions: dict[str, L7Action]) -> Json:
    made: Json = {}
    for name, action in actions.items():
        rbac: Json = {}
        if (enforced := rules(policies, action, place)) is not None:
            rbac["rules"] = enforced
        if (reported := rules(policies, action, place, dry_run=True)) is not None:
            rbac["shadow_rules"] = reported
            rbac["shadow_rules_stat_prefix"] = f"istio_dry_run_{action.value.lower()}_"
        if rbac:
            made[name] = per_filter(_RBAC, rbac=rbac)
    return made


def _inner(service: WaypointService, port: WaypointPort, program: WaypointProgram) -> Json:
    place = Place(Judge.HTTP, port.port, service.vips)
    policies = _http_policies(applying(program.policies, service.hostname), place, program)
    policies |= requirement(program, service.hostname)
    name = names.chain(port.port, "http", service.hostname)
    return _configuration(name, http_routes(service.hostname, port), policies)


def _configuration(name: str, routes: list[Json], per_filter_config: Json) -> Json:
    host: Json = {"name": name, "domains": ["*"], "routes": routes}
    if per_filter_config:
        host["typed_per_filter_config"] = per_filter_config
    return {"name": name, "virtual_hosts": [host], "validate_clusters": False}
