"""`python -m bench waypoint`, and part of `make bench`: what one waypoint hop adds to a request at 1,000 a second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tests.support.pki import Authority
from tests.support.waypoint import waypoint

from bench import meshes
from bench.identities import NAMESPACE, SERVER, TRUST_DOMAIN
from bench.setups import Setup, direct, hostmesh
from bench.site import APPLICATION_PORT, Site, populated, site
from hostmesh.model.address import GatewayAddress, NetworkAddress, parse_ip
from hostmesh.model.identity import Identity
from hostmesh.model.service import Service
from hostmesh.model.waypoint import (
    AppProtocol,
    L7Action,
    L7Policy,
    L7Rule,
    WaypointEndpoint,
    WaypointPort,
    WaypointProgram,
    WaypointService,
)
from hostmesh.model.workload import Protocol, Workload

RATE = 1000.0
PARALLEL = 16
WAYPOINT = Identity(TRUST_DOMAIN, NAMESPACE, "waypoint")
PORT = 15088
ADDRESS = "10.255.255.9"
VIP = "240.240.0.1"
HOSTNAME = "app.bench.svc.cluster.local"

_POLICY = L7Policy("post-only", NAMESPACE, L7Action.ALLOW, (L7Rule((), ({"methods": ("POST",)},)),))


def hop(program: Path, directory: Path, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Medians of p50, p99 (us) and of all proxies' CPU for a request (us), by way.

    Args:
        program: the load generator.
        directory: for files.
        rounds: how often each way is measured.
        seconds: of one measurement.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    for name, make in (("direct", direct), ("agents", hostmesh), ("agents and waypoint", through)):
        (directory / name).mkdir(parents=True)
        with make(program, directory / name) as setup:
            _measure(setup, seconds)
            found[name] = [_measure(setup, seconds) for _ in range(rounds)]
    return {
        name: dict(zip(("p50_us", "p99_us", "cpu_us"), map(median, zip(*taken, strict=True)), strict=True))
        for name, taken in found.items()
    }


def _measure(setup: Setup, seconds: float) -> tuple[float, float, float]:
    before = setup.cpu()
    done = setup.generator.run("http", setup.target, PARALLEL, seconds, rate=RATE)
    return done.p50, done.p99, (setup.cpu() - before) * 1e6 / done.count


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """For the eye; the hop is the difference of the last two."""
    lines = [f"{'requests at 1,000/s':22}{'p50 us':>10}{'p99 us':>10}{'CPU us':>10}"]
    rows: Sequence[tuple[str, Mapping[str, float]]] = [*found.items(), ("one waypoint hop", added(found))]
    lines += [f"{name:22}{row['p50_us']:>10.0f}{row['p99_us']:>10.0f}{row['cpu_us']:>10.0f}" for name, row in rows]
    return "\n".join(lines)


def added(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What the waypoint costs."""
    return {key: value - found["agents"][key] for key, value in found["agents and waypoint"].items()}


def results(found: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """What bench/results.json holds of it."""
    return {name: {key: round(value, 1) for key, value in row.items()} for name, row in found.items()}


@contextmanager
def through(program: Path, directory: Path) -> Iterator[Setup]:
    """Two agents, and an Envoy at an address of its own beside the application, which judges by method and counts."""
    authority = Authority()
    with site(directory) as where:
        where.server.namespace.ip(f"address add {ADDRESS}/32 dev lo")
        for reached in (ADDRESS, VIP):
            where.client.namespace.ip(f"route add {reached}/32 via {where.server.namespace.v4}")
        with (
            populated(where, program) as generator,
            meshes.pair(where, authority, [_host()], [_service()]) as pair,
            _envoy(where, authority, directory) as pid,
        ):
            processes = {**pair.processes, "waypoint": pid}
            yield Setup("waypoint", generator, f"{VIP}:{APPLICATION_PORT}", where, processes)


@contextmanager
def _envoy(where: Site, authority: Authority, directory: Path) -> Iterator[int]:
    program = _program(where.server.namespace.v4)
    with ExitStack() as stack:
        with where.server.namespace.entered():
            running = stack.enter_context(waypoint(directory, authority, program, ADDRESS, 1, WAYPOINT))
        yield running.process.pid


def _host() -> Workload:
    return Workload(
        uid=f"bench//WorkloadEntry/{NAMESPACE}/waypoint",
        name="waypoint",
        namespace=NAMESPACE,
        addresses=(parse_ip(ADDRESS),),
        network=meshes.NETWORK,
        protocol=Protocol.HBONE,
        service_account=WAYPOINT.service_account,
    )


def _service() -> Service:
    return Service(
        name="app",
        namespace=NAMESPACE,
        hostname=HOSTNAME,
        vips=(NetworkAddress(meshes.NETWORK, parse_ip(VIP)),),
        ports={APPLICATION_PORT: APPLICATION_PORT},
        waypoint=GatewayAddress(NetworkAddress(meshes.NETWORK, parse_ip(ADDRESS)), PORT),
    )


def _program(application: str) -> WaypointProgram:
    endpoint = WaypointEndpoint(application, APPLICATION_PORT, str(SERVER), "app", NAMESPACE, owner="app")
    port = WaypointPort(APPLICATION_PORT, AppProtocol.HTTP, (endpoint,))
    service = WaypointService(NAMESPACE, HOSTNAME, (VIP,), (port,), name="app")
    return WaypointProgram(
        "waypoint", NAMESPACE, TRUST_DOMAIN, str(WAYPOINT), PORT, services=(service,), policies=(_POLICY,)
    )
