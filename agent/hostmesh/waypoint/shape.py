"""Small pieces of Envoy's configuration that all parts of it are made of (Envoy API v3)."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

Json = dict[str, Any]

CURRENT = "current"
"""The link to the generation of files that is in force."""

_TYPES = "type.googleapis.com/"
_EXTENSIONS = "envoy.extensions"


def typed(name: str, kind: str, **config: object) -> Json:
    """A named extension: `kind` is its message below `envoy.extensions`."""
    return {"name": name, "typed_config": message(f"{_EXTENSIONS}.{kind}", **config)}


def message(kind: str, **fields: object) -> Json:
    """A message packed into Any."""
    return {"@type": f"{_TYPES}{kind}", **fields}


def per_filter(kind: str, **config: object) -> Json:
    """A filter's configuration for one virtual host or route."""
    return message(f"{_EXTENSIONS}.{kind}", **config)


def socket_address(host: str, port: int) -> Json:
    """An IP address or, where DNS is used, a name."""
    return {"socket_address": {"address": host, "port_value": port}}


def internal_address(listener: str, endpoint: str = "") -> Json:
    """A listener inside the same process; `endpoint` tells endpoints of one listener apart."""
    inner = {"server_listener_name": listener}
    if endpoint:
        inner["endpoint_id"] = endpoint
    return {"envoy_internal_address": inner}


def cidr(text: str) -> Json:
    """An address or network as CidrRange."""
    network = ip_network(text, strict=False)
    return {"address_prefix": str(network.network_address), "prefix_len": network.prefixlen}


def duration(seconds: float) -> str:
    """As protobuf's JSON writes it."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def file_source(directory: str, name: str) -> Json:
    """Where Envoy reads a resource; it looks again when the generation called `current` is replaced."""
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": f"{directory}/{CURRENT}/{name}", "watched_directory": {"path": directory}},
    }
