"""One client's subscription to one type on a delta stream: what it has, what it must be sent next. Sans I/O.

Rules (istiod): a first request that names nothing, or `*`, means everything; resources of equal version are omitted,
stated ones that are gone are removed; every first request and every subscribe is answered, even with nothing; stale
nonces are ignored. What no name of a client stands for any more is removed from it. One response is in flight at a
time, and the next is made when that one has been answered, from the state of that moment: a slow client gets the latest
state, not a backlog. A NACK counts as an answer: what was rejected is not sent again until it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hostmesh.control.aliases import Aliases
from hostmesh.control.resource_set import Difference, ResourceSet, difference
from hostmesh.control.snapshot import EVERYBODY
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest

_EVERYTHING = "*"
_NOTHING: Mapping[str, str] = MappingProxyType({})
"""What every new client holds: one object, so that all of them are compared once."""

Compare = Callable[[Mapping[str, str], ResourceSet], Difference]


@dataclass(frozen=True, slots=True)
class Nack:
    """The client rejected resources of a response: its own words."""

    nonce: str
    detail: str


class Watch:
    """State of one type on one stream.

    Args:
        request: the first of this type.
        unasked: names that a client which does not follow everything is sent in any case.
    """

    def __init__(self, request: DeltaDiscoveryRequest, unasked: Iterable[str] = ()) -> None:
        self.type_url = request.type_url
        subscribed = set(request.resource_names_subscribe)
        unsubscribed = set(request.resource_names_unsubscribe)
        self.wildcard = (not subscribed or _EVERYTHING in subscribed) and _EVERYTHING not in unsubscribed
        self._names = subscribed - unsubscribed - {_EVERYTHING}
        if not self.wildcard:
            # What is held and unsubscribed from in one breath came with names that stand for more than themselves.
            self._names |= set(request.initial_resource_versions) - unsubscribed
        self._held: Mapping[str, str] = dict(request.initial_resource_versions) or _NOTHING
        self._asked: set[str] = set(self._names)
        self._names.update(unasked)
        self._let_go: set[str] = set()
        self._must_answer = True
        self._told: tuple[ResourceSet, Aliases] | None = None
        self._considered: tuple[ResourceSet, Aliases] | None = None
        self._outstanding = ""
        self._rejected = False

    def holds(self, name: str, version: str) -> bool:
        """Whether the client has taken this version of a resource."""
        return self._held.get(name) == version and not self._outstanding and not self._rejected

    @property
    def settled(self) -> bool:
        """Whether the client has answered all that it was sent."""
        return not self._outstanding

    def concerned(self, news: frozenset[str]) -> bool:
        """Whether there may be something to send now that these names stand for something else."""
        if self.wildcard:
            return bool(news)
        return EVERYBODY in news or not (self._names.isdisjoint(news) and self._held.keys().isdisjoint(news))

    def receive(self, request: DeltaDiscoveryRequest) -> Nack | None:
        """Take a later request of this type: an ACK, a NACK, or new and dropped names."""
        nack = None
        if request.response_nonce and request.response_nonce == self._outstanding:
            self._outstanding = ""
            self._rejected = request.HasField("error_detail")
            if self._rejected:
                nack = Nack(request.response_nonce, request.error_detail.message)
        self._unsubscribe(set(request.resource_names_unsubscribe))
        self._subscribe(set(request.resource_names_subscribe))
        return nack

    @property
    def names(self) -> int:
        """How many it has asked for."""
        return len(self._names)

    def due(self, target: ResourceSet | None, aliases: Aliases) -> bool:
        """Whether `next_difference` to this is worth the call: after most answers it is not."""
        if self._outstanding or target is None:
            return False
        told = self._told
        return self._must_answer or told is None or told[0] is not target or told[1] is not aliases

    def next_difference(
        self, target: ResourceSet, aliases: Aliases, compare: Compare = difference
    ) -> Difference | None:
        """What to send now; None if nothing, or if an answer is still awaited. Call `sent` if it is sent.

        Args:
            target: what is served now.
            aliases: other names that may be asked for, with the resources they mean.
            compare: `difference`, or a version of it that remembers what it told other clients.
        """
        if not self.due(target, aliases):
            return None
        self._considered = (target, aliases)
        found = compare(self._held, target) if self.wildcard else self._named_difference(target, aliases)
        # The negative answer; also the answer to an alias. A difference of sets would copy all names there are.
        unknown = {name for name in self._asked if name not in target.versions}
        if unknown:
            found = Difference(found.changed, tuple(sorted(unknown.union(found.removed))))
        if found or self._must_answer:
            return found
        self._told = self._considered
        return None

    def sent(self, target: ResourceSet, found: Difference, nonce: str) -> None:
        """The client was sent this difference to `target`."""
        if self.wildcard:
            self._held = target.versions
        else:
            gone = frozenset(found.removed)
            held = {name: version for name, version in self._held.items() if name not in gone}
            held.update({name: target.versions[name] for name in found.changed})
            self._held = held
        self._asked.clear()
        self._let_go.clear()
        self._must_answer = False
        self._outstanding = nonce
        self._told = self._considered

    def _subscribe(self, names: set[str]) -> None:
        if _EVERYTHING in names:
            names.discard(_EVERYTHING)
            self.wildcard = True
            self._must_answer = True
        if names:
            self._names |= names
            self._asked |= names
            self._must_answer = True

    def _unsubscribe(self, names: set[str]) -> None:
        if _EVERYTHING in names:
            self.wildcard = False
        if names:
            self._names -= names
            self._asked -= names
            self._let_go |= names & self._held.keys()
            self._told = None

    def _named_difference(self, target: ResourceSet, aliases: Aliases) -> Difference:
        wanted = {resource for name in self._names for resource in aliases.of(name)}
        changed = {name for name in wanted if name in target.versions and self._held.get(name) != target.versions[name]}
        # What a client lets go by its own name it may have dropped, although another name stands for it.
        changed.update(name for name in (*self._asked, *self._let_go & wanted) if name in target.versions)
        gone = {name for name in self._held if name not in wanted or name not in target.versions}
        return Difference(tuple(sorted(changed)), tuple(sorted(gone)))
