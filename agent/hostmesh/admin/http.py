"""The agent's HTTP doors (ztunnel's): admin on loopback 15000, stats 15020, readiness 15021."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from hostmesh.admin import web_page
from hostmesh.admin.view import AgentView

OPENMETRICS = "application/openmetrics-text"

COMPRESSED_ELSEWHERE = 1 << 16
"""Bytes of an answer that a thread compresses, so that the loop goes on."""

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


class PortInUse(OSError):
    """A door could not be opened; the message names the port and the next step."""


def admin_app(view: AgentView) -> web.Application:
    """Everything an operator on the host may see and do."""

    async def index(request: web.Request) -> web.Response:
        return web_page.page() if web_page.wants_page(request) else web.Response(text=_INDEX)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=await view.metrics(False), content_type="text/plain")

    async def config_dump(_: web.Request) -> web.Response:
        dump = view.config_dump() | {"workloadState": await view.connections()}
        text = await asyncio.to_thread(json.dumps, dump, indent=2, sort_keys=True)
        return web.Response(text=text, content_type="application/json")

    async def connections(_: web.Request) -> web.Response:
        return web.json_response(await view.connections())

    async def status(_: web.Request) -> web.Response:
        return web.json_response(await view.status())

    async def network_policies(_: web.Request) -> web.Response:
        return web.json_response(await view.network_policies())

    async def logging(request: web.Request) -> web.Response:
        if request.method != "POST":
            return web.Response(status=405, text=_LOGGING_HELP, headers={"Allow": "POST"})
        level, reset = request.query.get("level", ""), "reset" in request.query
        if level or reset:
            try:
                view.change_log_level(level, reset=reset)
            except ValueError:
                return web.Response(status=400, text=f"Invalid level provided: {level}\n{_LOGGING_HELP}")
        return web.Response(text=f"current log level is {view.log_level()}\n")

    async def quit_(_: web.Request) -> web.Response:
        view.shut_down()
        return web.Response(text="shutdown now\n")

    app = web.Application(middlewares=[web_page.only_from_here])
    app.add_routes(
        [
            web.get("/", index),
            *web_page.routes(),
            web.get("/metrics", metrics),
            web.get("/network_policies", network_policies),
            web.route("*", "/config_dump", config_dump),
            web.get("/connections", connections),
            web.get("/status", status),
            web.route("*", "/logging", logging),
            web.post("/quitquitquit", quit_),
        ]
    )
    return app


def stats_app(view: AgentView) -> web.Application:
    """Prometheus scrapes."""

    async def metrics(request: web.Request) -> web.Response:
        accepted = [item.partition(";")[0].strip() for item in request.headers.get("Accept", "").split(",")]
        openmetrics = OPENMETRICS in accepted
        kind = f"{OPENMETRICS};charset=utf-8;version=1.0.0" if openmetrics else "text/plain; charset=utf-8"
        body = (await view.metrics(openmetrics)).encode()
        response = web.Response(body=body, headers={"Content-Type": kind}, zlib_executor_size=COMPRESSED_ELSEWHERE)
        response.enable_compression()
        return response

    app = web.Application()
    app.add_routes([web.route("*", "/metrics", metrics), web.route("*", "/stats/prometheus", metrics)])
    return app


def readiness_app(view: AgentView) -> web.Application:
    """Load balancers and rollouts."""

    async def ready(_: web.Request) -> web.Response:
        pending = view.pending()
        if pending:
            return web.Response(status=500, text=f"not ready, pending: {', '.join(pending)}\n")
        return web.Response(text="ready\n")

    app = web.Application()
    app.add_routes([web.get("/healthz/ready", ready)])
    return app


@asynccontextmanager
async def serving(
    app: web.Application, hosts: list[str], port: int, purpose: str, kept: dict[str, socket.socket] | None = None
) -> AsyncIterator[int]:
    """Serve until the context ends; yields the port (the kernel's choice if `port` is 0).

    Args:
        app: what answers.
        hosts: IP addresses.
        port: for all of them.
        purpose: for messages.
        kept: listeners that are open already, by `ip:port`; those that are opened here are added to it.

    Raises:
        PortInUse: another program has the port.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    kept = {} if kept is None else kept
    try:
        for host in hosts:
            name = f"{host}:{port}"
            if name not in kept:
                kept[name] = _listen(host, port, purpose)
            await web.SockSite(runner, kept[name]).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _listen(host: str, port: int, purpose: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        why = f"{purpose} cannot listen on port {port}: {error.strerror}; see who has it: ss -ltnp 'sport = :{port}'"
        raise PortInUse(error.errno, why) from error
    return sock
