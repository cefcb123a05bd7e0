"""hostmesh-cni after the reference plugins on a real bridge: containers born into the mesh (CNI SPEC 1.1.0)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.cni import Json, PluginFailed, Runtime, install
from tests.support.netns import Namespace, listen, make_socket, namespace
from tests.support.netns_helper import running_helper
from tests.support.pods import DNS_PORT, PodAgent, described, pod_agent, talk

from hostmesh.enrolment.attachments import Attachment, Attachments, name_of
from hostmesh.kernel import namespaces

pytestmark = pytest.mark.netns

CONFIGS = Path(__file__).parents[2] / "cni-config"


@dataclass
class Lab:
    agent: PodAgent
    runtime: Runtime
    stack: ExitStack

    @property
    def ours(self) -> Json:
        found: Json = self.runtime.config["plugins"][-1]
        return found

    def container(self) -> Namespace:
        """A fresh namespace, as a runtime makes it: lo is down."""
        made = self.stack.enter_context(namespace("c"))
        made.ip("link set lo down")
        return made

    def born(self, name: str) -> tuple[Namespace, str]:
        """A container that says it is prod/`name`, and its address."""
        made = self.container()
        self.runtime.arguments = f"IgnoreUnknown=1;HOSTMESH_WORKLOAD=prod/{name};HOSTMESH_SERVICE_ACCOUNT={name}"
        result = self.runtime.add(f"container-{name}", made.path)
        address = str(result["ips"][0]["address"]).partition("/")[0]
        self.agent.put(described(name, address))
        return made, address


def config_for(directory: Path, name: str = "10-hostmesh.conflist") -> Json:
    """An example as it is shipped, but for places of this test."""
    config: Json = json.loads((CONFIGS / name).read_text())
    config["plugins"][0]["ipam"]["dataDir"] = str(directory / "ipam")
    config["plugins"][0]["ipMasq"] = False
    # portmap, firewall and tuning come with their own programs; what matters is that ours follows them
    config["plugins"] = [config["plugins"][0], config["plugins"][-1]]
    config["plugins"][-1]["agentSocket"] = str(directory / "cni.sock")
    return config


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        host = stack.enter_context(namespace("host"))
        agent = stack.enter_context(pod_agent(tmp_path))
        agent.serve_cni()
        install(tmp_path / "bin")
        yield Lab(agent, Runtime(config_for(tmp_path), tmp_path / "bin", host), stack)


def test_two_containers_talk_through_the_mesh(lab: Lab) -> None:
    """From their first connection, with the identities that they were born with."""
    a, _ = lab.born("a")
    b, address = lab.born("b")
    app = lab.stack.enter_context(listen(b, address, 8080))
    client = lab.stack.enter_context(make_socket(a, None))
    client.connect((address, 8080))
    server = lab.stack.enter_context(app.accept()[0])
    assert talk(client, server) == (b"question", b"answer")
    client.close()
    server.close()
    fields = [dict(record.fields) for record in lab.agent.proxy_main.wait_logs(2)]
    assert {str(one["src.identity"]) for one in fields} == {"spiffe://cluster.local/ns/prod/sa/a"}
    assert {str(one["dst.identity"]) for one in fields} == {"spiffe://cluster.local/ns/prod/sa/b"}


def test_the_result_is_the_former_plugins(lab: Lab) -> None:
    """Word for word: whoever comes after sees what there was."""
    made = lab.container()
    bridge, ours = lab.runtime.config["plugins"]
    before = lab.runtime.run("ADD", bridge, "c1", made.path, "eth0")
    lab.runtime.arguments = "HOSTMESH_WORKLOAD=prod/a"
    assert lab.runtime.run("ADD", ours, "c1", made.path, "eth0", before) == before


def test_check_finds_what_somebody_has_removed(lab: Lab) -> None:
    """Good, then not enrolled."""
    made, _ = lab.born("a")
    lab.runtime.check("container-a", made.path)
    lab.agent.attachments.remove([("containers", "container-a", "eth0")])
    with pytest.raises(PluginFailed) as failed:
        lab.runtime.check("container-a", made.path)
    assert (failed.value.code, failed.value.status) == (100, 1)


def test_del_releases_and_may_be_repeated(lab: Lab) -> None:
    """Also without a namespace, and for a container that never was; the next one may be that workload."""
    made, _ = lab.born("a")
    lab.runtime.delete("container-a", made.path)
    assert not lab.agent.is_captured("prod/a")
    lab.runtime.delete("container-a", None)
    lab.runtime.delete("never", None)
    again, _ = lab.born("a")
    assert [one.path for one in lab.agent.namespaces.open] == [again.path]


def test_add_may_be_repeated(lab: Lab) -> None:
    """It is the same container, and keeps its listeners."""
    made, _ = lab.born("a")
    (before,) = lab.agent.namespaces.open
    lab.runtime.run("ADD", lab.ours, "container-a", made.path, "eth0", lab.runtime.results["container-a"])
    assert [one.id for one in lab.agent.namespaces.open] == [before.id]


def test_a_container_that_cannot_be_captured_does_not_start(lab: Lab) -> None:
    """With the reason, and nothing of it stays; the next one is captured."""
    made = lab.container()
    lab.stack.enter_context(listen(made, "0.0.0.0", 15008))
    lab.runtime.arguments = "IgnoreUnknown=1;HOSTMESH_WORKLOAD=prod/a"
    with pytest.raises(PluginFailed) as failed:
        lab.runtime.add("container-a", made.path)
    assert "15008" in str(failed.value.answer)
    assert (lab.agent.namespaces.problems, lab.agent.attachments.workloads) == ((), set())
    assert made.run("nft", "list", "ruleset") == ""
    lab.born("b")
    assert lab.agent.is_captured("prod/b")


@pytest.mark.parametrize(
    ("network", "container", "captured"),
    [(None, None, 0), (True, None, DNS_PORT), (None, "true", DNS_PORT), (True, "false", 0)],
)
def test_questions_about_names(lab: Lab, network: bool | None, container: str | None, captured: int) -> None:
    """Captured where the network says so, or the container by Istio's annotation, which comes first."""
    lab.runtime.arguments = ""
    plugin = lab.ours
    said = {"hostmesh.io/workload": "prod/a", **({"ambient.istio.io/dns-capture": container} if container else {})}
    plugin |= {"args": {"cni": said}} | ({"dns": network} if network is not None else {})
    made = lab.container()
    lab.runtime.add("c1", made.path)
    assert [one.dns for one in lab.agent.namespaces.open] == [captured]
    assert ("hostmesh_answers" in made.run("nft", "list", "tables")) == bool(captured)


