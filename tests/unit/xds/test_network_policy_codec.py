"""NetworkPolicies' way over the wire, and what of them is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.policies import World, worlds

from hostmesh.model.network_policy import NamespaceLabels
from hostmesh.wire.proto import network_policy_pb2 as pb
from hostmesh.xds.codec import (
    Rejected,
    decode_policy_resource,
    encode_policy_resource,
    resource_name,
)

INGRESS = [pb.INGRESS]


@given(worlds(shared_addresses=True))
def test_what_is_encoded_is_decoded(world: World) -> None:
    """Policies, members and labels of namespaces, each under its own name."""
    labels = [NamespaceLabels(name, found) for name, found in world.membership.namespaces.items()]
    resources = [*world.policies, *world.members, *labels]
    assert [decode_policy_resource(encode_policy_resource(one)) for one in resources] == resources
    assert len({resource_name(one) for one in resources}) == len(resources)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_rejected(data: bytes) -> None:
    """Nothing else comes out of bytes of a stranger."""
    try:
        decode_policy_resource(data)
    except Rejected:
        return


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (pb.NetworkPolicy(name="p"), "isolates nothing"),
        (pb.NetworkPolicy(isolates=INGRESS, ingress=[pb.Rule(peers=[pb.Peer()])]), "neither a block"),
        (
            pb.NetworkPolicy(isolates=INGRESS, ingress=[pb.Rule(peers=[pb.Peer(workloads=pb.Workloads())])]),
            "neither workloads nor namespaces",
        ),
        (
            pb.NetworkPolicy(isolates=INGRESS, ingress=[pb.Rule(peers=[pb.Peer(block=pb.Block(cidr="10.0.0.1/8"))])]),
            "block of addresses that is none",
        ),
        (
            pb.NetworkPolicy(isolates=INGRESS, ingress=[pb.Rule(ports=[pb.Port(protocol=pb.TCP, first=9, last=8)])]),
            "no range",
        ),
        (pb.NetworkPolicy(isolates=INGRESS, ingress=[pb.Rule(ports=[pb.Port(last=8)])]), "enumeration"),
    ],
)
def test_what_cannot_be_judged_is_rejected(policy: pb.NetworkPolicy, why: str) -> None:
    """As a whole: without the part that is wrong it would be another policy."""
    with pytest.raises(Rejected, match=why):
        decode_policy_resource(pb.Resource(policy=policy).SerializeToString())
