"""etcd over TLS with client certificates, and control planes whose configuration the role has written for it."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conformance.test_killed_control_planes import apply, entry, eventually, root, statuses
from tests.support.addresses import free_port
from tests.support.control_plane import started
from tests.support.etcd import Cluster, TlsFiles, etcd_cluster
from tests.support.patience import PATIENCE
from tests.support.pki import Authority

from hostmesh.control.etcd.client import EtcdEndpoints, members
from hostmesh.control.etcd.records import EtcdRecords
from hostmesh.control.records import StoreUnavailable

ROLE = Path(__file__).parents[2] / "roles" / "control_plane"


@pytest.fixture
def authority() -> Authority:
    return Authority("etcd's own")


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> TlsFiles:
    return TlsFiles.make(tmp_path, authority)


@pytest.fixture
def cluster(tmp_path: Path, files: TlsFiles) -> Iterator[Cluster]:
    with etcd_cluster(tmp_path / "etcd", size=1, tls=files) as made:
        yield made


def render(directory: Path, ports: dict[str, int], etcd: dict[str, Any]) -> None:
    """The role's template with the role's variables, as ansible renders it for hosts that are folders here."""
    hosts: dict[str, Any] = {}
    for name, port in ports.items():
        home = directory / name
        home.mkdir()
        own = {
            "listen": {"address": "127.0.0.1"},
            "documents_dir": str(home / "documents"),
            "state_dir": str(home / "state"),
            "socket": str(home / "control.sock"),
            "socket_group": "no-such-group",
            "store": {"etcd": {"encryption_key_file": str(directory / "store.key")}},
        }
        hosts[name] = {"control_plane_port": port, "control_plane_settings": own, "home": str(home)}
    shared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "control_plane_names": ["127.0.0.1"],
        "control_plane_etcd": etcd,
    }
    inventory = directory / "inventory.json"
    roles_own = [yaml.safe_load((ROLE / name / "main.yml").read_text()) for name in ("defaults", "vars")]
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": {**roles_own[0], **roles_own[1], **shared}}}))
    words = f"src={ROLE}/templates/control-plane.yaml.j2 dest={{{{ home }}}}/control-plane.yaml"
    command = [Path(sys.executable).parent / "ansible", "-i", inventory, "all", "-m", "template", "-a", words]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"})


def test_control_planes_of_the_role_share_an_etcd_over_tls(tmp_path: Path, cluster: Cluster, files: TlsFiles) -> None:
    """What one is told the other knows, and goes on knowing when the first is killed."""
    (tmp_path / "store.key").write_bytes(base64.b64encode(os.urandom(32)))
    etcd = {
        "endpoints": [member.url for member in cluster.members],
        "root_cert": str(files.root_cert),
        "cert": str(files.client_cert),
        "key": str(files.client_key),
    }
    with ExitStack() as stack:
        ports = {name: free_port() for name in ("a", "b")}
        render(tmp_path, ports, etcd)
        first, second = (
            stack.enter_context(started(tmp_path / name, tmp_path / name / "control-plane.yaml", port))
            for name, port in ports.items()
        )
        assert root(first).read_bytes() == root(second).read_bytes()
        apply(first, entry("mesh1"))
        eventually(lambda: statuses(second).keys() == {"web"})
        first.process.kill()
        first.process.wait()
        assert second.client.token("mesh1", 60)["token"]


def records(cluster: Cluster, root_cert: Path | None, cert: Path | None = None, key: Path | None = None) -> EtcdRecords:
    where = EtcdEndpoints(members([member.url for member in cluster.members]), root_cert, cert, key)
    return EtcdRecords(where, prefix="/tls/", writer="w", lease_ttl=3.0)


REFUSALS = {
    "plaintext": ".",
    "no certificate": "it may want cert and key of store.etcd",
    "another's certificate": "it does not accept cert and key of store.etcd",
    "another root": "certificate verify failed",
}


@pytest.mark.parametrize("how", list(REFUSALS))
def test_who_is_not_meant_is_refused_and_told_why(tmp_path: Path, cluster: Cluster, files: TlsFiles, how: str) -> None:
    """In plaintext, without a certificate, with that of another authority; and etcd is refused under another root."""
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    theirs = TlsFiles.make(strangers, Authority("somebody else"))
    given: dict[str, tuple[Path | None, ...]] = {
        "plaintext": (None,),
        "no certificate": (files.root_cert,),
        "another's certificate": (files.root_cert, theirs.client_cert, theirs.client_key),
        "another root": (theirs.root_cert, files.client_cert, files.client_key),
    }
    for seconds in (2.0, PATIENCE):  # of which the machine may have needed the first two for something else
        with pytest.raises(StoreUnavailable) as refused:
            records(cluster, *given[how]).start(seconds)
        if re.search(REFUSALS[how], str(refused.value)):
            return
    raise AssertionError(refused.value)


def test_replaced_files_are_used_without_a_restart(cluster: Cluster, files: TlsFiles, authority: Authority) -> None:
    """At the next connection: the old certificate would not be accepted any more."""
    made = records(cluster, files.root_cert, files.client_cert, files.client_key)
    made.start()
    try:
        made.commit({"k": "1"})
        certificate, key = authority.host_certificate("client", "127.0.0.1")
        files.client_cert.write_bytes(b"no certificate")
        (member,) = cluster.members
        cluster.kill(member)
        cluster.start()
        eventually(lambda: "client.pem" in made.problem)
        files.client_key.write_bytes(key)
        files.client_cert.write_bytes(certificate)
        eventually(lambda: not made.problem)
        made.commit({"k": "2"})
    finally:
        made.close()
