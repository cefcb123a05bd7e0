"""podman with its CNI backend: containers of a network that our plugin was chained into are born into the mesh."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pytest
from tests.support.agent import until
from tests.support.cni import install
from tests.support.netns import Namespace, namespace
from tests.support.pods import PodAgent, pod_agent
from tests.support.scripts import plugin

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

BUSYBOX = Path("/usr/bin/busybox")


class Podman:
    """Everything of it in a directory, and its networks in a namespace."""

    def __init__(self, host: Namespace, directory: Path) -> None:
        self.host = host
        self.directory = directory
        self.network = directory / "net" / "mesh.conflist"
        for name in ("net", "rootfs/bin"):
            (directory / name).mkdir(parents=True)
        install(directory / "bin")
        bridge = {
            "type": "bridge",
            "bridge": "pod0",
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.123.0.0/24"}]],
                "dataDir": str(directory / "ipam"),
            },
        }
        self.network.write_text(json.dumps({"cniVersion": "0.4.0", "name": "mesh", "plugins": [bridge]}))
        (directory / "containers.conf").write_text(
            f'[network]\nnetwork_backend = "cni"\ncni_plugin_dirs = ["{directory}/bin", "/usr/lib/cni"]\n'
            f'network_config_dir = "{directory}/net"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            'runtime = "runc"\n[containers]\nseccomp_profile = "unconfined"\n'
        )
        shutil.copy(BUSYBOX, directory / "rootfs/bin/busybox")
        image = directory / "image.tar"
        subprocess.run(["tar", "-C", str(directory / "rootfs"), "-cf", str(image), "."], check=True)
        assert self("import", str(image), "busybox").returncode == 0

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        places = ["--root", str(self.directory / "root"), "--runroot", str(self.directory / "run")]
        command = ["podman", *places, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", *arguments]
        return subprocess.run(
            self.host.command(*command),
            env={**os.environ, "CONTAINERS_CONF": str(self.directory / "containers.conf")},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"]
        sleep = ["busybox", "/bin/busybox", "sleep", "1000"]
        return self("run", "-d", "--name", name, "--network", "mesh", *limits, *sleep)

    def rules_of(self, name: str) -> str:
        """What is in the container's namespace."""
        pid = self("inspect", name, "--format", "{{.State.Pid}}").stdout.strip()
        return subprocess.run(
            ["nsenter", f"--net=/proc/{pid}/ns/net", "nft", "list", "ruleset"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout


@pytest.fixture
def chain() -> ModuleType:
    return plugin("modules/cni_chain.py")


@pytest.fixture
def podman() -> Iterator[Podman]:
    # its paths may have 50 characters
    with namespace("host") as host, TemporaryDirectory(prefix="pm", dir="/tmp") as directory:
        made = Podman(host, Path(directory))
        yield made
        made("rm", "--force", "--all", "--time", "0")
        # What clears up behind a container outlives it, and writes into the directory.
        until(lambda: not any(directory.encode() in line for line in command_lines()))


def command_lines() -> Iterator[bytes]:
    """Of every process of this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes()


def test_containers_of_podman(podman: Podman, chain: ModuleType, tmp_path: Path) -> None:
    """Chained, containers start captured or not at all; taken out, the network is what it was."""
    before = podman.network.read_bytes()
    kept = chain.kept_at(tmp_path / "kept", podman.network)
    plugin = {"type": "hostmesh-cni", "agentSocket": str(tmp_path / "cni.sock"), "workload": "prod/web"}

    def call(state: str) -> None:
        found = podman.network.read_bytes()
        after, _ = chain.plan(found, plugin, state, kept)
        chain.carry_out(podman.network, found, after, state, kept)

    call("present")
    refused = podman.run("early")
    assert refused.returncode != 0
    assert "the hostmesh agent does not answer" in refused.stderr
    podman("rm", "--force", "early")
    with ExitStack() as stack:
        agent: PodAgent = stack.enter_context(pod_agent(tmp_path))
        agent.serve_cni()
        started = podman.run("web")
        assert started.returncode == 0, started.stderr
        assert agent.is_captured("prod/web")
        assert "redirect to :15006" in podman.rules_of("web")
        podman("rm", "--force", "--time", "0", "web")
        assert not agent.is_captured("prod/web")
    call("absent")
    assert podman.network.read_bytes() == before
    assert podman.run("outside").returncode == 0
    assert podman.rules_of("outside") == ""
