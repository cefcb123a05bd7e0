"""Explain what a waypoint does with a connection: which it is and why, its rule, its route, its endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hostmesh.admin.steps import Step
from hostmesh.admin.world import World
from hostmesh.model.address import SocketAddress
from hostmesh.model.identity import Identity
from hostmesh.model.waypoint import (
    AppProtocol,
    Backend,
    WaypointEndpoint,
    WaypointPort,
    WaypointProgram,
    WaypointService,
)
from hostmesh.model.workload import Workload
from hostmesh.rbac.requests import Request, choose_route, decide_request
from hostmesh.telemetry.reasons import Reason

_ASK = "say which request with --method, --path and --header"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is said about the request on the connection; None: nothing."""

    method: str | None = None
    path: str | None = None
    host: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hop:
    """Where the waypoint goes on to: an endpoint, as which workload, called by whom."""

    workload: Workload
    address: SocketAddress
    identity: Identity


def program_of(world: World, hop: Workload) -> WaypointProgram | None:
    """What the waypoint on a host is told, where documents were looked at."""
    return next((one for one in world.programs if one.identity == str(hop.identity)), None)


def served_as(program: WaypointProgram, destination: SocketAddress) -> tuple[WaypointService, WaypointPort] | None:
    """The service and port that an address means; None for workloads and for what is not served."""
    for service in program.behind:
        if str(destination.ip) in service.vips:
            return next(((service, port) for port in service.ports if port.port == destination.port), None)
    return None


def waypoint_steps(
    world: World, program: WaypointProgram, caller: Workload, destination: SocketAddress, asked: Asked
) -> Iterator[Step]:
    """Everything but the endpoints' own policies."""
    key = f"{program.namespace}/{program.name}"
    found = served_as(program, destination)
    named = f"{found[0].namespace}/{found[0].name}" if found is not None else _workload_uid(world, destination)
    yield Step("waypoint", f"{key} as {program.identity}, because {world.attachments.get(named, 'documents say so')}")
    if (state := world.waypoints.get(key)) is not None:
        yield Step("waypoint", f"{key} on this host: {state.text}", "fine" if state.ready else "odd")
    addressed = any(str(destination.ip) == one.address for one in program.workloads)
    if found is None and not addressed:
        text = f"{key} serves no port {destination.port} of {destination.ip}: 404"
        yield Step("waypoint", text, "stops", Reason.PORT_UNKNOWN)
        return
    request = _request(caller, destination, asked)
    hostname = found[0].hostname if found is not None else ""
    yield _rule(program, hostname, request, world, http=found is None or found[1].protocol is not AppProtocol.TCP)
    if found is not None:
        yield _route(program, *found, request)


def endpoints(
    world: World, program: WaypointProgram, caller: Workload, destination: SocketAddress, asked: Asked
) -> Iterator[Hop]:
    """The first endpoint of each service that the route leads to."""
    identity = Identity.parse(program.identity)
    found = served_as(program, destination)
    for one in _endpoints(program, found, _request(caller, destination, asked), destination):
        known = (workload for workload in world.state.workloads() if workload.namespace == one.namespace)
        workload = next((workload for workload in known if workload.name == one.workload), None)
        if workload is not None:
            yield Hop(workload, SocketAddress.parse(one.authority), identity)


def _endpoints(
    program: WaypointProgram,
    found: tuple[WaypointService, WaypointPort] | None,
    request: Request,
    destination: SocketAddress,
) -> Iterator[WaypointEndpoint]:
    if found is None:
        for one in program.workloads:
            if one.address == str(destination.ip):
                yield WaypointEndpoint(one.address, destination.port, one.identity, one.workload, one.namespace)
        return
    port = found[1]
    backends = _backends(port, request)
    if backends is None:
        yield from port.endpoints[:1]
        return
    for backend in backends:
        yield from _of_backend(program, backend)[:1]


def _of_backend(program: WaypointProgram, backend: Backend) -> Sequence[WaypointEndpoint]:
    ports = (port for service in program.services if service.hostname == backend.hostname for port in service.ports)
    return next((port.endpoints for port in ports if port.port == backend.port), ())


def _backends(port: WaypointPort, request: Request) -> tuple[Backend, ...] | None:
    """None: the service itself."""
    if port.tcp_backends:
        return port.tcp_backends
    if not port.routes:
        return None
    route, _ = choose_route(port.routes, request)
    return tuple(one for one in route.backends if one.weight) if route is not None else ()


def _request(caller: Workload, destination: SocketAddress, asked: Asked) -> Request:
    return Request(
        principal=str(caller.identity),
        namespace=caller.namespace,
        service_account=caller.service_account,
        address=str(next(iter(caller.addresses), "")),
        port=destination.port,
        destination=str(destination.ip),
        method=asked.method,
        path=asked.path,
        host=asked.host,
        headers={name.lower(): value for name, value in asked.headers.items()},
    )


def _rule(program: WaypointProgram, hostname: str, request: Request, world: World, *, http: bool) -> Step:
    applying = [one for one in program.policies if not one.hostnames or hostname in one.hostnames]
    verdict = decide_request(applying, request)
    where = world.sources.get(verdict.policy, "")
    text = f"{verdict.reason}{f' ({where})' if where else ''}"
    if verdict.allowed:
        return Step("L7 rule", f"allowed: {text}")
    if verdict.allowed is None:
        return Step("L7 rule", f"open: {text}; {_ASK}" if http else f"open: {text}")
    reason = Reason.POLICY_DENIED if verdict.reason.startswith("DENY") else Reason.POLICY_NOT_ALLOWED
    return Step("L7 rule", f"refused with 403: {text}", "stops", reason)


def _route(program: WaypointProgram, service: WaypointService, port: WaypointPort, request: Request) -> Step:
    backends, name = _backends(port, request), "its own endpoints"
    if port.routes:
        route, certain = choose_route(port.routes, request)
        if route is None:
            return Step(
                "L7 route",
                f"no route of {service.hostname}:{port.port} takes the request: 404",
                "stops",
                Reason.NO_ROUTE,
            )
        if not certain:
            return Step("L7 route", f"{route.name} or a later one; {_ASK}")
        if route.redirect is not None:
            return Step("L7 route", f"{route.name} answers with the redirection {route.redirect.status}")
        name = route.name
    if backends is None:
        where, count = f"{service.hostname}:{port.port}", len(port.endpoints)
    else:
        where = ", ".join(f"{one.hostname or 'a missing backend'}:{one.port} (weight {one.weight})" for one in backends)
        count = sum(len(_of_backend(program, one)) for one in backends)
    text = f"{name}: {where or 'no backend'}, {count} endpoint{'' if count == 1 else 's'}"
    return Step("L7 route", text) if count else Step("L7 route", text, "stops", Reason.NO_ENDPOINT)


def _workload_uid(world: World, destination: SocketAddress) -> str:
    return next((one.uid for one in world.state.workloads() if destination.ip in one.addresses), "")
