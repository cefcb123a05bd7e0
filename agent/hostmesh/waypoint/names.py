"""Names of listeners, chains, clusters and files in the Envoy of a waypoint; Istio's where it has one."""

from __future__ import annotations

CONNECT_TERMINATE = "connect_terminate"
MAIN_INTERNAL = "main_internal"
CONNECT_ORIGINATE = "connect_originate"
HBONE_PORT = 15008

L4_DENY = "hostmesh.l4_deny"
L4_ALLOW = "hostmesh.l4_allow"
RBAC_AUDIT = "hostmesh.audit"
RBAC_DENY = "hostmesh.deny"
RBAC_ALLOW = "hostmesh.allow"
CONNECT_AUTHORITY = "hostmesh.connect_authority"
ORIGINAL_DST = "envoy.filters.listener.original_dst"
LOCAL_IP = f"{ORIGINAL_DST}.local_ip"
REMOTE_IP = f"{ORIGINAL_DST}.remote_ip"
METADATA = "hostmesh"
MISSING = "backend-not-found"
OURS = "hostmesh"
"""The namespace of rules that no document has written."""


def chain(port: int, protocol: str, hostname: str) -> str:
    """The chain that serves a port of a service; `protocol` is http or tcp."""
    return f"inbound-vip|{port}|{protocol}|{hostname}"


def cluster(port: int, hostname: str) -> str:
    """The endpoints of a port of a service."""
    return f"inbound-vip|{port}||{hostname}"


def encap(address: str) -> str:
    """A workload that is addressed by its IP, whatever the port."""
    return f"encap|{address}"


def direct(protocol: str, address: str) -> str:
    """The chain for a workload that is addressed by its IP."""
    return f"direct|{protocol}|{address}"


def custom(authorizer: str, part: str) -> str:
    """The filters of an external authorizer; `part` is rbac or ext_authz."""
    return f"hostmesh.custom.{authorizer}.{part}"


def authorizer(name: str) -> str:
    """The cluster of an external authorizer."""
    return f"authorizer|{name}"


def key_set(number: int) -> str:
    """The cluster that a JWT issuer's keys are fetched from."""
    return f"jwks|{number}"


def host_port(host: str, port: int) -> str:
    """As an authority writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
