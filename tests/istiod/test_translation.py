"""The same documents give the same resources as a real istiod gives, but for what docs/istio-differences.md names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import yaml
from tests.istiod.cases import CASES, DIFFERENT
from tests.istiod.follower import Follower, Resources
from tests.support.documents import objects
from tests.support.real_istiod import Document, RealIstiod
from tests.support.resources import comparable

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import translate
from hostmesh.xds.address_codec import encode_service, encode_workload
from hostmesh.xds.codec import ADDRESS_TYPE, AUTHORIZATION_TYPE
from hostmesh.xds.policy_codec import encode_authorization


def ours(texts: Sequence[str]) -> Resources:
    translated = translate(objects(*texts), MeshConfig())
    addresses = [*map(encode_workload, translated.workloads), *map(encode_service, translated.services)]
    authorizations = map(encode_authorization, translated.authorizations)
    return {
        **comparable(ADDRESS_TYPE, [one.SerializeToString() for one in addresses]),
        **comparable(AUTHORIZATION_TYPE, [one.SerializeToString() for one in authorizations]),
    }


def acceptable(text: str) -> Document:
    """What the cluster insists on: addresses of its own network, a policy of families, a namespace."""
    made: Document = yaml.safe_load(text)
    made["metadata"].setdefault("namespace", "default")
    if made["kind"] == "Service":
        if made["spec"].get("clusterIP") == "10.0.0.1":
            made["spec"]["clusterIP"] = "10.96.7.7"
        if len(made["spec"].get("ipFamilies", ())) == 2:
            made["spec"]["ipFamilyPolicy"] = "RequireDualStack"
    return made


def as_stored(document: Document) -> str:
    """With what the API server fills in, but for what only it would say."""
    if document["kind"] == "Service":
        metadata = {name: document["metadata"][name] for name in ("name", "namespace")}
        metadata.update({name: document["metadata"].get(name, {}) for name in ("labels", "annotations")})
        document = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": document["spec"]}
    return yaml.safe_dump(document)


@pytest.fixture(scope="module")
def follower(istiod: RealIstiod) -> Iterator[Follower]:
    made = Follower(istiod)
    made.start()
    yield made
    made.end()


@pytest.fixture
def applied(istiod: RealIstiod, follower: Follower, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """The documents, while istiod has them; nothing is left of the case before."""
    assert follower.comes_to({}, 10) == {}
    made: list[tuple[Document, Document]] = []
    try:
        for text in request.param:
            document: Any = acceptable(text)
            made.append((document, istiod.apply(document)))
        yield [as_stored(stored if sent["kind"] == "Service" else sent) for sent, stored in made]
    finally:
        for sent, _ in made:
            istiod.delete(sent)


@pytest.mark.parametrize(("rule", "applied"), CASES, indirect=["applied"], ids=[rule for rule, _ in CASES])
def test_what_agents_are_told(rule: str, applied: list[str], follower: Follower) -> None:
    """Every field of every resource; a case that is no longer different fails as well."""
    expected = ours(applied)
    told = follower.comes_to(expected, 1 if rule in DIFFERENT else 5)
    if rule in DIFFERENT:
        assert told != expected
    else:
        assert told == expected
