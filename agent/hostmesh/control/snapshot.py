"""Snapshot: all that the control plane serves at one moment, by type and name; each is made from the one before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from google.protobuf.message import Message

from hostmesh.control.aliases import Aliases, AliasIndex
from hostmesh.control.objects import Changes, Objects
from hostmesh.control.resource_set import Difference, ResourceSet, content_version, difference
from hostmesh.model.authorization import Authorization
from hostmesh.model.network_policy import PolicyResource
from hostmesh.model.service import Service
from hostmesh.model.waypoint import WaypointProgram
from hostmesh.model.workload import Workload
from hostmesh.xds.codec import (
    ADDRESS_TYPE,
    AUTHORIZATION_TYPE,
    NETWORK_POLICY_TYPE,
    WAYPOINT_TYPE,
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

__all__ = ["Difference", "ResourceSet", "Snapshot", "SnapshotMaker", "content_version", "difference", "news"]

_Model = TypeVar("_Model")

_log = logging.getLogger(__name__)

News = Mapping[str, frozenset[str]]
"""By type, the names that stand for something else than before: resources, and all else that may be asked for."""

EVERYBODY = "*"
"""Among names that stand for something else: any name may, since a block of addresses does."""


_NOTHING = ResourceSet()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is served. `aliases` maps all else that may be asked for to the names of the resources that it means.

    `news` is what has changed since the snapshot `after`, which is known by its `mark`.
    """

    addresses: ResourceSet = field(default_factory=ResourceSet)
    authorizations: ResourceSet = field(default_factory=ResourceSet)
    network_policies: ResourceSet = field(default_factory=ResourceSet)
    programs: ResourceSet = field(default_factory=ResourceSet)
    aliases: Aliases = field(default_factory=Aliases)
    mark: object = field(default_factory=object, compare=False, repr=False)
    after: object = field(default=None, compare=False, repr=False)
    news: News = field(default_factory=dict, compare=False, repr=False)

    def of_type(self, type_url: str) -> ResourceSet:
        """The resources of a type; none for a type that is not served."""
        return self.by_type().get(type_url) or _NOTHING

    def by_type(self) -> Mapping[str, ResourceSet]:
        """All that is served."""
        return {
            ADDRESS_TYPE: self.addresses,
            AUTHORIZATION_TYPE: self.authorizations,
            NETWORK_POLICY_TYPE: self.network_policies,
            WAYPOINT_TYPE: self.programs,
        }


class _Kind(Generic[_Model]):
    """Models of one kind: what a new list of them changes, serialized."""

    def __init__(
        self,
        key: Callable[[_Model], str],
        encode: Callable[[_Model], bytes],
        check: Callable[[bytes], object] | None = None,
    ) -> None:
        self._objects: Objects[_Model] = Objects(key)
        self._encode = encode
        self._check = check

    def take(self, models: Iterable[_Model]) -> tuple[Changes[_Model], dict[str, bytes], list[str]]:
        """What changes, what is to be sent because of it, and what is to be taken away."""
        changes = self._objects.take(tuple(models))
        fresh: dict[str, bytes] = {}
        for name, (_, model) in changes.items():
            if model is not None:
                encoded = self._encode(model)
                if self._acceptable(name, encoded):
                    fresh[name] = encoded
        return changes, fresh, [name for name, (_, model) in changes.items() if model is None]

    def _acceptable(self, name: str, encoded: bytes) -> bool:
        """Whether a proxy takes it: one that it rejects would keep a stock ztunnel from ever becoming ready."""
        if self._check is None:
            return True
        try:
            self._check(encoded)
        except Rejected as rejected:
            _log.error("xds: %s is not sent, its last good state stays: %s", name, rejected.reason)
            return False
        return True


class SnapshotMaker:
    """Makes each snapshot from the one before: only what has changed is compared, named, serialized and hashed."""

    def __init__(self) -> None:
        self._last = Snapshot()
        self._workloads: _Kind[Workload] = _Kind(
            lambda one: one.uid, lambda one: _bytes(encode_workload(one)), decode_address
        )
        self._services: _Kind[Service] = _Kind(
            lambda one: one.key, lambda one: _bytes(encode_service(one)), decode_address
        )
        self._authorizations: _Kind[Authorization] = _Kind(
            lambda one: one.key, lambda one: _bytes(encode_authorization(one)), decode_authorization
        )
        self._network_policies: _Kind[PolicyResource] = _Kind(resource_name, encode_policy_resource)
        self._programs: _Kind[WaypointProgram] = _Kind(program_name, encode_program)
        self._index = AliasIndex()

    def make(
        self,
        workloads: Iterable[Workload] = (),
        services: Iterable[Service] = (),
        authorizations: Iterable[Authorization] = (),
        network_policies: Iterable[PolicyResource] = (),
        programs: Iterable[WaypointProgram] = (),
    ) -> Snapshot:
        """The snapshot of these. Later objects of the same key replace earlier ones.

        Args:
            workloads: of the mesh.
            services: of the mesh.
            authorizations: L4 policies.
            network_policies: and whom they can mean.
            programs: of waypoints.
        """
        last = self._last
        moved, fresh, gone = self._workloads.take(workloads)
        altered, more, less = self._services.take(services)
        before = self._index.aliases
        renamed = self._index.update([*moved.values(), *altered.values()])
        _, policies, no_policies = self._authorizations.take(authorizations)
        _, network, no_network = self._network_policies.take(network_policies)
        _, waypoints, no_waypoints = self._programs.take(programs)
        made = Snapshot(
            last.addresses.changed({**fresh, **more}, [*gone, *less]),
            last.authorizations.changed(policies, no_policies),
            last.network_policies.changed(network, no_network),
            last.programs.changed(waypoints, no_waypoints),
            self._index.aliases,
            after=last.mark,
            news=(found := {}),
        )
        for type_url, target in made.by_type().items():
            found[type_url] = _named(difference(last.of_type(type_url).versions, target))
        found[ADDRESS_TYPE] |= _renamed(before, made.aliases, renamed)
        self._last = made
        return made


def _bytes(message: Message) -> bytes:
    """The same for equal messages: versions are hashes of it."""
    return message.SerializeToString(deterministic=True)


def news(before: Snapshot, after: Snapshot) -> News:
    """What has changed from one to the other, however many lie in between."""
    if after.after is before.mark:
        return after.news
    found = {
        type_url: _named(difference(before.of_type(type_url).versions, target))
        for type_url, target in after.by_type().items()
    }
    old, new = before.aliases.exact, after.aliases.exact
    renamed = frozenset(name for name in {**old, **new} if old.get(name) != new.get(name))
    found[ADDRESS_TYPE] |= _renamed(before.aliases, after.aliases, renamed)
    return found


def joined(first: News, second: News) -> News:
    """What has changed by two steps."""
    return {type_url: first.get(type_url, frozenset()) | second.get(type_url, frozenset()) for type_url in second}


def _named(found: Difference) -> frozenset[str]:
    return frozenset((*found.changed, *found.removed))


def _renamed(before: Aliases, after: Aliases, names: frozenset[str]) -> frozenset[str]:
    """An address of a block means what the block means, and who asked for it has asked for the address."""
    blocks = {name for one in (before, after) for named in one.blocks.values() for name in named.values()}
    if before.blocks != after.blocks or not blocks.isdisjoint(names):
        return names | {EVERYBODY}
    return names
