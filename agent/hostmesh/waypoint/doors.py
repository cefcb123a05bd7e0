"""The doors of a waypoint: `status` on a socket of its own, metrics for Prometheus on Istio's port 15090."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from hostmesh.model.waypoint import WaypointProgram
from hostmesh.waypoint.exposition import exposition
from hostmesh.waypoint.metrics import PREFIX
from hostmesh.waypoint.rbac import applying

METRICS_PORT = 15090
OURS = f"/stats/prometheus?filter=^{PREFIX}[.]"
"""Where Envoy shows what Istio's metrics are made of."""

EVERYTHING = "/stats/prometheus?usedonly"

Status = Callable[[], Awaitable[dict[str, Any]]]
AskEnvoy = Callable[[str], Awaitable[str]]


def status_app(status: Status) -> web.Application:
    """What `hostmesh waypoint status` asks."""

    async def show(_: web.Request) -> web.Response:
        return web.json_response(await status())

    app = web.Application()
    app.add_routes([web.get("/status", show)])
    return app


def metrics_app(status: Status, ask: AskEnvoy) -> web.Application:
    """`/metrics`: Istio's and our own; `/stats/prometheus`: all that Envoy has, too."""

    def answer(path: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def show(_: web.Request) -> web.Response:
            try:
                said = exposition(await ask(path))
            except OSError:
                said = ""  # our own numbers say that it does not answer
            return web.Response(text=said + own_metrics(await status(), time.time()), content_type="text/plain")

        return show

    app = web.Application()
    app.add_routes([web.get("/metrics", answer(OURS)), web.get("/stats/prometheus", answer(EVERYTHING))])
    return app


def serving(program: WaypointProgram | None) -> dict[str, Any]:
    """What is in force, in short."""
    if program is None:
        return {"services": [], "workloads": 0}
    services = [
        {
            "hostname": service.hostname,
            "ports": [
                {
                    "port": port.port,
                    "protocol": port.protocol.value,
                    "endpoints": len(port.endpoints),
                    "routes": len(port.routes) + bool(port.tcp_backends),
                }
                for port in service.ports
            ],
            "policies": len(applying(program.policies, service.hostname)),
        }
        for service in program.behind
    ]
    return {"services": services, "workloads": len(program.workloads)}


def own_metrics(status: Mapping[str, Any], now: float) -> str:
    """The status as numbers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Status(status, now))
    return generate_latest(registry).decode()


class _Status(Collector):
    def __init__(self, status: Mapping[str, Any], now: float) -> None:
        self._status = status
        self._now = now

    def collect(self) -> list[GaugeMetricFamily]:
        status = self._status
        expiry = GaugeMetricFamily(
            "hostmesh_certificate_expiry_seconds",
            "Seconds until the certificate of an identity expires; 0 when there is none.",
            labels=["identity"],
        )
        for one in status["certificates"]:
            expiry.add_metric([one["identity"]], max(0.0, one["expires"] - self._now) if one["expires"] else 0.0)
        refused = bool(status["configuration"]["error"])
        return [
            expiry,
            GaugeMetricFamily("hostmesh_waypoint_ready", "Whether it serves what it was told.", status["ready"]),
            GaugeMetricFamily(
                "hostmesh_waypoint_configuration_refused", "Whether Envoy refused the newest configuration.", refused
            ),
            GaugeMetricFamily(
                "hostmesh_xds_connected",
                "Whether the control plane is connected.",
                status["control_plane"]["connected"],
            ),
        ]