def test_gc_drops_what_is_not_listed(lab: Lab) -> None:
    """Of this network only."""
    lab.born("a")
    lab.born("b")
    valid = [{"containerID": "container-b", "ifname": "eth0"}]
    lab.runtime.config["cniVersion"] = "1.1.0"
    lab.runtime.run("GC", lab.ours, **{"cni.dev/valid-attachments": valid})
    assert [lab.agent.is_captured(f"prod/{name}") for name in ("a", "b")] == [False, True]
    lab.runtime.config["name"] = "another"
    lab.runtime.run("GC", lab.ours, **{"cni.dev/valid-attachments": []})
    assert lab.agent.is_captured("prod/b")


def test_a_container_that_says_nothing_is_left_alone(lab: Lab) -> None:
    """Enrolment is by choice: no rules, no listener, no failure."""
    made = lab.container()
    lab.runtime.add("c1", made.path)
    assert made.run("nft", "list", "ruleset") == ""


def test_one_workload_is_one_container(lab: Lab) -> None:
    """A second one that says the same is refused while the first lives; nothing of it stays."""
    lab.born("a")
    second = lab.container()
    with pytest.raises(PluginFailed) as failed:
        lab.runtime.add("other", second.path)
    assert failed.value.code == 101
    assert "prod/a is container container-a on network containers already" in failed.value.answer["details"]
    assert second.run("nft", "list", "ruleset") == ""


def test_a_second_network_of_a_container(lab: Lab) -> None:
    """The same namespace is the same workload, until the last attachment is gone."""
    made, _ = lab.born("a")
    result = lab.runtime.results["container-a"]
    lab.runtime.run("ADD", lab.ours, "container-a", made.path, "eth1", result)
    lab.runtime.run("DEL", lab.ours, "container-a", made.path, "eth0", result)
    assert lab.agent.is_captured("prod/a")
    lab.runtime.run("DEL", lab.ours, "container-a", made.path, "eth1", result)
    assert not lab.agent.is_captured("prod/a")


def test_a_bad_name_is_refused(lab: Lab) -> None:
    """With the reason; the container does not start."""
    made = lab.container()
    lab.runtime.arguments = "IgnoreUnknown=1;HOSTMESH_WORKLOAD=Prod"
    with pytest.raises(PluginFailed, match="must be <namespace>/<name>"):
        lab.runtime.add("c1", made.path)


