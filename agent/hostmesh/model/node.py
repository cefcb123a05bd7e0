"""A node of the mesh: a host, known by its certificate for spiffe://<trust domain>/ns/hostmesh-nodes/sa/<node>."""

from __future__ import annotations

import re

from hostmesh.model.identity import Identity

NODE_NAMESPACE = "hostmesh-nodes"
"""Reserved: a workload in this namespace would be taken for a host, so none may be registered there."""

INBOUND_NAMESPACE = "hostmesh-inbound"
"""Reserved: stands for the certificate of a whole host, which names its workloads and nobody of this namespace."""

RESERVED_NAMESPACES = frozenset({NODE_NAMESPACE, INBOUND_NAMESPACE})

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


def is_node_name(text: str) -> bool:
    """Whether a host may be called so: letters, digits, `.`, `_`, `-`, as host names are, at most 253."""
    return _NAME.fullmatch(text) is not None


def node_identity(trust_domain: str, node: str) -> Identity:
    """Whom the node's certificate names."""
    return Identity(trust_domain, NODE_NAMESPACE, node)


def node_of(identity: Identity, trust_domain: str) -> str | None:
    """The node whose identity this is; None for a workload or a foreign trust domain."""
    if identity.namespace != NODE_NAMESPACE or identity.trust_domain != trust_domain:
        return None
    return identity.service_account if is_node_name(identity.service_account) else None


def inbound_identity(trust_domain: str, node: str) -> Identity:
    """What the certificate of all workloads of a node is asked for, kept and listed as; it is in no certificate."""
    return Identity(trust_domain, INBOUND_NAMESPACE, node)
