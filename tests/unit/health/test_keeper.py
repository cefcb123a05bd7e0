"""The keeper of checks: each in its rhythm, told when a verdict changes."""

from __future__ import annotations

import asyncio

from tests.support.patience import PATIENCE

from hostmesh.health.keeper import HealthKeeper
from hostmesh.model.health import Check, ExecProbe, HttpProbe, TcpProbe, Verdict


class Network:
    """Ports that accept; `told` counts changes."""

    def __init__(self) -> None:
        self.up: set[int] = {1, 2}
        self.probed: list[int] = []
        self.changed = asyncio.Event()

    async def probe(self, probe: TcpProbe | HttpProbe | ExecProbe, timeout: float) -> str:  # noqa: ASYNC109, ARG002
        assert isinstance(probe, TcpProbe)
        self.probed.append(probe.port)
        return "" if probe.port in self.up else "refused"


def check(port: int) -> Check:
    return Check(TcpProbe(port), period=0.01, failure_threshold=2)


def test_verdicts_follow_the_workloads() -> None:
    """One that fails leaves, comes back, and one that is no longer registered is forgotten."""

    async def main() -> None:
        network = Network()
        keeper = HealthKeeper(network.changed.set, network.probe)
        keeper.follow({"ns/a": check(1), "ns/b": check(2)})

        async def until(**expected: Verdict) -> None:
            while {key: one.verdict for key, one in keeper.standings().items()} != {
                f"ns/{name}": verdict for name, verdict in expected.items()
            }:
                network.changed.clear()
                await network.changed.wait()

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(keeper.run())
            await until(a=Verdict.HEALTHY, b=Verdict.HEALTHY)
            network.up.discard(1)
            await until(a=Verdict.UNHEALTHY, b=Verdict.HEALTHY)
            assert keeper.standings()["ns/a"].reason == "refused"
            keeper.follow({"ns/a": check(1)})
            network.up.add(1)
            await until(a=Verdict.HEALTHY)
            keeper.follow({"ns/a": check(3)})
            assert keeper.standings()["ns/a"].verdict is Verdict.UNKNOWN
            await until(a=Verdict.UNHEALTHY)
            running.cancel()

    asyncio.run(main())
