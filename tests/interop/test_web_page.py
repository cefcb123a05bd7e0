"""The agent's web page in a real browser: what it shows, and that names in the mesh stay text."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hostmesh.admin.http import admin_app
from hostmesh.admin.server import serving

pytestmark = pytest.mark.interop

RULES = [[[{"principals": [{"Exact": "td/ns/prod/sa/sleep"}]}], [{"ports": [80]}]]]
HOSTILE = "<img src=x onerror=document.title='owned'>"
METRICS = """\
# HELP istio_tcp_connections_opened_total x
istio_tcp_connections_opened_total{reporter="source",source_principal="spiffe://td/ns/prod/sa/sleep",source_workload="sleep",\
destination_principal="spiffe://td/ns/prod/sa/web",destination_workload="web",destination_service="web.prod.svc",\
connection_security_policy="mutual_tls"} 42
istio_tcp_connections_failed_total{reporter="source",source_principal="spiffe://td/ns/prod/sa/sleep",source_workload="sleep",\
destination_principal="spiffe://td/ns/prod/sa/web",destination_workload="web",destination_service="web.prod.svc",\
connection_security_policy="mutual_tls",reason="POLICY_DENIED"} 7
"""


class Agent:
    """An agent of a small mesh in which somebody has chosen a name with care."""

    def pending(self) -> list[str]:
        return []

    def config_dump(self) -> dict[str, Any]:
        leaf = {"serialNumber": "255", "expirationTime": "2999-01-01T00:00:00Z", "validFrom": "2020-01-01T00:00:00Z"}
        return {
            "workloads": [
                {
                    "namespace": "prod",
                    "name": HOSTILE,
                    "workloadIps": ["10.0.0.9"],
                    "node": "app2",
                    "protocol": "HBONE",
                    "status": "Healthy",
                }
            ],
            "policies": [{"namespace": "prod", "name": "web", "action": "Allow", "scope": "Namespace", "rules": RULES}],
            "certificates": [{"identity": "spiffe://td/ns/prod/sa/sleep", "state": "Available", "certChain": [leaf]}],
        }

    async def connections(self) -> dict[str, Any]:
        one = {"src": "10.0.0.1:1", "originalDst": "240.0.0.1:80", "actualDst": "10.0.0.2:15008", "protocol": "HBONE"}
        info = {"namespace": "prod", "name": "sleep"}
        return {"u": {"state": "Up", "info": info, "connections": {"inbound": [], "outbound": [one]}}}

    async def metrics(self, openmetrics: bool) -> str:
        return "" if openmetrics else METRICS

    async def status(self) -> dict[str, Any]:
        certificate = {"state": "Available", "expires": 1000.0 + 7260}
        sleep = {"namespace": "prod", "name": "sleep", "unit": "sleep.service", "capture": "captured"}
        return {
            "node": "app1",
            "version": "9.9",
            "ready": True,
            "pending": [],
            "time": 1000.0,
            "controlPlane": {"connected": True, "error": ""},
            "workloads": [{**sleep, "identity": "spiffe://td/ns/prod/sa/sleep", "certificate": certificate}],
        }


class NewAgent(Agent):
    """One that nothing has happened to."""

    def config_dump(self) -> dict[str, Any]:
        return {"workloads": [], "policies": [], "certificates": []}

    async def connections(self) -> dict[str, Any]:
        return {}

    async def metrics(self, _openmetrics: bool) -> str:
        return ""

    async def status(self) -> dict[str, Any]:
        return {**await super().status(), "workloads": []}


class BrokenAgent(Agent):
    """One that has lost its metrics."""

    async def metrics(self, _openmetrics: bool) -> str:
        raise RuntimeError("no metrics")


async def browse(*options: str, agent: type[Agent] = Agent) -> str:
    """What Chromium makes of the page a few seconds after it was opened."""
    browser = shutil.which("chromium")
    assert browser is not None, "chromium is installed by lab/prerequisites.sh"
    async with serving(admin_app(agent()), ["127.0.0.1"], 0, "test") as port:  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as profile:
            process = await asyncio.create_subprocess_exec(
                browser,
                *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"),
                *("--virtual-time-budget=4000", "--window-size=1400,1100", *options, f"http://127.0.0.1:{port}/"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            output, _ = await process.communicate()
    return output.decode()


def test_the_page_shows_the_mesh_and_runs_nothing_of_it() -> None:
    """Host, workloads with time to expiry, who talks to whom and why not, policies; a name is text whatever it says."""
    shown = asyncio.run(browse("--dump-dom"))
    for text in (
        "app1 · hostmesh 9.9",
        "ready · control plane connected",
        "sleep.service",
        "2 h 01 min",
        'title="spiffe://td/ns/prod/sa/web">prod/web<',
        "mutual TLS",
        "1 of 1",
        "first certificate ends in",
        "principals td/ns/prod/sa/sleep; ports 80",
        "7&nbsp;POLICY_DENIED",
        "10.0.0.2:15008",
        "prod/web",
        ">ff<",
        "&lt;img src=x onerror=document.title='owned'&gt;",
    ):
        assert text in shown
    assert "<title>hostmesh</title>" in shown


def test_an_empty_page_says_what_to_do() -> None:
    """Where nothing is, that is said in a sentence."""
    shown = asyncio.run(browse("--dump-dom", agent=NewAgent))
    for text in ("nobody has called anybody", "hostmesh_workloads", "none at this moment", "0 of 0"):
        assert text in shown


def test_an_answer_that_is_none_is_said() -> None:
    """Nothing is shown of what could not be read, least of all that nobody has called anybody."""
    shown = asyncio.run(browse("--dump-dom", agent=BrokenAgent))
    assert "the agent does not answer: metrics: 500" in shown
    assert "nobody has called anybody" not in shown


def test_the_page_can_be_looked_at(tmp_path: Path) -> None:
    """A screenshot is a picture with something on it."""
    picture = tmp_path / "page.png"
    asyncio.run(browse(f"--screenshot={picture}"))
    data = picture.read_bytes()
    assert data[:4] == b"\x89PNG"
    assert len(data) > 20_000, "an empty page is smaller"
