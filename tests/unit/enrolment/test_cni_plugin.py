"""What hostmesh-cni says to a runtime without an agent: errors by their codes, versions, and nothing else on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.cni import PluginFailed, Runtime, install

CONFIGS = sorted((Path(__file__).parents[3] / "cni-config").glob("*.conflist"))
NOBODY = {"type": "hostmesh-cni", "agentSocket": "/nowhere/cni.sock", "workload": "prod/a"}
RESULT: dict[str, Any] = {"cniVersion": "1.0.0", "interfaces": [], "ips": [{"address": "10.0.0.2/24"}], "dns": {}}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    install(tmp_path / "bin")
    return Runtime({"cniVersion": "1.0.0", "name": "net", "plugins": [NOBODY]}, tmp_path / "bin")


def ask(runtime: Runtime, command: str, *, container: str = "c1", ifname: str = "eth0", **more: Any) -> Any:
    namespace = Path("/proc/self/ns/net")
    plugin = {key: value for key, value in NOBODY.items() if more.get(key, value) is not None}
    return runtime.run(command, plugin, container, namespace, ifname, **more)


def test_it_needs_nothing_but_the_standard_library() -> None:
    """Runtimes start it for each container, isolated from everything that is installed."""
    imported = [line.split()[1] for line in plugin_source() if line.startswith(("import ", "from "))]
    assert set(imported) <= sys.stdlib_module_names | {"__future__"}


def plugin_source() -> list[str]:
    from hostmesh.enrolment import cni_plugin

    return Path(cni_plugin.__file__).read_text().splitlines()


def test_version(runtime: Runtime) -> None:
    """The version as given, and all that are supported."""
    supported = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    assert ask(runtime, "VERSION") == {"cniVersion": "1.0.0", "supportedVersions": supported}


@pytest.mark.parametrize(
    ("command", "more", "code"),
    [
        ("ADD", {"cniVersion": "0.2.0"}, 1),
        ("STATUS", {}, 1),  # came with 1.1.0
        ("GC", {"cni.dev/valid-attachments": []}, 1),
        ("CHECK", {"cniVersion": "0.3.1"}, 1),
        ("FLY", {}, 4),
        ("ADD", {"container": ""}, 4),
        ("ADD", {"container": "-c"}, 4),
        ("ADD", {"container": "a/b"}, 4),
        ("ADD", {"ifname": ""}, 4),
        ("ADD", {"ifname": "eth0:1"}, 4),
        ("DEL", {"ifname": "much-too-long-name"}, 4),
        ("ADD", {}, 7),  # first of its chain: no prevResult
        ("ADD", {"name": "", "previous": RESULT}, 7),
        ("ADD", {"failurePolicy": "maybe", "previous": RESULT}, 7),
        ("CHECK", {}, 7),
        ("ADD", {"previous": {"ips": [{}]}}, 7),
        ("GC", {"cniVersion": "1.1.0"}, 7),
        ("ADD", {"previous": RESULT}, 11),  # no agent
        ("CHECK", {"previous": RESULT}, 11),
        ("GC", {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}, 11),
        ("STATUS", {"cniVersion": "1.1.0"}, 50),
    ],
)
def test_errors(runtime: Runtime, command: str, more: dict[str, Any], code: int) -> None:
    """Exit status 1, and on stdout an object with the specification's code."""
    with pytest.raises(PluginFailed) as failed:
        ask(runtime, command, **more)
    assert (failed.value.code, failed.value.status) == (code, 1)
    assert set(failed.value.answer) <= {"cniVersion", "code", "msg", "details"}
    assert failed.value.answer["cniVersion"] == more.get("cniVersion", "1.0.0")


def test_del_succeeds_without_an_agent(runtime: Runtime) -> None:
    """And says nothing on stdout."""
    assert ask(runtime, "DEL") is None


def test_nobody_is_asked_about_a_container_that_names_no_workload(runtime: Runtime) -> None:
    """It is passed through even while the agent is away."""
    assert ask(runtime, "ADD", previous=RESULT, workload="") == RESULT


@pytest.mark.parametrize("path", CONFIGS, ids=[path.name for path in CONFIGS])
def test_examples(path: Path) -> None:
    """Ours is the last of the chain, in a list that has a name and a version that we know."""
    config = json.loads(path.read_text())
    assert config["name"]
    assert config["cniVersion"] in ("1.0.0", "1.1.0")
    assert [plugin["type"] for plugin in config["plugins"]].index("hostmesh-cni") == len(config["plugins"]) - 1


def test_there_are_examples() -> None:
    """The test above would pass without any."""
    assert [path.name for path in CONFIGS] == ["10-hostmesh.conflist", "nerdctl-hostmesh.conflist"]
