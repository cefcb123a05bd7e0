"""What one waypoint has to do: services, routes and policies, resolved (Istio ambient's L7 layer)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from hostmesh.model.telemetry import UNCHANGED, Telemetry
from hostmesh.model.wasm import WasmPlugin


class AppProtocol(Enum):
    """What a service's port speaks; `SNIFFED` where nobody said."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    TCP = "TCP"
    SNIFFED = ""


@dataclass(frozen=True, slots=True)
class WaypointEndpoint:
    """Where a port of a service is served. `identity` is the SPIFFE URI of an HBONE endpoint, "" means plaintext.

    `owner`, `service`, `revision` and `cluster` are what metrics call it (Istio's canonical names). `server_name` tells
    it from others behind its address.
    """

    address: str
    port: int
    identity: str = ""
    workload: str = ""
    namespace: str = ""
    weight: int = 1
    owner: str = ""
    service: str = ""
    revision: str = ""
    cluster: str = ""
    server_name: str = ""

    @property
    def authority(self) -> str:
        """`ip:port`, as CONNECT names it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class MatchText:
    """How a header or query parameter is compared; the expression is RE2 and matches the whole value."""

    name: str
    value: str
    regex: bool = False


class PathKind(Enum):
    """Gateway API's types of path match."""

    EXACT = "Exact"
    PREFIX = "PathPrefix"
    REGEX = "RegularExpression"


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """Everything in it must hold."""

    path_kind: PathKind = PathKind.PREFIX
    path: str = "/"
    method: str = ""
    headers: tuple[MatchText, ...] = ()
    query: tuple[MatchText, ...] = ()


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """Headers set, added and removed, in that order."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backend:
    """A weighted destination; without a `hostname` it is known to be missing, and its share gets 500.

    Its changes of headers come after those of its route.
    """

    hostname: str
    port: int
    weight: int = 1
    request_headers: HeaderChange = HeaderChange()
    response_headers: HeaderChange = HeaderChange()


@dataclass(frozen=True, slots=True)
class Redirect:
    """Answers with a redirection; what is empty stays as the request had it."""

    scheme: str = ""
    hostname: str = ""
    port: int = 0
    path: str = ""
    prefix: str | None = None
    status: int = 302


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What the backend sees instead; `prefix` replaces the matched one."""

    hostname: str = ""
    path: str = ""
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Mirror:
    """Copies a share of the requests, in millionths, to another backend; its answers are thrown away."""

    backend: Backend
    millionths: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Retry:
    """Attempts after the first; status codes that are tried again besides failures to connect."""

    attempts: int = 2
    codes: tuple[int, ...] = ()
    backoff: float = 0.0


@dataclass(frozen=True, slots=True)
class Cors:
    """Which web pages may use the answers; an origin's `*` stands for everything, or for all below a name."""

    origins: tuple[str, ...] = ()
    credentials: bool = False
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age: int = 5


@dataclass(frozen=True, slots=True)
class Route:
    """One match of one rule of an HTTPRoute or GRPCRoute. Times in seconds, 0: none."""

    name: str
    match: RouteMatch
    backends: tuple[Backend, ...] = ()
    request_headers: HeaderChange = HeaderChange()
    response_headers: HeaderChange = HeaderChange()
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    mirrors: tuple[Mirror, ...] = ()
    timeout: float = 0.0
    try_timeout: float = 0.0
    retry: Retry | None = None
    cors: Cors | None = None


@dataclass(frozen=True, slots=True)
class WaypointPort:
    """A port of a service. Without `routes` every request goes to its own endpoints; `tcp_backends`: a TCPRoute's."""

    port: int
    protocol: AppProtocol = AppProtocol.SNIFFED
    endpoints: tuple[WaypointEndpoint, ...] = ()
    routes: tuple[Route, ...] = ()
    tcp_backends: tuple[Backend, ...] = ()


@dataclass(frozen=True, slots=True)
class WaypointService:
    """A service that the waypoint serves, or (`served` False) that routes of others lead to; `name` is for metrics."""

    namespace: str
    hostname: str
    vips: tuple[str, ...] = ()
    ports: tuple[WaypointPort, ...] = ()
    served: bool = True
    name: str = ""
    telemetry: Telemetry = UNCHANGED


