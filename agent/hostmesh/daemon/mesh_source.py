"""Where the picture of the mesh comes from when it is a control plane: the xDS client for hostmesh's own, or istiod."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hostmesh import __version__
from hostmesh.config.agent import AgentConfig
from hostmesh.config.settings import Settings
from hostmesh.daemon.istiod_mode import istiod_node, xds_identity
from hostmesh.identity.istiod import IstiodAccess
from hostmesh.model.endpoint import Endpoint
from hostmesh.rpc.channel import ControlPlane
from hostmesh.xds.client import Companion, NodeInfo, XdsClient, XdsStatus, XdsUpdate
from hostmesh.xds.codec import ADDRESS_TYPE, AUTHORIZATION_TYPE, ENFORCING_TYPES, TYPES
from hostmesh.xds.types import node_services_alias

ISTIO_TYPES = (ADDRESS_TYPE, AUTHORIZATION_TYPE)


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is told of changes, and of the connection, and what else hostmesh's own is used for (`companion`)."""

    on_update: Callable[[XdsUpdate], None]
    on_status: Callable[[XdsStatus], None]
    companion: Companion | None = None


def control_planes(config: AgentConfig) -> tuple[Endpoint, ...]:
    """All of them, in an order of this node's own, so that a fleet spreads over them.

    Where the mesh comes from a file, one that nobody asks: whatever is said of it, it may be nothing.
    """
    if config.settings.local:
        return (Endpoint("localhost"),)
    where = config.settings.control_plane
    found = [Endpoint.parse(text, where.server_name) for text in where.everywhere]
    first = zlib.crc32(config.node.encode()) % len(found)
    return (*found[first:], *found[:first])


def mesh_source(
    config: AgentConfig,
    endpoint: Endpoint,
    control_plane: ControlPlane,
    istiod: IstiodAccess | None,
    listeners: Listeners,
) -> XdsClient:
    """The client, not running yet.

    Args:
        config: of the agent.
        endpoint: of the control plane.
        control_plane: with the node's files.
        istiod: how istiod is reached, where it is that.
        listeners: who is told.
    """
    settings = config.settings
    snapshot, address = settings.state_dir / "xds-snapshot", _own_address(endpoint)
    if istiod is not None:
        identity = xds_identity(config)
        return XdsClient(
            istiod.control_plane(identity),
            istiod_node(config.node, address, identity, _metadata(settings)),
            listeners.on_update,
            on_status=listeners.on_status,
            types=ISTIO_TYPES,
            snapshot_path=snapshot,
            headers=partial(istiod.headers, identity),
        )
    return XdsClient(
        control_plane,
        NodeInfo(config.node, address, metadata=_metadata(settings)),
        listeners.on_update,
        on_status=listeners.on_status,
        companion=listeners.companion,
        on_demand=[node_services_alias(config.node)] if settings.xds_on_demand else None,
        types=ENFORCING_TYPES if settings.network_policy.enforce else TYPES,
        snapshot_path=snapshot,
    )


def _metadata(settings: Settings) -> dict[str, str]:
    """What this node says of itself beside its name; the operator's words win."""
    return {"CLUSTER_ID": settings.cluster_id, "HOSTMESH_VERSION": __version__, **settings.control_plane.metadata}


def _own_address(endpoint: Endpoint) -> str:
    """This host's address as the control plane would see it; no packet is sent to find out."""
    try:
        family, _, _, _, target = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"
