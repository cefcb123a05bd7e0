"""ControlPlaneConfig: /etc/hostmesh/control-plane.yaml, read strictly; without the file everything has a default."""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hostmesh.config.durations import parse_duration
from hostmesh.config.strict_yaml import InvalidYaml, Problem, load_documents, parse
from hostmesh.control.documents.names import is_dns_label, is_fqdn, is_ip, is_trust_domain
from hostmesh.control.extension_providers import ExtensionProvider
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.model.endpoint import Endpoint

DEFAULT_CONFIG = Path("/etc/hostmesh/control-plane.yaml")
DEFAULT_SOCKET = Path("/run/hostmesh-control-plane/control.sock")


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _host(value: str) -> str:
    if not is_ip(value) and not is_fqdn(value):
        raise ValueError(f"{value!r} is neither a DNS name nor an IP address")
    return value


def _bind_address(value: str) -> str:
    if value:
        ip_address(value)
    return value


def _trust_domain(value: str) -> str:
    if not is_trust_domain(value):
        raise ValueError(f"{value!r} is not a trust domain (lower-case letters, digits, '.', '-' and '_')")
    return value


def _namespace(value: str) -> str:
    if not is_dns_label(value):
        raise ValueError(f"{value!r} is not a namespace (a DNS label)")
    return value


def _etcd_endpoint(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if separator and scheme not in ("http", "https"):
        raise ValueError(f"{value!r} is not host:port")
    Endpoint.parse(rest if separator else value)
    return value


def _unique(providers: list[ExtensionProvider]) -> list[ExtensionProvider]:
    names = [one.name for one in providers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice!r} is there twice; a policy could not say which one it means")
    return providers


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listen(_Strict):
    """Where agents connect; an empty address means all of them."""

    address: Annotated[str, AfterValidator(_bind_address)] = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 15012


class Certificates(_Strict):
    """`max_ttl` caps what agents ask for, `node_ttl` is that of the hosts' own; seconds or text like `24h`.

    With `shared_inbound` a host may have a certificate that names all of its workloads, for its inbound listener only.
    """

    max_ttl: Annotated[float, BeforeValidator(_duration), Field(ge=30, le=90 * 86400)] = 86400.0
    node_ttl: Annotated[float, BeforeValidator(_duration), Field(ge=30, le=90 * 86400)] = 7 * 86400.0
    shared_inbound: bool = False


class NetworkPolicies(_Strict):
    """`enforce_in_tunnel`: whether those that do not say so by annotation hold inside the mesh's tunnels."""

    enforce_in_tunnel: bool = True


class EtcdStore(_Strict):
    """`endpoints` as `host:2379`; with `root_cert` over TLS, as somebody with `cert` and `key`.

    `prefix` of all keys: meshes that share an etcd have different ones. `encryption_key_file` has the key (32 bytes,
    base64) that encrypts our own authority's keys; it is not needed if an authority is plugged in.
    """

    endpoints: Annotated[tuple[Annotated[str, AfterValidator(_etcd_endpoint)], ...], Field(min_length=1, max_length=16)]
    prefix: Annotated[str, Field(pattern=r"^/[-A-Za-z0-9._/]*/$", max_length=200)] = "/hostmesh/"
    root_cert: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    encryption_key_file: Path = Path("/etc/hostmesh/store.key")

    @model_validator(mode="after")
    def _tls(self) -> EtcdStore:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        if self.cert is not None and self.root_cert is None:
            raise ValueError("cert and key are for TLS, which root_cert switches on")
        return self


class Store(_Strict):
    """Where the state of the mesh is: in `documents_dir` and `state_dir`, or in an etcd that control planes share."""

    etcd: EtcdStore | None = None


class Registry(_Strict):
    """`lease`: how long a host may be silent before its endpoints leave rotation."""

    lease: Annotated[float, BeforeValidator(_duration), Field(ge=3, le=3600)] = 30.0


class Vips(_Strict):
    """Ranges from which services without an address get theirs; changing them moves the services."""

    ipv4: IPv4Network = MeshConfig().vip4
    ipv6: IPv6Network = MeshConfig().vip6


class Log(_Strict):
    """As in agent.yaml."""

    level: Literal["error", "warn", "info", "debug"] = "info"
    format: Literal["plain", "json"] = "plain"


class ControlPlaneConfig(_Strict):
    """The shape of control-plane.yaml.

    `names` are the DNS names and IP addresses by which agents call this host; the server certificate carries
    them beside the host's own name and loopback. `root_namespace` holds the mesh-wide policies.
    `extensionProviders` are as in Istio's mesh config.
    """

    listen: Listen = Listen()
    names: tuple[Annotated[str, AfterValidator(_host)], ...] = ()
    trust_domain: Annotated[str, AfterValidator(_trust_domain)] = "cluster.local"
    cluster_id: Annotated[str, Field(min_length=1, max_length=253)] = "Kubernetes"
    cluster_domain: Annotated[str, AfterValidator(_host)] = "cluster.local"
    network: str = ""
    root_namespace: Annotated[str, AfterValidator(_namespace)] = "istio-system"
    certificates: Certificates = Certificates()
    store: Store = Store()
    registry: Registry = Registry()
    vips: Vips = Vips()
    network_policies: NetworkPolicies = NetworkPolicies()
    extension_providers: Annotated[list[ExtensionProvider], AfterValidator(_unique), Field(max_length=64)] = Field(
        default=[], alias="extensionProviders"
    )
    log: Log = Log()
    documents_dir: Path = Path("/etc/hostmesh/documents")
    state_dir: Path = Path("/var/lib/hostmesh-control-plane")
    socket: Path = DEFAULT_SOCKET
    socket_group: str = "hostmesh"

    @property
    def mesh(self) -> MeshConfig:
        """What the translation needs of it."""
        return MeshConfig(
            trust_domain=self.trust_domain,
            cluster_id=self.cluster_id,
            network=self.network,
            root_namespace=self.root_namespace,
            cluster_domain=self.cluster_domain,
            enforce_in_tunnel=self.network_policies.enforce_in_tunnel,
            vip4=self.vips.ipv4,
            vip6=self.vips.ipv6,
            authorizers=tuple(made for one in self.extension_providers if (made := one.authorizer) is not None),
            access_logs=tuple(log for one in self.extension_providers if (log := one.access_log) is not None),
        )

    @property
    def server_names(self) -> tuple[str, ...]:
        """Names of the server certificate, once each."""
        return tuple(dict.fromkeys((*self.names, os.uname().nodename, "localhost", "127.0.0.1", "::1")))


def load(path: Path) -> ControlPlaneConfig:
    """Read the file; only the default one may be missing.

    Raises:
        InvalidYaml: every problem found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if path == DEFAULT_CONFIG:
            return ControlPlaneConfig()
        raise InvalidYaml([Problem(str(path), 1, "", "no such file; give its path with --config")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidYaml([Problem(str(path), 1, "", f"cannot be read: {error}")]) from error
    documents = load_documents(text, str(path))
    if not documents:
        return ControlPlaneConfig()
    if len(documents) > 1:
        raise InvalidYaml([documents[1].problem((), "one document only; remove what follows `---`")])
    if not isinstance(documents[0].value, dict):
        raise InvalidYaml([documents[0].problem((), "must be a mapping of settings, like `trust_domain: example.org`")])
    return parse(documents[0], ControlPlaneConfig)
