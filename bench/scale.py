"""`make bench-scale`: what a large mesh costs a worker, and whether the traffic notices when it is told of it."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median
from typing import TypeVar

from bench.generator import Generator, Outcome, build
from bench.meshes import NETWORK, Agent, pair, write_messages
from bench.processes import cpu_seconds, resident_mb
from bench.site import populated, site
from hostmesh.daemon.mesh import Mesh, messages
from hostmesh.model.address import NamespacedHostname, NetworkAddress, SocketAddress
from hostmesh.model.service import Service
from hostmesh.model.workload import Protocol, Workload
from hostmesh.proxy.route import route
from hostmesh.state.store import MeshState
from hostmesh.xds.codec import encode_service, encode_workload
from hostmesh.xds.held import XdsUpdate

QUIET_SECONDS = 3.0
CHANGES = 20
LOOKUPS = 5000
SERVICE_PORT, TARGET_PORT = 80, 8080

_FIRST_WORKLOAD = int(IPv4Address("10.128.0.1"))
_FIRST_VIP = int(IPv4Address("240.240.0.1"))
_NAMESPACES = 100

_Where = TypeVar("_Where")


def scale(workloads: int, services: int) -> None:
    """Print the costs.

    Args:
        workloads: in the mesh, each an endpoint of one service.
        services: each with a VIP of its own.
    """
    print(f"{workloads:,} workloads, {services:,} services")
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        whole = write_messages(folder / "whole", messages(mesh(workloads, services, capacity=1)))
        changed = write_messages(folder / "changed", messages(mesh(workloads, services, capacity=2)))
        print(f"update on the wire      {whole.stat().st_size / 1e6:.1f} MB")
        with site(folder) as where, populated(where, build()) as generator, pair(where) as agents:
            _measure_agent(generator, where.application, agents.client, folder, whole, changed)
    _measure_lookups(workloads, services)


def mesh(workloads: int, services: int, capacity: int) -> XdsUpdate:
    """A made-up mesh; another capacity makes every workload a changed one."""
    endpoints = {one.uid: encode_workload(one).SerializeToString() for one in _workloads(workloads, services, capacity)}
    addresses = {one.key: encode_service(one).SerializeToString() for one in _services(services)}
    return XdsUpdate({**addresses, **endpoints})


def made_up(workloads: int, services: int) -> tuple[list[Workload], list[Service]]:
    """The same mesh as model values."""
    return list(_workloads(workloads, services, capacity=1)), list(_services(services))


def service_key(number: int, services: int) -> str:
    """Of the service that a workload belongs to."""
    return str(_service_name(number % services))


def _workloads(count: int, services: int, capacity: int) -> Iterator[Workload]:
    for number in range(count):
        service = _service_name(number % services)
        yield Workload(
            uid=f"scale//WorkloadEntry/{service.namespace}/w{number}",
            name=f"w{number}",
            namespace=service.namespace,
            addresses=(IPv4Address(_FIRST_WORKLOAD + number),),
            network=NETWORK,
            protocol=Protocol.HBONE,
            service_account=f"account-{number % services}",
            canonical_name=f"w{number}",
            services={service: {SERVICE_PORT: TARGET_PORT}},
            capacity=capacity,
        )


def _services(count: int) -> Iterator[Service]:
    for number in range(count):
        name = _service_name(number)
        vip = NetworkAddress(NETWORK, IPv4Address(_FIRST_VIP + number))
        yield Service(f"s{number}", name.namespace, name.hostname, (vip,), ports={SERVICE_PORT: TARGET_PORT})


def _service_name(number: int) -> NamespacedHostname:
    namespace = f"ns{number % _NAMESPACES}"
    return NamespacedHostname(namespace, f"s{number}.{namespace}.mesh.internal")


def _measure_agent(generator: Generator, target: str, agent: Agent, folder: Path, whole: Path, changed: Path) -> None:
    [worker] = agent.workers
    generator.run("ping", target, seconds=0.5)
    empty_mb, empty_ping = resident_mb(worker), generator.run("ping", target, seconds=QUIET_SECONDS)
    wall, cpu = _timed(lambda: agent.apply(whole), worker)
    print(
        f"worker's memory         {resident_mb(worker):.0f} MB, {resident_mb(worker) - empty_mb:.0f} MB of it the mesh"
    )
    print(f"to apply all of it      {wall:.1f} s, {cpu:.1f} s of the worker's CPU")
    full_ping = generator.run("ping", target, seconds=QUIET_SECONDS)
    print(f"to apply one change     {_one_change(agent, folder) * 1e3:.1f} ms, main to worker and back")
    generator.start("ping", target, seconds=max(QUIET_SECONDS, wall))
    again, _ = _timed(lambda: agent.apply(changed), worker)
    busy_ping = generator.outcome()
    print(f"to change all of it     {again:.1f} s, with pings beside it; memory then {resident_mb(worker):.0f} MB")
    for when, ping in (("empty mesh", empty_ping), ("full mesh", full_ping), ("while it changes", busy_ping)):
        print(_described(when, ping))
    ratio = busy_ping.p99 / full_ping.p99
    print(f"p99 while it changes is {ratio:.2f} of the quiet one; a stall is one ping only: look at the longest")


def _described(when: str, ping: Outcome) -> str:
    return f"ping, {when:18}p50 {ping.p50:.0f} us, p99 {ping.p99:.0f} us, longest {ping.longest / 1e3:.1f} ms"


def _one_change(agent: Agent, folder: Path) -> float:
    """Median seconds for one changed workload."""
    [one] = _workloads(1, 1, capacity=1)
    taken = []
    for number in range(CHANGES):
        encoded = encode_workload(replace(one, capacity=3 + number)).SerializeToString()
        path = write_messages(folder / "one", messages(XdsUpdate({one.uid: encoded})))
        began = time.perf_counter()
        agent.apply(path)
        taken.append(time.perf_counter() - began)
    return median(taken)


def _timed(run: Callable[[], None], pid: int) -> tuple[float, float]:
    began, cpu = time.perf_counter(), cpu_seconds([pid])
    run()
    return time.perf_counter() - began, cpu_seconds([pid]) - cpu


def _measure_lookups(workloads: int, services: int) -> None:
    """In this process: the functions that every worker calls, at places drawn by chance."""
    known = Mesh("bench")
    began = time.perf_counter()
    known.apply(mesh(workloads, services, capacity=1))
    print(f"in process, made and applied in {time.perf_counter() - began:.1f} s")
    state = known.state
    source = next(_workloads(1, services, capacity=1))
    seed = time.time_ns()
    chance = random.Random(seed)  # noqa: S311  no secret
    addresses = [IPv4Address(_FIRST_WORKLOAD + chance.randrange(workloads)) for _ in range(LOOKUPS)]
    vips = [IPv4Address(_FIRST_VIP + chance.randrange(services)) for _ in range(LOOKUPS)]
    at = [NetworkAddress(NETWORK, ip) for ip in addresses]
    print(f"look-up by address      {_each(state.workloads_at, at):.1f} us (seed {seed})")
    print(f"look-up by VIP          {_each(state.service_at, [NetworkAddress(NETWORK, ip) for ip in vips]):.1f} us")
    print(f"route to a workload     {_each(_router(state, source), _at_port(addresses, TARGET_PORT)):.1f} us")
    print(f"route to a service      {_each(_router(state, source), _at_port(vips, SERVICE_PORT)):.1f} us, cold")
    print(f"                        {_each(_router(state, source), _at_port(vips, SERVICE_PORT)):.1f} us, warm")


def _router(state: MeshState, source: Workload) -> Callable[[SocketAddress], object]:
    return lambda destination: route(state, source, destination, network=NETWORK, rng=random.random)


def _at_port(addresses: Sequence[IPv4Address], port: int) -> list[SocketAddress]:
    return [SocketAddress(ip, port) for ip in addresses]


def _each(look_up: Callable[[_Where], object], places: Sequence[_Where]) -> float:
    """Microseconds of one call."""
    began = time.perf_counter()
    for place in places:
        look_up(place)
    return (time.perf_counter() - began) / len(places) * 1e6
