"""Rules of a subscription, as a transcript of responses and answers; resources here are text, `!` is bad."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from google.protobuf.any_pb2 import Any
from hypothesis import given
from hypothesis import strategies as st
from tests.support.pki import ALICE

from hostmesh.model.address import SocketAddress
from hostmesh.model.connection import Connection
from hostmesh.model.workload import Workload
from hostmesh.rbac.decide import decide
from hostmesh.state.store import MeshState
from hostmesh.wire.proto import authorization_pb2 as policy_pb
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource
from hostmesh.xds.codec import ADDRESS_TYPE, AUTHORIZATION_TYPE, Rejected, decode_authorization
from hostmesh.xds.held import Versioned, XdsUpdate
from hostmesh.xds.interest import Interest
from hostmesh.xds.subscription import Outcome, Subscription, nack_text


def key_of(data: bytes) -> str:
    text = data.decode()
    if text.endswith("!"):
        raise Rejected("is bad")
    return text.partition("=")[0]


def resource(text: str, version: str = "v") -> Resource:
    data = Any(type_url=ADDRESS_TYPE, value=text.encode())
    return Resource(name=text.partition("=")[0], version=version, resource=data)


class Session:
    def __init__(self) -> None:
        self.held: dict[str, Versioned] = {}
        self.subscription = Subscription(ADDRESS_TYPE, key_of, self.held)

    def respond(
        self, resources: Iterable[Resource | str] = (), removed: Iterable[str] = (), nonce: str = "n"
    ) -> tuple[Outcome, DeltaDiscoveryRequest]:
        listed = [resource(item) if isinstance(item, str) else item for item in resources]
        response = DeltaDiscoveryResponse(resources=listed, removed_resources=removed, nonce=nonce)
        outcome = Outcome()
        self.subscription.take(response.resources, outcome)
        return outcome, self.subscription.finish(response, outcome)


def test_the_first_request_is_a_wildcard_with_versions() -> None:
    """Node, type, what is held; nothing named. What was rejected or removed is not held."""
    session = Session()
    session.respond([resource("a=1", "v1"), resource("b=1", "v2"), "bad!", "gone=1"])
    session.respond(removed=["gone"])
    request = session.subscription.first_request(Node(id="me"))
    assert request == DeltaDiscoveryRequest(
        node=Node(id="me"), type_url=ADDRESS_TYPE, initial_resource_versions={"a": "v1", "b": "v2"}
    )


def test_on_demand_the_first_request_lets_the_wildcard_go() -> None:
    """It names what is of interest; what is held besides came as a part of something, and is let go by its own name."""
    held = {"own": Versioned("v1", b"own=1"), "part": Versioned("v2", b"part=1")}
    request = Subscription(ADDRESS_TYPE, key_of, held, Interest(["own"])).first_request(Node(id="me"))
    assert request.initial_resource_versions == {"own": "v1", "part": "v2"}
    assert request.resource_names_subscribe == ["*", "own"]
    assert request.resource_names_unsubscribe == ["*", "part"]


def test_an_ack_is_type_and_nonce_only() -> None:
    """And the first answer, even an empty one, is what sync waits for."""
    session = Session()
    assert not session.subscription.answered
    outcome, answer = session.respond(nonce="n7")
    assert answer == DeltaDiscoveryRequest(type_url=ADDRESS_TYPE, response_nonce="n7")
    assert session.subscription.answered
    assert not outcome.update(ADDRESS_TYPE)


def test_a_nack_is_partial() -> None:
    """Good ones are applied; a bad update leaves the old object and its old version in place."""
    session = Session()
    session.respond([resource("a=1", "v1")])
    outcome, answer = session.respond([resource("a=2!", "v2"), "b=1", "c!"])
    assert outcome.upserts == {"b": b"b=1"}
    assert answer.error_detail.message == "a: is bad; c!: is bad"
    assert session.held["a"] == Versioned("v1", b"a=1")
    assert set(session.held) == {"a", "b"}


def test_what_did_not_change_is_not_news() -> None:
    """A server that ignores versions sends everything again; only the version is noted."""
    session = Session()
    session.respond([resource("a=1", "v1")])
    outcome, _ = session.respond([resource("a=1", "v2")])
    assert not outcome.update(ADDRESS_TYPE)
    assert session.held["a"].version == "v2"


def test_removals_come_after_resources() -> None:
    """A name in both lists is gone; one that is not held is no news."""
    session = Session()
    session.respond(["a=1"])
    outcome, _ = session.respond(["a=2", "b=1"], removed=["a", "nobody", "b"])
    assert (outcome.upserts, outcome.removed, session.held) == ({}, ["a", "b"], {})


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Resource(name="a"), "XDS payload without resource"),
        (Resource(name="a", resource=Any(type_url="other", value=b"a=1")), "resource is a other"),
        (Resource(name="a", resource=Any(type_url=ADDRESS_TYPE, value=b"b=1")), "the resource calls itself b"),
    ],
)
def test_what_is_rejected_besides(bad: Resource, reason: str) -> None:
    """No payload, another type, another name than its own."""
    outcome, answer = Session().respond([bad])
    assert outcome.rejected == [("a", reason)]
    assert answer.error_detail.message == f"a: {reason}"


def test_updates_by_type() -> None:
    """Policies are told apart from addresses."""
    outcome = Outcome({"a": b"x"}, ["b"])
    assert outcome.update(ADDRESS_TYPE) == XdsUpdate(addresses={"a": b"x"}, removed_addresses=("b",))
    assert outcome.update(AUTHORIZATION_TYPE) == XdsUpdate(authorizations={"a": b"x"}, removed_authorizations=("b",))


def test_a_nack_text_is_bounded() -> None:
    """A thousand bad resources make a text of a page."""
    text = nack_text([(f"name{number}", "reason" * 10) for number in range(1000)])
    assert len(text) < 4200
    assert text.endswith(" more")
    assert nack_text([("n" * 9000, "r")]).startswith("nnn")


NAMES = st.sampled_from("abc")
RESPONSES = st.lists(
    st.tuples(st.lists(st.tuples(NAMES, st.sampled_from(["=1", "=2", "!"]))), st.lists(NAMES)), max_size=8
)


@given(RESPONSES)
def test_updates_add_up_to_what_is_held(responses: list[tuple[list[tuple[str, str]], list[str]]]) -> None:
    """Who applies every update has what the subscription holds, and no update names a thing twice."""
    session = Session()
    picture: dict[str, bytes] = {}
    for resources, removed in responses:
        outcome, _ = session.respond([name + rest for name, rest in resources if rest != "!"], removed)
        update = outcome.update(ADDRESS_TYPE)
        assert not set(update.addresses) & set(update.removed_addresses)
        for name in update.removed_addresses:
            picture.pop(name, None)
        picture.update(update.addresses)
    assert picture == {name: entry.data for name, entry in session.held.items()}


# Policies that were never understood

WEB = Workload("web", "web", "prod", authorization_policies=("prod/p",))
OTHER = Workload("other", "other", "prod")
ELSEWHERE = Workload("elsewhere", "elsewhere", "test")
CALLER = Connection(SocketAddress.of("192.0.2.1", 1), SocketAddress.of("192.0.2.2", 80), ALICE)
BAD_MATCH = policy_pb.Match(principals=[policy_pb.StringMatch()])
BAD_RULE = policy_pb.Rule(clauses=[policy_pb.Clause(matches=[BAD_MATCH])])


class Policies:
    """A host's policies as a control plane sends them."""

    def __init__(self) -> None:
        self.held: dict[str, Versioned] = {}
        self.state = MeshState()
        self.subscription = Subscription(AUTHORIZATION_TYPE, policy_key, self.held)

    def send(self, message: policy_pb.Authorization | bytes, name: str = "prod/p", version: str = "v1") -> None:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        sent = Resource(name=name, version=version, resource=Any(type_url=AUTHORIZATION_TYPE, value=data))
        outcome = Outcome()
        self.subscription.take([sent], outcome)
        for accepted in outcome.upserts.values():
            self.state.upsert_authorization(decode_authorization(accepted))

    def remove(self, name: str = "prod/p") -> None:
        outcome = Outcome()
        self.subscription.finish(DeltaDiscoveryResponse(removed_resources=[name]), outcome)
        for key in outcome.removed:
            self.state.remove_authorization(key)

    def allowed(self) -> str:
        """Whom the caller may call."""
        workloads = (WEB, OTHER, ELSEWHERE)
        return " ".join(w.name for w in workloads if decide(self.state.policies_for(w), CALLER).allowed)


