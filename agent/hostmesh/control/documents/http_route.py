"""Gateway API HTTPRoute attached to services of the mesh (GAMMA): where requests go, and what becomes of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hostmesh.control.documents.base import PortNumber, Resource, Strict, Text

SERVICE_GROUPS = {("", "Service"), ("core", "Service"), ("networking.istio.io", "ServiceEntry")}
HOSTNAME = ("networking.istio.io", "Hostname")

Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


class ParentRef(Strict):
    """The service whose requests the route takes; those to all of its ports unless one is named or numbered."""

    group: str = "gateway.networking.k8s.io"
    kind: str = "Gateway"
    name: Text
    namespace: str = ""
    section_name: str = ""
    port: PortNumber | None = None


class BackendRef(Strict):
    """Where a share of the requests goes: a Service, or any host of the mesh by kind Hostname."""

    group: str = ""
    kind: str = "Service"
    name: Text
    namespace: str = ""
    port: PortNumber | None = None
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1


class PathMatch(Strict):
    """`value` begins with a slash unless it is an expression."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: str = "/"


class ValueMatch(Strict):
    """A header or query parameter."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: Text
    value: str


class HTTPRouteMatch(Strict):
    """Everything in it must hold."""

    path: PathMatch = PathMatch()
    method: Method | None = None
    headers: Annotated[list[ValueMatch], Field(max_length=16)] = Field(default=[])
    query_params: Annotated[list[ValueMatch], Field(max_length=16)] = Field(default=[])


class Header(Strict):
    """A name and a value."""

    name: Text
    value: str


class HeaderModifier(Strict):
    """Set, then add, then remove."""

    set: Annotated[list[Header], Field(max_length=16)] = Field(default=[])
    add: Annotated[list[Header], Field(max_length=16)] = Field(default=[])
    remove: Annotated[list[Text], Field(max_length=16)] = Field(default=[])


class PathModifier(Strict):
    """Exactly one of the two, which `type` names."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: str | None = None
    replace_prefix_match: str | None = None


class RequestRedirect(Strict):
    """What is left out stays as the request had it."""

    scheme: Literal["http", "https"] | None = None
    hostname: str = ""
    path: PathModifier | None = None
    port: PortNumber | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class URLRewrite(Strict):
    """What the backend sees."""

    hostname: str = ""
    path: PathModifier | None = None


class Fraction(Strict):
    """A share."""

    numerator: Annotated[int, Field(ge=0)]
    denominator: Annotated[int, Field(ge=1)] = 100


class RequestMirror(Strict):
    """A copy whose answer is thrown away; of all requests unless a share is named."""

    backend_ref: BackendRef
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    fraction: Fraction | None = None


class HTTPCORSFilter(Strict):
    """Which web pages may use the answers (Fetch); origins as `https://a.example`, `https://*.example` or `*`."""

    allow_origins: Annotated[list[Text], Field(max_length=64)] = Field(default=[])
    allow_credentials: bool = False
    allow_methods: Annotated[list[Method | Literal["*"]], Field(max_length=9)] = Field(default=[])
    allow_headers: Annotated[list[Text], Field(max_length=64)] = Field(default=[])
    expose_headers: Annotated[list[Text], Field(max_length=64)] = Field(default=[])
    max_age: Annotated[int, Field(ge=1)] = 5


class RouteFilter(Strict):
    """One change; the field that `type` names holds it."""

    type: Literal[
        "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "RequestMirror", "CORS"
    ]
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    request_redirect: RequestRedirect | None = None
    url_rewrite: URLRewrite | None = None
    request_mirror: RequestMirror | None = None
    cors: HTTPCORSFilter | None = None


class HTTPBackendRef(BackendRef):
    """With filters for its share of the requests only."""

    filters: Annotated[list[RouteFilter], Field(max_length=16)] = Field(default=[])


class Timeouts(Strict):
    """Gateway API durations: `10s`, `1m30s`, `500ms`; `0s` is none."""

    request: str = ""
    backend_request: str = ""


class RetrySpec(Strict):
    """Which answers are tried again, how often after the first time, and after how long."""

    codes: Annotated[list[Annotated[int, Field(ge=400, le=599)]], Field(max_length=16)] = Field(default=[])
    attempts: Annotated[int, Field(ge=0, le=100)] = 2
    backoff: str = ""


class HTTPRouteRule(Strict):
    """Matches OR-ed; the shares of the backends by weight."""

    name: str = ""
    matches: Annotated[list[HTTPRouteMatch], Field(max_length=64)] = Field(default=[])
    filters: Annotated[list[RouteFilter], Field(max_length=16)] = Field(default=[])
    backend_refs: Annotated[list[HTTPBackendRef], Field(max_length=16)] = Field(default=[])
    timeouts: Timeouts = Timeouts()
    retry: RetrySpec | None = None

    @property
    def any_match(self) -> list[HTTPRouteMatch]:
        """A rule without matches takes every request."""
        return self.matches or [HTTPRouteMatch()]


class HTTPRouteSpec(Strict):
    """`hostnames` mean nothing for a route of a service: the service is the host."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=32)]
    hostnames: list[str] = Field(default=[])
    rules: Annotated[list[HTTPRouteRule], Field(max_length=16)] = Field(default=[HTTPRouteRule()])


class HTTPRoute(Resource):
    """A route."""

    spec: HTTPRouteSpec
