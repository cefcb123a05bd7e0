"""AgentConfig: agent.yaml and conf.d/ over ztunnel's environment variables over Istio's mesh config, with sources."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hostmesh.config import environment as variables
from hostmesh.config import mesh_config
from hostmesh.config.dns import Dns
from hostmesh.config.durations import parse_duration
from hostmesh.config.layer import Layer
from hostmesh.config.proxy import ProxyConfig
from hostmesh.config.strict_yaml import Document, InvalidYaml, Problem, load_documents, parse
from hostmesh.model.endpoint import Endpoint

DEFAULT_CONFIG = Path("/etc/hostmesh/agent.yaml")


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


_LEVEL = re.compile(r"(?:[a-z0-9_.:]+=)?(?:off|error|warn|info|debug|trace)")


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

    @model_validator(mode="after")
    def _named(self) -> ControlPlane:
        if self.kind == "istiod" and not self.xds_identity:
            raise ValueError("istiod needs xds_identity: the namespace/service account whose token xDS uses")
        return self

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
    def _one_mesh(self) -> Settings:
        if self.local_xds_path is not None and self.local_xds:
            raise ValueError("local_xds and local_xds_path are both set; the mesh comes from one of them")
        if self.local and self.certificates.source == "control-plane":
            raise ValueError("the mesh comes from a file, so certificates.source must be files")
        if not self.local and not all(self.control_plane.everywhere):
            raise ValueError(
                "control_plane.address is empty; say where it is, or name the mesh's file in local_xds_path"
            )
        from_istiod = self.control_plane.kind == "istiod" and not self.certificates_from_files
        if self.certificates.shared_inbound and from_istiod:
            raise ValueError("istiod certifies one workload at a time, so certificates.shared_inbound must be false")
        return self

    @model_validator(mode="after")
    def _part_of_a_mesh(self) -> Settings:
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
                    raise ValueError(f"{setting} does not work with xds_on_demand: {why}; set one of them only")
        return self

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


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The settings, and for each one that was set: by which file and line or variable.

    `without_effect` are variables that ztunnel would heed.
    """

    settings: Settings
    sources: Mapping[str, str] = field(default_factory=dict)
    without_effect: tuple[str, ...] = ()

    @property
    def node(self) -> str:
        """This host's name in the mesh; the kernel's host name unless the file says otherwise."""
        return self.settings.node or os.uname().nodename

    @property
    def workers(self) -> int:
        """How many proxy workers to run; 0 in the file means one for each core."""
        return self.settings.workers or len(os.sched_getaffinity(0))

    def proxy(self) -> ProxyConfig:
        """What the workers get of it."""
        s = self.settings
        return ProxyConfig(
            node=self.node,
            network=s.network,
            cluster_id=s.cluster_id,
            trust_domain=s.trust_domain,
            tls_engine=s.tls.engine,
            stream_window=s.http2.stream_window,
            connection_window=s.http2.connection_window,
            max_frame_size=s.http2.max_frame_size,
            pool_max_streams=s.pool_max_streams,
            pool_unused_release=s.pool_unused_release,
            tcp_keepalive=s.sockets.keepalive,
            tcp_keepalive_time=s.sockets.keepalive_time,
            tcp_keepalive_interval=s.sockets.keepalive_interval,
            tcp_keepalive_probes=s.sockets.keepalive_retries,
            tcp_user_timeout=s.sockets.user_timeout,
            response_baggage=s.response_baggage,
            original_source=s.original_source,
            shared_inbound=s.certificates.shared_inbound,
        )

    def effective(self) -> dict[str, tuple[Any, str]]:
        """Every setting by its dotted name: its value, as JSON has it, and where that comes from."""
        values = {name: (value, self.sources.get(name, "default")) for name, value in _leaves(self.settings)}
        if not self.settings.node:
            values["node"] = (self.node, "this host's name")
        if not self.settings.workers:
            values["workers"] = (self.workers, f"one for each core ({values['workers'][1]})")
        return values


def load(path: Path, environment: Mapping[str, str], mesh_file: Path = mesh_config.MESH_CONFIG) -> AgentConfig:
    """Read the file, its `conf.d` beside it and the environment; a missing default file is fine.

    Raises:
        InvalidYaml: with every problem found; nothing is half-read.
    """
    joined = variables.layer(environment).over(mesh_config.layer(environment, mesh_file))
    for document in _files(path):
        joined = _layer(document).over(joined)
    try:
        settings = Settings.model_validate(joined.nested())
    except ValidationError as error:
        raise InvalidYaml(_problem(joined, dict(detail)) for detail in error.errors()) from error
    return AgentConfig(settings, joined.sources, variables.without_effect(environment))


def _problem(joined: Layer, detail: Mapping[str, Any]) -> Problem:
    name = ".".join(map(str, detail["loc"]))
    message = str(detail["msg"]).removeprefix("Value error, ")
    said = f"{message[:1].lower()}{message[1:]} (got {detail['input']!r})" if name else message
    return Problem(joined.sources.get(name, "environment"), 0, name, said)


def _files(path: Path) -> list[Document]:
    documents: list[Document] = []
    conf_d = path.parent / "conf.d"
    for file in [path, *sorted(conf_d.glob("*.yaml"))]:
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            if file == DEFAULT_CONFIG:
                continue
            raise InvalidYaml([Problem(str(file), 1, "", "no such file; give its path with --config")]) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidYaml([Problem(str(file), 1, "", f"cannot be read: {error}")]) from error
        documents += load_documents(text, str(file))
    return documents


def _layer(document: Document) -> Layer:
    if not isinstance(document.value, dict):
        raise InvalidYaml([document.problem((), "must be a mapping of settings, like `node: host1`")])
    parse(document, Settings)
    said = Layer()
    for path, line in document.lines.items():
        keys = tuple(str(part) for part in path if not isinstance(part, int))
        value = _get(document.value, path)
        if path and len(keys) == len(path) and not isinstance(value, dict):
            said.put(".".join(keys), value, f"{document.source}:{line}")
    return said


def _get(value: Any, path: tuple[str | int, ...]) -> Any:  # noqa: ANN401 -- whatever YAML holds
    for part in path:
        value = value[part]
    return value


def _leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    plain = model.model_dump(mode="json")
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, dict):
            yield from ((f"{prefix}{name}.{key}", one) for key, one in value.items())
        else:
            yield f"{prefix}{name}", plain[name]