def test_what_is_removed_while_the_agent_is_away_is_gone_when_it_is_back(tmp_path: Path) -> None:
    """DEL succeeds and leaves a note; a container that is still there is captured again."""
    with ExitStack() as stack:
        host = stack.enter_context(namespace("host"))
        install(tmp_path / "bin")
        runtime = Runtime(config_for(tmp_path), tmp_path / "bin", host)
        with pod_agent(tmp_path) as agent:
            agent.serve_cni()
            lab = Lab(agent, runtime, stack)
            a, _ = lab.born("a")
            lab.born("b")
        with pytest.raises(PluginFailed) as failed:
            lab.born("c")
        assert failed.value.code == 11
        runtime.delete("container-a", a.path)
        runtime.delete("container-a", a.path)
        (tmp_path / "netns").unlink()
        with running_helper(tmp_path) as helper:
            again = PodAgent(tmp_path, helper)
            again.serve_cni()
            runtime.run("STATUS", lab.ours, cniVersion="1.1.0")
            assert [again.is_captured(f"prod/{name}") for name in ("a", "b")] == [False, True]
            again.close()


def test_a_namespace_without_a_path_outlives_the_agent(tmp_path: Path) -> None:
    """Known by a path below /proc alone: somebody else keeps it, and it is captured again; strangers are let go."""
    kept: dict[str, int] = {}

    class Kept:
        def store(self, name: str, descriptor: int) -> None:
            kept[name] = os.dup(descriptor)

        def drop(self, name: str) -> None:
            os.close(kept.pop(name))

    def again() -> dict[str, int]:
        return {name: os.dup(descriptor) for name, descriptor in kept.items()}

    with namespace("c") as made:
        path = made.path
        (tmp_path / "cni.json").write_text('{"version": 1, "attachments": []}')
        first = Attachments(tmp_path / "cni.json")
        first.adopt(Kept(), {})
        gone = Path("/proc/999999999/ns/net")
        for number, name in enumerate(("a", "b")):
            with path.open() as inside:
                one = Attachment("oci", f"container-{name}", "all", "prod/a", "a", str(gone))
                first.add(one, os.dup(inside.fileno()))
                assert number or first.kept.keys() == kept.keys()
        first.remove([("oci", "container-b", "all")])
        stray = os.open(path, os.O_RDONLY)
        kept["cni-stray"] = os.dup(stray)
        os.close(stray)
        first.close()
        second = Attachments(tmp_path / "cni.json")
        second.adopt(Kept(), again())
        second.drop_dead()
        assert list(kept) == list(second.kept) == [name_of(("oci", "container-a", "all"))]
        (captured,), problems = second.captured((), {"prod/a": 1}, "cluster.local")
        assert (problems, captured.path) == ([], gone)
        assert captured.descriptor is not None
        assert namespaces.inode(captured.descriptor) == (path.stat().st_dev, path.stat().st_ino)
        second.remove([("oci", "container-a", "all")])
        assert kept == {}


def test_failure_policy_open(tmp_path: Path) -> None:
    """The operator's choice: without the agent the container starts outside the mesh, and the log says so."""
    install(tmp_path / "bin")
    with namespace("host") as host, namespace("c") as made:
        config = config_for(tmp_path)
        config["plugins"][-1] |= {"failurePolicy": "open", "workload": "prod/a"}
        Runtime(config, tmp_path / "bin", host).add("c1", made.path)
        assert made.run("nft", "list", "ruleset") == ""


def test_an_oci_hook(lab: Lab, tmp_path: Path) -> None:
    """Where there is no CNI: a container whose annotations name a workload is captured before it starts."""
    hook = json.loads((CONFIGS / "podman-hostmesh.json").read_text())["hook"]
    assert hook["args"] == ["hostmesh-cni", "oci"]
    made = lab.container()
    process = subprocess.Popen(made.command("sleep", "60"))
    environment = {"HOSTMESH_CNI_SOCKET": str(tmp_path / "cni.sock"), "PATH": os.environ["PATH"]}

    def call(status: str, annotations: dict[str, str]) -> int:
        state = {"ociVersion": "1.0.2", "id": "c1", "status": status, "pid": process.pid, "annotations": annotations}
        command = [tmp_path / "bin" / "hostmesh-cni", *hook["args"][1:]]
        done = subprocess.run(command, input=json.dumps(state), text=True, env=environment, check=False)
        return done.returncode

    annotations = {"hostmesh.io/workload": "prod/a", "hostmesh.io/service-account": "a"}
    try:
        while (Path("/proc") / str(process.pid) / "ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            pass
        assert call("created", {}) == 0
        assert not lab.agent.is_captured("prod/a")
        assert call("created", annotations) == 0
        assert lab.agent.is_captured("prod/a")
        assert "redirect" in made.run("nft", "list", "ruleset")
        assert call("created", {"hostmesh.io/workload": "nonsense"}) == 1
        assert call("stopped", annotations) == 0
        assert not lab.agent.is_captured("prod/a")
    finally:
        process.kill()
        process.wait()
