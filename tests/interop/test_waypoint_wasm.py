"""WebAssembly in a real Envoy: a module made by wat2wasm changes, answers and refuses requests, and traps."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.test_waypoint import VIP, WEB, endpoint, http_app, program
from tests.support.pki import ALICE
from tests.support.proxy import Mesh
from tests.support.waypoint import Client, waypoint

from hostmesh.model.wasm import WasmFailure, WasmPhase, WasmPlugin
from hostmesh.model.waypoint import AppProtocol, L7Action, L7Policy, L7Rule, WaypointPort, WaypointProgram
from hostmesh.waypoint.envoy import Refused
from hostmesh.waypoint.wasm import with_digests

pytestmark = pytest.mark.interop

SOURCE = Path(__file__).parent / "wasm" / "plugin.wat"
NO_POST = L7Policy("no-post", "default", L7Action.DENY, (L7Rule((), ({"methods": ("POST",)},)),))


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("wasm") / "plugin.wasm"
    subprocess.run(["wat2wasm", SOURCE, "-o", made], check=True)
    return made


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh() as made:
        yield made


def plugin(module: Path, failure: WasmFailure = WasmFailure.CLOSE, **other: object) -> WasmPlugin:
    return WasmPlugin("p", "default", str(module), failure=failure, **other)  # type: ignore[arg-type]


def ask(client: Client, *headers: str, method: str = "GET", port: int = 80) -> tuple[int, str]:
    """Status, and what the plugin added."""
    answer = client.ask(f"{VIP}:{port}", f"{method} / HTTP/1.1", "content-length: 0", *headers)
    return answer.status, (answer.headers or {}).get("x-plugin", "")


def test_a_plugin_sees_every_request(mesh: Mesh, module: Path, tmp_path: Path) -> None:
    """It gets its configuration, adds a header, answers itself; only on its ports, and before policies in its phase."""
    late = plugin(module, config='"late"', ports=(80,), hostnames=(WEB,))
    early = WasmPlugin("e", "default", str(module), phase=WasmPhase.AUTHN, config='"early"', ports=(81,))
    with mesh.app(http_app("web")) as app:
        ports = [WaypointPort(number, AppProtocol.HTTP, (endpoint(mesh, app),)) for number in (80, 81, 82)]
        made = with_digests(program(*ports, plugins=(late, early), policies=(NO_POST,)))
        with waypoint(tmp_path, mesh.authority, made) as running:
            alice = running.client(ALICE)
            assert ask(alice) == (200, '"late"')
            assert ask(alice, "x-wasm: deny")[0] == 403
            assert ask(alice, method="POST") == (403, "")  # RBAC was before it
            assert ask(alice, method="POST", port=81) == (403, '"early"')
            assert ask(alice, port=82) == (200, "")


@pytest.mark.parametrize(
    ("failure", "after"),
    [(WasmFailure.CLOSE, (503, "")), (WasmFailure.OPEN, (200, "")), (WasmFailure.RELOAD, (200, '"c"'))],
)
def test_a_module_that_traps(
    mesh: Mesh, module: Path, tmp_path: Path, failure: WasmFailure, after: tuple[int, str]
) -> None:
    """From then on all requests are refused, or all pass without it, or it is started anew: as failStrategy says."""
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (endpoint(mesh, app),))
        made = with_digests(program(port, plugins=(plugin(module, failure, config='"c"'),)))
        with waypoint(tmp_path, mesh.authority, made, concurrency=1) as running:
            alice = running.client(ALICE)
            assert ask(alice) == (200, '"c"')
            assert ask(alice, "x-wasm: trap")[0] in (500, 503)
            # a module is started anew after a pause
            running.until(lambda: ask(alice) == after or failure is not WasmFailure.RELOAD)
            assert ask(alice) == after
            assert running.process.poll() is None


@pytest.mark.parametrize(
    ("content", "sha256", "why"),
    [
        (None, "", "WasmPlugin default/p: {path}: No such file or directory; put the module on the waypoint's host"),
        (b"x", "0" * 64, f"WasmPlugin default/p: {{path}} has the SHA-256 {hashlib.sha256(b'x').hexdigest()}, not"),
    ],
)
def test_a_file_that_is_not_what_it_should_be(tmp_path: Path, content: bytes | None, sha256: str, why: str) -> None:
    """It is refused by the document's name, or left out where it may fail open."""
    file = tmp_path / "x.wasm"
    if content is not None:
        file.write_bytes(content)

    def told(failure: WasmFailure) -> WaypointProgram:
        return with_digests(program(plugins=(plugin(file, failure, sha256=sha256),)))

    with pytest.raises(Refused) as refused:
        told(WasmFailure.CLOSE)
    assert str(refused.value).startswith(why.format(path=file))
    assert told(WasmFailure.OPEN).plugins == ()


def test_a_module_that_is_none_is_refused_by_envoy(mesh: Mesh, tmp_path: Path) -> None:
    """Before anything of it is in force."""
    file = tmp_path / "x.wasm"
    file.write_bytes(b"no module")
    with (
        pytest.raises(Refused, match=r"[Ww]asm"),
        waypoint(
            tmp_path, mesh.authority, with_digests(program(WaypointPort(80, AppProtocol.HTTP), plugins=(plugin(file),)))
        ),
    ):
        pass
