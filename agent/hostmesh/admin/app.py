"""What an HTTP door answers: requests, responses and routes as values (RFC 9110), apart from how bytes move."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


class BadRequest(ValueError):
    """No request that could be answered; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; names of headers are in lower case, and `host` is without its port."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    host: str


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; its length and its connection's headers are the server's to say."""

    body: bytes | str = b""
    status: int = 200
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The body as bytes."""
        return self.body.encode() if isinstance(self.body, str) else self.body


Handler = Callable[[Request], Awaitable[Response]]

GET = ("GET", "HEAD")
POST = ("POST",)
ANY = ()
"""Methods of a route; no methods at all are all of them."""


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers one path."""

    path: str
    methods: tuple[str, ...]
    handler: Handler


class App:
    """The routes of one door.

    Args:
        routes: a path is answered by one of them.
        guard: refuses a request by an answer of its own, before any route is looked at.
        compresses: large answers for those who take it.
    """

    def __init__(
        self, *routes: Route, guard: Callable[[Request], Response | None] = lambda _: None, compresses: bool = False
    ) -> None:
        self.compresses = compresses
        self._routes = {route.path: route for route in routes}
        self._guard = guard

    async def answer(self, request: Request) -> Response:
        """Of the route, or why there is none."""
        refusal = self._guard(request)
        if refusal is not None:
            return refusal
        route = self._routes.get(request.path)
        if route is None:
            return Response(status=404)
        if route.methods and request.method not in route.methods:
            return Response(status=405, headers={"Allow": ", ".join(route.methods)})
        return await route.handler(request)


def json_response(value: object) -> Response:
    """A value as JSON."""
    return Response(json.dumps(value), content_type=JSON)


def parse(method: str, target: str, headers: Mapping[str, str]) -> Request:
    """A request from its line and headers; of a parameter that is there twice the last one counts.

    Raises:
        BadRequest: the target or the host is none.
    """
    try:
        url = urlsplit(target)
        host = urlsplit(f"//{url.netloc or headers.get('host', '')}").hostname or ""
        query = dict(parse_qsl(url.query, keep_blank_values=True, max_num_fields=16))
    except ValueError as error:
        raise BadRequest(str(error)) from error
    return Request(method, unquote(url.path), query, headers, host)


def encoding(accepted: str) -> str:
    """The compression to use for an Accept-Encoding: `gzip`, `deflate`, or none."""
    taken = {}
    for item in accepted.lower().split(","):
        name, _, quality = item.partition(";")
        taken[name.strip()] = quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return next((name for name in ("gzip", "deflate") if taken.get(name)), "")
