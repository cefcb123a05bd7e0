"""Two control planes over three members of etcd: one of each goes away under traffic, and the mesh goes on.

Real systemd, ssh, ansible-playbook, Debian's etcd-server over TLS; certificates of half a minute.
"""

from __future__ import annotations

import base64
import io
import json
import secrets
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.instance import Lab
from tests.e2e import hosts
from tests.e2e.hosts import ROOT, Hosts, attempt, must, seconds_until
from tests.support.etcd import TlsFiles
from tests.support.pki import Authority

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PLANES = Path(__file__).parent / "planes"
LAB = Lab("planes")
HOSTS = Hosts(LAB)
MEMBERS = {"mesh1": "10.236.0.11", "mesh2": "10.236.0.12", "mesh3": "10.236.0.13"}
INVENTORY = ("-i", PLANES / "inventory.yml")
SITE = ("ansible-playbook", *INVENTORY, ROOT / "playbooks" / "site.yml")
WITHOUT_LATE = ("-l", "all:!mesh4")
VICTIMS = ("hostmesh-control-plane.service", "etcd.service")


@pytest.fixture(scope="module")
def estate() -> Iterator[None]:
    """Hosts with services and an etcd that know nothing of a mesh."""
    with hosts.estate(LAB, PLANES / "estate.json", meanwhile=start_etcd):
        yield


def start_etcd() -> None:
    """What is in Debian's package, as its unit runs it; on the controller lies what the inventory refers to."""
    directory = LAB.directory / "etcd"
    directory.mkdir()
    authority = Authority("etcd")
    tls = TlsFiles.make(directory, authority)
    (directory / "store.key").write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    text = (PLANES / "etcd.env").read_text(encoding="utf-8")
    cluster = ",".join(f"{name}=https://{address}:2380" for name, address in MEMBERS.items())
    for name, address in MEMBERS.items():
        cert, key = authority.host_certificate(name, address)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add("/usr/bin/etcd", "usr/bin/etcd")
            tar.add("/lib/systemd/system/etcd.service", "usr/lib/systemd/system/etcd.service")
            for path, content in (
                ("etc/default/etcd", text.format(name=name, address=address, cluster=cluster).encode()),
                ("etc/etcd/root.pem", tls.root_cert.read_bytes()),
                ("etc/etcd/member.pem", cert),
                ("etc/etcd/member-key.pem", key),
            ):
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
        script = (
            "tar -x -C / --no-overwrite-dir && useradd --system --home-dir /var/lib/etcd --create-home etcd"
            " && systemctl daemon-reload && systemctl enable --quiet etcd && systemctl start --no-block etcd"
        )
        HOSTS.must(name, "sh", "-ec", script, stdin=buffer.getvalue())
    for name in MEMBERS:  # each is up when a majority is
        HOSTS.must(name, "systemctl", "start", "etcd")


def client(**command: object) -> dict[str, Any]:
    """Tell sleep on mesh2 to do something; its answer."""
    answer = HOSTS.run("mesh2", "nc", "-NU", "/run/sleep/control.sock", stdin=json.dumps(command).encode())
    return dict(json.loads(answer or "{}"))


def called(name: str) -> bool:
    return client(get=f"http://{name}:8080/").get("code") == 200


def serials(host: str) -> set[str]:
    """Of the workloads' certificates on a host."""
    shown = json.loads(HOSTS.must(host, "hostmesh", "certificates", "-o", "json"))
    return {one["certChain"][0]["serialNumber"] for one in shown if one["certChain"]}


def cut_off(host: str) -> None:
    """Its control plane and its member of etcd are killed, nobody starts them again, and nobody reaches the host."""
    HOSTS.must(host, "systemctl", "mask", "--runtime", *VICTIMS)
    HOSTS.must(host, "systemctl", "kill", "--signal=KILL", *VICTIMS)
    HOSTS.must(host, "ip", "link", "set", "host0", "down")


