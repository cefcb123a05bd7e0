"""ztunnel's environment variables as settings of ours, and those that have no effect on a host."""

from __future__ import annotations

import fnmatch
import math
import os
from collections.abc import Callable, Iterator, Mapping

from hostmesh.config import own_metadata
from hostmesh.config.durations import parse_duration
from hostmesh.config.layer import Layer, Wrong
from hostmesh.config.settings import LEVELS

MIN_STOP = 1.0


def _text(value: str) -> object:
    return value


def _filled(value: str) -> object:
    if not value:
        raise Wrong("is empty; give it a value, or unset it")
    return value


def _whole(value: str) -> object:
    try:
        return int(value)
    except ValueError:
        raise Wrong(f"{value!r} is not a whole number; write it in digits, like 100") from None


def _boolean(value: str) -> object:
    if value not in ("true", "false"):
        raise Wrong(f"{value!r} is neither true nor false; write one of them")
    return value == "true"


def _duration(value: str) -> object:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise Wrong(str(error)) from None


def _address(value: str) -> object:
    scheme, separator, rest = value.rpartition("://")
    if separator and scheme != "https":
        raise Wrong(f"{value!r}: only https is possible")
    return rest


def _root_file(value: str) -> object:
    if not value or value == "SYSTEM" or "-----BEGIN" in value:
        raise Wrong("must be the path of a file with the control plane's root certificate")
    return value


def _threads(value: str) -> object:
    if not value.endswith("%"):
        return _whole(value)
    percent = value[:-1].strip()
    if not percent.isdecimal() or not 0 < int(percent) <= 100:
        raise Wrong(f"{value!r} is neither a number nor a percentage; write one like 4 or 50%")
    return max(1, math.ceil(len(os.sched_getaffinity(0)) * int(percent) / 100))


def _grace(value: str) -> object:
    """What is left of the grace period for connections, as ztunnel counts it (but never less than a second)."""
    seconds = _whole(value)
    assert isinstance(seconds, int)
    if seconds < 0:
        raise Wrong(f"{value!r} is less than nothing; write how many seconds a stop may take")
    return max(MIN_STOP, float(seconds - 5 if seconds > 10 else seconds - 1))


def _levels(value: str) -> object:
    """A filter as Rust's programs take it; what it says of ztunnel is meant for this program."""
    return ",".join(filter(None, map(_directive, value.split(",")))) or "info"


def _directive(text: str) -> str:
    target, separator, level = text.strip().rpartition("=")
    if not separator and level.lower() not in LEVELS:
        target, level = level, "trace" if level else ""  # a target by itself is all of it
    if target.startswith("hickory_server"):
        return ""
    target = target.removeprefix("ztunnel").removeprefix("::").lower()
    return f"{target}={level.lower()}" if target else level.lower()


_SETTINGS: tuple[tuple[str, str, Callable[[str], object]], ...] = (
    ("NODE_NAME", "node", _text),
    ("NETWORK", "network", _text),
    ("CLUSTER_ID", "cluster_id", _text),
    ("ISTIO_META_CLUSTER_ID", "cluster_id", _text),
    ("CLUSTER_DOMAIN", "dns.domain", _text),
    ("TRUST_DOMAIN", "trust_domain", _filled),
    ("XDS_ADDRESS", "control_plane.address", _address),
    ("XDS_ROOT_CA", "control_plane.root_cert", _root_file),
    ("ALT_XDS_HOSTNAME", "control_plane.server_name", _filled),
    ("SECRET_TTL", "certificates.ttl", _duration),
    ("POOL_MAX_STREAMS_PER_CONNECTION", "pool_max_streams", _whole),
    ("POOL_UNUSED_RELEASE_TIMEOUT", "pool_unused_release", _duration),
    ("HTTP2_STREAM_WINDOW_SIZE", "http2.stream_window", _whole),
    ("HTTP2_CONNECTION_WINDOW_SIZE", "http2.connection_window", _whole),
    ("HTTP2_FRAME_SIZE", "http2.max_frame_size", _whole),
    ("TERMINATION_GRACE_PERIOD_SECONDS", "drain_deadline", _grace),
    ("CONNECTION_TERMINATION_DEADLINE", "drain_deadline", _duration),
    ("KEEPALIVE_ENABLED", "sockets.keepalive", _boolean),
    ("KEEPALIVE_TIME", "sockets.keepalive_time", _duration),
    ("KEEPALIVE_INTERVAL", "sockets.keepalive_interval", _duration),
    ("KEEPALIVE_RETRIES", "sockets.keepalive_retries", _whole),
    ("USER_TIMEOUT_ENABLED", "sockets.user_timeout", _boolean),
    ("ENABLE_RESPONSE_BAGGAGE", "response_baggage", _boolean),
    ("ENABLE_ORIG_SRC", "original_source", _boolean),
    ("UNSTABLE_ENABLE_SOCKS5", "socks5", _boolean),
    ("IPV6_ENABLED", "ipv6", _boolean),
    ("ZTUNNEL_WORKER_THREADS", "workers", _threads),
    ("LOCAL_XDS_PATH", "local_xds_path", _filled),
    ("LOCAL_XDS", "local_xds", _text),
    ("XDS_ON_DEMAND", "xds_on_demand", _boolean),
    ("RUST_LOG", "log.level", _levels),
    ("LOG_FORMAT", "log.format", _text),
)
"""Variable, setting, how it is read. Where two mean the same setting, the later one wins."""

_METADATA = "ISTIO_META_"

_WITHOUT_EFFECT = (
    *("ENABLE_PROXY", "PROXY_MODE", "PROXY_WORKLOAD_INFO", "POD_NAMESPACE", "POD_NAME"),
    *("SERVICE_ACCOUNT", "XDS_HEADER_*", "PREFERED_SERVICE_NAMESPACE", "CA_ADDRESS", "CA_ROOT_CA"),
    *("ALT_CA_HOSTNAME", "CA_HEADER_*", "AUTH_TOKEN", "FAKE_CA", "CRL_PATH", "PACKET_MARK"),
    *("INPOD_UDS", "INPOD_PORT_REUSE", "LOCALHOST_APP_TUNNEL", "AUTHZ_POLICY_INFO_LOGGING"),
    *("TLS12_ENABLED", "COMPLIANCE_POLICY", "ZTUNNEL_CPU_LIMIT", "ZTUNNEL_RESOURCE_CPU_*", "ISTIO_METAJSON_*"),
    "INSTANCE_IP",
)
"""What ztunnel reads and a host's agent does differently; docs/ztunnel-differences.md says why."""


def layer(environment: Mapping[str, str]) -> Layer:
    """What the variables say.

    Raises:
        InvalidYaml: a value cannot be read; all such variables are named.
    """
    said = Layer()
    for variable, setting, convert in _SETTINGS:
        if variable in environment:
            said.read(setting, environment[variable], f"${variable}", convert)
    for variable, value in sorted(environment.items()):
        name = variable.removeprefix(_METADATA)
        if name != variable and name and name != "CLUSTER_ID":
            own_metadata.put(said, name, value, f"${variable}")
    said.check()
    return said


def without_effect(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Variables that are set and mean something to ztunnel, but nothing here, sorted."""
    return tuple(sorted(set(_matching(environment))))


def _matching(environment: Mapping[str, str]) -> Iterator[str]:
    for pattern in _WITHOUT_EFFECT:
        yield from fnmatch.filter(environment, pattern)
