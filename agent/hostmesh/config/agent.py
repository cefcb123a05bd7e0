"""AgentConfig: agent.yaml, conf.d/ and ztunnel's environment variables; our file wins, every value knows its source."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hostmesh.config.durations import parse_duration
from hostmesh.config.proxy import ProxyConfig
from hostmesh.config.strict_yaml import Document, InvalidYaml, Problem, load_documents, parse

DEFAULT_CONFIG = Path("/etc/hostmesh/agent.yaml")


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[float, BeforeValidator(_duration), Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ControlPlane(_Strict):
    """Where xDS and the CA are. `server_name` overrides the name its certificate must carry."""

    address: str = "localhost:15012"
    server_name: str | None = None
    root_cert: Path = Path("/etc/hostmesh/root-cert.pem")


class Certificates(_Strict):
    """What is asked of the CA; it may grant less."""

    ttl: Duration = 86400.0


class Log(_Strict):
    """`format` is that of the access log and all other lines on stderr; the journal gets fields either way."""

    level: Literal["error", "warn", "info", "debug"] = "info"
    format: Literal["plain", "json"] = "plain"


class Tls(_Strict):
    """`bundled` is the OpenSSL inside the cryptography package, `system` the distribution's."""

    engine: Literal["auto", "bundled", "system"] = "auto"


class Capture(_Strict):
    """Ports never captured inbound, beside sshd's own and the agent's."""

    excluded_inbound_ports: tuple[Port, ...] = ()


class Ports(_Strict):
    """Admin listens on loopback only; the other two on every address."""

    admin: Port = 15000
    stats: Port = 15020
    readiness: Port = 15021


class Settings(_Strict):
    """The shape of agent.yaml. Durations are seconds or text like `24h`.

    `drain_deadline` is what open connections get at a stop, `reload_deadline` at a reload.
    """

    node: str = Field(default="", max_length=253)
    network: str = ""
    cluster_id: str = "Kubernetes"
    trust_domain: str = "cluster.local"
    workers: int = Field(default=0, ge=0, le=256)
    control_plane: ControlPlane = ControlPlane()
    certificates: Certificates = Certificates()
    log: Log = Log()
    tls: Tls = Tls()
    capture: Capture = Capture()
    ports: Ports = Ports()
    pool_max_streams: int = Field(default=100, ge=1, le=1000)
    pool_unused_release: Duration = 300.0
    drain_deadline: Duration = 5.0
    reload_deadline: Duration = 3600.0
    workloads_dir: Path = Path("/etc/hostmesh/workloads.d")
    state_dir: Path = Path("/var/lib/hostmesh")
    runtime_dir: Path = Path("/run/hostmesh")
    join_token: Path = Path("/var/lib/hostmesh/join-token")
    host_key_socket: Path = Path("/run/hostmesh-host-key.sock")
    proxy_user: str = "hostmesh-proxy"


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The settings, and for each one that was set: by which file and line or variable."""

    settings: Settings
    sources: Mapping[str, str] = field(default_factory=dict)

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
            pool_max_streams=s.pool_max_streams,
            pool_unused_release=s.pool_unused_release,
        )


def _address_of(url: str) -> str:
    return url.removeprefix("https://")


_ENVIRONMENT: Mapping[str, tuple[tuple[str, ...], Callable[[str], object]]] = {
    "NODE_NAME": (("node",), str),
    "NETWORK": (("network",), str),
    "CLUSTER_ID": (("cluster_id",), str),
    "ISTIO_META_CLUSTER_ID": (("cluster_id",), str),
    "TRUST_DOMAIN": (("trust_domain",), str),
    "XDS_ADDRESS": (("control_plane", "address"), _address_of),
    "XDS_ROOT_CA": (("control_plane", "root_cert"), str),
    "ALT_XDS_HOSTNAME": (("control_plane", "server_name"), str),
    "SECRET_TTL": (("certificates", "ttl"), str),
    "POOL_MAX_STREAMS_PER_CONNECTION": (("pool_max_streams",), int),
    "POOL_UNUSED_RELEASE_TIMEOUT": (("pool_unused_release",), str),
    "CONNECTION_TERMINATION_DEADLINE": (("drain_deadline",), str),
    "ZTUNNEL_WORKER_THREADS": (("workers",), int),
    "LOG_FORMAT": (("log", "format"), str),
}


def load(path: Path, environment: Mapping[str, str]) -> AgentConfig:
    """Read the file, its `conf.d` beside it and the environment; a missing default file is fine.

    Raises:
        InvalidYaml: with every problem found; nothing is half-read.
    """
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for variable, (target, convert) in _ENVIRONMENT.items():
        if variable in environment:
            _put(merged, sources, target, _from_environment(variable, environment[variable], convert), f"${variable}")
    for document in _files(path):
        _merge(merged, sources, document)
    try:
        return AgentConfig(Settings.model_validate(merged), sources)
    except ValidationError as error:
        raise InvalidYaml(
            Problem(sources.get(name := ".".join(map(str, e["loc"])), "environment"), 1, name, e["msg"])
            for e in error.errors()
        ) from error


def _from_environment(variable: str, text: str, convert: Callable[[str], object]) -> object:
    try:
        return convert(text)
    except ValueError as error:
        raise InvalidYaml([Problem(f"${variable}", 1, "", f"{text!r} is not a number")]) from error


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


def _merge(merged: dict[str, Any], sources: dict[str, str], document: Document) -> None:
    if not isinstance(document.value, dict):
        raise InvalidYaml([document.problem((), "must be a mapping of settings, like `node: host1`")])
    parse(document, Settings)
    for path, line in document.lines.items():
        keys = tuple(str(part) for part in path if not isinstance(part, int))
        value = _get(document.value, path)
        if path and len(keys) == len(path) and not isinstance(value, dict):
            _put(merged, sources, keys, value, f"{document.source}:{line}")


def _get(value: Any, path: tuple[str | int, ...]) -> Any:  # noqa: ANN401 -- whatever YAML holds
    for part in path:
        value = value[part]
    return value


def _put(merged: dict[str, Any], sources: dict[str, str], keys: tuple[str, ...], value: object, source: str) -> None:
    target = merged
    for key in keys[:-1]:
        target = target.setdefault(key, {})
    target[keys[-1]] = value
    sources[".".join(keys)] = source
