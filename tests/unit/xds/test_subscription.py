"""Rules of a subscription, as a transcript of responses and answers; resources here are text, `!` is bad."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from google.protobuf.any_pb2 import Any
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource
from hostmesh.xds.codec import ADDRESS_TYPE, AUTHORIZATION_TYPE, Rejected
from hostmesh.xds.held import Versioned, XdsUpdate
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
    """Node, type, what is held; nothing named."""
    session = Session()
    session.respond([resource("a=1", "v1"), resource("b=1", "v2")])
    request = session.subscription.first_request(Node(id="me"))
    assert request == DeltaDiscoveryRequest(
        node=Node(id="me"), type_url=ADDRESS_TYPE, initial_resource_versions={"a": "v1", "b": "v2"}
    )


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
