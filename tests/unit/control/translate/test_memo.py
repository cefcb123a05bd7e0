"""A translation that remembers the one before says the same as one that begins with nothing, and does less."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.documents import document

from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.read import Object, ObjectKey, read
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import Memo, translate
from hostmesh.control.translate import memo as module
from hostmesh.control.translate.values import Vips

MESH = MeshConfig()
NAMESPACES = ("one", "two", "istio-system")


def entry(name: str, namespace: str, app: str, more: str = "", labels: str = "") -> str:
    spec = f"address: 10.0.0.{len(name)}\nserviceAccount: {app}\nlabels: {{app: {app}}}{more}"
    return document("WorkloadEntry", spec, f"name: {name}, namespace: {namespace}, labels: {{{labels}}}")


def texts(namespace: str) -> list[str]:
    """What may stand in a namespace, two of each kind, several versions of each."""
    found = []
    for name in ("a", "bb", "ccc"):
        for app in ("web", "db"):
            found += [
                entry(name, namespace, app),
                entry(name, namespace, app, "\nports: {http: 8080}", "hostmesh.io/node: n1"),
                entry(name, namespace, app, "\nweight: 2", "hostmesh.io/node: n2, istio.io/use-waypoint: gate"),
            ]
    where = f"namespace: {namespace}"
    for app in ("web", "db"):
        port = "ports: [{number: 80, name: http, targetPort: %d, protocol: TCP}]"
        for target in (80, 8080):
            spec = f"hosts: [{app}.example]\n{port % target}\nresolution: STATIC\n"
            spec += f"workloadSelector: {{labels: {{app: {app}}}}}"
            found.append(document("ServiceEntry", spec, f"name: {app}, {where}"))
        for action in ("ALLOW", "DENY"):
            spec = f"action: {action}\nselector: {{matchLabels: {{app: {app}}}}}\nrules: [{{}}]"
            found.append(document("AuthorizationPolicy", spec, f"name: {app}, {where}"))
        for mode in ("STRICT", "PERMISSIVE"):
            spec = f"selector: {{matchLabels: {{app: {app}}}}}\nmtls: {{mode: {mode}}}"
            found.append(document("PeerAuthentication", spec, f"name: {app}, {where}"))
        spec = f"podSelector: {{matchLabels: {{app: {app}}}}}\npolicyTypes: [Ingress]"
        found.append(document("NetworkPolicy", spec, f"name: {app}, {where}"))
        found.append(document("Service", f"selector: {{app: {app}}}\nports: [{{port: 90}}]", f"name: {app}, {where}"))
    modes = ("STRICT", "UNSET")
    found += [document("PeerAuthentication", f"mtls: {{mode: {mode}}}", f"name: all, {where}") for mode in modes]
    for match in ("", "\nselector: {matchLabels: {app: web}}"):
        found.append(document("Telemetry", f"accessLogging: [{{disabled: true}}]{match}", f"name: quiet, {where}"))
    inline = (
        "hosts: [in.example]\nports: [{number: 80, name: http}]\nresolution: STATIC\nendpoints: [{address: 10.1.0.1}]"
    )
    found.append(document("ServiceEntry", inline, f"name: web, {where}"))
    for label in ("istio.io/dataplane-mode: none", "istio.io/use-waypoint: gate"):
        found.append(document("Namespace", "", f"name: {namespace}, labels: {{{label}}}"))
    gate = "gatewayClassName: istio-waypoint\nlisteners: [{name: mesh, port: 15008, protocol: HBONE}]"
    found.append(document("Gateway", gate, f"name: gate, {where}, labels: {{istio.io/waypoint-for: all}}"))
    return found


POOL: list[Object[Resource]] = [read(text, "x.yaml")[0] for each in NAMESPACES for text in texts(each)]
EDITS = st.lists(st.tuples(st.booleans(), st.sampled_from(POOL)), min_size=1, max_size=25)


@given(EDITS)
@settings(max_examples=150, deadline=None)
def test_the_result_does_not_depend_on_what_is_remembered(edits: list[tuple[bool, Object[Resource]]]) -> None:
    """Whatever is added, changed and removed, in whatever order."""
    memo = Memo()
    vips: Vips = {}
    objects: dict[ObjectKey, Object[Resource]] = {}
    for there, item in edits:
        if there:
            objects[item.key] = item
        else:
            objects.pop(item.key, None)
        remembered = translate(objects.values(), MESH, vips, memo)
        assert remembered == translate(objects.values(), MESH, vips)
        vips = remembered.vips


def test_only_what_depends_on_a_change_is_derived_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workload alone; those of its namespace when a service or policy there changes; and all if the mesh does."""
    derived: list[str] = []
    real = module.from_workload_entry

    def counted(item: Object[object], around: object) -> object:
        derived.append(item.key.name)
        return real(item, around)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "from_workload_entry", counted)
    memo = Memo()
    first = [entry(name, namespace, "web") for namespace in ("one", "two") for name in "abc"]
    world = {item.key: item for text in first for item in read(text, "x")}

    def after(*changed: str) -> list[str]:
        derived.clear()
        world.update({item.key: item for text in changed for item in read(text, "x")})
        translate(world.values(), MESH, memo=memo)
        return sorted(derived)

    assert after() == ["a", "a", "b", "b", "c", "c"]
    assert after() == []
    assert after(entry("b", "two", "db")) == ["b"]
    service = document("Service", "selector: {app: web}\nports: [{port: 90}]", "name: web, namespace: one")
    assert after(service) == ["a", "b", "c"]
    assert after(document("AuthorizationPolicy", "rules: [{}]", "name: p, namespace: one")) == []
    strict = document("PeerAuthentication", "mtls: {mode: STRICT}", "name: all, namespace: istio-system")
    assert after(strict) == ["a", "a", "b", "b", "c", "c"]
