"""The agent's HTTP doors (ztunnel's): admin on loopback 15000, stats 15020, readiness 15021."""

from __future__ import annotations

import asyncio
import json

from hostmesh.admin import web_page
from hostmesh.admin.app import ANY, GET, JSON, POST, App, Request, Response, Route, json_response
from hostmesh.admin.view import AgentView

OPENMETRICS = "application/openmetrics-text"

_INDEX = """hostmesh agent (in a browser: a page)
/config_dump       everything the agent knows
/connections       open connections of each workload
/status            what `hostmesh status` prints, as JSON
/network_policies  NetworkPolicies of this host's workloads, in the kernel and inside tunnels
/logging           POST ?level=debug or ?level=access=debug,info changes the log filter, ?reset goes back
/quitquitquit      POST ends the agent gracefully
"""

_LOGGING_HELP = """usage: POST /logging                              prints the filter
       POST /logging?level=debug                  adds to it
       POST /logging?level=access=debug,info      adds to it, by target
       POST /logging?reset                        goes back to the configured one, before what level= adds
levels: off, error, warn, info, debug, trace
"""


def admin_app(view: AgentView) -> App:
    """Everything an operator on the host may see and do."""

    async def index(request: Request) -> Response:
        return web_page.page() if web_page.wants_page(request) else Response(_INDEX)

    async def metrics(_: Request) -> Response:
        return Response(await view.metrics(False))

    async def config_dump(_: Request) -> Response:
        dump = view.config_dump() | {"workloadState": await view.connections()}
        text = await asyncio.to_thread(json.dumps, dump, indent=2, sort_keys=True)
        return Response(text, content_type=JSON)

    async def connections(_: Request) -> Response:
        return json_response(await view.connections())

    async def status(_: Request) -> Response:
        return json_response(await view.status())

    async def network_policies(_: Request) -> Response:
        return json_response(await view.network_policies())

    async def logging(request: Request) -> Response:
        if request.method != "POST":
            return Response(_LOGGING_HELP, 405, headers={"Allow": "POST"})
        level, reset = request.query.get("level", ""), "reset" in request.query
        if level or reset:
            try:
                view.change_log_level(level, reset=reset)
            except ValueError:
                return Response(f"Invalid level provided: {level}\n{_LOGGING_HELP}", 400)
        return Response(f"current log level is {view.log_level()}\n")

    async def quit_(_: Request) -> Response:
        view.shut_down()
        return Response("shutdown now\n")

    return App(
        Route("/", GET, index),
        *web_page.routes(),
        Route("/metrics", GET, metrics),
        Route("/network_policies", GET, network_policies),
        Route("/config_dump", ANY, config_dump),
        Route("/connections", GET, connections),
        Route("/status", GET, status),
        Route("/logging", ANY, logging),
        Route("/quitquitquit", POST, quit_),
        guard=web_page.only_from_here,
    )


def stats_app(view: AgentView) -> App:
    """Prometheus scrapes."""

    async def metrics(request: Request) -> Response:
        accepted = [item.partition(";")[0].strip() for item in request.headers.get("accept", "").split(",")]
        openmetrics = OPENMETRICS in accepted
        kind = f"{OPENMETRICS};charset=utf-8;version=1.0.0" if openmetrics else "text/plain; charset=utf-8"
        return Response(await view.metrics(openmetrics), content_type=kind)

    return App(Route("/metrics", ANY, metrics), Route("/stats/prometheus", ANY, metrics), compresses=True)


def readiness_app(view: AgentView) -> App:
    """Load balancers and rollouts."""

    async def ready(_: Request) -> Response:
        pending = view.pending()
        if pending:
            return Response(f"not ready, pending: {', '.join(pending)}\n", 500)
        return Response("ready\n")

    return App(Route("/healthz/ready", GET, ready))
