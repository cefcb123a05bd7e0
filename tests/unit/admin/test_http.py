"""The agent's HTTP doors, asked over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from hostmesh.admin import web_page
from hostmesh.admin.http import admin_app, readiness_app, stats_app
from hostmesh.admin.server import PortInUse, serving
from hostmesh.telemetry.logs import join_levels


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

    def change_log_level(self, level: str, *, reset: bool) -> None:
        self.level = join_levels("info" if reset else self.level, level)

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


def test_readiness_can_be_asked_for_its_status_alone() -> None:
    """HEAD, as load balancers do; nothing else asks."""
    agent = Agent()
    agent.waiting = ["certificates"]
    assert ask(readiness_app(agent), ("HEAD", "/healthz/ready"))[0][0] == 500
    agent.waiting = []
    assert ask(readiness_app(agent), ("HEAD", "/healthz/ready"))[0][0] == 200
    assert ask(readiness_app(agent), ("POST", "/healthz/ready"))[0][0] == 405


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/", 200, "/config_dump"),
        ("GET", "/config_dump", 200, '"workloadState"'),
        ("GET", "/status", 200, '"ready": true'),
        ("POST", "/logging", 200, "current log level is info"),
        ("POST", "/logging?level=debug", 200, "current log level is debug"),
        ("POST", "/logging?level=access=debug,warn", 200, "current log level is access=debug,warn"),
        ("POST", "/logging?level=loud", 400, "Invalid level provided: loud"),
        ("POST", "/logging?level=access", 400, "levels: off, error, warn, info, debug, trace"),
        ("GET", "/logging", 405, "usage: POST /logging"),
        ("GET", "/quitquitquit", 405, ""),
        ("GET", "/nothing", 404, ""),
    ],
)
def test_admin(method: str, path: str, status: int, text: str) -> None:
    """What each path answers."""
    [(seen, body)] = ask(admin_app(Agent()), (method, path))
    assert seen == status
    assert text in body


def test_a_dump_is_sorted_and_laid_out() -> None:
    """So that two of them can be compared line by line."""
    [(_, body)] = ask(admin_app(Agent()), ("POST", "/config_dump"))
    found = json.loads(body)
    assert list(found) == sorted(found)
    assert body == json.dumps(found, indent=2)


def test_levels_add_up_until_they_are_reset() -> None:
    """The configured filter is the one to go back to."""
    app = admin_app(Agent())
    changes = ("level=access=off", "level=rbac=debug", "level=debug", "reset", "reset=1&level=access=off")
    answers = ask(app, *(("POST", f"/logging?{change}") for change in changes))
    assert [text.removeprefix("current log level is ").strip() for _, text in answers] == [
        "access=off,info",
        "access=off,rbac=debug,info",
        "access=off,rbac=debug,debug",
        "info",
        "access=off,info",
    ]


def test_numbers_are_compressed_for_those_who_take_it() -> None:
    """Gzip as every scraper asks for it; the client here undoes it."""

    async def run() -> tuple[str, str]:
        async with serving(stats_app(Agent()), ["127.0.0.1"], 0, "test") as port, aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}/metrics"
            async with session.get(url, headers={"Accept-Encoding": "gzip"}) as response:
                return response.headers["Content-Encoding"], await response.text()

    assert asyncio.run(run()) == ("gzip", "up 1\n")


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


@pytest.mark.parametrize(
    ("accept", "said"),
    [
        (
            "application/openmetrics-text; version=1.0.0, text/plain; q=0.5",
            "application/openmetrics-text;charset=utf-8;version=1.0.0",
        ),
        ("text/plain; version=0.0.4", "text/plain; charset=utf-8"),
        ("application/openmetrics-text-of-another-kind", "text/plain; charset=utf-8"),
    ],
)
def test_the_format_is_said(accept: str, said: str) -> None:
    """As ztunnel says it."""

    async def run() -> str:
        async with (
            serving(stats_app(Agent()), ["127.0.0.1"], 0, "test") as port,
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept}) as response,
        ):
            return response.headers["Content-Type"]

    assert asyncio.run(run()) == said


def test_a_door_answers_what_it_is_for() -> None:
    """Readiness is only read, numbers come whatever the method, and nothing else is there."""
    questions = ("POST", "/healthz/ready"), ("GET", "/healthz"), ("GET", "/metrics")
    assert ask(readiness_app(Agent()), *questions) == [(405, ""), (404, ""), (404, "")]
    assert ask(stats_app(Agent()), ("POST", "/metrics"), ("GET", "/config_dump")) == [(200, "up 1\n"), (404, "")]


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


def test_a_browser_gets_a_page_and_curl_gets_text() -> None:
    """On the same address; the page may load nothing from elsewhere, and nobody may frame it."""
    ((status, text),) = ask(admin_app(Agent()), ("GET", "/"), headers={"Accept": "text/html,*/*;q=0.8"})
    assert status == 200
    assert text.startswith("<!doctype html>")
    ((_, text),) = ask(admin_app(Agent()), ("GET", "/"))
    assert text.startswith("hostmesh agent")
    assert "default-src 'none'" in web_page.HEADERS["Content-Security-Policy"]
    styles, script = ask(admin_app(Agent()), ("GET", "/page.css"), ("GET", "/page.js"))
    assert styles[0] == script[0] == 200
    assert "http://" not in script[1]
    assert "innerHTML" not in script[1]


def test_other_pages_cannot_make_a_browser_ask() -> None:
    """A name of theirs that leads to loopback is not ours (DNS rebinding)."""
    ((status, text),) = ask(admin_app(Agent()), ("GET", "/config_dump"), headers={"Host": "evil.example:15000"})
    assert (status, "answers to" in text) == (421, True)
    ((status, _),) = ask(admin_app(Agent()), ("POST", "/quitquitquit"), headers={"Host": "evil.example:15000"})
    assert status == 421
    for host in ("localhost:15000", "127.0.0.1:15000", "[::1]:15000"):
        ((status, _),) = ask(admin_app(Agent()), ("GET", "/status"), headers={"Host": host})
        assert status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:3000", "null", ""])
def test_other_pages_cannot_send_a_form(origin: str) -> None:
    """A browser lets any page post to loopback, and only says whose page it is."""
    agent, host = Agent(), "localhost:15000"
    ((status, text),) = ask(admin_app(agent), ("POST", "/quitquitquit"), headers={"Host": host, "Origin": origin})
    assert (status, "takes nothing from pages" in text, agent.stopped) == (403, True, False)
    ((status, _),) = ask(
        admin_app(agent), ("POST", "/quitquitquit"), headers={"Host": host, "Origin": f"http://{host}"}
    )
    assert (status, agent.stopped) == (200, True)
