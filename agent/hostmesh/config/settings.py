"""Settings: the shape of agent.yaml."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from hostmesh.config.dns import Dns
from hostmesh.config.durations import parse_duration
from hostmesh.model.endpoint import Endpoint

PART = "part"
"""Context of the validation of one file of several: whether settings go together shows when all of them are there."""


class Contradiction(ValueError):
    """Settings that are right by themselves and not together; `setting` is the one to look at first."""

    def __init__(self, setting: str, why: str) -> None:
        super().__init__(why)
        self.setting = setting


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _endpoint(value: str) -> str:
    if value:
        Endpoint.parse(value)
    return value


TEN_YEARS = 315_360_000

Duration = Annotated[float, BeforeValidator(_duration), Field(gt=0, le=TEN_YEARS)]
Seconds = Annotated[int, BeforeValidator(_duration), Field(ge=1, le=32767)]
Port = Annotated[int, Field(ge=1, le=65535)]


Address = Annotated[str, AfterValidator(_endpoint)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


LEVELS = ("off", "error", "warn", "info", "debug", "trace")

_LEVEL = re.compile(rf"(?:[a-z0-9_.:]+=)?(?:{'|'.join(LEVELS)})")


def _levels(value: str) -> str:
    for part in value.split(","):
        if not _LEVEL.fullmatch(part.strip()):
            raise ValueError(f"{part!r} is not a log level; write [target=]off|error|warn|info|debug|trace")
    return value


class ControlPlane(_Strict):
    """Where xDS and the CA are. `server_name` overrides the name its certificate must carry.

    `kind` istiod is Istio's own: `xds_identity` (namespace/service account) is whose token or client certificate the
    xDS stream uses, `tokens` and `client_certificates` hold those of all workloads, each at
    `<namespace>/<service account>`. `metadata` goes with this node's first xDS request, beside what is always there.
    `addresses` are those of several control planes of one mesh, and go before `address`; hosts spread over them, and go
    on to the next when one fails.
    """

    kind: Literal["hostmesh", "istiod"] = "hostmesh"
    address: Address = "localhost:15012"
    addresses: tuple[Address, ...] = Field(default=(), max_length=16)
    server_name: str | None = None
    root_cert: Path = Path("/etc/hostmesh/root-cert.pem")
    metadata: dict[str, str] = Field(default_factory=dict)
    xds_identity: str = Field(default="", pattern=r"^(?:[a-z0-9-]+/[a-z0-9.-]+)?$")
    tokens: Path = Path("/etc/hostmesh/tokens")
    client_certificates: Path = Path("/etc/hostmesh/client-certificates")

    @property
    def everywhere(self) -> tuple[str, ...]:
        """All of them; one at least."""
        return self.addresses or (self.address,)


class Certificates(_Strict):
    """Where certificates come from: `auto` is `files` where the mesh comes from a file, else `control-plane`.

    `ttl` is asked of the CA, which may grant less. `directory` holds `<namespace>/<service account>/` with key.pem,
    cert-chain.pem and root-cert.pem. With `shared_inbound` peers that name no server (a stock ztunnel) reach workloads
    that share an address, by a certificate that names all of them.
    """

    source: Literal["auto", "control-plane", "files"] = "auto"
    ttl: Duration = 86400.0
    shared_inbound: bool = False
    directory: Path = Path("/etc/hostmesh/certificates")


class Log(_Strict):
    """`level` may name targets: `info,access=off`.

    `format` is that of the access log and all other lines on stderr; the journal gets fields either way.
    """

    level: Annotated[str, AfterValidator(_levels)] = "info"
    format: Literal["plain", "json"] = "plain"


class Tls(_Strict):
    """`bundled` is the OpenSSL inside the cryptography package, `system` the distribution's."""

    engine: Literal["auto", "bundled", "system"] = "auto"


def _network(value: object) -> object:
    return ip_network(value) if isinstance(value, str) else value


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


class Capture(_Strict):
    """What is never captured, whatever workloads.d says.

    Inbound ports, beside the agent's own and sshd's, which are found unless `ssh_ports` names them; and destinations of
    a captured host, beside resolvers and the control plane.
    """

    excluded_inbound_ports: tuple[Port, ...] = ()
    excluded_outbound_cidrs: tuple[Network, ...] = ()
    ssh_ports: tuple[Port, ...] | None = None
    backend: Literal["auto", "nft", "iptables-nft", "iptables-legacy", "python-iptables"] = "auto"


class NetworkPolicies(_Strict):
    """With `enforce` the kernel of this host holds workloads to the NetworkPolicies that select them.

    `host` is the registration (`namespace/name`) that the host itself is judged as, if any. `hbone` says who may open
    tunnels to an isolated workload: the `peers` of rules that admit TCP, or `anybody`, to be judged inside. `file` is
    where the policies are of a host without a control plane.
    """

    enforce: bool = False
    host: str = Field(default="", pattern=r"^$|^[a-z0-9-]+/[a-z0-9.-]+$")
    hbone: Literal["peers", "anybody"] = "peers"
    file: Path | None = None


class Ports(_Strict):
    """Admin listens on loopback only; the other two on every address."""

    admin: Port = 15000
    stats: Port = 15020
    readiness: Port = 15021