def bring_back(host: str) -> None:
    HOSTS.must(host, "ip", "link", "set", "host0", "up")
    HOSTS.must(host, "systemctl", "unmask", "--runtime", *VICTIMS)
    HOSTS.must(host, "systemctl", "reset-failed", *VICTIMS)
    HOSTS.must(host, "systemctl", "start", *reversed(VICTIMS))


def documents(host: str) -> list[str]:
    found = json.loads(HOSTS.must(host, "hostmesh", "get", "workloadentries", "-o", "json"))["items"]
    return sorted(one["metadata"]["name"] for one in found)


@pytest.mark.usefixtures("estate")
def test_a_playbook_makes_one_mesh_of_two_control_planes() -> None:
    """From an inventory alone; a second run changes nothing, nor would a third. Both know the same."""
    must(*SITE, *WITHOUT_LATE)
    seconds_until(lambda: called("web-api"))
    again = must(*SITE, *WITHOUT_LATE).rpartition("PLAY RECAP")[2]
    assert (again.count("changed=0"), again.count("failed=0")) == (3, 3), again
    check = must(*SITE, *WITHOUT_LATE, "--check", "--diff").rpartition("PLAY RECAP")[2]
    assert (check.count("changed=0"), check.count("failed=0")) == (3, 3), check
    assert documents("mesh1") == documents("mesh2")
    roots = {HOSTS.must(host, "cat", "/var/lib/hostmesh-control-plane/ca/root-cert.pem") for host in ("mesh1", "mesh2")}
    assert len(roots) == 1
    for host in ("mesh2", "mesh3"):
        settings = HOSTS.must(host, "cat", "/etc/hostmesh/agent.yaml")
        assert "10.236.0.11:15012" in settings
        assert "10.236.0.12:15012" in settings
    for host in ("mesh1", "mesh2"):
        kept = HOSTS.must(
            host, "stat", "--format=%U %a", "/etc/hostmesh/etcd-client-key.pem", "/etc/hostmesh/store.key"
        )
        assert kept.splitlines() == ["hostmesh-cp 600"] * 2


@pytest.mark.usefixtures("estate")
def test_a_control_plane_and_a_member_of_etcd_go_away_under_traffic() -> None:
    """No request fails; certificates are renewed; a new host is enrolled by the playbook. Then they come back."""
    client(load="http://web-api:8080/")
    cut_off("mesh1")
    before = {host: serials(host) for host in ("mesh2", "mesh3")}
    # The playbook finds the control plane that is there: it says which host it has not reached, and does the rest.
    status, text = attempt(*SITE, "-l", "all:!mesh3")
    recap = text.rpartition("PLAY RECAP")[2]
    assert status == 4, text[-4000:]
    assert recap.count("unreachable=1") == 1, recap
    assert recap.count("failed=0") == 3, text[-6000:]
    seconds_until(lambda: called("late"))
    for host in ("mesh2", "mesh3"):
        seconds_until(lambda host=host: before[host].isdisjoint(serials(host)))  # type: ignore[misc]
        assert HOSTS.status(host)["ready"]
    HOSTS.must("mesh2", "hostmesh", "ca", "revoke", "spiffe://cluster.local/ns/default/sa/late")
    seconds_until(lambda: not called("late"))

    bring_back("mesh1")
    seconds_until(lambda: documents("mesh1") == documents("mesh2"))
    # What happened meanwhile is known to it, and it serves alone what the other did.
    assert "late-mesh4" in documents("mesh1")
    HOSTS.must("mesh2", "systemctl", "mask", "--runtime", VICTIMS[0])
    HOSTS.must("mesh2", "systemctl", "kill", "--signal=KILL", VICTIMS[0])
    before = {host: serials(host) for host in ("mesh2", "mesh3")}
    for host in ("mesh2", "mesh3"):
        seconds_until(lambda host=host: before[host].isdisjoint(serials(host)))  # type: ignore[misc]
    assert not called("late")
    HOSTS.must("mesh1", "hostmesh", "ca", "unrevoke", "spiffe://cluster.local/ns/default/sa/late")
    seconds_until(lambda: called("late"))
    load = client(stop=True)
    assert (load["failed"], load["errors"]) == (0, [])
    assert load["sent"] > 300
