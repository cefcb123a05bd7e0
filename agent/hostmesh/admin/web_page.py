"""The admin port as a web page: four files of ours, which read the port's own answers and show them as text."""

from __future__ import annotations

from importlib.resources import files

from hostmesh.admin.app import GET, Request, Response, Route

_SCRIPT = "text/javascript"
_KINDS = {"page.html": "text/html", "page.css": "text/css", "page.js": _SCRIPT, "metrics.js": _SCRIPT}

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


def wants_page(request: Request) -> bool:
    """Whether a browser asks, and not curl."""
    return "text/html" in request.headers.get("accept", "")


def page(name: str = "page.html") -> Response:
    """One of the files."""
    text = files("hostmesh.admin.page").joinpath(name).read_text(encoding="utf-8")
    return Response(text, content_type=f"{_KINDS[name]}; charset=utf-8", headers=HEADERS)


def only_from_here(request: Request) -> Response | None:
    """Refuse what a page of somebody else makes a browser send: under another name (DNS rebinding), or by a form."""
    if request.host not in LOOPBACK:
        return Response(f"the admin port answers to {', '.join(sorted(LOOPBACK))} only\n", 421)
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        return Response(f"the admin port takes nothing from pages of {origin}\n", 403)
    return None


def routes() -> list[Route]:
    """Of what the page loads."""

    async def asset(request: Request) -> Response:
        return page(request.path.lstrip("/"))

    return [Route(f"/{name}", GET, asset) for name in _KINDS if name != "page.html"]
