"""HealthKeeper: probes each workload that asks for it, in its own rhythm, and tells when a verdict changes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from hostmesh.health.judge import Standing, judge
from hostmesh.health.probe import run_probe
from hostmesh.model.health import Check, ExecProbe, HttpProbe, TcpProbe, Verdict

_log = logging.getLogger("hostmesh.health")

Probe = Callable[[TcpProbe | HttpProbe | ExecProbe, float], Awaitable[str]]


@dataclass(slots=True)
class _Watched:
    check: Check
    standing: Standing = field(default_factory=Standing)
    task: asyncio.Task[None] | None = None


class HealthKeeper:
    """Run `run`; `follow` what there is to probe.

    Args:
        on_change: called whenever a verdict is another.
        probe: makes one probe.
    """

    def __init__(self, on_change: Callable[[], None], probe: Probe = run_probe) -> None:
        self._on_change = on_change
        self._probe = probe
        self._watched: dict[str, _Watched] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def follow(self, checks: Mapping[str, Check]) -> None:
        """Probe these workloads, by `namespace/name`, and no others; what has not changed goes on undisturbed."""
        for key in [key for key, watched in self._watched.items() if checks.get(key) != watched.check]:
            self._stop(self._watched.pop(key))
        for key, check in checks.items():
            if key not in self._watched:
                self._watched[key] = _Watched(check)
                self._start(key)
        self._on_change()

    def standings(self) -> Mapping[str, Standing]:
        """Of every workload that is probed."""
        return {key: watched.standing for key, watched in self._watched.items()}

    async def run(self) -> None:
        """Probe until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            for key in self._watched:
                self._start(key)
            await asyncio.Event().wait()

    def _start(self, key: str) -> None:
        watched = self._watched[key]
        if self._tasks is not None and watched.task is None:
            watched.task = self._tasks.create_task(self._watch(key, watched), name=f"health of {key}")

    def _stop(self, watched: _Watched) -> None:
        if watched.task is not None:
            watched.task.cancel()

    async def _watch(self, key: str, watched: _Watched) -> None:
        check = watched.check
        await asyncio.sleep(check.initial_delay)
        while True:
            failure = await self._probe(check.probe, check.timeout)
            before, watched.standing = watched.standing, judge(watched.standing, failure, check)
            if watched.standing.verdict is not before.verdict:
                self._tell(key, watched.standing)
            await asyncio.sleep(check.period * random.uniform(0.95, 1.05))  # noqa: S311 -- spreads load

    def _tell(self, key: str, standing: Standing) -> None:
        if standing.verdict is Verdict.UNHEALTHY:
            _log.warning("%s is not healthy and leaves rotation: %s", key, standing.reason)
        else:
            _log.info("%s is healthy", key)
        self._on_change()
