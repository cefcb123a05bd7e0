"""Rules of a watch: whatever is published and answered when, the client ends up with what is served."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from hostmesh.control.aliases import Aliases
from hostmesh.control.snapshot import ResourceSet
from hostmesh.control.watch import Nack, Watch
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest, Status

SETS = st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=1))
Request = DeltaDiscoveryRequest


def test_a_nack_is_an_answer() -> None:
    """It is reported once; an empty nonce is none."""
    watch = Watch(Request(type_url="t"))
    target = ResourceSet.of({"a": b"1"})
    found = watch.next_difference(target, Aliases())
    assert found is not None
    watch.sent(target, found, "n1")
    assert watch.receive(Request(type_url="t", error_detail=Status(message="no"))) is None
    assert not watch.settled
    assert watch.receive(Request(type_url="t", response_nonce="n1", error_detail=Status(message="no"))) == Nack(
        "n1", "no"
    )
    assert watch.receive(Request(type_url="t", response_nonce="n1", error_detail=Status(message="no"))) is None
    assert watch.settled
    assert watch.next_difference(target, Aliases()) is None


class Conversation(RuleBasedStateMachine):
    """A wildcard client with delays, rejections and reconnects; its picture is compared when all is answered."""

    @initialize(served=SETS)
    def start(self, served: dict[str, bytes]) -> None:
        self.served = ResourceSet.of(served)
        self.picture: dict[str, str] = {}
        self.sent = 0
        self.outstanding = ""
        self.reconnect()

    @rule()
    def reconnect(self) -> None:
        self.watch = Watch(Request(type_url="t", initial_resource_versions=self.picture))
        self.outstanding = ""
        self.answered = False

    @rule(served=SETS)
    def publish(self, served: dict[str, bytes]) -> None:
        self.served = ResourceSet.of(served)

    @rule()
    def write(self) -> None:
        found = self.watch.next_difference(self.served, Aliases())
        if self.outstanding:
            assert found is None
        if found is None:
            return
        self.sent += 1
        self.outstanding = str(self.sent)
        self.watch.sent(self.served, found, self.outstanding)
        assert not set(found.changed) & set(found.removed)
        for name in found.removed:
            del self.picture[name]
        self.picture.update({name: self.served.versions[name] for name in found.changed})
        self.answered = True

    @precondition(lambda self: self.outstanding)
    @rule()
    def acknowledge(self) -> None:
        self.watch.receive(Request(type_url="t", response_nonce=self.outstanding))
        self.outstanding = ""

    @rule()
    def say_something_stale(self) -> None:
        self.watch.receive(Request(type_url="t", response_nonce="stale"))

    @precondition(lambda self: not self.outstanding)
    @rule()
    def compare(self) -> None:
        self.write()
        assert self.answered
        assert self.picture == self.served.versions


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
