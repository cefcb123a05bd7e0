"""The agent's HTTP doors, asked over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from hostmesh.admin.http import PortInUse, admin_app, readiness_app, serving, stats_app


class Agent:
    """An agent whose answers are known."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.level = "info"
        self.stopped = False

    def pending(self) -> list[str]:
        return self.waiting

    def config_dump(self) -> dict[str, Any]:
        return {"workloads": [], "version": {"version": "1"}}

    async def connections(self) -> dict[str, Any]:
        return {"default/web-api": {"state": "Up"}}

    async def metrics(self, openmetrics: bool) -> str:
        return "# EOF\n" if openmetrics else "up 1\n"

    async def status(self) -> dict[str, Any]:
        return {"ready": not self.waiting}

    def log_level(self) -> str:
        return self.level

    def set_log_level(self, level: str) -> None:
        if level not in ("info", "debug"):
            raise ValueError(level)
        self.level = level

    def shut_down(self) -> None:
        self.stopped = True


def ask(app: Any, *requests: tuple[str, str], headers: dict[str, str] | None = None) -> list[tuple[int, str]]:
    async def run() -> list[tuple[int, str]]:
        answers = []
        async with serving(app, ["127.0.0.1"], 0, "test") as port, aiohttp.ClientSession(headers=headers) as session:
            for method, path in requests:
                async with session.request(method, f"http://127.0.0.1:{port}{path}") as response:
                    answers.append((response.status, await response.text()))
        return answers

    return asyncio.run(run())


def test_readiness_names_what_is_pending() -> None:
    """500 with sorted names until ready, then 200."""
    agent = Agent()
    agent.waiting = ["certificates", "state manager"]
    assert ask(readiness_app(agent), ("GET", "/healthz/ready")) == [
        (500, "not ready, pending: certificates, state manager\n")
    ]
    agent.waiting = []
    assert ask(readiness_app(agent), ("GET", "/healthz/ready")) == [(200, "ready\n")]


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/", 200, "/config_dump"),
        ("GET", "/config_dump", 200, '"workloadState"'),
        ("GET", "/status", 200, '"ready": true'),
        ("POST", "/logging", 200, "current log level is info"),
        ("POST", "/logging?level=debug", 200, "current log level is debug"),
        ("POST", "/logging?level=loud", 400, "Invalid level provided: loud"),
        ("GET", "/logging", 405, ""),
        ("GET", "/quitquitquit", 405, ""),
        ("GET", "/nothing", 404, ""),
    ],
)
def test_admin(method: str, path: str, status: int, text: str) -> None:
    """What each path answers."""
    [(seen, body)] = ask(admin_app(Agent()), (method, path))
    assert seen == status
    assert text in body


def test_quitquitquit_begins_a_graceful_stop() -> None:
    """It answers at once."""
    agent = Agent()
    assert ask(admin_app(agent), ("POST", "/quitquitquit")) == [(200, "shutdown now\n")]
    assert agent.stopped


def test_the_scraper_chooses_the_format() -> None:
    """OpenMetrics where it is accepted, Prometheus text elsewhere."""
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    assert ask(stats_app(Agent()), ("GET", "/metrics"), headers=accept) == [(200, "# EOF\n")]
    assert ask(stats_app(Agent()), ("GET", "/stats/prometheus")) == [(200, "up 1\n")]


def test_a_taken_port_is_named_with_the_next_step() -> None:
    """Who has it, and how to find out."""

    async def run() -> None:
        async with (
            serving(stats_app(Agent()), ["127.0.0.1"], 0, "stats") as port,
            serving(stats_app(Agent()), ["127.0.0.1"], port, "stats"),
        ):
            pass

    with pytest.raises(PortInUse, match=r"stats cannot listen on port \d+: .* ss -ltnp"):
        asyncio.run(run())
