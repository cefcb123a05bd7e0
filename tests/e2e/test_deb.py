"""The Debian package on a host: installed, upgraded under a running agent, removed, purged."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.instance import Lab
from tests.e2e.hosts import ROOT, Hosts, gone_afterwards, must, seconds_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LAB = Lab("deb")
HOST = "pkg1"
HOSTS = Hosts(LAB)
SNAPSHOT = """
find /etc /opt /usr /var/lib -xdev \\( -type f -o -type l \\) ! -name '*-' ! -path '/var/lib/dpkg/*' \\
  ! -path '*/__pycache__/*' ! -path '/etc/.pwd.lock' ! -path '/var/lib/systemd/*' \\
  ! -path '/var/lib/private/*' -printf '%p %m %u %s %l\\n'
nft list ruleset; cat /etc/passwd /etc/group
"""


def package(folder: Path, number: int, text: str) -> bytes:
    """A package of these sources with one comment more."""
    source = folder / f"source{number}"
    for name in ("agent", "systemd"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    with (source / "agent" / "hostmesh" / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(f"# {text}\n")
    build = ("/usr/bin/python3", ROOT / "deb" / "build.py", "--source", source, "--output", folder)
    return Path(must(*build, "--number", str(number)).splitlines()[-1]).read_bytes()


@pytest.fixture(scope="module")
def host() -> Iterator[None]:
    """A host that knows nothing of a mesh."""
    with gone_afterwards(LAB):
        must(sys.executable, "-m", "lab", "up", LAB.name, f"{HOST}=10.235.0.11/24")
        yield


def run(script: str, stdin: bytes = b"") -> str:
    return HOSTS.must(HOST, "sh", "-ec", script, stdin=stdin)


def install(deb: bytes) -> None:
    run("cat > /root/new.deb && dpkg --install /root/new.deb && rm /root/new.deb", deb)


@pytest.mark.usefixtures("host")
def test_a_package_lives_and_dies_on_a_host(tmp_path: Path) -> None:
    """Nothing is started by itself; an upgrade keeps what runs, state and settings; a purge undoes all."""
    before = set(run(SNAPSHOT).splitlines())
    install(package(tmp_path, 1, "the first"))
    assert "components" in run("hostmesh version -o json")
    assert run("systemctl is-enabled hostmesh-agent || true").strip() == "disabled"
    assert run("systemctl is-active hostmesh-agent hostmesh-control-plane || true").split() == ["inactive", "inactive"]
    assert "/usr/share/man/man1/hostmesh-explain.1.gz" in run("dpkg --listfiles hostmesh")

    run("printf 'workloads: []\\n' > /etc/hostmesh/mesh.yaml")
    run("printf 'local_xds_path: /etc/hostmesh/mesh.yaml\\n' >> /etc/hostmesh/agent.yaml")
    run("systemctl enable --now hostmesh-agent hostmesh-control-plane")
    seconds_until(lambda: HOSTS.status(HOST).get("ready"))
    first, pid = HOSTS.status(HOST)["installation"], run("systemctl show -p MainPID --value hostmesh-agent")
    root = run("cat /var/lib/hostmesh-control-plane/ca/root-cert.pem")

    install(package(tmp_path, 2, "the second"))
    seconds_until(lambda: HOSTS.status(HOST).get("installation") not in (None, first))
    seconds_until(lambda: HOSTS.status(HOST).get("ready"))
    assert run("systemctl show -p MainPID --value hostmesh-agent") == pid, "the agent was restarted, not reloaded"
    assert run("cat /var/lib/hostmesh-control-plane/ca/root-cert.pem") == root
    assert "local_xds_path" in run("cat /etc/hostmesh/agent.yaml")
    assert run("ls /opt/hostmesh").split() == [Path(HOSTS.status(HOST)["installation"]).name, "current"]

    run("dpkg --remove hostmesh")
    assert run("systemctl is-active hostmesh-agent || true").strip() == "inactive"
    assert run("nft list tables | grep hostmesh || true") == ""
    assert run("cat /var/lib/hostmesh-control-plane/ca/root-cert.pem") == root, "what was issued stays until a purge"
    run("dpkg --purge hostmesh && systemctl daemon-reload")
    changed = set(run(SNAPSHOT).splitlines()) ^ before
    assert changed == set()
