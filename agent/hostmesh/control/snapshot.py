"""Snapshot: all that the control plane serves at one moment, by type and name, with content hashes as versions."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from hostmesh.control.aliases import Aliases, aliases
from hostmesh.model.authorization import Authorization
from hostmesh.model.service import Service
from hostmesh.model.waypoint import WaypointProgram
from hostmesh.model.workload import Workload
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryResponse, Resource
from hostmesh.xds.codec import (
    ADDRESS_TYPE,
    AUTHORIZATION_TYPE,
    NETWORK_POLICY_TYPE,
    WAYPOINT_TYPE,
    PolicyResource,
    Rejected,
    decode_address,
    decode_authorization,
    encode_authorization,
    encode_policy_resource,
    encode_program,
    encode_service,
    encode_workload,
    program_name,
    resource_name,
)

_Model = TypeVar("_Model")

_log = logging.getLogger(__name__)

EVERYBODY = "*"
"""Among names that stand for something else: any name may, since a block of addresses does."""

_DECODE: Mapping[str, Callable[[bytes], object]] = {
    ADDRESS_TYPE: decode_address,
    AUTHORIZATION_TYPE: decode_authorization,
}


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """All resources of one type. `versions` and `data` have the same names; neither may be changed afterwards.

    `entries` keeps what `entry` has serialized, so that it is done once for all clients.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, bytes] = field(default_factory=dict)
    entries: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, data: Mapping[str, bytes]) -> ResourceSet:
        """From serialized resources by name."""
        return cls({name: content_version(value) for name, value in data.items()}, dict(data))

    def entry(self, type_url: str, name: str) -> bytes:
        """A resource as it stands in a serialized response."""
        found = self.entries.get(name)
        if found is None:
            packed = Any(type_url=type_url, value=self.data[name])
            one = Resource(name=name, version=self.versions[name], resource=packed)
            found = self.entries[name] = DeltaDiscoveryResponse(resources=[one]).SerializeToString()
        return found


@dataclass(frozen=True, slots=True)
class Difference:
    """What a client that holds one set must be told to hold another."""

    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is served. `aliases` maps all else that may be asked for to the names of the resources that it means."""

    addresses: ResourceSet = field(default_factory=ResourceSet)
    authorizations: ResourceSet = field(default_factory=ResourceSet)
    network_policies: ResourceSet = field(default_factory=ResourceSet)
    programs: ResourceSet = field(default_factory=ResourceSet)
    aliases: Aliases = field(default_factory=Aliases)

    @classmethod
    def of(
        cls,
        workloads: Iterable[Workload] = (),
        services: Iterable[Service] = (),
        authorizations: Iterable[Authorization] = (),
        network_policies: Iterable[PolicyResource] = (),
        programs: Iterable[WaypointProgram] = (),
        *,
        encodings: Encodings | None = None,
    ) -> Snapshot:
        """From the model. Later objects of the same key replace earlier ones.

        Args:
            workloads: of the mesh.
            services: of the mesh.
            authorizations: L4 policies.
            network_policies: and whom they can mean.
            programs: of waypoints.
            encodings: of the snapshot before: what has not changed is not serialized again.
        """
        workloads, services, known = tuple(workloads), tuple(services), encodings or Encodings()
        models: Iterator[Workload | Service] = chain(workloads, services)
        addresses = known.encode(ADDRESS_TYPE, ((one.key, one) for one in models), _encode_address)
        policies = known.encode(AUTHORIZATION_TYPE, ((one.key, one) for one in authorizations), encode_authorization)
        network = {resource_name(one): encode_policy_resource(one) for one in network_policies}
        waypoints = {program_name(one): encode_program(one) for one in programs}
        of = ResourceSet.of
        return cls(addresses, policies, of(network), of(waypoints), aliases(workloads, services))

    def of_type(self, type_url: str) -> ResourceSet:
        """The resources of a type; none for a type that is not served."""
        return self.by_type().get(type_url) or ResourceSet()

    def by_type(self) -> Mapping[str, ResourceSet]:
        """All that is served."""
        return {
            ADDRESS_TYPE: self.addresses,
            AUTHORIZATION_TYPE: self.authorizations,
            NETWORK_POLICY_TYPE: self.network_policies,
            WAYPOINT_TYPE: self.programs,
        }


class Encodings:
    """The serialized resources of the last snapshot, to be used again where the model is still the same."""

    def __init__(self) -> None:
        self._models: dict[str, dict[str, object]] = {}
        self._sets: dict[str, ResourceSet] = {}

    def encode(
        self, type_url: str, objects: Iterable[tuple[str, _Model]], encode: Callable[[_Model], Message]
    ) -> ResourceSet:
        """The set of these models with their names."""
        models, last = self._models.get(type_url, {}), self._sets.get(type_url, ResourceSet())
        now: dict[str, object] = {}
        versions: dict[str, str] = {}
        data: dict[str, bytes] = {}
        entries: dict[str, bytes] = {}
        for name, model in objects:
            before = models.get(name)
            if before is model or before == model:
                now[name] = before
            else:
                now[name], encoded = model, encode(model).SerializeToString(deterministic=True)
                if self._acceptable(type_url, name, encoded):
                    data[name], versions[name] = encoded, content_version(encoded)
                    entries.pop(name, None)
                    continue
            if name in last.data:
                versions[name], data[name] = last.versions[name], last.data[name]
                if name in last.entries:
                    entries[name] = last.entries[name]
        found = ResourceSet(versions, data, entries)
        self._models[type_url], self._sets[type_url] = now, found
        return found

    @staticmethod
    def _acceptable(type_url: str, name: str, encoded: bytes) -> bool:
        """Whether a proxy takes it: one that it rejects would keep a stock ztunnel from ever becoming ready."""
        try:
            _DECODE[type_url](encoded)
        except Rejected as rejected:
            _log.error("xds: %s is not sent, its last good state stays: %s", name, rejected.reason)
            return False
        return True


def _encode_address(one: Workload | Service) -> Message:
    return encode_workload(one) if isinstance(one, Workload) else encode_service(one)


def content_version(data: bytes) -> str:
    """Equal for equal bytes, on every control plane and over restarts."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def difference(held: Mapping[str, str], target: ResourceSet) -> Difference:
    """What turns `held` (name -> version) into `target`; names in order."""
    if held is target.versions:
        return Difference((), ())
    changed = tuple(sorted(name for name, version in target.versions.items() if held.get(name) != version))
    removed = tuple(sorted(name for name in held if name not in target.versions))
    return Difference(changed, removed)


def news(before: Snapshot, after: Snapshot) -> Mapping[str, frozenset[str]]:
    """By type, the names that stand for something else than before: resources, and all else that may be asked for."""
    found: dict[str, frozenset[str]] = {}
    for type_url, target in after.by_type().items():
        compared = difference(before.of_type(type_url).versions, target)
        found[type_url] = frozenset((*compared.changed, *compared.removed))
    old, new = before.aliases.exact, after.aliases.exact
    renamed = (name for name, meant in new.items() if old.get(name) != meant)
    gone = (name for name in old if name not in new)
    moved = () if before.aliases.blocks == after.aliases.blocks else (EVERYBODY,)
    found[ADDRESS_TYPE] = found[ADDRESS_TYPE].union(renamed, gone, moved)
    return found
