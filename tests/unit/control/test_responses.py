"""Rules of shared responses."""

from __future__ import annotations

from hostmesh.control.responses import Responses, nonce_field
from hostmesh.control.snapshot import ResourceSet
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryResponse

NOTHING: dict[str, str] = {}


def test_those_who_hold_the_same_get_the_very_same_bytes() -> None:
    """Compared once, serialized once."""
    responses, target = Responses(), ResourceSet.of({"a": b"1", "b": b"2"})
    found = responses.compare(NOTHING, target)
    assert responses.compare(NOTHING, target) is found
    body = responses.body("t", target, found)
    assert responses.body("t", target, found) is body
    other = responses.compare(target.versions, ResourceSet.of({"a": b"1"}))
    assert (other.changed, other.removed) == ((), ("b",))


def test_pieces_are_one_message() -> None:
    """Type, resources, removals and nonce, as protobuf reads them."""
    target = ResourceSet.of({"a": b"1"})
    responses = Responses()
    found = responses.compare({"gone": "v"}, target)
    message = DeltaDiscoveryResponse.FromString(responses.body("t", target, found) + nonce_field("n1"))
    [resource] = message.resources
    assert (message.type_url, message.nonce, list(message.removed_resources)) == ("t", "n1", ["gone"])
    assert (resource.name, resource.version, resource.resource.type_url) == ("a", target.versions["a"], "t")
    assert resource.resource.value == b"1"


def test_many_worlds_do_not_pile_up() -> None:
    """Only the last few are kept, and an old one is answered right again."""
    responses = Responses()
    sets = [ResourceSet.of({"a": bytes([number])}) for number in range(50)]
    for target in sets:
        assert responses.body("t", target, responses.compare(NOTHING, target))
    assert len(responses._bodies) < 10
    assert b"\x00" in responses.body("t", sets[0], responses.compare(NOTHING, sets[0]))