def policy_key(data: bytes) -> str:
    return decode_authorization(data).key


def bad(action: policy_pb.Action.ValueType, scope: policy_pb.Scope.ValueType, **more: bool) -> policy_pb.Authorization:
    return policy_pb.Authorization(name="p", namespace="prod", action=action, scope=scope, rules=[BAD_RULE], **more)


@pytest.mark.parametrize("action", [policy_pb.ALLOW, policy_pb.DENY])
@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (policy_pb.WORKLOAD_SELECTOR, "other elsewhere"),
        (policy_pb.NAMESPACE, "elsewhere"),
        (policy_pb.GLOBAL, ""),
    ],
)
def test_a_policy_that_was_never_understood_closes_what_it_is_about(
    action: policy_pb.Action.ValueType, scope: policy_pb.Scope.ValueType, allowed: str
) -> None:
    """Left out, the only ALLOW of a workload would let everybody in."""
    policies = Policies()
    policies.send(bad(action, scope))
    assert policies.allowed() == allowed


def test_in_place_of_an_allow_others_still_allow() -> None:
    """Nobody loses what another policy grants."""
    policies = Policies()
    everybody = policy_pb.Authorization(
        name="q", namespace="prod", scope=policy_pb.NAMESPACE, action=policy_pb.ALLOW, rules=[policy_pb.Rule()]
    )
    policies.send(everybody, "prod/q")
    policies.send(bad(policy_pb.ALLOW, policy_pb.NAMESPACE))
    assert policies.allowed() == "web other elsewhere"


