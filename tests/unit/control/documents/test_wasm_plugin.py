"""What a WasmPlugin must obey, and what a waypoint is told of it."""

from __future__ import annotations

import pytest
from tests.support.documents import document, objects, refusals
from tests.unit.control.translate.test_waypoints import GATEWAY, INSTANCE, SERVICE, WEB

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import translate
from hostmesh.model.wasm import WasmFailure, WasmPhase, WasmPlugin

TARGET = "targetRefs: [{group: '', kind: Service, name: web}]\n"
FILE = "url: file:///etc/x.wasm\n"


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (TARGET + FILE, ""),
        (TARGET + "url: /etc/x.wasm", ""),
        (TARGET + "url: oci://registry.example/x:v1", "6: spec.url: 'oci://registry.example/x:v1' is not fetched: put"),
        (TARGET + "url: https://a/x.wasm", "6: spec.url: 'https://a/x.wasm' is not fetched"),
        (TARGET + "url: x.wasm", "6: spec.url: 'x.wasm' is not fetched"),
        (TARGET + FILE + "imagePullPolicy: Always", "7: spec.imagePullPolicy: is for images"),
        (TARGET + FILE + "type: NETWORK", "7: spec.type: plugins of TCP connections are not run"),
        (TARGET + FILE + "sha256: abc", "7: spec.sha256: "),
        (TARGET + FILE + "failStrategy: FAIL", "7: spec.failStrategy: "),
        (FILE, "4: spec: agents run no WebAssembly"),
        (FILE + "selector: {matchLabels: {a: b}}", "6: spec.selector: agents run no WebAssembly"),
        (
            TARGET + FILE + "vmConfig: {env: [{name: A, value: b, valueFrom: HOST}]}",
            "7: spec.vmConfig.env[0].value: the waypoint's own value is taken",
        ),
    ],
)
def test_refused(spec: str, complaint: str) -> None:
    """What could not run is refused by file, line and field."""
    said = refusals(document("WasmPlugin", spec))
    assert (said[0] if said else "").startswith(complaint)
    assert bool(said) is bool(complaint)


def test_a_waypoint_is_told_its_plugins_in_order() -> None:
    """By priority; those of clients, and of other services, are not among them."""
    full = """
        priority: 10
        sha256: "%s"
        phase: AUTHZ
        failStrategy: FAIL_RELOAD
        pluginName: root
        pluginConfig: {a: [1, true]}
        vmConfig: {env: [{name: A, value: b}, {name: H, valueFrom: HOST}]}
        match: [{ports: [{number: 80}]}, {mode: CLIENT}]
    """ % ("AB" * 32)
    specs = {
        "plain": TARGET + FILE,
        "first": "\n".join([TARGET, FILE, *(line.strip() for line in full.splitlines())]),
        "clients": TARGET + FILE + "match: [{mode: CLIENT}]",
        "other": TARGET.replace("name: web", "name: other") + FILE,
    }
    texts = [document("WasmPlugin", spec, f"name: {name}") for name, spec in specs.items()]
    (program,) = translate(objects(GATEWAY, INSTANCE, WEB, SERVICE, *texts), MeshConfig()).waypoints
    first, plain = program.plugins
    host = ("web.default.svc.cluster.local",)
    assert plain == WasmPlugin("plain", "default", "/etc/x.wasm", hostnames=host)
    assert first == WasmPlugin(
        "first",
        "default",
        "/etc/x.wasm",
        sha256="ab" * 32,
        phase=WasmPhase.AUTHZ,
        failure=WasmFailure.RELOAD,
        config='{"a": [1, true]}',
        root_id="root",
        environment=(("A", "b"),),
        host_environment=("H",),
        hostnames=host,
        ports=(80,),
    )
