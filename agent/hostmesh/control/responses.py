"""Responses: makes delta responses, each serialized once for all the clients that are told the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from hostmesh.control.resource_set import Difference, ResourceSet, difference
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryResponse

_Kept = TypeVar("_Kept")

_KEPT = 8


class Responses:
    """Remembers the last few answers: most clients hold the same state, and are to hold the same next."""

    def __init__(self) -> None:
        self._compared: dict[tuple[int, int], tuple[Mapping[str, str], ResourceSet, Difference]] = {}
        self._bodies: dict[tuple[int, int], tuple[ResourceSet, Difference, bytes]] = {}

    def compare(self, held: Mapping[str, str], target: ResourceSet) -> Difference:
        """`difference`, and the very same object for who holds the very same."""
        key = (id(held), id(target))
        last = self._compared.get(key)
        if last is not None and last[0] is held and last[1] is target:
            return last[2]
        found = difference(held, target)
        _make_room(self._compared)
        self._compared[key] = (held, target, found)
        return found

    def body(self, type_url: str, target: ResourceSet, found: Difference) -> bytes:
        """A serialized response without its nonce: protobuf fields may follow each other in pieces."""
        key = (id(target), id(found))
        last = self._bodies.get(key)
        if last is not None and last[0] is target and last[1] is found:
            return last[2]
        head = DeltaDiscoveryResponse(type_url=type_url, removed_resources=found.removed).SerializeToString()
        body = b"".join((head, *(target.entry(type_url, name) for name in found.changed)))
        _make_room(self._bodies)
        self._bodies[key] = (target, found, body)
        return body


def nonce_field(nonce: str) -> bytes:
    """What makes a body one client's response: it is to follow."""
    return DeltaDiscoveryResponse(nonce=nonce).SerializeToString()


def _make_room(kept: dict[tuple[int, int], _Kept]) -> None:
    if len(kept) >= _KEPT:
        del kept[next(iter(kept))]