Fields = Mapping[str, tuple[str, ...]]
"""Values by AuthorizationPolicy's own names: `principals`, `notPaths`, ...; of a condition by `key` and `not key`."""


@dataclass(frozen=True, slots=True)
class L7Rule:
    """`sources` and `operations` are OR-ed, each one's fields AND-ed; `conditions` must all hold."""

    sources: tuple[Fields, ...] = ()
    operations: tuple[Fields, ...] = ()
    conditions: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = ()


class L7Action(Enum):
    """In the order in which they are judged."""

    CUSTOM = "CUSTOM"
    AUDIT = "AUDIT"
    DENY = "DENY"
    ALLOW = "ALLOW"


@dataclass(frozen=True, slots=True)
class L7Policy:
    """An AuthorizationPolicy attached to the waypoint or, where `hostnames` are named, to these services."""

    name: str
    namespace: str
    action: L7Action
    rules: tuple[L7Rule, ...] = ()
    hostnames: tuple[str, ...] = ()
    dry_run: bool = False
    provider: str = ""


@dataclass(frozen=True, slots=True)
class JwtRule:
    """One issuer of a RequestAuthentication; `jwks` is the key set itself, `jwks_uri` where it is fetched from.

    `endpoints` are those of the service of the mesh that the URI names, if it does.
    """

    issuer: str
    audiences: tuple[str, ...] = ()
    jwks: str = ""
    jwks_uri: str = ""
    from_headers: tuple[tuple[str, str], ...] = ()
    from_params: tuple[str, ...] = ()
    from_cookies: tuple[str, ...] = ()
    payload_header: str = ""
    forward: bool = False
    claim_headers: tuple[tuple[str, str], ...] = ()
    space_delimited: tuple[str, ...] = ()
    timeout: float = 5.0
    endpoints: tuple[WaypointEndpoint, ...] | None = None


@dataclass(frozen=True, slots=True)
class L7Authentication:
    """A RequestAuthentication; attached as a policy is."""

    name: str
    namespace: str
    rules: tuple[JwtRule, ...]
    hostnames: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedBody:
    """How much of a request's body an authorizer is shown."""

    max_bytes: int
    partial: bool = False
    as_bytes: bool = False


@dataclass(frozen=True, slots=True)
class ExtAuthz:
    """An external authorizer (Istio mesh config, `extensionProviders`) that CUSTOM policies name.

    Asked at `address`, a name or IP address, or, where that is a service of the mesh, at its `endpoints`. Headers
    are names, or beginnings and ends of names (`x-*`); those to add are pairs.
    """

    name: str
    address: str
    port: int
    grpc: bool = False
    endpoints: tuple[WaypointEndpoint, ...] | None = None
    timeout: float = 600.0
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: int = 403
    body: CheckedBody | None = None
    path_prefix: str = ""
    include_headers: tuple[str, ...] = ()
    additional_headers: tuple[tuple[str, str], ...] = ()
    upstream_headers: tuple[str, ...] = ()
    downstream_headers: tuple[str, ...] = ()
    denied_headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WaypointProgram:
    """All that one waypoint is told. `workloads` are addressed by IP and use it too; `telemetry` is theirs.

    `identity` is its own SPIFFE URI, "" while no host is registered as running it; `port` is where it takes HBONE.
    `tells_caller`: endpoints get the caller's identity in x-forwarded-client-cert.
    """

    name: str
    namespace: str
    trust_domain: str
    identity: str = ""
    port: int = 15008
    services: tuple[WaypointService, ...] = ()
    workloads: tuple[WaypointEndpoint, ...] = ()
    policies: tuple[L7Policy, ...] = ()
    authentications: tuple[L7Authentication, ...] = ()
    authorizers: tuple[ExtAuthz, ...] = ()
    telemetry: Telemetry = UNCHANGED
    plugins: tuple[WasmPlugin, ...] = ()
    tells_caller: bool = False

    @property
    def behind(self) -> tuple[WaypointService, ...]:
        """The services that it serves; one without an address (headless) or a port cannot be called through it."""
        return tuple(one for one in self.services if one.served and one.vips and one.ports)
