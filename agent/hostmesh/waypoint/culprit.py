"""Which document it is that Envoy does not take: the one without which it takes the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from hostmesh.model.waypoint import Route, WaypointPort, WaypointProgram

MOST = 64
"""Documents that are tried, each with a run of Envoy."""


def suspects(program: WaypointProgram) -> Iterator[tuple[str, WaypointProgram]]:
    """What its author calls each document that is part of the program, and the program without it."""
    owners = dict.fromkeys(
        _owner(route) for service in program.services for port in service.ports for route in port.routes
    )
    for owner in owners:
        yield f"the route {owner}", _without_routes(program, lambda route, owner=owner: _owner(route) == owner)  # type: ignore[misc]
    for policy in program.policies:
        rest = tuple(one for one in program.policies if one is not policy)
        yield f"AuthorizationPolicy {policy.namespace}/{policy.name}", replace(program, policies=rest)
    for tokens in program.authentications:
        others = tuple(one for one in program.authentications if one is not tokens)
        yield f"RequestAuthentication {tokens.namespace}/{tokens.name}", replace(program, authentications=others)
    for authorizer in program.authorizers:
        left = tuple(one for one in program.authorizers if one is not authorizer)
        yield f"extensionProvider {authorizer.name}", replace(program, authorizers=left)


def _owner(route: Route) -> str:
    """Of `namespace/name.rule.match`; names may have dots themselves."""
    return route.name.rsplit(".", 2)[0]


def _without_routes(program: WaypointProgram, gone: Callable[[Route], bool]) -> WaypointProgram:
    def left(port: WaypointPort) -> WaypointPort:
        return replace(port, routes=tuple(route for route in port.routes if not gone(route)))

    services = tuple(replace(service, ports=tuple(map(left, service.ports))) for service in program.services)
    return replace(program, services=services)
