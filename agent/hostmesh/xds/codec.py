"""xDS resources as model values and back: the one door to the codecs (istio.workload, istio.security)."""

from __future__ import annotations

from hostmesh.xds.address_codec import decode_address, encode_service, encode_workload
from hostmesh.xds.fields import Rejected
from hostmesh.xds.network_policy_codec import (
    decode_policy_resource,
    encode_policy_resource,
    resource_name,
)
from hostmesh.xds.policy_codec import decode_authorization, encode_authorization
from hostmesh.xds.trust_codec import decode_trust, encode_trust
from hostmesh.xds.types import (
    ADDRESS_TYPE,
    AUTHORIZATION_TYPE,
    ENFORCING_TYPES,
    NETWORK_POLICY_TYPE,
    OWN_TYPES,
    TRUST_TYPE,
    TYPES,
    WAYPOINT_TYPE,
    WAYPOINT_TYPES,
)
from hostmesh.xds.waypoint_codec import decode_program, encode_program, program_name

__all__ = [
    "ADDRESS_TYPE",
    "AUTHORIZATION_TYPE",
    "ENFORCING_TYPES",
    "NETWORK_POLICY_TYPE",
    "OWN_TYPES",
    "TRUST_TYPE",
    "TYPES",
    "WAYPOINT_TYPE",
    "WAYPOINT_TYPES",
    "Rejected",
    "decode_address",
    "decode_authorization",
    "decode_policy_resource",
    "decode_program",
    "decode_trust",
    "encode_authorization",
    "encode_policy_resource",
    "encode_program",
    "encode_service",
    "encode_trust",
    "encode_workload",
    "program_name",
    "resource_name",
]
