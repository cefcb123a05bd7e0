"""ResourceSet: all resources of one type with content hashes as versions, and how it came from the one before."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from google.protobuf.any_pb2 import Any

from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryResponse, Resource


@dataclass(frozen=True, slots=True)
class Difference:
    """What a client that holds one set must be told to hold another."""

    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """All resources of one type. `versions` and `data` have the same names; neither may be changed afterwards.

    `entries` keeps what `entry` has serialized, so that it is done once for all clients. `step` is how it came from the
    set before: that one's versions, and the difference.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, bytes] = field(default_factory=dict)
    entries: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    step: tuple[Mapping[str, str], Difference] | None = field(default=None, compare=False, repr=False)

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

    def changed(self, fresh: Mapping[str, bytes], gone: Collection[str]) -> ResourceSet:
        """The set with these resources new or other than before, and without those; itself if that is no change."""
        versions, data, entries = dict(self.versions), dict(self.data), self.entries.copy()
        changed = []
        for name, value in fresh.items():
            version = content_version(value)
            if versions.get(name) != version:
                versions[name], data[name] = version, value
                entries.pop(name, None)
                changed.append(name)
        removed = sorted(name for name in gone if name in versions)
        for name in removed:
            del versions[name], data[name]
            entries.pop(name, None)
        if not changed and not removed:
            return self
        found = Difference(tuple(sorted(changed)), tuple(removed))
        return ResourceSet(versions, data, entries, (self.versions, found))


def content_version(data: bytes) -> str:
    """Equal for equal bytes, on every control plane and over restarts."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def difference(held: Mapping[str, str], target: ResourceSet) -> Difference:
    """What turns `held` (name -> version) into `target`; names in order."""
    if held is target.versions:
        return Difference((), ())
    if target.step is not None and target.step[0] is held:
        return target.step[1]
    changed = tuple(sorted(name for name, version in target.versions.items() if held.get(name) != version))
    removed = tuple(sorted(name for name in held if name not in target.versions))
    return Difference(changed, removed)