@pytest.mark.parametrize("data", [b"\xff\xff", b"", policy_pb.Authorization(scope=9).SerializeToString()])
def test_what_is_no_policy_at_all_closes_its_namespace(data: bytes) -> None:
    """Only its name is known."""
    policies = Policies()
    policies.send(data)
    assert policies.allowed() == "elsewhere"


def test_a_dry_run_closes_nothing() -> None:
    """It would not have decided anything."""
    policies = Policies()
    policies.send(bad(policy_pb.DENY, policy_pb.NAMESPACE, dry_run=True))
    assert policies.allowed() == "web other elsewhere"


def test_a_last_good_state_stays_instead() -> None:
    """A bad update changes nothing."""
    policies = Policies()
    good = policy_pb.Authorization(
        name="p", namespace="prod", scope=policy_pb.NAMESPACE, action=policy_pb.ALLOW, rules=[policy_pb.Rule()]
    )
    policies.send(good)
    policies.send(bad(policy_pb.DENY, policy_pb.NAMESPACE), version="v2")
    assert policies.allowed() == "web other elsewhere"
    assert policies.held["prod/p"].version == "v1"


def test_a_stand_in_goes_with_its_policy() -> None:
    """It follows a policy that stays bad, ends with its removal, and is not told to the control plane."""
    policies = Policies()
    policies.send(bad(policy_pb.ALLOW, policy_pb.NAMESPACE))
    assert policies.subscription.first_request(Node(id="me")).initial_resource_versions == {}
    policies.send(bad(policy_pb.ALLOW, policy_pb.WORKLOAD_SELECTOR))
    assert policies.allowed() == "other elsewhere"
    policies.remove()
    assert policies.allowed() == "web other elsewhere"
    assert not policies.held
