"""The one door to the codecs leads to all of them, under the type URLs that proxies subscribe to."""

from __future__ import annotations

from hostmesh.model.authorization import Action, Authorization, PolicyScope
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.wire.proto import authorization_pb2, trust_pb2, workload_pb2
from hostmesh.xds import codec


def test_type_urls_are_the_names_of_the_messages() -> None:
    """A typo here would be acknowledged and ignored by every peer."""
    messages = (trust_pb2.TrustBundle, workload_pb2.Address, authorization_pb2.Authorization)
    names = [f"type.googleapis.com/{message.DESCRIPTOR.full_name}" for message in messages]
    assert names == [codec.TRUST_TYPE, codec.ADDRESS_TYPE, codec.AUTHORIZATION_TYPE]
    assert list(codec.TYPES) == names


def test_workloads_and_services_share_a_type() -> None:
    """The resource itself says which it is."""
    workload = Workload(uid="u", name="n", namespace="ns")
    service = Service(name="n", namespace="ns", hostname="h")
    policy = Authorization("p", "ns", PolicyScope.GLOBAL, Action.DENY)
    assert codec.decode_address(codec.encode_workload(workload).SerializeToString()) == workload
    assert codec.decode_address(codec.encode_service(service).SerializeToString()) == service
    assert codec.decode_authorization(codec.encode_authorization(policy).SerializeToString()) == policy
