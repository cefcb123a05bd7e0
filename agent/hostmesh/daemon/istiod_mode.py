"""With istiod as the control plane: Istio's own, which enrols no hosts and knows each workload by itself."""

from __future__ import annotations

from collections.abc import Sequence

from hostmesh.config.agent import AgentConfig
from hostmesh.identity.istiod import IstiodAccess
from hostmesh.model.endpoint import Endpoint
from hostmesh.model.identity import Identity
from hostmesh.rpc.roots import Roots
from hostmesh.xds.client import NodeInfo


def istiod_access(config: AgentConfig, endpoints: Endpoint | Sequence[Endpoint], roots: Roots) -> IstiodAccess | None:
    """How this host's workloads reach istiod; None where the control plane is hostmesh's."""
    settings = config.settings
    if settings.local or settings.control_plane.kind != "istiod":
        return None
    return IstiodAccess(
        endpoints,
        roots,
        tokens=settings.control_plane.tokens,
        certificates=settings.control_plane.client_certificates,
        store=settings.state_dir / "istiod",
        cluster_id=settings.cluster_id,
        ttl=settings.certificates.ttl,
    )


def xds_identity(config: AgentConfig) -> Identity:
    """As whom the xDS stream is opened."""
    namespace, _, service_account = config.settings.control_plane.xds_identity.partition("/")
    return Identity(config.settings.trust_domain, namespace, service_account)


def istiod_node(name: str, address: str, identity: Identity, metadata: dict[str, str]) -> NodeInfo:
    """As istiod checks it: namespace and service account are the token's.

    WorkloadEntries are on no node, so none is named: istiod would look for pods on it.
    """
    own = {"NAMESPACE": identity.namespace, "SERVICE_ACCOUNT": identity.service_account, "NODE_NAME": ""}
    return NodeInfo(name, address, identity.namespace, {**own, **metadata})
