"""The same documents give the same resources as a real istiod gives, but for what docs/istio-differences.md names."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
import yaml
from grpclib.client import Channel
from tests.support.documents import document, objects
from tests.support.real_istiod import Document, RealIstiod
from tests.support.resources import Resource, comparable
from tests.unit.control.translate import test_istio_rules as tables
from tests.unit.control.translate import test_peer_authentication as peers
from tests.unit.control.translate import test_policies as policies

from hostmesh.control.translate import MeshConfig, translate
from hostmesh.wire.proto.discovery_grpc import AggregatedDiscoveryServiceStub
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest
from hostmesh.xds.address_codec import encode_service, encode_workload
from hostmesh.xds.client import NodeInfo
from hostmesh.xds.codec import ADDRESS_TYPE, AUTHORIZATION_TYPE
from hostmesh.xds.policy_codec import encode_authorization

Resources = dict[str, Resource]

WEB = document("WorkloadEntry", "address: 10.0.0.1\nserviceAccount: s", "name: w, namespace: a, labels: {app: web}")
OTHER = document("WorkloadEntry", "address: 10.0.0.2\nserviceAccount: s", "name: w, namespace: b, labels: {tier: x}")


def policy(spec: str, namespace: str = "a") -> list[str]:
    return [document("AuthorizationPolicy", spec, f"name: x, namespace: {namespace}"), WEB, OTHER]


SCOPES = [
    ("{}", "a"),
    ("{}", "istio-system"),
    ("selector: {matchLabels: {app: web}}", "a"),
    ("selector: {matchLabels: {tier: x}}", "istio-system"),
    ("targetRefs: [{group: '', kind: Service, name: a}]", "a"),
    ("action: AUDIT\nrules: [{}]", "a"),
]
DIFFERENT = {
    "UDP is skipped",
    "ports ['UNSET', 'portLevelMtls: {80: {mode: DISABLE}}', 'STRICT']",
}
"""Where istio-differences.md says so; a case that is no longer different fails as well."""

CASES: list[tuple[str, Sequence[str]]] = [
    *((rule, texts) for rule, texts, _ in tables.WORKLOADS),
    *((f"service: {rule}", texts) for rule, texts, _ in tables.SERVICES),
    *((f"nothing: {rule}", texts) for rule, texts in tables.NOTHING),
    *((f"rules {number}", policy(spec)) for number, (spec, _) in enumerate(policies.RULES)),
    *((f"scope {spec!r} of {namespace}", policy(spec, namespace)) for spec, namespace in SCOPES),
    *((f"level {number}", [*texts, WEB, OTHER]) for number, (texts, _) in enumerate(peers.LEVELS)),
    *(
        (f"ports {[mode, ports, *('STRICT' if one == peers.STRICT else 'PERMISSIVE' for one in others)]}",
         [*others, peers.own(mode, ports), WEB, OTHER])
        for mode, ports, others, _, _ in peers.PORTS
    ),
]  # fmt: skip


class Follower(threading.Thread):
    """What istiod tells a ztunnel, in a thread in istiod's namespace."""

    def __init__(self, istiod: RealIstiod) -> None:
        super().__init__(daemon=True)
        self._where = istiod.where
        self._held: dict[str, dict[str, bytes]] = {ADDRESS_TYPE: {}, AUTHORIZATION_TYPE: {}}
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._following = self._loop.create_task(self._follow())

    def run(self) -> None:
        with self._where.entered(), suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._following)
        self._loop.close()

    def end(self) -> None:
        """And wait until it has ended."""
        self._loop.call_soon_threadsafe(self._following.cancel)
        self.join()

    async def _follow(self) -> None:
        node = NodeInfo("node", "10.9.9.9").message()
        async with (
            Channel("127.0.0.1", 15010) as channel,
            AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources.open() as stream,
        ):
            for url in self._held:
                request = DeltaDiscoveryRequest(node=node, type_url=url, resource_names_subscribe=["*"])
                await stream.send_message(request)
            while (told := await stream.recv_message()) is not None:
                held = self._held[told.type_url]
                with self._lock:
                    held.update({one.name: one.resource.value for one in told.resources})
                    for name in told.removed_resources:
                        held.pop(name, None)
                await stream.send_message(DeltaDiscoveryRequest(type_url=told.type_url, response_nonce=told.nonce))

    def told(self) -> Resources:
        """Now, without the API server's own service."""
        with self._lock:
            held = {url: list(resources.values()) for url, resources in self._held.items()}
        found = {key: one for url, resources in held.items() for key, one in comparable(url, resources).items()}
        return {key: one for key, one in found.items() if "default/kubernetes" not in key}

    def comes_to(self, expected: Resources, seconds: float) -> Resources:
        """What is told as soon as it is that, or after so long."""
        deadline = time.monotonic() + seconds
        while (told := self.told()) != expected and time.monotonic() < deadline:
            time.sleep(0.02)
        return told


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
    """Every field of every resource."""
    expected = ours(applied)
    told = follower.comes_to(expected, 1 if rule in DIFFERENT else 5)
    if rule in DIFFERENT:
        assert told != expected
    else:
        assert told == expected