class Http2(_Strict):
    """What HBONE peers are offered, in bytes (RFC 9113 §6.5.2)."""

    stream_window: int = Field(default=4 << 20, ge=65535, le=2**31 - 1)
    connection_window: int = Field(default=16 << 20, ge=65535, le=2**31 - 1)
    max_frame_size: int = Field(default=1 << 20, ge=1 << 14, le=(1 << 24) - 1)


class Sockets(_Strict):
    """TCP keepalive (tcp(7)); with `user_timeout` unacknowledged data ends a connection as soon as it would."""

    keepalive: bool = True
    keepalive_time: Seconds = 180
    keepalive_interval: Seconds = 180
    keepalive_retries: int = Field(default=9, ge=1, le=127)
    user_timeout: bool = False


class Settings(_Strict):
    """The shape of agent.yaml. Durations are seconds or text like `24h`.

    With `original_source` applications see the addresses of their clients, not the host's own. With `socks5` captured
    workloads may name their destination to 127.0.0.1:15080. `drain_deadline` is what
    open connections get at a stop, `reload_deadline` at a reload. With `local_xds_path`, or the same YAML in
    `local_xds`, there is no control plane. With `xds_on_demand` the agent asks for whom its workloads talk to, and does
    not follow the whole mesh.
    """

    node: str = Field(default="", max_length=253)
    network: str = ""
    cluster_id: str = "Kubernetes"
    trust_domain: str = Field(default="cluster.local", pattern=r"^[A-Za-z0-9._-]{1,255}$")
    workers: int = Field(default=0, ge=0, le=256)
    control_plane: ControlPlane = ControlPlane()
    certificates: Certificates = Certificates()
    log: Log = Log()
    tls: Tls = Tls()
    capture: Capture = Capture()
    network_policy: NetworkPolicies = NetworkPolicies()
    ports: Ports = Ports()
    dns: Dns = Dns()
    http2: Http2 = Http2()
    sockets: Sockets = Sockets()
    ipv6: bool = True
    response_baggage: bool = True
    original_source: bool = False
    socks5: bool = False
    pool_max_streams: int = Field(default=100, ge=1, le=1000)
    pool_unused_release: Duration = 300.0
    drain_deadline: Duration = 5.0
    reload_deadline: Duration = 3600.0
    local_xds_path: Path | None = None
    local_xds: str = ""
    xds_on_demand: bool = False
    workloads_dir: Path = Path("/etc/hostmesh/workloads.d")
    state_dir: Path = Path("/var/lib/hostmesh")
    runtime_dir: Path = Path("/run/hostmesh")
    join_token: Path = Path("/var/lib/hostmesh/join-token")
    host_key_socket: Path = Path("/run/hostmesh-host-key.sock")
    proxy_user: str = "hostmesh-proxy"

    @model_validator(mode="after")
    def _go_together(self, info: ValidationInfo) -> Settings:
        if info.context != PART:
            self._one_mesh()
            self._part_of_a_mesh()
        return self

    def _one_mesh(self) -> None:
        if self.local_xds_path is not None and self.local_xds:
            raise Contradiction(
                "local_xds", "local_xds and local_xds_path are both set; the mesh comes from one of them"
            )
        if self.local and self.certificates.source == "control-plane":
            raise Contradiction("certificates.source", "the mesh comes from a file, so it must be files")
        if not self.local and not all(self.control_plane.everywhere):
            raise Contradiction(
                "control_plane.address", "is empty; say where it is, or name the mesh's file in local_xds_path"
            )
        from_istiod = self.control_plane.kind == "istiod" and not self.certificates_from_files
        if self.certificates.shared_inbound and from_istiod:
            raise Contradiction(
                "certificates.shared_inbound", "istiod certifies one workload at a time, so it must be false"
            )
        if self.control_plane.kind == "istiod" and not self.control_plane.xds_identity:
            raise Contradiction(
                "control_plane.kind",
                "istiod needs xds_identity: the namespace/service account whose token xDS uses",
            )

    def _part_of_a_mesh(self) -> None:
        needs = {
            "network_policy.enforce": (
                self.network_policy.enforce,
                "what leaves is judged in the kernel, before anybody is asked what the address of a service leads to",
            ),
            "local_xds": (self.local, "a file cannot be asked"),
            "control_plane.kind: istiod": (
                self.control_plane.kind == "istiod",
                "it does not know which workloads of a mesh are those of a host",
            ),
        }
        if self.xds_on_demand:
            for setting, (is_set, why) in needs.items():
                if is_set:
                    raise Contradiction(
                        "xds_on_demand", f"{setting} does not work with xds_on_demand: {why}; set one of them only"
                    )

    @property
    def local(self) -> bool:
        """Whether the mesh comes from a file, and there is no control plane."""
        return self.local_xds_path is not None or bool(self.local_xds)

    @property
    def mesh_file(self) -> str:
        """Where the mesh comes from if that is no control plane."""
        return "local_xds" if self.local_xds else str(self.local_xds_path or "")

    @property
    def certificates_from_files(self) -> bool:
        """What `certificates.source` comes to."""
        return self.certificates.source == "files" or (self.certificates.source == "auto" and self.local)
