"""Which document it is that Envoy does not take: the one without which it takes the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from hostmesh.model.telemetry import UNCHANGED
from hostmesh.model.wasm import WasmPlugin
from hostmesh.model.waypoint import L7Authentication, L7Policy, Route, WaypointPort, WaypointProgram

T = TypeVar("T")

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
        yield f"AuthorizationPolicy {_key(policy)}", replace(program, policies=_but(policy, program.policies))
    for tokens in program.authentications:
        rest = _but(tokens, program.authentications)
        yield f"RequestAuthentication {_key(tokens)}", replace(program, authentications=rest)
    for plugin in program.plugins:
        yield f"WasmPlugin {_key(plugin)}", replace(program, plugins=_but(plugin, program.plugins))
    for authorizer in program.authorizers:
        yield (
            f"extensionProvider {authorizer.name}",
            replace(program, authorizers=_but(authorizer, program.authorizers)),
        )
    for service in program.services:
        if service.telemetry != UNCHANGED:
            silent = tuple(replace(one, telemetry=UNCHANGED) if one is service else one for one in program.services)
            yield f"the Telemetry of {service.hostname}", replace(program, services=silent)


def _but(gone: T, parts: Iterable[T]) -> tuple[T, ...]:
    return tuple(one for one in parts if one is not gone)


def _key(one: L7Policy | L7Authentication | WasmPlugin) -> str:
    return f"{one.namespace}/{one.name}"


def _owner(route: Route) -> str:
    """Of `namespace/name.rule.match`; names may have dots themselves."""
    return route.name.rsplit(".", 2)[0]


def _without_routes(program: WaypointProgram, gone: Callable[[Route], bool]) -> WaypointProgram:
    def left(port: WaypointPort) -> WaypointPort:
        return replace(port, routes=tuple(route for route in port.routes if not gone(route)))

    services = tuple(replace(service, ports=tuple(map(left, service.ports))) for service in program.services)
    return replace(program, services=services)
