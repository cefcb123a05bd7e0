"""Origin: who made an inbound connection, as metrics and the log name it (by address and identity, else baggage)."""

from __future__ import annotations

from hostmesh.model.address import IPAddress, NetworkAddress
from hostmesh.model.identity import Identity
from hostmesh.model.workload import Workload
from hostmesh.state.store import MeshState
from hostmesh.telemetry.access_log import End
from hostmesh.telemetry.labels import Peer
from hostmesh.wire.baggage import Baggage


def find_origin(state: MeshState, network: str, ip: IPAddress, identity: Identity | None) -> Workload | None:
    """The workload at the peer's address; of several that share it, the one with the peer's identity.

    Args:
        state: what the control plane told.
        network: of this host.
        ip: the TCP peer's.
        identity: from its certificate, None for plaintext, which cannot tell workloads of one host apart.
    """
    found = state.workloads_at(NetworkAddress(network, ip))
    if identity is not None:
        matching = [workload for workload in found if workload.identity == identity]
        return matching[0] if matching else None
    return found[0] if len(found) == 1 else None


def describe_origin(
    workload: Workload | None, identity: Identity | None, stated: Baggage | None
) -> tuple[Peer | None, End]:
    """For labels and log: what the control plane says, else what the peer says about itself."""
    if workload is not None:
        return Peer.of(workload), End(workload, identity)
    if stated is None:
        return None, End(None, identity)
    namespace = identity.namespace if identity is not None else stated.namespace
    peer = Peer(
        workload=stated.workload_name,
        canonical_service=stated.service_name,
        revision=stated.revision,
        namespace=namespace,
        app=stated.workload_name,
        cluster=stated.cluster_id,
        region=stated.region,
        zone=stated.zone,
    )
    return peer, End(None, identity, stated.workload_name, namespace, stated.cluster_id)
