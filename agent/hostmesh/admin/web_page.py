"""The admin port as a web page: three files of ours, which read the port's own answers and show them as text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from aiohttp import web

_KINDS = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Whatever a name in the mesh says, it is no script, and no other page shows this one."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def wants_page(request: web.Request) -> bool:
    """Whether a browser asks, and not curl."""
    return "text/html" in request.headers.get("Accept", "")


def page(name: str = "page.html") -> web.Response:
    """One of the files."""
    text = files("hostmesh.admin.page").joinpath(name).read_text(encoding="utf-8")
    return web.Response(text=text, content_type=_KINDS[name], headers=HEADERS)


@web.middleware
async def only_from_here(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse requests that a page of somebody else makes a browser send under another name (DNS rebinding)."""
    host = (request.url.host or "").strip("[]")
    if host not in LOOPBACK:
        raise web.HTTPMisdirectedRequest(text=f"the admin port answers to {', '.join(sorted(LOOPBACK))} only\n")
    return await handler(request)


def routes() -> list[web.RouteDef]:
    """Of what the page loads."""

    async def asset(request: web.Request) -> web.Response:
        return page(request.path.lstrip("/"))

    return [web.get("/page.css", asset), web.get("/page.js", asset)]
