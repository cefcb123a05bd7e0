"""`make bench-control`: what the control plane's discovery takes, with as many agents as a fleet has.

Agents are light (bench.xds_peer) but every byte of theirs is real: gRPC, HTTP/2, TLS with client certificates, over
loopback. A change counts from its publication to the moment an agent has the response; agents that follow only what
they use count if they use it. All processes share the machine's cores, so figures compare with others of that kind.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import IO, Any

from bench.generator import BenchFailed
from bench.processes import cpu_seconds, resident_mb
from bench.scale import service_key

SWARMS = 2
WANTED_SERVICES = 20
CONCURRENCY = 16
PACE = 0.15
"""Seconds between changes, longer than the quiet time that makes a change a single one."""
FILE = Path(__file__).parent / "control.json"
_DESCRIPTORS = 8192


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    agents: int
    workloads: int
    services: int
    changes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One mode's figures; times in seconds."""

    cold_sync: float
    cold_cpu: float
    resources: int
    change_p50: float
    change_p99: float
    change_cpu: float
    built: float
    rss_mb: float


def control(size: Size) -> None:
    """Measure both modes, print a table, write `bench/control.json`."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if most < 0 else min(_DESCRIPTORS, most), most))
    wildcard = _measure(size, [()] * size.agents)
    chosen = random.Random(1)  # noqa: S311  # the same choice every time
    on_demand = _measure(size, [_wants(size, chosen) for _ in range(size.agents)])
    for name, found in (("wildcard", wildcard), ("on demand", on_demand)):
        print(
            f"{name:10} cold sync {found.cold_sync:6.2f} s ({found.resources:,} resources, {found.cold_cpu:.1f} s CPU)"
            f"  change p50 {found.change_p50 * 1e3:5.1f} ms, p99 {found.change_p99 * 1e3:5.1f} ms"
            f" ({found.change_cpu * 1e3:.1f} s CPU for 1,000; {found.built * 1e3:.0f} ms to make the snapshot)"
            f"  {found.rss_mb:.0f} MB"
        )
    FILE.write_text(json.dumps(_figures(size, wildcard, on_demand), indent=2) + "\n")


def _figures(size: Size, wildcard: Measured, on_demand: Measured) -> dict[str, float]:
    return {
        "agents": size.agents,
        "workloads": size.workloads,
        "services": size.services,
        "cold_sync_s": round(wildcard.cold_sync, 2),
        "cold_sync_on_demand_s": round(on_demand.cold_sync, 2),
        "change_p50_s": round(wildcard.change_p50, 4),
        "change_p99_s": round(wildcard.change_p99, 4),
        "change_on_demand_p99_s": round(on_demand.change_p99, 4),
        "cpu_s_per_1000_changes": round(wildcard.change_cpu * 1000, 1),
        "rss_mb": round(max(wildcard.rss_mb, on_demand.rss_mb)),
    }


def _wants(size: Size, chosen: random.Random) -> tuple[str, ...]:
    numbers = chosen.sample(range(size.services), min(WANTED_SERVICES, size.services))
    return tuple(service_key(number, size.services) for number in numbers)


def _measure(size: Size, agents: Sequence[tuple[str, ...]]) -> Measured:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        server = stack.enter_context(_child("bench.xds_server", directory, size.workloads, size.services))
        where = server.hear()
        swarms = [stack.enter_context(_child("bench.xds_swarm")) for _ in range(SWARMS)]
        cpu = server.cpu()
        for number, swarm in enumerate(swarms):
            swarm.tell({**where, "agents": agents[number::SWARMS], "concurrency": CONCURRENCY})
        cold = [swarm.hear() for swarm in swarms]
        cold_cpu = server.cpu() - cpu
        delays, built, change_cpu = _changes(size, agents, server, swarms)
        cuts = quantiles(delays, n=100)
        return Measured(
            cold_sync=max(one["synced"] for one in cold) - min(one["began"] for one in cold),
            cold_cpu=cold_cpu,
            resources=sum(one["resources"] for one in cold),
            change_p50=cuts[49],
            change_p99=cuts[98],
            change_cpu=change_cpu / size.changes,
            built=built,
            rss_mb=server.rss_mb(),
        )


def _changes(
    size: Size, agents: Sequence[tuple[str, ...]], server: _Child, swarms: Sequence[_Child]
) -> tuple[list[float], float, float]:
    cpu, delays, built = server.cpu(), [], []
    chosen = random.Random(2)  # noqa: S311
    for _ in range(size.changes):
        time.sleep(PACE)
        number = chosen.randrange(size.workloads)
        service = service_key(number, size.services)
        interested = [sum(not a or service in a for a in agents[offset::SWARMS]) for offset in range(SWARMS)]
        server.tell({"change": number})
        change = server.hear()
        for swarm, count in zip(swarms, interested, strict=True):
            swarm.tell({"mark": change["mark"], "agents": count})
        for swarm in swarms:
            delays += [moment - change["published"] for moment in swarm.hear()["heard"]]
        built.append(change["built_s"])
    return delays, sorted(built)[len(built) // 2], server.cpu() - cpu


class _Child:
    """A process that speaks JSON lines."""

    def __init__(self, process: subprocess.Popen[str], to: IO[str], of: IO[str]) -> None:
        self._process, self._to, self._of = process, to, of

    def tell(self, order: dict[str, Any]) -> None:
        self._to.write(json.dumps(order) + "\n")
        self._to.flush()

    def hear(self) -> dict[str, Any]:
        line = self._of.readline()
        if not line:
            raise BenchFailed("a process of the benchmark ended early; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def cpu(self) -> float:
        return cpu_seconds([self._process.pid])

    def rss_mb(self) -> float:
        return resident_mb(self._process.pid)


@contextmanager
def _child(module: str, *arguments: object) -> Iterator[_Child]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield _Child(process, process.stdin, process.stdout)
        finally:
            process.kill()
